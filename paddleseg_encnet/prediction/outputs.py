"""What tools/predict.py saves of a prediction: each kind of picture in a folder of its own below --save_dir."""

import io
import os
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence

import cv2
import numpy as np
from PIL import Image

from paddleseg_encnet.pictures import drawing
from paddleseg_encnet.runtime.writing import check_place, write

# By the words of --save; the first two are PaddleSeg's, and what is saved if nothing is asked for.
FOLDERS = {"overlay": "added_prediction", "palette": "pseudo_color_prediction", "ids": "ids",
           "confidence": "confidence", "legend": "legend", "comparison": "comparison"}
DEFAULT = ("overlay", "palette")
PANEL = 2048        # longest side of a legend's picture, in pixels; a comparison has two side by side


@dataclass
class Style:
    """How predictions are drawn.

    Args:
        names: of the classes.
        colors: uint8 [N, 3], RGB, as color_table() gives it: for each id that a mask can hold.
        alpha: weight of the classes' colours in overlays, 0 to 1; PaddleSeg's is 0.4.
    """
    names: List[str]
    colors: np.ndarray
    alpha: float = 0.4


@dataclass
class Predicted:
    """An image and what was seen in it.

    Args:
        image: uint8 [H, W, 3], RGB.
        ids: uint8 or uint16 [H, W]; the largest number of the type is "unknown".
        confidence: uint8 [H, W], 0 to 255 for 0 to 100 %; None if nobody asked.
        label: uint8 [H, W], 255 where it has no class; None without one.
    """
    image: np.ndarray
    ids: np.ndarray
    confidence: Optional[np.ndarray] = None
    label: Optional[np.ndarray] = None


def save(kind: str, seen: Predicted, style: Style, save_dir: str, name: str) -> str:
    """Writes one kind of picture and returns its path. Overlays keep the image's type of file, all else is PNG.

    Args:
        kind: one of FOLDERS.
        name: the image's name below `save_dir`, with folders and ending.

    Raises:
        OSError: it can't be written; nothing is left.
    """
    if kind != "overlay" or not cv2.haveImageWriter(name):
        name = f"{os.path.splitext(name)[0]}.png"
    path = os.path.join(save_dir, FOLDERS[kind], name)
    data = ENCODERS[kind](seen, style, os.path.splitext(name)[1])
    write(path, lambda temporary: write_bytes(temporary, data))
    return path


# --- the kinds: each takes prediction, style and ending, and returns the bytes of a file -----------------------------

def overlay(seen: Predicted, style: Style, ending: str) -> bytes:
    return drawing.encoded(drawing.overlay(seen.image, seen.ids, style.colors, style.alpha), ending)


def palette(seen: Predicted, style: Style, ending: str) -> bytes:
    """A palette image, whose pixel values are class ids; of more than 256 classes their colours."""
    if seen.ids.dtype != np.uint8:
        return drawing.encoded(drawing.colorize(seen.ids, style.colors))
    picture = Image.fromarray(seen.ids, mode="P")
    picture.putpalette(style.colors.reshape(-1).tolist())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def ids(seen: Predicted, style: Style, ending: str) -> bytes:
    return drawing.encoded(seen.ids)


def confidence(seen: Predicted, style: Style, ending: str) -> bytes:
    return drawing.encoded(seen.confidence)


def legend(seen: Predicted, style: Style, ending: str) -> bytes:
    """The overlay over the classes seen and their shares of the picture."""
    seen = shrunk(seen, PANEL)
    picture = drawing.overlay(seen.image, seen.ids, style.colors, style.alpha)
    return drawing.encoded(drawing.stacked([picture, classes_seen([seen.ids], style, *picture.shape[:2])]))


def comparison(seen: Predicted, style: Style, ending: str) -> bytes:
    """Image and prediction, with the label and where the two differ if there is one."""
    seen = shrunk(seen, PANEL // 2)
    prediction = drawing.colorize(seen.ids, style.colors)
    if seen.label is None:
        rows = [drawing.side_by_side([seen.image, prediction], ["image", "prediction"])]
        masks = [seen.ids]
    else:
        label = np.where(seen.label == 255, np.iinfo(seen.ids.dtype).max, seen.label).astype(seen.ids.dtype)
        errors = drawing.error_map(seen.label, seen.ids)
        rows = [drawing.side_by_side([seen.image, drawing.colorize(label, style.colors)], ["image", "label"]),
                drawing.side_by_side([prediction, errors], ["prediction", "errors (red)"])]
        masks = [label, seen.ids]
    return drawing.encoded(drawing.stacked(rows + [classes_seen(masks, style, seen.image.shape[0], rows[0].shape[1])]))


ENCODERS = {"overlay": overlay, "palette": palette, "ids": ids, "confidence": confidence, "legend": legend,
            "comparison": comparison}


def classes_seen(masks: List[np.ndarray], style: Style, height: int, width: int) -> np.ndarray:
    """A legend for a picture of this size, the most frequent classes first; with shares if it is for one mask."""
    shares = shares_seen(masks, style)
    return drawing.legend(style.names, style.colors, shares, width, drawing.text_scale(height),
                          shares if len(masks) == 1 else None)


def shares_seen(masks: List[np.ndarray], style: Style) -> Dict[int, float]:
    """The share of the pixels of each class that is there, the most frequent first."""
    counts = sum(np.bincount(mask.reshape(-1), minlength=len(style.colors)) for mask in masks)
    return {int(i): counts[i] / counts.sum() for i in np.argsort(-counts, kind="stable") if counts[i]}


def shrunk(seen: Predicted, side: int) -> Predicted:
    """The same with sides of at most so many pixels."""
    height, width = seen.ids.shape
    longest = max(height, width)
    if longest <= side:
        return seen
    size = max(1, width * side // longest), max(1, height * side // longest)
    image = cv2.resize(seen.image, size, interpolation=cv2.INTER_AREA)
    masks = [mask if mask is None else cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
             for mask in (seen.ids, seen.confidence, seen.label)]
    return Predicted(image, *masks)


# --- files -----------------------------------------------------------------------------------------------------------

def write_bytes(path: str, data: bytes):
    with open(path, "wb") as file:
        file.write(data)


def check_writable(save_dir: str, kinds: Sequence[str]):
    """Raises OSError where pictures of these kinds could not be written, and changes nothing."""
    for kind in kinds:
        check_place(os.path.join(save_dir, FOLDERS[kind], "any.png"))
