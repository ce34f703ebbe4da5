"""A line that shows how far long work has come and how long it still takes."""

import sys
import time


def duration(seconds: float) -> str:
    """Whole seconds as h:mm:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class Progress:
    """Counts up to `total` on stderr: rewritten in place on a terminal, else one line at each tenth."""

    def __init__(self, total: int, unit: str, visible: bool = True):
        self.total, self.unit, self.visible = total, unit, visible
        self.done, self.start, self.shown = 0, time.monotonic(), 0.0
        self.terminal = sys.stderr.isatty()

    def advance(self):
        self.done += 1
        now = time.monotonic()
        if self.terminal:
            due = now - self.shown > 0.2 or self.done == self.total
        else:
            due = self.done * 10 // self.total > (self.done - 1) * 10 // self.total
        if self.visible and due:
            self.shown = now
            left = (now - self.start) / self.done * (self.total - self.done)
            line = f"{self.done}/{self.total} {self.unit}, {duration(left)} left"
            sys.stderr.write(f"\r{line} " if self.terminal else f"{line}\n")
            sys.stderr.flush()

    def close(self):
        if self.visible and self.terminal and self.done:
            print(file=sys.stderr)
