"""A disk that is full."""

import contextlib
import resource


@contextlib.contextmanager
def full_disk(room: int = 60):
    """No file gets longer than so many bytes, which ends a write as a full disk does: after a part of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
