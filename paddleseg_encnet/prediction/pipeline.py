"""Stages that work at the same time: the next images are read and the last ones written while the network computes."""

import collections
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Iterable, Iterator, Optional


def ahead(function: Callable, items: Iterable, threads: int = 1, in_flight: Optional[int] = None) -> Iterator:
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
    failed, pending, source, error = [], collections.deque(), enumerate(items), None

    def work(number: int, item):
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
            item = None         # its thread alone holds it now
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

    def ahead(self, *options, **more) -> Iterator:
        return self.enter_context(contextlib.closing(ahead(*options, **more)))
