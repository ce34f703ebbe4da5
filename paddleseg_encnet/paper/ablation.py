"""Runs the cells of a study, each with several seeds, by tools/train.py and tools/val.py.

    SAVE_DIR/CELL/seed_N/   config.yml, log.txt, checkpoints and VisualDL log of the training, and at last scores.json:
                            a run that has it is finished and is not run again
"""

import collections
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional

import yaml
from paddleseg.utils import logger

from paddleseg_encnet.paper.studies import Cell
from paddleseg_encnet.runtime import cpu
from paddleseg_encnet.runtime.errors import one_line
from paddleseg_encnet.runtime.progress import Progress
from paddleseg_encnet.runtime.stopping import Stop, Stopped
from paddleseg_encnet.runtime.writing import write

try:
    import fcntl
except ImportError:     # Windows: nothing keeps two ablations from training in one folder
    fcntl = None


class AblationError(ValueError):
    """A folder is that of another config, or weights are missing."""


class RunsFailed(AblationError):
    """Some have, and the others are finished."""


class Run(NamedTuple):
    """A cell with a seed, and where it is done."""
    cell: Cell
    seed: int
    folder: str

    def __str__(self):
        return f"{self.cell.name}, seed {self.seed}"

    @property
    def config_file(self) -> str:
        return os.path.join(self.folder, "config.yml")

    @property
    def log_file(self) -> str:
        return os.path.join(self.folder, "log.txt")

    @property
    def scores_file(self) -> str:
        return os.path.join(self.folder, "scores.json")

    @property
    def weights_folder(self) -> str:
        """Of the run that trains its weights: its own, or that of another cell with the same seed."""
        study = os.path.dirname(os.path.dirname(self.folder))
        return os.path.join(study, self.cell.weights_of or self.cell.folder, f"seed_{self.seed}")

    @property
    def weights(self) -> str:
        return os.path.join(self.weights_folder, f"iter_{self.cell.config['iters']}", "model.pdparams")

    def scores(self) -> Optional[dict]:
        """What tools/val.py has said, None before that."""
        if not os.path.exists(self.scores_file):
            return None
        with open(self.scores_file) as file:
            return json.load(file)

    def differences(self, config_file: str = None) -> List[str]:
        """Where the config in its folder, or in another file, is another than its cell's."""
        with open(config_file or self.config_file) as file:
            return differences(yaml.safe_load(file), self.cell.config)

    def log_size(self) -> int:
        return os.path.getsize(self.log_file) if os.path.exists(self.log_file) else 0

    def saved_steps(self) -> int:
        """Where its training goes on: the step of its newest checkpoint."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        return max([int(name[5:]) for name in names if re.fullmatch(r"iter_\d+", name)], default=0)

    def logged_steps(self, start: int) -> int:
        """The last step in the end of its log, behind the place `start`; 0 if there is none."""
        if self.log_size() <= start:
            return 0
        with open(self.log_file, "rb") as file:
            file.seek(max(start, self.log_size() - 20000))
            said = re.findall(rb"iter: (\d+)/", file.read())
        return int(said[-1]) if said else 0


def runs_of(cells: List[Cell], seeds: List[int], save_dir: str) -> List[Run]:
    """All runs, the first seed of every cell before the second of any, so that there is soon a whole table."""
    return [Run(cell, seed, os.path.join(save_dir, cell.folder, f"seed_{seed}"))
            for seed in dict.fromkeys(seeds) for cell in cells]


def with_finished(runs: List[Run], study: List[Cell], save_dir: str) -> List[Run]:
    """These runs and, in the order of the study, what else of it is finished in the folder, by earlier commands with
    other cells or seeds. Runs of another config than these cells' are left out."""
    found = {run.folder: run for run in runs}
    for cell in study:
        place = os.path.join(save_dir, cell.folder)
        for name in os.listdir(place) if os.path.isdir(place) else []:
            seed = re.fullmatch(r"seed_(-?\d+)", name)
            if seed is None or os.path.join(place, name) in found:
                continue
            run = Run(cell, int(seed[1]), os.path.join(place, name))
            if run.scores() is not None and os.path.exists(run.config_file) and not run.differences():
                found[run.folder] = run
    order = [cell.folder for cell in study]
    return sorted(found.values(), key=lambda run: (order.index(run.cell.folder), run.seed))


def prepare(run: Run):
    """Writes the run's config into its folder, or finds it there.

    Raises:
        AblationError: the folder is that of another config, or the one that its weights come from is.
    """
    for folder in (run.weights_folder, run.folder):
        config_file = os.path.join(folder, "config.yml")
        others = run.differences(config_file) if os.path.exists(config_file) else []
        if others:
            raise AblationError(f"{config_file} is of a run with {others[0]}; take another --save_dir, or move "
                                f"{folder} away")
    if os.path.exists(run.config_file):
        return
    text = yaml.safe_dump(run.cell.config, sort_keys=False)
    write(run.config_file, lambda path: pathlib.Path(path).write_text(text))


def differences(there, here, key: str = "") -> List[str]:
    """Where two configs differ: ["loss.coef [1, 0.4] instead of [1, 0.2]"]."""
    if isinstance(there, dict) and isinstance(here, dict):
        return [found for name in {**there, **here}
                for found in differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)]
    return [] if there == here else [f"{key} {there} instead of {here}"]


class Steps:
    """How far runs have come: what they had saved when this began, and what they have logged since. What they had
    logged before goes further than their checkpoints, and is done again."""

    def __init__(self, runs: List[Run]):
        self.runs, self.logs = runs, [run.log_size() for run in runs]
        self.done = [run.saved_steps() for run in runs]

    def count(self) -> int:
        for i, run in enumerate(self.runs):
            # A finished run has done all; of the others the tables of an evaluation may have hidden the last step.
            finished = run.cell.config["iters"] if os.path.exists(run.scores_file) else 0
            self.done[i] = max(self.done[i], finished, run.logged_steps(self.logs[i]))
        return sum(self.done)


class Ablation:
    """Runs to be done, and how.

    Args:
        runs: what runs_of() gives.
        tools: folder of train.py and val.py.
        devices: each takes one run at a time; names as --device has them.
        train_flags: further flags of tools/train.py.
        num_workers: processes that read data, for each run.
        finished: called after each run that has been finished, by one thread at a time.
    """

    def __init__(self, runs: List[Run], tools: str, devices: List[str], train_flags: List[str] = (),
                 num_workers: int = 0, finished: Callable[[], None] = lambda: None):
        self.runs, self.tools, self.devices = runs, tools, devices
        self.train_flags, self.num_workers, self.finished = list(train_flags), num_workers, finished
        self.processes: List[subprocess.Popen] = []
        self.failures: Dict[str, str] = {}      # what went wrong, by the run's folder
        self.telling = threading.Lock()

    def run(self):
        """Does what is not finished.

        Raises:
            AblationError: a folder is that of another config, or weights are neither there nor to be trained; at once.
            RunsFailed: runs have failed; when the others are finished.
            Stopped: a signal came, and the trainings that were under way have saved.
        """
        folders = {run.folder for run in self.runs}
        for run in self.runs:
            if run.weights_folder not in folders and run.scores() is None and not os.path.exists(run.weights):
                source, cell = run.cell.weights_of, run.cell.folder
                raise AblationError(f"{run} evaluates the weights of cell {source}, and there is no {run.weights}; "
                                    f"train cell {source} first (--cells {source} {cell})")
            prepare(run)
        to_do = [run for run in self.runs if run.scores() is None]
        logger.info(f"{len(self.runs) - len(to_do)} of {len(self.runs)} runs are finished, {len(to_do)} are to do")
        with Stop() as stop:
            self._run([run for run in to_do if run.cell.weights_of is None], stop)
            self._run([run for run in to_do if run.cell.weights_of is not None and self._has_weights(run)], stop)
        if self.failures:
            raise RunsFailed(f"{len(self.failures)} of {len(self.runs)} runs failed: "
                             f"{'; '.join(self.failures.values())}")

    def _has_weights(self, run: Run) -> bool:
        """False where the run that was to train them has failed, which is one failure and not two."""
        if run.weights_folder in self.failures:
            logger.warning(f"{run}: not run, as cell {run.cell.weights_of} has failed")
        return run.weights_folder not in self.failures

    def _run(self, runs: List[Run], stop: Stop):
        """Shares the runs among the devices."""
        if not runs:
            return
        waiting = collections.deque(runs)

        def work(device: str):
            while stop.signum is None:
                try:
                    run = waiting.popleft()
                except IndexError:      # another device took the last one
                    return
                try:
                    self._do(run, device, stop)
                except Exception as error:      # its folder can't be written, ...: other runs may do better
                    self._failed(run, one_line(error))

        steps = Steps(runs)
        progress = Progress(sum(run.cell.config["iters"] for run in runs), "steps", done=steps.count())
        threads = [threading.Thread(target=work, args=[device]) for device in self.devices]
        for thread in threads:
            thread.start()
        told = set()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.5)
            progress.reach(steps.count())
            # Once: a second signal would end a training before it has saved.
            for process in set(self.processes) - told if stop.signum else ():
                process.send_signal(signal.SIGTERM)
                told.add(process)
        progress.reach(steps.count())
        progress.close()
        if stop.signum:
            raise Interrupted(stop.signum)

    def _do(self, run: Run, device: str, stop: Stop):
        """One run, in a thread of its device."""
        with open(os.path.join(run.folder, "lock"), "w") as lock, open(run.log_file, "ab") as log:
            if not locked(lock, run, stop) or run.scores() is not None:
                return
            # As many trainings as there are CPUs in the list share its cores.
            environment = cpu.shared(self.devices.count("cpu")) if device == "cpu" else None
            said_before = run.log_size()
            logger.info(f"{run}: started on {device}, {run.log_file}")
            for command in self._commands(run, device):
                if stop.signum:
                    return
                # In a session of its own: Ctrl-C at a terminal is for us alone, who hand it on. And it keeps the lock:
                # when an ablation is killed its trainings go on, and the next one waits for them.
                process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True,
                                           env=environment, pass_fds=[lock.fileno()] if fcntl else [])
                self.processes.append(process)
                code = process.wait()
                if code != 0:
                    break
        if run.scores() is not None:
            with self.telling:
                logger.info(f"{run}: mIoU {run.scores()['mean_iou']:.4f}")
                self._report()
        elif not stop.signum:
            self._failed(run, f"{cause(code, run.log_file, said_before)} ({run.log_file})")

    def _failed(self, run: Run, why: str):
        with self.telling:
            self.failures[run.folder] = f"{run}: {why}"
            logger.error(self.failures[run.folder])

    def _report(self):
        """What is finished so far. Without it the runs are no worse, and there will be another."""
        try:
            self.finished()
        except Exception as error:
            logger.warning(f"no report of what is finished so far: {one_line(error)}")

    def _commands(self, run: Run, device: str) -> Iterator[List[str]]:
        """A training that goes on where it was, and the evaluation of its last weights: the best of several evaluations
        would have been chosen by the images that score it."""
        common = ["--config", run.config_file, "--device", device, "--num_workers", str(self.num_workers)]
        if run.cell.weights_of is None:
            yield [sys.executable, os.path.join(self.tools, "train.py"), *common, "--seed", str(run.seed), "--do_eval",
                   "--use_vdl", "--resume_model", "auto", "--save_dir", run.folder, *self.train_flags]
        yield [sys.executable, os.path.join(self.tools, "val.py"), *common, "--model_path", run.weights,
               *run.cell.evaluation, "--save_json", run.scores_file]


class Interrupted(Stopped):
    """A signal ended the ablation; what was under way has saved."""

    def __init__(self, signum: int):
        KeyboardInterrupt.__init__(self, f"stopped by {signal.Signals(signum).name}; the same command goes on")
        self.signum = signum


def locked(file, run: Run, stop: Stop) -> bool:
    """Locks the run's file, after waiting for a process that holds it; False if a signal came first."""
    if fcntl is None:
        return True
    told = False
    while not stop.signum:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not told:
                logger.info(f"{run}: waiting for the process that is at work in {run.folder}")
            told = True
            time.sleep(0.5)
    return False


def cause(code: int, log_file: str, start: int) -> str:
    """Why a process has failed: the signal that killed it, or its last line, in which our tools say what went wrong.

    Args:
        code: as subprocess has it, the signal's number negated.
        start: size of the log when the process began.
    """
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    with open(log_file, errors="replace") as file:
        file.seek(start)
        said = [line.strip() for line in file if line.strip()]
    return said[-1] if said else f"it ended with code {code} and said nothing"
