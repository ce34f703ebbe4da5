"""What a forked worker must leave alone of the process that it was forked from."""

import contextlib
import gc


@contextlib.contextmanager
def frozen_garbage():
    """Fork within this: the garbage collector of a child never finalises what the parent left in reference cycles.

    A DataLoader's iterator that was dropped before its end waits in its finaliser for a thread. A child has a copy of
    the iterator and not the thread, and waits for ever, whenever its garbage collector happens to meet the copy.
    """
    gc.collect()        # the parent can finalise it, and threads and processes of its own end here
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
