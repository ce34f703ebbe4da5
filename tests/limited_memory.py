"""A limit on what Python allocates."""

import contextlib
import tracemalloc

MIB = 2**20


@contextlib.contextmanager
def limited_memory(size):
    """Lets Python allocate no more than ``size`` bytes at a time within the block."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= size, f"{peak / MIB:.1f} MiB, more than {size / MIB:.1f} MiB"
