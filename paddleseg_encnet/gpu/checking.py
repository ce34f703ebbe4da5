"""What a check is, where it runs, and how a table of them is run."""

import contextlib
import os
import re
import subprocess
import sys
import time
import traceback
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Sequence

import paddle

from segrun.errors import one_line

HOLDS, FAILS, NOT_RUN = "holds", "fails", "not run"
SHOWN = 300     # characters of an error; the log has all


class Place(NamedTuple):
    """Where the checks run.

    device: "gpu" or "cpu", where they take small sizes. gpus: how many there are. folder: for what they write.
    """
    device: str
    gpus: int
    folder: str

    @property
    def small(self) -> bool:
        return self.device == "cpu"

    @property
    def tensor_floats(self) -> bool:
        """Whether products of float32 may be rounded to 10 bits (TF32: Ampere and later)."""
        return not self.small and paddle.device.cuda.get_device_capability()[0] >= 8

    def path(self, *names: str) -> str:
        return os.path.join(self.folder, *names)


class Found(NamedTuple):
    """What a check has found: whether it holds, in words, and the numbers behind them."""
    holds: bool
    said: str
    numbers: Dict[str, Any] = {}


class Check(NamedTuple):
    """A row of the table. `gpus` is how many GPUs it needs at least; with 0 it runs on a CPU too."""
    name: str
    gpus: int
    function: Callable[[Place], Found]


class Row(NamedTuple):
    """A check that was run, or was not."""
    name: str
    status: str         # HOLDS, FAILS, NOT_RUN
    said: str
    numbers: Dict[str, Any]
    seconds: float


def run_checks(checks: Iterable[Check], place: Place, log: str, say: Callable[[str], None]) -> List[Row]:
    """Runs them one after the other; one that fails keeps none from running.

    Args:
        log: a file for what trainings and tracebacks print.
        say: takes a line for the user.
    """
    rows = []
    for check in checks:
        row = run_check(check, place, log)
        rows.append(row)
        say(f"{row.status:8}{row.name}: {row.said} ({row.seconds:.0f} s)")
    return rows


def run_check(check: Check, place: Place, log: str) -> Row:
    if check.gpus > place.gpus:
        wanted = "a GPU" if check.gpus == 1 else f"{check.gpus} GPUs"
        return Row(check.name, NOT_RUN, f"needs {wanted}", {}, 0.0)
    start = time.monotonic()
    with open(log, "a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        print(f"\n--- {check.name}")
        try:
            paddle.set_device(place.device)
            found = check.function(place)
        except Exception as error:      # of any kind: it is what was to be found out
            traceback.print_exc(file=file)
            found = Found(False, f"{type(error).__name__}: {one_line(error)}"[:SHOWN])
    status = HOLDS if found.holds else FAILS
    return Row(check.name, status, found.said, found.numbers, round(time.monotonic() - start, 1))


def within(bounds: Sequence[tuple]) -> Found:
    """Of (name, number, largest that holds): all of them, in words. A number that is none does not hold."""
    said = "; ".join(f"{name} {number:.2g} of at most {bound:g}" for name, number, bound in bounds)
    return Found(all(number <= bound for _, number, bound in bounds), said,
                 {name: float(number) for name, number, _ in bounds})


def child(code: str, *arguments: Any, launcher: Sequence[str] = (), seconds: float = 300
          ) -> "subprocess.CompletedProcess[str]":
    """Runs a script of Python in a process of its own, or, with a launcher's flags, one on each rank; prints what it
    prints.

    Raises:
        subprocess.TimeoutExpired: it has not ended after so many seconds.
    """
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    # PaddleSeg sets CUDA_VISIBLE_DEVICES to nothing when it lists the environment; a launcher's variables are others'.
    env = {name: value for name, value in os.environ.items()
           if not name.startswith("PADDLE_") and (name, value) != ("CUDA_VISIBLE_DEVICES", "")}
    env["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [env.get("PYTHONPATH")])])
    command = [sys.executable, "-c", code]
    if launcher:
        script = os.path.join(str(arguments[0]), "rank.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write(code)
        command = [sys.executable, "-m", "paddle.distributed.launch", *launcher, script]
    done = subprocess.run([*command, *map(str, arguments)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=seconds)
    print(done.stdout)
    return done


def number_after(word: str, text: str) -> float:
    """The last number that stands after a word in a text; nan if there is none."""
    found = re.findall(re.escape(word) + r"[:=]?\s*([-+.\deE]+)", text)
    return float(found[-1]) if found else float("nan")
