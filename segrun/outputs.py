"""The pictures of what was seen; tools/predict.py writes each kind into a folder of its own below --save_dir."""

import io
import os
from typing import Any, Callable, Dict, List, Optional, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segrun import drawing
from segrun.classes import Classes
from segrun.own_files import write_own
from segrun.writing import write

# By the words of --save; the first two are PaddleSeg's, and what is saved if nothing is asked for.
FOLDERS = {"overlay": "added_prediction", "palette": "pseudo_color_prediction", "ids": "ids",
           "confidence": "confidence", "legend": "legend", "comparison": "comparison"}
DEFAULT = ("overlay", "palette")
ALPHA = 0.4         # weight of the classes' colours in overlays, 0 to 1; PaddleSeg's
PANEL = 2048        # longest side of a legend's picture, in pixels; a comparison has two side by side


class Seen(Protocol):
    """What is drawn: a result.Segmentation."""
    image: NDArray[Any]
    ids: NDArray[Any]
    classes: Classes
    confidence: Optional[NDArray[Any]]
    label: Optional[NDArray[Any]]

    @property
    def names(self) -> List[str]:
        """Of class 0, of class 1, ..."""

    @property
    def colors(self) -> NDArray[Any]:
        """uint8 [N, 3], RGB, of each id that the mask can hold."""

    def overlay(self, alpha: float) -> NDArray[Any]:
        """The image under the colours of its classes."""

    def shrunk(self, side: int) -> "Seen":
        """The same with sides of at most so many pixels."""


def save(kind: str, seen: Seen, path: str, alpha: float = ALPHA, own: bool = False) -> None:
    """Writes one kind of picture.

    Args:
        kind: one of FOLDERS.
        path: of the file; its ending says of what type it is.
        alpha: weight of the classes' colours in overlays, 0 to 1.
        own: it is a tool's, which may replace it later (own_files.py).

    Raises:
        ValueError: there is no such kind; or it needs a confidence that is not there; or no file can be called so.
        OSError: it can't be written; nothing is left.
    """
    if kind not in ENCODERS:
        raise ValueError(f"there is no picture {kind}; there are {', '.join(ENCODERS)}")
    data = ENCODERS[kind](seen, alpha, os.path.splitext(path)[1])
    (write_own if own else write)(path, lambda temporary: write_bytes(temporary, data))


def save_below(kind: str, seen: Seen, save_dir: str, name: str, alpha: float = ALPHA) -> str:
    """Writes one kind of picture into its folder, as a tool's, and returns its path."""
    path = path_below(kind, save_dir, name)
    save(kind, seen, path, alpha, own=True)
    return path


def path_below(kind: str, save_dir: str, name: str) -> str:
    """Where one kind of picture goes. Overlays keep the image's type of file, all else is PNG.

    Args:
        name: the image's name below `save_dir`, with folders and ending.
    """
    if kind != "overlay" or not cv2.haveImageWriter(name):
        name = f"{os.path.splitext(name)[0]}.png"
    return os.path.join(save_dir, FOLDERS[kind], name)


# --- the kinds: each takes what was seen, alpha and ending, and returns the bytes of a file --------------------

def overlay(seen: Seen, alpha: float, ending: str) -> bytes:
    return drawing.encoded(seen.overlay(alpha), ending)


def palette(seen: Seen, alpha: float, ending: str) -> bytes:
    """A palette image, whose pixel values are class ids; of more than 256 classes their colours."""
    if seen.ids.dtype != np.uint8:
        return drawing.encoded(drawing.colorize(seen.ids, seen.colors))
    picture = Image.fromarray(seen.ids, mode="P")
    picture.putpalette(seen.colors.reshape(-1).tolist())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def ids(seen: Seen, alpha: float, ending: str) -> bytes:
    return drawing.encoded(seen.ids)


def confidence(seen: Seen, alpha: float, ending: str) -> bytes:
    if seen.confidence is None:
        raise ValueError("there is no confidence: nobody asked for it, or an export gives classes alone (--output_op)")
    return drawing.encoded(seen.confidence)


def legend(seen: Seen, alpha: float, ending: str) -> bytes:
    """The overlay over the classes seen and their shares of the picture."""
    seen = seen.shrunk(PANEL)
    picture = seen.overlay(alpha)
    return drawing.encoded(drawing.stacked([picture, classes_seen([seen.ids], seen, *picture.shape[:2])]))


def comparison(seen: Seen, alpha: float, ending: str) -> bytes:
    """Image and prediction, with the label and where the two differ if there is one."""
    seen = seen.shrunk(PANEL // 2)
    prediction = drawing.colorize(seen.ids, seen.colors)
    if seen.label is None:
        rows = [drawing.side_by_side([seen.image, prediction], ["image", "prediction"])]
        masks = [seen.ids]
    else:
        label = np.where(seen.label == 255, np.iinfo(seen.ids.dtype).max, seen.label).astype(seen.ids.dtype)
        errors = drawing.error_map(seen.label, seen.ids)
        rows = [drawing.side_by_side([seen.image, drawing.colorize(label, seen.colors)], ["image", "label"]),
                drawing.side_by_side([prediction, errors], ["prediction", "errors (red)"])]
        masks = [label, seen.ids]
    return drawing.encoded(drawing.stacked(rows + [classes_seen(masks, seen, seen.image.shape[0], rows[0].shape[1])]))


ENCODERS: Dict[str, Callable[[Seen, float, str], bytes]] = {
    "overlay": overlay, "palette": palette, "ids": ids, "confidence": confidence, "legend": legend,
    "comparison": comparison}


def classes_seen(masks: List[NDArray[Any]], seen: Seen, height: int, width: int) -> NDArray[Any]:
    """A legend for a picture of this size, the most frequent classes first; with shares if it is for one mask."""
    shares = seen.classes.shares(*masks)
    return drawing.draw_legend(seen.names, seen.colors, shares, width, drawing.text_scale(height),
                               shares if len(masks) == 1 else None)


# --- files -----------------------------------------------------------------------------------------------------------

def write_bytes(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
