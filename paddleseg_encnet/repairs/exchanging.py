"""Another function in the place of one of Paddle's or PaddleSeg's, for a while."""

import contextlib
from typing import Any, Callable, Iterator


@contextlib.contextmanager
def exchanged(owner: Any, name: str, function: Callable) -> Iterator[None]:
    """Within it `owner.name` is this function, for every thread of the process."""
    own = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, own)
