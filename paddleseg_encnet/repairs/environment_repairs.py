"""What Paddle's import must find ready, a GPU build of Paddle on a machine without a GPU, the letters of the log."""

import contextlib
import functools
import importlib
import io
import sys
import time
from typing import Any

from .exchanging import exchanged  # a test has this folder alone


def before_paddle() -> None:
    """Symptom: segmentation fault in inflateReset2, or a DataLoader that hangs for ever, with Paddle 2.6.
    Cause: its shared library exports zlib's symbols; whoever loads zlib later gets Paddle's.
    Detected: not at all. Loading zlib first costs nothing and is right everywhere.
    """
    import zlib  # noqa: F401


def environment_needs_cudnn() -> bool:
    import paddle
    from paddleseg.utils import get_sys_env
    if not paddle.is_compiled_with_cuda() or paddle.get_cudnn_version() is not None:
        return False
    try:
        get_sys_env()
    except TypeError:
        return True
    return False


def environment_without_cudnn() -> None:
    """Symptom: `TypeError: unsupported operand ... NoneType` before the first step, with paddlepaddle-gpu on a machine
    without cuDNN.
    Cause: get_sys_env divides the version of cuDNN, which is None there.
    Detected: Paddle is built for CUDA, finds no cuDNN, and get_sys_env raises TypeError.
    """
    import paddle
    from paddleseg.utils import get_sys_env

    @functools.wraps(get_sys_env)
    def repaired_get_sys_env() -> dict:
        with exchanged(paddle, "get_cudnn_version", lambda: 0):
            return get_sys_env()

    for name in ("paddleseg.utils", "paddleseg.utils.env", "paddleseg.utils.env.sys_env", "paddleseg.utils.utils"):
        module: Any = importlib.import_module(name)
        module.get_sys_env = repaired_get_sys_env


def log_garbles_letters() -> bool:
    from paddleseg.utils import logger
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        logger.log(0, "\u00e9")
    return bool(printed.getvalue()) and "\u00e9" not in printed.getvalue()


def log_of_any_letters() -> None:
    """Symptom: names of classes, files and folders that are not in ASCII are garbled in the log.
    Cause: its log() decodes the bytes of UTF-8 as Latin-1.
    Detected: it prints an accented letter, and another is printed.
    """
    import paddle
    from paddleseg.utils import logger

    @functools.wraps(logger.log)
    def repaired_log(level: int = 2, message: str = "") -> None:
        if paddle.distributed.ParallelEnv().local_rank != 0 or logger.log_level < level:
            return
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{logger.levels[level]}]\t{message}"
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"     # letters it lacks are printed as their numbers
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)

    logger.log = repaired_log
