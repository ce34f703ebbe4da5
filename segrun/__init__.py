"""Runs a segmentation network: an image in, what is seen in it out. No Paddle, until a network needs it.

    from segrun import STREET, Segmenter
    Segmenter("encnet_lite0_camvid")(STREET).save("legend.png")

The names below are imported when they are first asked for, so that a program can set OpenCV's limits before.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any, List

if TYPE_CHECKING:
    from segrun.classes import Classes
    from segrun.errors import DataError
    from segrun.result import Segmentation
    from segrun.segmenter import Segmenter

__all__ = ["STREET", "Classes", "DataError", "Segmentation", "Segmenter"]

LATER = {"Classes": "classes", "DataError": "errors", "Segmentation": "result", "Segmenter": "segmenter"}


def street() -> str:
    """Path of the photograph of a street that is shipped: in the package where pip installed it, beside it else."""
    package = os.path.dirname(os.path.abspath(__file__))
    inside = os.path.join(package, "photographs", "street.jpg")
    return inside if os.path.isfile(inside) else os.path.join(os.path.dirname(package), "docs", "images", "street.jpg")


STREET = street()


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{LATER[name]}"), name)
    return found


def __dir__() -> List[str]:
    return sorted({*globals(), *LATER})
