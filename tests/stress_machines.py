"""Machines that fail at random moments; each time the others must say which one, and the run must go on to its end.

    python tests/stress_machines.py [--disturbances 40] [--slow 4] [--seed 1] [--keep FOLDER]

Three machines (network namespaces on a bridge), a rank over gloo on each, train a network of a few numbers with
checkpoints and evaluations. At a random moment between start and end something happens to a random one of them:

    cut         its cable is pulled                     killed      SIGKILL to its rank, or to all that runs on it
    stopped     SIGSTOP to its rank, or to all          slow        its cable delays by 200 ms and loses 5 % each way

Of the first three (--disturbances in all) the others must say within 40 seconds, each in one line with that rank's
name, that it is gone, and all must end; then the run goes on with --resume_model auto. The last (--slow) must disturb
nothing. In each case the last checkpoint must be that of a run that nothing happened to, to the last bit. Half an hour,
most of it silence. Skipped, with the reason, where namespaces, or taps for the slow cable, are not allowed.
"""

import argparse
import atexit
import collections
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time

import machines

STEPS, RANKS = 12, 3
KINDS = ("cut", "stopped", "killed")
# Seconds until the rank is named, as promised; and until a slow run, or one on a busy machine, must have ended.
NAMED, ENDED = 40, 600
DELAY, LOSS = 0.2, 0.05


class Run:
    """Three machines that train into one folder."""

    def __init__(self, folder: pathlib.Path, slow: int = None, seed: int = 0):
        self.folder = folder
        self.log = folder / f"log{len(list(folder.glob('log*')))}"
        self.log.mkdir(parents=True)
        self.addresses = [f"10.0.0.{rank + 1}" for rank in range(RANKS)]
        self.machines = []
        for rank in range(RANKS):
            cable = (DELAY, LOSS, seed) if rank == slow else None
            self.machines.append(machines.Machine(self.addresses[rank], self.log / f"rank{rank}",
                                                  lambda rank=rank: self.train(rank), cable))
        self.began = time.monotonic()

    def train(self, rank: int):
        """On a machine. Python and Paddle have been imported before the fork, so that a run takes seconds."""
        endpoints = [f"{address}:6170" for address in self.addresses]
        os.environ.update(
            PADDLE_TRAINER_ID=str(rank), PADDLE_TRAINERS_NUM=str(RANKS), PADDLE_TRAINER_ENDPOINTS=",".join(endpoints),
            PADDLE_CURRENT_ENDPOINT=endpoints[rank], PADDLE_MASTER=f"{self.addresses[0]}:6171",
            PADDLE_DISTRI_BACKEND="gloo", GLOO_SOCKET_IFNAME="eth0", FLAGS_stop_check_timeout="30")
        atexit._clear()     # of what this script has to do at its end, which is not the fork's to do
        import paddle
        import tiny_run

        from paddleseg_encnet import flags

        def work(args):
            paddle.set_device("cpu")
            tiny_run.run(self.folder.parent / "scenes", self.folder / "run", STEPS, width=4, save_interval=4, keep=2,
                         log_iters=1, resume_model="auto")

        code = 1
        try:
            flags.run_main(work, flags.bare_parser(""), [])
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else print(ended.code, file=sys.stderr) or 1
        finally:
            atexit._run_exitfuncs()     # the goodbye
            sys.stdout.flush()
            os._exit(code)

    def running(self, but=None) -> list:
        """Ranks whose machine still runs anything."""
        return [rank for rank, machine in enumerate(self.machines)
                if rank != but and not (machine.ended() and not machine.processes())]

    def wait(self, seconds: float, but=None) -> bool:
        """Until nothing runs on the machines, but on one of them; whether that was in time."""
        deadline = time.monotonic() + seconds
        while self.running(but):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def errors(self, rank: int) -> list:
        return [line for line in (self.log / f"rank{rank}").read_text(errors="replace").splitlines()
                if line.startswith("error: ")]

    def steps(self) -> int:
        return (self.log / "rank0").read_text(errors="replace").count("[TRAIN] epoch")

    def close(self):
        for machine in self.machines:
            machine.close()


def state(folder: pathlib.Path) -> dict:
    """All numbers of the last checkpoint, by name, and what the run knows at its end. That is in the checkpoint that it
    would go on from: one that ends when best_model is written, and before iter_N has the same score, leaves it so."""
    from paddleseg_encnet.training import resuming, saving
    from paddleseg_encnet.weights import checkpoint
    last = folder / "run" / f"iter_{STEPS}"
    numbers = {f"{name} {key}": value for name in ("model.pdparams", "model.pdopt")
               for key, value in checkpoint.read_weights(last / name).items()}
    kept = saving.read_state(resuming.newest_first(str(folder / "run"))[0])
    return {**numbers, "state": (kept.step, kept.best, kept.epoch, kept.samples, kept.seed)}


def equal(folder: pathlib.Path, whole: pathlib.Path) -> bool:
    import numpy as np
    a, b = state(folder), state(whole)
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) if key != "state" else a[key] == b[key]
                                        for key in a)


def finish(folder: pathlib.Path) -> float:
    """Trains to the end, from where the folder's run is. Returns the seconds that it took."""
    run = Run(folder)
    try:
        ended = run.wait(ENDED)
        seconds, codes = time.monotonic() - run.began, [machine.code for machine in run.machines]
    finally:
        run.close()
    if not ended or any(codes):
        raise RuntimeError(f"{folder}: exit codes {codes}, {[run.errors(rank) for rank in range(RANKS)]}")
    return seconds


def wait_for_a_moment(run: Run, duration: float, last: int):
    """A random one: of the start, or around any of the steps up to `last`. What follows the run's last step is a save,
    an evaluation and the goodbyes."""
    if random.random() < 0.3:
        time.sleep(random.uniform(0, duration / 2))
        return
    step = random.randint(1, last)
    while run.steps() < step and run.running():
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.5))


def strike(run: Run, kind: str, victim: int, everything: bool) -> str:
    """Does it, and says what."""
    machine = run.machines[victim]
    if kind == "cut":
        machine.cut()
        return "cable cut"
    if kind == "slow":
        machine.cable.slow()
        return f"cable slow: {DELAY * 1000:g} ms, {LOSS:.0%} lost"
    machine.signal(signal.SIGSTOP if kind == "stopped" else signal.SIGKILL, everything)
    return f"{'machine' if everything else 'rank'} {kind}"


def disturb(folder: pathlib.Path, kind: str, duration: float, seed: int) -> tuple:
    """One disturbance. Returns what happened, whether what must follow did, and how; None instead of whether, where the
    run had ended by itself."""
    victim, everything = random.randrange(RANKS), random.random() < 0.5
    run = Run(folder, victim if kind == "slow" else None, seed)
    wait_for_a_moment(run, duration, STEPS // 2 if kind == "slow" else STEPS)
    before = (folder / "run" / f"iter_{STEPS}").exists() and not run.running()
    steps, moment = run.steps(), time.monotonic()
    what = f"rank {victim}, after step {steps}: " + strike(run, kind, victim, everything)
    try:
        if before:
            return what, None, "the run had ended"
        if kind == "slow":
            ended = run.wait(ENDED)
            told = [line for rank in range(RANKS) for line in run.errors(rank)]
            codes = [machine.code for machine in run.machines]
            return what, ended and not told and not any(codes), f"{time.monotonic() - moment:.0f} s {' '.join(told)}"
        ended = run.wait(NAMED, victim)
        seconds = time.monotonic() - moment
        others = [rank for rank in range(RANKS) if rank != victim]
        told = [run.errors(rank) for rank in others]
        if ended and not any(told) and not any(run.machines[rank].code for rank in others):
            return what, None, "all had said goodbye"
        good = ended and all(len(lines) == 1 and lines[0].startswith(f"error: rank {victim} (") for lines in told)
        own = " ".join(run.errors(victim))
        if kind == "cut" or (kind == "stopped" and not everything):     # its sentinel sees it too, and ends it
            good = good and run.wait(NAMED - seconds) and len(run.errors(victim)) == 1
            own = " ".join(run.errors(victim))
        return what, good, f"{seconds:.1f} s, {told[0][0] if told[0] else told}" + f" | itself: {own}" * bool(own)
    finally:
        run.close()


def main(args) -> bool:
    random.seed(args.seed)
    tally = collections.Counter()
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(args.keep or root)
        from paddleseg_encnet import scenes
        scenes.generate(str(root / "scenes"), train=12, val=2, size=(64, 32))
        whole = root / "whole"
        finish(whole)
        shutil.rmtree(whole)
        duration = finish(whole)        # the first one also reads files that later ones find in memory
        print(f"undisturbed: {duration:.1f} s", flush=True)
        kinds = [KINDS[number % len(KINDS)] for number in range(args.disturbances)]
        for number in range(args.slow):
            kinds.insert((number + 1) * len(kinds) // (args.slow + 1), "slow")
        number = 0
        while tally["done"] < len(kinds):
            kind, folder = kinds[tally["done"]], root / f"run{number}"
            number += 1
            what, good, how = disturb(folder, kind, duration, args.seed + number)
            if good is None:
                tally["too late"] += 1
                shutil.rmtree(folder)
                continue
            if kind != "slow":
                finish(folder)
            same = equal(folder, whole)
            tally["done"] += 1
            tally[f"{kind} {'holds' if good else 'FAILS'}"] += 1
            tally["equal"] += same
            tally["good"] += good and same
            print(f"{tally['done']:3d} {'holds' if good and same else 'FAILS'}  {what}\n      {how}\n"
                  f"      its last checkpoint: {'equal' if same else 'NOT EQUAL'}", flush=True)
            if not args.keep:
                shutil.rmtree(folder)
    print(", ".join(f"{name}: {count}" for name, count in sorted(tally.items())))
    return tally["good"] == tally["done"]


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--disturbances", type=int, default=40)
    flags.add_argument("--slow", type=int, default=4)
    flags.add_argument("--seed", type=int, default=1, help="of what happens when")
    flags.add_argument("--keep", help="a new folder for logs and checkpoints, which are then kept")
    args = flags.parse_args()
    reason = machines.enter()
    if reason:
        print(f"machines: skipped, {reason}")
        sys.exit()
    if args.slow and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        print("slow cables: skipped, /dev/net/tun can't be opened here")
        args.slow = 0
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
    import tiny_run  # noqa: F401  before the forks
    began, good = time.monotonic(), main(args)
    print(f"{'ok' if good else 'FAILED'}; {time.monotonic() - began:.0f} s")
    sys.exit(not good)
