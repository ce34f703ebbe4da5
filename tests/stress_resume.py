"""A run is killed at random moments, and a disk is filled; each time it must go on as if nothing had been.

    python tests/stress_resume.py [--kills 50] [--minutes 10] [--seed 1]

1. The quick start's network, saved and evaluated after every second step, is killed with SIGKILL at random moments and
   started again with --resume_model auto, until it has been killed so often or the time is up. Each start must take a
   whole checkpoint. Then it runs to its end, which must be equal, to the last bit, to the end of a run that nobody has
   killed.
2. Two ranks over gloo, of which one gets a SIGTERM at step 7 of 12, stop there; started again they must end with the
   weights of two that were left alone.
3. The first run writes to a small tmpfs until that is full (skipped where none can be mounted). It must end in one
   line, and what it leaves must be whole.
"""

import argparse
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

STEPS = 24

CONFIG = """
_base_: {root}/configs/encnet_quick_start.yml
batch_size: 2
iters: {steps}
train_dataset:
  dataset_root: {data}
  transforms:
    - {{type: ResizeStepScaling, min_scale_factor: 0.75, max_scale_factor: 1.5, scale_step_size: 0.25}}
    - {{type: RandomPaddingCrop, crop_size: [64, 64]}}
    - {{type: RandomHorizontalFlip}}
    - {{type: Normalize}}
val_dataset: {{dataset_root: {data}}}
model: {{num_codes: 4, mid_channels: 16}}
lr_scheduler: {{warmup_iters: 4}}
"""


class Runs:
    """Starts tools/train.py, always with the same config."""

    def __init__(self, folder: pathlib.Path):
        from paddleseg_encnet import scenes
        scenes.generate(str(folder / "scenes"), train=8, val=2, size=(128, 64))
        self.folder, self.config = folder, folder / "config.yml"
        self.config.write_text(CONFIG.format(root=ROOT, data=folder / "scenes", steps=STEPS))

    def start(self, save_dir, *more) -> subprocess.Popen:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
        self.log = open(self.folder / "log", "w")
        return subprocess.Popen(
            [sys.executable, ROOT / "tools" / "train.py", "--config", self.config, "--device", "cpu", "--seed", "3",
             "--do_eval", "--save_interval", "2", "--keep_checkpoint_max", "2", "--log_iters", "1", "--save_dir",
             save_dir, *more], env=env, stdout=self.log, stderr=subprocess.STDOUT)

    def output(self) -> str:
        return (self.folder / "log").read_text()

    def finish(self, save_dir, *more) -> int:
        return self.start(save_dir, *more).wait()

    def wait_for_training(self, process):
        while process.poll() is None and "[TRAIN]" not in self.output() and "Start evaluating" not in self.output():
            time.sleep(0.02)


def kill_and_resume(runs: Runs, kills: int, minutes: float) -> bool:
    whole, killed = runs.folder / "whole", runs.folder / "killed"
    if runs.finish(whole) != 0:
        print(runs.output())
        return False
    deadline = time.monotonic() + minutes * 60
    done = starting = saving = passed_over = resumed = 0
    finished = []
    while done < kills and time.monotonic() < deadline:
        process = runs.start(killed, "--resume_model", "auto")
        # A quarter of the kills come at any moment of the start, the others while it trains, evaluates and saves.
        if random.random() < 0.25:
            starting += 1
            time.sleep(random.uniform(0, 6))
        else:
            runs.wait_for_training(process)
            time.sleep(random.uniform(0, 3))
        process.kill()
        if process.wait() != -9:
            output = runs.output()
            if process.returncode != 0:
                print(f"start {done + 1} failed:\n{output}")
                return False
            finished.append(same(whole, killed))
            shutil.rmtree(killed)
            continue
        done += 1
        output = runs.output()
        resumed += "Resumed" in output
        passed_over += output.count("passed over")
        saving += any(re.search(r"\.(new|old|removed)$", name) for name in os.listdir(killed)) if killed.exists() else 0
        print(f"\rkilled {done} of {kills}: {starting} while starting, {saving} while saving; {resumed} had resumed",
              end="", flush=True)
    print()
    if runs.finish(killed, "--resume_model", "auto") != 0:
        print(runs.output())
        return False
    finished.append(same(whole, killed))
    print(f"{passed_over} checkpoints were found damaged; {len(finished)} runs reached step {STEPS}, of these "
          f"{sum(finished)} equal to the run in one go to the last bit")
    return done >= min(kills, 1) and passed_over == 0 and all(finished)


def same(whole: pathlib.Path, other: pathlib.Path) -> bool:
    """Equal weights, optimiser, learning rate and best score."""
    import numpy as np

    from paddleseg_encnet.training import saving
    from paddleseg_encnet.weights import checkpoint
    for name in ("model.pdparams", "model.pdopt"):
        a, b = (checkpoint.read_weights(folder / f"iter_{STEPS}" / name) for folder in (whole, other))
        if a.keys() != b.keys() or not all(np.array_equal(a[key], b[key]) for key in a):
            return False
    a, b = (saving.read_state(str(folder / f"iter_{STEPS}")) for folder in (whole, other))
    return (a.best, a.epoch, a.samples, a.seed) == (b.best, b.epoch, b.samples, b.seed)


def stop_ranks(runs: Runs) -> bool:
    import numpy as np
    import tiny_run
    scenes, folders = runs.folder / "scenes", [runs.folder / "ranks" / name for name in ("stopped", "alone")]
    folders[0].parent.mkdir()
    starts = [(folders[0], "--term", "7", "1"), (folders[0], "--resume"), (folders[1],)]
    codes = [tiny_run.launch(scenes, *start)[0] for start in starts]
    if codes[1:] != [0, 0]:
        print(f"two ranks: exit codes {codes}")
        return False
    equal = []
    for rank in (0, 1):
        one, other = (np.load(folder / f"rank_{rank}.npz") for folder in folders)
        # On the CPU each rank has BatchNorm statistics of its own, and those of the first one are saved.
        names = [name for name in one.files if not name.endswith(("._mean", "._variance"))]
        equal.append(all(np.array_equal(one[name], other[name]) for name in names))
    print(f"two ranks: stopped with exit code {codes[0]}; resumed, equal to two that were left alone: {all(equal)}")
    return codes[0] != 0 and all(equal)


def fill_a_disk(runs: Runs) -> bool:
    disk = runs.folder / "disk"
    disk.mkdir()
    if os.name != "posix" or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", disk],
                                            stderr=subprocess.DEVNULL).returncode != 0:
        print("full disk: skipped, a tmpfs can't be mounted here (needs root)")
        return True
    try:
        code = runs.finish(disk, "--keep_checkpoint_max", "0")
        last = runs.output().strip().splitlines()[-1]
        left = sorted(os.listdir(disk))
        print(f"full disk: exit code {code}, {last}\nleft: {', '.join(left)}")
        good = code == 1 and "No space left on device" in last and last.startswith("error: ")
        elsewhere = runs.folder / "elsewhere"
        resumed = runs.finish(elsewhere, "--resume_model", disk) == 0 and same(runs.folder / "whole", elsewhere)
        print(f"resumed from it on another disk, equal to the run in one go: {resumed}")
        return good and resumed and not any(name.endswith(".new") for name in left)
    finally:
        subprocess.run(["umount", disk], check=True)


def main(args) -> bool:
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(pathlib.Path(folder))
        return all([kill_and_resume(runs, args.kills, args.minutes), stop_ranks(runs), fill_a_disk(runs)])


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kills", type=int, default=50)
    flags.add_argument("--minutes", type=float, default=10, help="no kill after so long")
    flags.add_argument("--seed", type=int, default=1, help="of the moments")
    good = main(flags.parse_args())
    print("ok" if good else "FAILED")
    sys.exit(not good)
