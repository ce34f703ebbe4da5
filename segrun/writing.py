"""Files that are written whole or not at all."""

import os
import tempfile
from typing import Callable


def write(path: str, writer: Callable[[str], object]) -> None:
    """Calls writer(path of a temporary file), then gives that file its name; or leaves what was there before.

    Raises:
        OSError: the folder can't be made, the disk is full, ...; it names the file.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{os.getpid()}.{name}")      # with the ending, which some writers look at
    os.makedirs(folder or ".", exist_ok=True)
    try:
        writer(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.strerror is None or error.filename not in (None, temporary):       # of another file, or in words
            raise
        raise type(error)(f"cannot write {path}: {error.strerror}") from error
    finally:
        if os.path.exists(temporary):       # only there if something went wrong
            os.remove(temporary)


def check_place(path: str) -> None:
    """Nothing if `path` can be written, found out without making its folder; for work that takes long before it writes.

    Raises:
        OSError: it is a folder, or a file can't be made where it would go.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder, a file is to be written there")
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror} ({folder})") from error
