"""One training at a time in a folder: a second one is refused, and told of the first.

The lock is the system's and dies with its process, however that ends, so that a killed run never keeps one from going
on. It is the process's own: the processes that read data, and outlive a killed run for a moment, do not have it.
"""

import contextlib
import errno
import json
import os
import socket
import time
from typing import IO, Iterator, Set

from paddleseg.utils import logger

from paddleseg_encnet.training.saving import SaveError

try:
    import fcntl
except ImportError:     # Windows
    fcntl = None        # type: ignore[assignment]
    import msvcrt

NAME = "train.lock"
FAR = 1 << 30           # a byte behind the text, as Windows keeps others from reading a byte that is locked
HELD_BY_OTHERS = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_held: Set[str] = set()     # by this process, to which the system gives the same lock twice


@contextlib.contextmanager
def alone_in(save_dir: str) -> Iterator[None]:
    """Around a training that writes into `save_dir`, which is made where it is not there.

    Raises:
        SaveError: another training is at work there, or the folder can't be written.
    """
    path = os.path.join(os.path.realpath(save_dir), NAME)
    made = not os.path.isdir(save_dir)
    try:
        os.makedirs(save_dir, exist_ok=True)
        file = locked(path, save_dir)
    except SaveError:
        raise
    except OSError as error:
        raise SaveError(f"cannot write into {save_dir}: {error.strerror or error}; choose another --save_dir"
                        ) from error
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)
        with contextlib.suppress(OSError):      # a disk that is gone keeps nobody from ending
            if fcntl is None:                   # Windows removes no file that is open
                file.close()
            os.remove(path)
            file.close()
            if made:
                os.rmdir(save_dir)      # only where nothing was written


def locked(path: str, save_dir: str) -> IO[str]:
    """The file, locked, with a text on this process in it."""
    while True:
        file = open(path, "a+", encoding="utf-8")
        try:
            if path in _held:
                raise OSError(errno.EAGAIN, "held by this process")
            lock(file)
        except OSError as error:
            if error.errno in HELD_BY_OTHERS:
                holder = holder_of(file)
                file.close()
                raise SaveError(f"another training is at work in {save_dir}: {holder}. Wait for its end, or choose "
                                "another --save_dir") from error
            logger.warning(f"nothing keeps a second training from writing into {save_dir} ({error.strerror or error})")
        if is_still_there(file, path):
            break
        file.close()        # its owner has removed it between our opening and locking it
    file.truncate(0)
    json.dump({"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
    file.flush()
    return file


def lock(file: IO[str]) -> None:
    if fcntl is not None:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        file.seek(FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)


def is_still_there(file: IO[str], path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def holder_of(file: IO[str]) -> str:
    """Who has written the file."""
    try:
        file.seek(0)
        said = json.load(file)
        return f"process {said['process']} on {said['host']}, since {said['since']}"
    except (ValueError, KeyError, TypeError, OSError):      # it has just begun to write it
        return "a process that has not yet said which"
