"""What the benchmarks share: times that can be compared, peak memory, children with their own environment, rows."""

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Callable, Dict, NamedTuple, Optional

HERE = os.path.dirname(os.path.abspath(__file__))
# What the package sets before Paddle is imported; a child without it runs Paddle as it is.
CPU_DEFAULTS = ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")


class Row(NamedTuple):
    """A line of the table: numbers of one unit, None where there is none."""
    piece: str
    unit: str
    ours: float
    stock: Optional[float] = None
    torch: Optional[float] = None
    floor: Optional[float] = None
    note: str = ""


def interleaved(works: Dict[str, Callable], rounds: int, in_a_row: int = 3) -> Dict[str, float]:
    """Best seconds of each piece of work. They take turns, so that a busy moment of the machine meets all of them, a
    few times in a row each, so that none pays for the caches that another one filled."""
    best = {name: float("inf") for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            for _ in range(in_a_row):
                start = time.perf_counter()
                work()
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return status("VmRSS")


def peak() -> int:
    """Bytes of memory that this process has held at most. (getrusage's would be its parent's, if that was larger.)"""
    return status("VmHWM")


def status(key: str) -> int:
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) * 1024


strict = False          # a child that fails ends everything: for a run that writes all or nothing


def child(script: str, *arguments, defaults: bool = True) -> Optional[dict]:
    """Runs benchmarks/<script> with `--measure arguments` and reads the JSON of its last line; None if it could not.

    Raises:
        RuntimeError: it could not, and `strict` is set.

    Args:
        defaults: False takes the package's CPU settings out of the environment.
    """
    env = {key: value for key, value in os.environ.items() if defaults or key not in CPU_DEFAULTS}
    env["PYTHONPATH"] = os.pathsep.join([os.path.dirname(HERE), env.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, os.path.join(HERE, script), "--measure", *map(str, arguments)], env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        said = f"{script} {' '.join(map(str, arguments))}: {(done.stderr.strip().splitlines() or ['killed'])[-1]}"
        if strict:
            raise RuntimeError(said)
        print(said, file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main(description: str, rows: Callable, measure: Callable):
    """The command line of a benchmark: its rows as a table or, for a child, what measure(*arguments) returns."""
    flags = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--json", action="store_true", help="print the rows as JSON")
    flags.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
    elif args.json:
        print(json.dumps([row._asdict() for row in rows()]))
    else:
        print(table(list(rows())))


def number(value: Optional[float]) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


COLUMNS = ["piece", "unit", "ours", "stock", "PyTorch", "floor", "stock / ours", "PyTorch / ours", "ours / floor",
           "note"]


def cells(rows: list) -> tuple:
    """Names of the columns, and the rows as lists of strings or None; columns without a cell are left out."""
    lines = []
    for row in rows:
        ratios = [None if other is None else other / row.ours for other in (row.stock, row.torch)]
        ratios.append(None if row.floor is None else row.ours / row.floor)
        values = map(number, (row.ours, row.stock, row.torch, row.floor, *ratios))
        lines.append([each or None for each in (row.piece, row.unit, *values, row.note)])
    kept = [i for i in range(len(COLUMNS)) if any(line[i] for line in lines)]
    return [COLUMNS[i] for i in kept], [[line[i] for i in kept] for line in lines]


def table(rows: list) -> str:
    """Markdown that also reads well in a terminal."""
    columns, lines = cells(rows)
    lines = [columns, *([cell or "" for cell in line] for line in lines)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)
