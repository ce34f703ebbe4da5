"""Forked workers, which inherit what is not theirs to clear up."""

import contextlib
import gc
from typing import Iterator

import cv2


@contextlib.contextmanager
def frozen_garbage() -> Iterator[None]:
    """Fork within this: no worker's garbage collector finalises what the parent left in reference cycles.

    A loader's iterator that was dropped before its end waits in its finaliser for a thread. A worker has a copy of the
    iterator and not the thread, and would wait for ever as soon as its garbage collector comes by: it can before the
    first line of the worker's own code.
    """
    gc.collect()        # threads and processes of dropped loaders end here, where they are
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def forked_pool() -> Iterator[None]:
    """Make a pool of forked workers within this, and end it: garbage is frozen, and OpenCV, whose threads don't survive
    a fork, has none."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with frozen_garbage():
            yield
    finally:
        cv2.setNumThreads(threads)
