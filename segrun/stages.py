"""Stages that work at the same time: the next images are read and the last ones written while the network computes."""

import collections
import contextlib
import itertools
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Deque, Dict, Generator, Iterable, Iterator, List, Optional, TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(function: Callable[[Item], Result], items: Iterable[Item], threads: int = 1,
          in_flight: Optional[int] = None) -> Generator[Result, None, None]:
    """function(item) of each item, in their order, made by other threads while the caller works on those before.

    An error, of the function or of the items, comes in the place of its result: the results before it come first, and
    of those behind it none is begun once it is known. So with one thread, nothing behind it is begun at all.

    Closing the generator, as Stages does after an error or Ctrl-C in the caller's loop, waits for what is at work and
    begins nothing more.

    Args:
        items: taken by the caller's thread, one for each result.
        threads: 0 works in the caller's thread, when a result is asked for.
        in_flight: results that are in the making, or wait, while the caller has one; as many as threads if None. No
            more are held, however many items there are.
    """
    if threads == 0:
        yield from map(function, items)
        return
    failed: List[int] = []
    pending: Deque[Future[Any]] = collections.deque()
    source, error = enumerate(items), None

    def work(number: int, item: Item) -> Optional[Result]:
        if failed and min(failed) < number:
            return None         # which nobody will see
        try:
            return function(item)
        except BaseException:
            failed.append(number)       # here, before this thread begins another
            raise

    pool = ThreadPoolExecutor(threads, "ahead")
    try:
        while True:
            try:
                number, item = next(source)
            except StopIteration:
                break
            except Exception as raised:
                error = raised
                break
            pending.append(pool.submit(work, number, item))
            del item            # its thread alone holds it now
            if len(pending) > (in_flight or threads):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        if error is not None:
            raise error
    finally:
        failed.append(-1)
        pool.shutdown(cancel_futures=True)


class Stages(contextlib.ExitStack):
    """`ahead` several times over, each with the results of the one before; leaving the block closes all, the last one
    first."""

    def ahead(self, function: Callable[[Item], Result], items: Iterable[Item], threads: int = 1,
              in_flight: Optional[int] = None) -> Iterator[Result]:
        return self.enter_context(contextlib.closing(ahead(function, items, threads, in_flight)))


def batches(items: Iterable[Item], size: int, kind: Callable[[Item], object]) -> Iterator[List[Item]]:
    """Lists of up to `size` items, in order, of one kind."""
    for _, equal in itertools.groupby(items, key=kind):
        while group := list(itertools.islice(equal, size)):
            yield group


class Times:
    """Seconds by step, an entry for each image; of runs of the network there are so many `requests` at a time."""

    def __init__(self, requests: int = 1):
        self.requests = requests
        self.seconds: Dict[str, List[float]] = {"preprocess": [], "inference": [], "postprocess": []}

    @contextlib.contextmanager
    def measure(self, step: str, images: int = 1) -> Iterator[None]:
        """Around a step of so many images."""
        start = time.perf_counter()
        yield
        self.seconds[step] += [(time.perf_counter() - start) / images] * images

    def summary(self, seconds: float, detailed: bool) -> str:
        """Of all images in so many seconds."""
        inference = np.array(self.seconds["inference"])
        rate = f"{self.requests} at a time" if self.requests > 1 else f"{len(inference) / inference.sum():.2f} images/s"
        text = (f"inference: {np.median(inference) * 1000:.1f} ms an image (median), {rate}; with reading and "
                f"writing {len(inference) / seconds:.2f} images/s")
        if detailed:
            text += "".join(f"\n{step:12} median {np.median(values) * 1000:8.1f} ms   90 % below "
                            f"{np.percentile(values, 90) * 1000:8.1f} ms" for step, values in self.seconds.items())
        return text
