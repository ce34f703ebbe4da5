"""JSON files, or one line that says what they are instead."""

import json
import os
from typing import Any, Optional, Tuple

from segrun.errors import DataError
from segrun.raw_files import read_text


def read_json(path: str) -> dict:
    """The object in a file.

    Raises:
        DataError: there is no such file, or it holds no JSON, or JSON that is no object.
    """
    if not os.path.isfile(path):
        raise DataError(f"there is no file {path}")
    try:
        value = json.loads(read_text(path, "file"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise DataError(f"{path} is no JSON of a labelling tool: it is nested too deeply") from None
    if not isinstance(value, dict):
        what = "null" if value is None else f"a {type(value).__name__}"
        raise DataError(f"{path} holds {what}, where an object with keys is expected")
    return value


def whole(value: Any) -> bool:
    """Whether it is a whole number; True is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def size(height: Any, width: Any, path: str) -> Optional[Tuple[int, int]]:
    """(height, width), or None where the file has neither."""
    if height is None and width is None:
        return None
    if not (whole(height) and whole(width) and height > 0 and width > 0):
        raise DataError(f"{path}: its image is {width!r} x {height!r}; these must be whole numbers above 0")
    return height, width
