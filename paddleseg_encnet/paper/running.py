"""Runs what an ablation has planned, in processes of tools/train.py and tools/val.py, on several devices at a time."""

import collections
import os
import signal
import subprocess
import sys
import threading
import time
from typing import IO, Callable, Iterator, List, Sequence, Set

from paddleseg.utils import logger

from paddleseg_encnet.paper.ablation_plan import AblationError, CellRun, prepare_run
from paddleseg_encnet.paper.telling import Steps, Telling, cause
from segrun import cpu
from segrun.errors import one_line
from segrun.progress import Progress
from segrun.stopping import Stop, Stopped

try:
    import fcntl
except ImportError:     # Windows: nothing keeps two ablations from training in one folder
    fcntl = None    # type: ignore[assignment]


class RunsFailed(AblationError):
    """Some have, and the others are finished."""


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

    def __init__(self, runs: List[CellRun], tools: str, devices: List[str], train_flags: Sequence[str] = (),
                 num_workers: int = 0, finished: Callable[[], object] = lambda: None):
        self.runs, self.tools, self.devices = runs, tools, devices
        self.train_flags, self.num_workers = list(train_flags), num_workers
        self.telling = Telling(finished)
        self.processes: List[subprocess.Popen] = []

    def run(self) -> None:
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
            prepare_run(run)
            if run.done_elsewhere:
                logger.info(f"{run}: the same training as that of another study, in {run.folder}")
        to_do = [run for run in self.runs if run.scores() is None]
        logger.info(f"{len(self.runs) - len(to_do)} of {len(self.runs)} runs are finished, {len(to_do)} are to do")
        with Stop() as stop:
            self._run([run for run in to_do if run.cell.weights_of is None], stop)
            self._run([run for run in to_do if run.cell.weights_of is not None and self._has_weights(run)], stop)
        if self.telling.failures:
            raise RunsFailed(f"{len(self.telling.failures)} of {len(self.runs)} runs failed: "
                             f"{self.telling.summary()}")

    def _has_weights(self, run: CellRun) -> bool:
        """False where the run that was to train them has failed, which is one failure and not two."""
        if run.weights_folder in self.telling.failures:
            logger.warning(f"{run}: not run, as cell {run.cell.weights_of} has failed")
        return run.weights_folder not in self.telling.failures

    def _run(self, runs: List[CellRun], stop: Stop) -> None:
        """Shares the runs among the devices."""
        if not runs:
            return
        waiting = collections.deque(runs)

        def work(device: str) -> None:
            while stop.signum is None:
                try:
                    run = waiting.popleft()
                except IndexError:      # another device took the last one
                    return
                try:
                    self._do(run, device, stop)
                except Exception as error:      # its folder can't be written, ...: other runs may do better
                    self.telling.failed(run, one_line(error))

        steps = Steps(runs)
        progress = Progress(sum(run.cell.config["iters"] for run in runs), "steps", done=steps.count())
        threads = [threading.Thread(target=work, args=[device]) for device in self.devices]
        for thread in threads:
            thread.start()
        told: Set[subprocess.Popen] = set()
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

    def _do(self, run: CellRun, device: str, stop: Stop) -> None:
        """One run, in a thread of its device."""
        with open(os.path.join(run.folder, "lock"), "w", encoding="utf-8") as lock, open(run.log_file, "ab") as log:
            if not locked(lock, run, stop) or run.scores() is not None:
                return
            # As many trainings as there are CPUs in the list share its cores.
            environment = cpu.divided_environment(self.devices.count("cpu")) if device == "cpu" else None
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
            self.telling.finished(run)
        elif not stop.signum:
            self.telling.failed(run, cause(code, run.log_file, said_before), run.log_file)

    def _commands(self, run: CellRun, device: str) -> Iterator[List[str]]:
        """A training that goes on where it was, and the evaluation of its last weights: the best of several evaluations
        would have been chosen by the images that score it."""
        common = ["--config", run.config_file, "--device", device, "--num_workers", str(self.num_workers)]
        if run.cell.weights_of is None:
            yield [sys.executable, os.path.join(self.tools, "train.py"), *common, "--seed", str(run.seed), "--use_vdl",
                    "--resume_model", "auto", "--save_dir", run.folder, *self.train_flags]
        yield [sys.executable, os.path.join(self.tools, "val.py"), *common, "--model_path", run.weights,
               *run.cell.evaluation, "--save_json", run.scores_file]


class Interrupted(Stopped):
    """A signal ended the ablation; what was under way has saved."""

    def __init__(self, signum: int):
        KeyboardInterrupt.__init__(self, f"stopped by {signal.Signals(signum).name}; the same command goes on")
        self.signum = signum


def locked(file: IO, run: CellRun, stop: Stop) -> bool:
    """Locks the run's file, after waiting for a process that holds it; False if a signal came first.

    filelock (4.3.1) was weighed: its descriptor is its own, and here the trainings inherit it and so hold the lock.
    """
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
