"""Which files the tools have written themselves: they alone are replaced, and no input ever is.

Each folder has a record of them, a hidden file of lines `checksum size "name"`, so that a second run of a command into
the same folder replaces what the first has written, and nothing else: neither a file of the user's, nor one of the
tool's that the user has changed since.
"""

import errno
import json
import os
import stat
import zlib
from typing import Callable, Dict, Iterable, NamedTuple, Set, Tuple

from segrun.writing import check_place, write

RECORD = ".written_by_paddleseg_encnet"
BLOCK = 1 << 20     # bytes that are read at a time


class Known(NamedTuple):
    """What a record says. size: of its file, in bytes, when it was read. lines: the (checksum, size) of each name."""
    size: int
    lines: Dict[str, Set[Tuple[int, int]]]


_known: Dict[str, Known] = {}       # by the path of the record


def record_of(path: str) -> str:
    return os.path.join(os.path.realpath(os.path.dirname(path) or "."), RECORD)


def read_record(record: str) -> Known:
    """Of a record that may not be there. A line that is none, as after a full disk, is passed over."""
    size = os.path.getsize(record) if os.path.exists(record) else 0
    if record in _known and _known[record].size == size:
        return _known[record]
    lines: Dict[str, Set[Tuple[int, int]]] = {}
    if size:
        with open(record, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    checksum, length, name = line.split(" ", 2)
                    lines.setdefault(json.loads(name), set()).add((int(checksum, 16), int(length)))
                except ValueError:
                    continue
    _known[record] = Known(size, lines)
    return _known[record]


def fingerprint(path: str) -> Tuple[int, int]:
    """Checksum and size of a file's content."""
    checksum, size = 0, 0
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            checksum, size = zlib.crc32(block, checksum), size + len(block)
    return checksum, size


def is_own(path: str) -> bool:
    """Whether a tool has written the file, and it is as it was then."""
    known = read_record(record_of(path)).lines.get(os.path.basename(path), set())
    try:
        found = os.lstat(path)
        return stat.S_ISREG(found.st_mode) and found.st_size in {size for _, size in known} \
            and fingerprint(path) in known
    except OSError:
        return False


def record(path: str, content: str) -> None:
    """Notes, before `path` gets what is in the file `content`, that it will be a tool's. Several processes may write
    into a folder at a time: a line is appended in one step."""
    found, name = fingerprint(content), os.path.basename(path)
    file = record_of(path)
    known = read_record(file)
    if found in known.lines.get(name, set()):
        return
    line = f"{found[0]:08x} {found[1]} {json.dumps(name)}\n".encode()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)
    known.lines.setdefault(name, set()).add(found)
    _known[file] = Known(known.size + len(line), known.lines)       # of another size where others have written too


def write_own(path: str, writer: Callable[[str], object]) -> None:
    """write(), of a file that a tool may replace later."""
    write(path, writer, lambda temporary: record(path, temporary))


Entry = Tuple[int, int]


def entries(path: str) -> Set[Entry]:
    """What tells a file from others, whatever its path: of the file, and of the link that leads to it."""
    found = set()
    for look in (os.stat, os.lstat):
        try:
            seen = look(path)
            found.add((seen.st_dev, seen.st_ino))
        except (OSError, ValueError):
            continue
    return found


def check_outputs(paths: Iterable[str], inputs: Iterable[str] = ()) -> None:
    """Nothing if all of these files can be written; found out without changing anything.

    Args:
        paths: of the files that are to be written.
        inputs: paths of files that are read. What is no path of a file, as the name of a shipped config, is left out.

    Raises:
        OSError: one of them is an input, a folder, or there already and not a tool's; or a file can't be made there.
    """
    read = {entry: path for path in inputs for entry in entries(path)}
    of_folders: Dict[str, str] = {}
    for path in paths:
        of_folders.setdefault(os.path.dirname(os.path.abspath(path)), path)
        try:
            found = os.lstat(path)
        except OSError as error:
            # A name that is too long is its image's fault alone, and is told when it is written.
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
                continue
            raise
        if (found.st_dev, found.st_ino) in read:
            source = read[found.st_dev, found.st_ino]
            raise FileExistsError(f"{source} is read, and would be replaced by what is written to {path}: give another "
                                  "folder to write into")
        if os.path.isdir(path):
            raise IsADirectoryError(f"{path} is a folder, a file is to be written there")
        if not is_own(path):
            raise FileExistsError(f"{path} is there already, and these tools have not written it, or it was changed "
                                  "since: move it away, or give another folder to write into")
    for path in of_folders.values():
        check_place(path)
