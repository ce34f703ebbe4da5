"""Files that are written whole or not at all."""

import errno
import os
import tempfile
import zlib
from typing import Callable, Optional

from segrun.errors import DataError

LONGEST = 255       # bytes of a file's name, on most systems
# Of names that the file system does not take: too long, or with a character that it has not.
UNNAMEABLE = (errno.ENAMETOOLONG, errno.EILSEQ)


def write(path: str, writer: Callable[[str], object], before: Optional[Callable[[str], object]] = None) -> None:
    """Calls writer(path of a temporary file), then gives that file its name; or leaves what was there before.

    Args:
        before: is called with that path when the file is written and has not its name yet.

    Raises:
        OSError: the folder can't be made, the disk is full, ...; it names the file.
        DataError: the file system has no such names.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, temporary_name(name))
    try:
        os.makedirs(folder or ".", exist_ok=True)
        writer(temporary)
        if before is not None:
            before(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in UNNAMEABLE:
            raise DataError(f"cannot write {path}: {error.strerror}", "names that are too long") from error
        if error.strerror is None or error.filename not in (None, temporary):       # of another file, or in words
            raise
        raise type(error)(f"cannot write {path}: {error.strerror}") from error
    finally:
        if os.path.exists(temporary):       # only there if something went wrong
            os.remove(temporary)


def temporary_name(name: str) -> str:
    """Hidden, of this process, with the ending, which some writers look at, and no longer than a name may be."""
    whole = f".{os.getpid()}.{name}"
    if len(os.fsencode(whole)) <= LONGEST:
        return whole
    return f".{os.getpid()}.{zlib.crc32(os.fsencode(name)):08x}{os.path.splitext(name)[1]}"


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
