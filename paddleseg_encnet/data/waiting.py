"""A disk of data that goes away and comes back: whoever reads samples waits for it, and says so."""

import errno
import os
import time
from typing import Callable, TypeVar

import numpy as np
from paddleseg.utils import logger

from segrun.errors import DataError
from segrun.progress import duration
from segrun.raw_files import MISSING

Sample = TypeVar("Sample")
LIMIT = 300         # seconds; a server that is started again takes some minutes
PAUSE = 2           # between two looks
# What a system says of files on a disk or a share that is no longer there.
LOST = {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH,
        errno.ETIMEDOUT}
SOME = 10           # samples of a data set whose files tell whether its disk is there


def for_the_disk(read: Callable[[], Sample], file_list: list) -> Sample:
    """read(), again and again while the disk of the data set is gone, for LIMIT seconds.

    Args:
        read: raises DataError.
        file_list: [image, label] for each sample, as PaddleSeg's data sets have it.

    Raises:
        DataError: it is not the disk, or that did not come back.
    """
    began = None
    there = False       # whether the disk was, before the last read()
    while True:
        try:
            sample = read()
        except DataError as error:
            if not is_gone(file_list, error):
                if there or not is_missing(error):
                    raise
                there = True        # it may have come back since the file was looked for
                continue
            there = False
            now = time.monotonic()
            if began is None:
                began = now
                logger.warning(f"{error}. The disk with the data is gone; waiting for it, for up to {duration(LIMIT)}")
            if now - began > LIMIT:
                raise DataError(f"{error}. The disk with the data did not come back in {duration(LIMIT)}",
                                error.kind) from error
            time.sleep(PAUSE)
        else:
            if began is not None:
                logger.warning(f"The disk with the data is there again after {duration(time.monotonic() - began)}")
            return sample


def is_missing(error: DataError) -> bool:
    """Whether a file was not found, rather than found to be wrong."""
    return error.kind == MISSING or isinstance(error.__cause__, FileNotFoundError)


def is_gone(file_list: list, error: DataError) -> bool:
    """Whether the disk is the cause: the system says so, or of the data set's files none is there. An empty folder
    stays in the place of a disk that is gone."""
    if getattr(error.__cause__, "errno", None) in LOST:
        return True
    some = np.unique(np.linspace(0, len(file_list) - 1, SOME).astype(int))
    files = [path for index in some for path in file_list[index][:2] if isinstance(path, str)]
    return bool(files) and not any(map(os.path.exists, files))
