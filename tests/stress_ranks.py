"""Ranks that die, never come, or have nothing to do: longer runs than the tests, three to seven minutes on two cores.

python tests/stress_ranks.py            prints a line for each case; exit code 1 if one does not hold
"""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import paddleseg_encnet  # noqa: F401

# isort: split

import numpy as np

from paddleseg_encnet import scenes

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Seconds in which a run must end once a rank is gone: what is promised.
LIMIT = 60
# Seconds for the start of a run on a busy machine.
START = 180

CONFIG = """
_base_: {root}/configs/encnet_quick_start.yml
batch_size: 1
iters: 1000000
train_dataset:
  dataset_root: {data}
  transforms: [{{type: RandomPaddingCrop, crop_size: [64, 64]}}, {{type: Normalize}}]
val_dataset: {{dataset_root: {data}}}
model: {{num_codes: 4, mid_channels: 16}}
"""


class Run:
    """A launcher with its ranks; `log` is the folder of their output."""

    def __init__(self, folder: pathlib.Path, ranks: int, *script, flags=(), env=()):
        self.log = folder / "log"
        self.log.mkdir(parents=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PADDLE_", "OMP_", "CUDA_"))}
        with open(folder / "launcher.log", "w") as output:
            self.launcher = subprocess.Popen(
                [sys.executable, "-m", "paddle.distributed.launch", *flags, "--nproc_per_node", str(ranks), "--log_dir",
                 self.log, *map(str, script)], stdout=output, stderr=subprocess.STDOUT, cwd=folder,
                env={**clean, "PYTHONPATH": str(ROOT), **dict(env)})

    def pid(self, local_rank: int) -> int:
        """The process of a rank: the launcher's child that was given this number."""
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
                variables = (path / "environ").read_bytes().split(b"\0")
            except OSError:     # it has ended
                continue
            if parent == self.launcher.pid and f"PADDLE_RANK_IN_NODE={local_rank}".encode() in variables:
                return int(path.name)
        raise RuntimeError(f"the launcher has no rank {local_rank}")

    def text(self, local_rank: int) -> str:
        path = self.log / f"workerlog.{local_rank}"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for(self, text: str):
        """Until the first rank has printed that."""
        deadline = time.monotonic() + START
        while text not in self.text(0):
            if self.launcher.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no {text!r} in {self.log}: {self.text(0)[-500:]}")
            time.sleep(0.2)

    def ends(self, limit: float) -> bool:
        try:
            self.launcher.wait(limit)
            return True
        except subprocess.TimeoutExpired:
            return False

    def errors(self, local_rank: int) -> str:
        return " ".join(line for line in self.text(local_rank).splitlines() if line.startswith("error: "))

    def stop(self):
        if self.launcher.poll() is None:
            self.launcher.terminate()
            if not self.ends(45):
                self.launcher.kill()


def train(config, folder):
    return [ROOT / "tools" / "train.py", "--config", config, "--save_dir", folder / "run", "--device", "cpu",
            "--log_iters", "2"]


def same_scores_and_pictures(config, folder):
    """1, 2 and 3 ranks over 1, 2 and 7 images: one confusion matrix, each picture written once."""
    numbers, matrices, written = (1, 2, 7), {}, []
    for ranks in (1, 2, 3):
        here = folder / str(ranks)
        # One thread in all of them, so that sums are taken in the same order.
        run = Run(here, ranks, ROOT / "tests" / "launched.py", "share", config, here, *numbers,
                  env={"OMP_NUM_THREADS": "1", "PADDLE_LOCAL_SIZE": str(ranks)}.items())
        ended = run.ends(START)
        run.stop()
        if not ended or run.launcher.returncode:
            return False, f"{ranks} ranks: exit code {run.launcher.returncode} {run.errors(0)}"
        for number, rank in itertools.product(numbers, range(ranks)):
            matrices.setdefault(number, []).append(np.load(here / f"scores_{number}_rank{rank}.npz")["confusion"])
        for number in numbers:
            names = [name for rank in range(ranks)
                     for name in json.loads((here / f"written_{number}_rank{rank}").read_text())]
            written.append(len(names) == len(set(names)) == 2 * number)
    same = all((matrix == those[0]).all() for those in matrices.values() for matrix in those)
    pixels = ", ".join(str(matrices[number][0].sum()) for number in numbers)
    return same and all(written), f"18 matrices, {pixels} pixels for 1, 2, 7 images"


def killed_rank(victim, signum=signal.SIGKILL, what="is gone"):
    def case(config, folder):
        run = Run(folder, 3, *train(config, folder))
        try:
            run.wait_for("iter: 4/")
            os.kill(run.pid(victim), signum)
            return told(run, f"rank {victim} (", [rank for rank in range(3) if rank != victim], what)
        finally:
            run.stop()
    case.__doc__ = f"3 ranks train, rank {victim} gets a {signal.Signals(signum).name}: the others name it and end"
    return case


def told(run, name, ranks, what="is gone"):
    began = time.monotonic()
    ended = run.ends(LIMIT)
    seconds = time.monotonic() - began
    lines = [run.errors(rank) for rank in ranks]
    good = ended and run.launcher.returncode != 0 and all(name in line and what in line for line in lines)
    return good, f"ended after {seconds:.1f} s, exit code {run.launcher.returncode}; {lines[0] or run.text(0)[-300:]}"


def two_launchers(config, folder, whole_machine: bool):
    from paddle.distributed.launch.context.node import Node
    flags = ["--nnodes", "2", "--master", f"127.0.0.1:{Node().get_free_port()}"]
    runs = [Run(folder / str(node), 1, *train(config, folder / str(node)), flags=[*flags, "--rank", str(node)])
            for node in (0, 1)]
    try:
        runs[0].wait_for("iter: 4/")
        pid = runs[1].pid(0)
        if whole_machine:
            runs[1].launcher.kill()
        os.kill(pid, signal.SIGKILL)
        return told(runs[0], "rank 1 (", [0])
    finally:
        for run in runs:
            run.stop()


def killed_on_another_machine(config, folder):
    """2 launchers as on 2 machines, the rank of the second is killed: the first one ends too"""
    return two_launchers(config, folder, whole_machine=False)


def killed_machine(config, folder):
    """2 launchers as on 2 machines, the second is killed with its rank: the first one ends too"""
    return two_launchers(config, folder, whole_machine=True)


def error_in_one_rank(config, folder):
    """2 ranks evaluate, a label of the second is damaged: the first tells which file"""
    import shutil
    data = folder / "data"
    shutil.copytree(config.parent / "scenes", data)
    label = sorted((data / "gtFine" / "val").glob("*/*.png"))[1]
    label.write_bytes(label.read_bytes()[:60])
    weights = folder / "model.pdparams"
    import paddle
    from paddleseg.cvlibs import Config, SegBuilder
    paddle.save(SegBuilder(Config(str(config))).model.state_dict(), str(weights))
    run = Run(folder / "run", 2, ROOT / "tools" / "val.py", "--config", config, "--model_path", weights, "--device",
              "cpu", "--opts", f"val_dataset.dataset_root={data}")
    try:
        run.wait_for("Start evaluating")
        good, line = told(run, "rank 1 (", [0], "ended: ")
        return good and label.name in line, line
    finally:
        run.stop()


def missing_rank(config, folder):
    """Rank 0 of 2 starts alone, FLAGS_stop_check_timeout=10: it names rank 1 and ends"""
    from paddle.distributed.launch.context.node import Node
    node = Node()
    endpoints = [f"127.0.0.1:{node.get_free_port()}" for _ in range(2)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PADDLE_TRAINER_ID": "0", "PADDLE_TRAINERS_NUM": "2",
           "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints), "PADDLE_CURRENT_ENDPOINT": endpoints[0],
           "PADDLE_DISTRI_BACKEND": "gloo", "FLAGS_stop_check_timeout": "10"}
    folder.mkdir()
    done = subprocess.run([sys.executable, *map(str, train(config, folder))], env=env, timeout=START,
                          capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return (done.returncode == 1 and len(lines) == 1 and "rank 1 (" in lines[0]
            and "did not start within 10 s" in lines[0]), " ".join(lines)


def stalled_rank(config, folder):
    """2 ranks start, the second freezes before it connects, FLAGS_stop_check_timeout=10: the first names it and ends"""
    run = Run(folder, 2, ROOT / "tests" / "launched.py", "stall", config, folder, 1,
              env={"FLAGS_stop_check_timeout": "10"}.items())
    try:
        return told(run, "rank 1 (", [0], "has not answered")
    finally:
        run.stop()


CASES = [same_scores_and_pictures, killed_rank(0), killed_rank(1), killed_rank(2),
         killed_rank(1, signal.SIGSTOP, "has not answered"), killed_on_another_machine, killed_machine,
         error_in_one_rank, missing_rank, stalled_rank]


if __name__ == "__main__":
    failed, started = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        scenes.generate(str(root / "scenes"), train=8, val=7, size=(128, 64))
        config = root / "small.yml"
        config.write_text(CONFIG.format(root=ROOT, data=root / "scenes"))
        for number, case in enumerate(CASES, 1):
            try:
                good, what = case(config, root / str(number))
            except RuntimeError as error:
                good, what = False, str(error)
            failed += not good
            print(f"{'holds' if good else 'FAILS'}  {case.__doc__.strip()}\n       {what}", flush=True)
    print(f"{len(CASES) - failed} of {len(CASES)} cases hold; {time.monotonic() - started:.0f} s")
    sys.exit(bool(failed))
