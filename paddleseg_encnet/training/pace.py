"""How fast a training goes: batches handed out, their time measured, and PaddleSeg's log line."""

import time
from typing import Any, List, NamedTuple

from paddleseg.utils import logger

from segrun.progress import duration


class Pace(NamedTuple):
    """Means over the steps since the last reading."""
    losses: List[float]     # by term, weighted
    batch_cost: float       # seconds a step
    reader_cost: float      # of these, waiting for data


class Meter:
    """Hands out batches and measures what steps take and yield."""

    def __init__(self, batches: Any):
        self.batches, self.coming = batches, iter(batches)
        self.restart()

    def close(self) -> None:
        """Ends the processes that read ahead."""
        self.coming.close()

    def restart(self) -> None:
        """Forgets everything so far, for instance the time of an evaluation."""
        self.start, self.waited, self.steps = time.monotonic(), 0.0, 0
        self.sums: list = []

    def next_batch(self) -> dict:
        asked = time.monotonic()
        batch = next(self.coming)
        self.waited += time.monotonic() - asked
        return batch

    def stepped(self, terms: list) -> None:
        """Adds up on the device; read() reads."""
        values = [term.detach() for term in terms]
        self.sums = values if not self.sums else [a + b for a, b in zip(self.sums, values)]
        self.steps += 1

    def read(self) -> Pace:
        losses = [float(value) / self.steps for value in self.sums]
        pace = Pace(losses, (time.monotonic() - self.start) / self.steps, self.waited / self.steps)
        self.restart()
        return pace


def log(step: int, iters: int, pace: Pace, lr: float, epoch: int, samples: int) -> None:
    """PaddleSeg's line; `samples` are a step's, on this rank."""
    logger.info(
        f"[TRAIN] epoch: {epoch + 1}, iter: {step}/{iters}, loss: {sum(pace.losses):.4f}, "
        f"lr: {lr:.6f}, batch_cost: {pace.batch_cost:.4f}, reader_cost: {pace.reader_cost:.5f}, "
        f"ips: {samples / pace.batch_cost:.4f} samples/sec | ETA {duration(pace.batch_cost * (iters - step))}")
