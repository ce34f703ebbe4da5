"""What is said of the runs of an ablation: how far they have come, how each has ended, and why one has failed."""

import os
import signal
import threading
from typing import Callable, Dict, List

from paddleseg.utils import logger

from paddleseg_encnet.paper.ablation_plan import CellRun
from segrun.errors import one_line


class Telling:
    """Says how runs have ended; for one thread of several at a time.

    Args:
        report: called after each run that has been finished.
    """

    def __init__(self, report: Callable[[], object]):
        self.report = report
        self.failures: Dict[str, str] = {}      # which run has failed, by its folder
        self.causes: Dict[str, List[str]] = {}  # what went wrong, and which runs have failed of it
        self.logs: Dict[str, str] = {}          # where more of it stands, of the first of these
        self.lock = threading.Lock()

    def finished(self, run: CellRun) -> None:
        """Its score, and the report of what is finished so far. Without the report the runs are no worse, and there
        will be another."""
        with self.lock:
            logger.info(f"{run}: mIoU {(run.scores() or {})['mean_iou']:.4f}")
            try:
                self.report()
            except Exception as error:
                logger.warning(f"no report of what is finished so far: {one_line(error)}")

    def failed(self, run: CellRun, why: str, log_file: str = "") -> None:
        """A cause that several runs share, as missing data are, is told once."""
        with self.lock:
            self.failures[run.folder] = str(run)
            shared = why.replace(run.folder, "its folder")
            others = self.causes.setdefault(shared, [])
            others.append(str(run))
            self.logs.setdefault(shared, log_file)
            logger.error(f"{run}: as {others[0]}" if len(others) > 1 else self.line(shared))

    def line(self, cause: str) -> str:
        """The runs that have failed of a cause, and the cause."""
        first, *more = self.causes[cause]
        others = f" and {len(more)} more" if more else ""
        log_file = f" ({self.logs[cause]})" if self.logs[cause] else ""
        return f"{first}{others}: {cause}{log_file}"

    def summary(self) -> str:
        """All that went wrong, each cause once."""
        return "; ".join(map(self.line, self.causes))


class Steps:
    """How far runs have come: what they had saved when this began, and what they have logged since. What they had
    logged before goes further than their checkpoints, and is done again."""

    def __init__(self, runs: List[CellRun]):
        self.runs, self.logs = runs, [run.log_size() for run in runs]
        self.done = [run.saved_steps() for run in runs]

    def count(self) -> int:
        for i, run in enumerate(self.runs):
            # A finished run has done all; of the others the tables of an evaluation may have hidden the last step.
            finished = run.cell.config["iters"] if os.path.exists(run.scores_file) else 0
            self.done[i] = max(self.done[i], finished, run.logged_steps(self.logs[i]))
        return sum(self.done)


def cause(code: int, log_file: str, start: int) -> str:
    """Why a process has failed: the signal that killed it, or its last line, in which our tools say what went wrong.

    Args:
        code: as subprocess has it, the signal's number negated.
        start: size of the log when the process began.
    """
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    with open(log_file, encoding="utf-8", errors="replace") as file:
        file.seek(start)
        said = [line.strip() for line in file if line.strip()]
    return said[-1] if said else f"it ended with code {code} and said nothing"
