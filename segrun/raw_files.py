"""The bytes and the lines of a file, or an error that names it."""

from typing import List

from segrun.errors import DataError

MISSING = "files that do not exist"


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
    return DataError(f"there is no file {path}, which the data set lists", MISSING)


def read_lines(path: str) -> List[str]:
    """The lines of a list of files, without their ends and without the mark that some editors begin a file with.

    Raises:
        DataError: it can't be read, or is no text in UTF-8.
    """
    data = read_bytes(path)
    try:
        lines = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return lines if lines[-1] else lines[:-1]
    except UnicodeDecodeError as error:
        raise DataError(f"the list {path} is no text in UTF-8 (byte {error.start} is {data[error.start]:#x}); save it "
                        "as UTF-8", "lists that are no text") from error
