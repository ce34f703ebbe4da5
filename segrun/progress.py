"""A line that shows how far long work has come and how long it still takes.

Not tqdm, which rewrites its line in a log file too: there a line at each tenth is enough, and can be read.
"""

import sys
import time


def duration(seconds: float) -> str:
    """Whole seconds as h:mm:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class Progress:
    """Counts up to `total` on stderr: rewritten in place on a terminal, else one line at each tenth.

    `done` is what was done before: it is counted, and its time is not.
    """

    def __init__(self, total: int, unit: str, visible: bool = True, done: int = 0):
        self.total, self.unit, self.visible = total, unit, visible
        self.done, self.before = done, done
        self.start, self.shown = time.monotonic(), 0.0
        self.terminal = sys.stderr.isatty()

    def advance(self) -> None:
        self.reach(self.done + 1)

    def reach(self, done: int) -> None:
        """Says how much is done by now."""
        tenths, self.done = self.done * 10 // self.total, done
        now = time.monotonic()
        if self.terminal:
            due = now - self.shown > 0.2 or self.done == self.total
        else:
            due = self.done * 10 // self.total > tenths
        if self.visible and due and self.done > self.before:
            self.shown = now
            left = (now - self.start) / (self.done - self.before) * (self.total - self.done)
            line = f"{self.done}/{self.total} {self.unit}, {duration(left)} left"
            sys.stderr.write(f"\r{line} " if self.terminal else f"{line}\n")
            sys.stderr.flush()

    def close(self) -> None:
        if self.visible and self.terminal and self.done > self.before:
            print(file=sys.stderr)
