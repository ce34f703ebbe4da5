"""What goes wrong with a user's files, and an error in one line."""

import functools
import re
from typing import Any, Callable, TypeVar

Result = TypeVar("Result")


class DataError(ValueError):
    """A file, an image or a label is missing or wrong; says which, what was seen and what to do.

    `kind` is what files with the same fault share, so that thousands of them can be told in one line.
    """

    def __init__(self, message: str, kind: str = "wrong files"):
        super().__init__(message)
        self.kind = kind


def one_line(error: BaseException) -> str:
    """What went wrong, from the exception that knows it best."""
    error = innermost(error)
    message = str(error).strip()
    # A DataLoader worker hands over its whole stack trace; its last line is the error.
    if "Traceback (most recent call last)" in message:
        message = re.sub(r"^[\w.]+: ", "", message.splitlines()[-1])
    message = joined(message)
    if message and isinstance(error, (ValueError, OSError, AssertionError)):
        return message
    return f"{type(error).__name__}: {message} (--debug shows where)"


def joined(text: str) -> str:
    """The lines of a text in one. Spaces within a line may be those of a file's name, and stay."""
    return re.sub(r"\s*[\r\n]\s*", " ", text.strip())


def unwrapped(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function, raising what went wrong itself where PaddleSeg has wrapped it, as innermost() finds it."""
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Result:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            found = innermost(error)
            if found is error:
                raise
        raise found     # out here, so that the wrapper does not become its context
    return call


def innermost(error: BaseException) -> BaseException:
    """The error that PaddleSeg's builder and config checker have wrapped in general advice."""
    while isinstance(error, RuntimeError) and error.__context__ is not None:
        error = error.__context__
    return error
