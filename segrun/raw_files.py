"""The bytes, the text and the lines of a file, or an error that names it."""

import codecs
import functools
import os
from typing import Dict, List

from segrun.errors import DataError

MISSING = "files that do not exist"
# What a text begins with that says how it is encoded; of UTF-32 first, as that of UTF-16 is a part of it.
MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
         (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_bytes(path: str) -> bytes:
    """Raises DataError where there is no such file, or it can't be opened."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "files that cannot be opened") from error


def missing(path: str) -> DataError:
    return DataError(f"there is no file {path}, which the data set lists{hint_on(path)}", MISSING)


def hint_on(path: str) -> str:
    """What may be meant by a path where no file is: a comma of a list, or a name in other letters; "" if neither."""
    folder, name = os.path.split(path)
    if name.rstrip(",;") != name and os.path.exists(path.rstrip(",;")):
        return f"; the name ends in {name[-1]!r}: between image and label of a list stands one space or tab alone"
    try:
        alike = names_by_small_letters(folder or ".", os.stat(folder or ".").st_mtime_ns).get(name.lower())
    except OSError:
        return ""
    return f"; is it {os.path.join(folder, alike)}?" if alike else ""


@functools.lru_cache(maxsize=8)         # of thousands of missing files of a list
def names_by_small_letters(folder: str, changed: int) -> Dict[str, str]:
    return {name.lower(): name for name in os.listdir(folder)}


def read_text(path: str, what: str = "file") -> str:
    """The text of a file in UTF-8, or in what the mark at its beginning says; without that mark, lines end in \\n.

    Args:
        what: it is, for the error.

    Raises:
        DataError: it can't be read, or is in no such encoding.
    """
    data = read_bytes(path)
    encoding = next((encoding for mark, encoding in MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise no_text(what, path, f"byte {error.start} is {data[error.start]:#x}") from error
    if "\0" in text:            # UTF-16 without a mark is UTF-8 of letters and zeros
        raise no_text(what, path, "it has zeros")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def no_text(what: str, path: str, why: str) -> DataError:
    return DataError(f"the {what} {path} is no text in UTF-8 ({why}); save it as UTF-8", "lists that are no text")


def read_lines(path: str, what: str = "list") -> List[str]:
    """The lines of a text without their ends.

    Raises:
        DataError: as of read_text.
    """
    lines = read_text(path, what).split("\n")
    return lines if lines[-1] else lines[:-1]
