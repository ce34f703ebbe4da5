"""What is done to an image before a network, by the names and arguments of PaddleSeg's transforms, and how to undo it.

PaddleSeg is not needed. Each step takes and returns an image [H, W, C] float32, RGB if C is 3, or [H, W] if it is 1.
"""

import math
import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segrun.network import Array, Prepared, Size

INTERPOLATIONS = {"NEAREST": cv2.INTER_NEAREST, "LINEAR": cv2.INTER_LINEAR, "CUBIC": cv2.INTER_CUBIC,
                  "AREA": cv2.INTER_AREA, "LANCZOS4": cv2.INTER_LANCZOS4}


def most_pixels() -> int:
    """What OpenCV reads at most. A Resize of an image that is 1 pixel wide may ask for gigabytes."""
    return int(os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", 2 ** 30))


def normalize(image: NDArray[Any], mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)) -> NDArray[Any]:
    normalized: NDArray[Any] = ((image / np.float32(255) - np.array(mean)) / np.array(std)).astype("float32")
    return normalized


def resize(image: NDArray[Any], target_size: Sequence[int] = (512, 512), keep_ratio: bool = False,
           size_divisor: Optional[int] = None, interp: str = "LINEAR") -> NDArray[Any]:
    """To target_size (width, height), or with keep_ratio to the largest size that fits into it either way round."""
    if interp not in INTERPOLATIONS:
        raise ValueError(f"Resize has no interpolation {interp}; there are {', '.join(INTERPOLATIONS)}")
    size = list(target_size)
    if keep_ratio:
        own = image.shape[1::-1]
        scale = min(max(size) / max(own), min(size) / min(own))
        size = [round(side * scale) for side in own]
    if size_divisor:
        size = [-(-side // size_divisor) * size_divisor for side in size]
    return resized(image, (size[0], size[1]), INTERPOLATIONS[interp])


def resized(image: NDArray[Any], size: Tuple[int, int], interpolation: int = cv2.INTER_LINEAR) -> NDArray[Any]:
    """`size`: width, height. ValueError for more than most_pixels()."""
    if size[0] * size[1] > most_pixels():
        raise ValueError(f"an image of {image.shape[1]} x {image.shape[0]} would become {size[0]} x {size[1]}, more "
                         f"than {most_pixels()} pixels")
    changed: NDArray[Any] = cv2.resize(image, size, interpolation=interpolation)
    return changed


def scaled(image: NDArray[Any], scale: float) -> NDArray[Any]:
    height, width = (int(round(side * scale)) for side in image.shape[:2])
    return resized(image, (width, height))


def resize_by_long(image: NDArray[Any], long_size: int) -> NDArray[Any]:
    return scaled(image, long_size / max(image.shape[:2]))


def resize_by_short(image: NDArray[Any], short_size: int, max_size: float = 1e10) -> NDArray[Any]:
    short, long = sorted(image.shape[:2])
    if short_size / short * long > max_size:
        short_size = int(max_size / long * short)
    return scaled(image, short_size / short)


def limit_long(image: NDArray[Any], max_long: Optional[int] = None, min_long: Optional[int] = None) -> NDArray[Any]:
    long = max(image.shape[:2])
    target = min(long, max_long) if max_long else long
    target = max(target, min_long) if min_long else target
    return scaled(image, target / long) if target != long else image


def padding(image: NDArray[Any], target_size: Sequence[int], im_padding_value: float = 127.5,
            label_padding_value: Optional[int] = None) -> NDArray[Any]:
    """Below and on the right, to target_size (width, height)."""
    height, width = image.shape[:2]
    if height > target_size[1] or width > target_size[0]:
        raise ValueError(f"an image of {width} x {height} does not fit into Padding's {target_size[0]} x "
                         f"{target_size[1]}")
    padded: NDArray[Any] = cv2.copyMakeBorder(
        image, 0, target_size[1] - height, 0, target_size[0] - width, cv2.BORDER_CONSTANT,
        value=(im_padding_value,) * 4)      # of more channels too
    return padded


def check_normalize(options: Mapping[str, Any], channels: int, where: str) -> None:
    """Raises ValueError where mean or std of a Normalize are no finite numbers, one or one for each channel, or a std
    is 0, by which nothing can be divided."""
    for key, given in options.items():
        values = given if isinstance(given, (list, tuple)) else [given]
        if key not in ("mean", "std") or len(values) not in (1, channels) or any(
                isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)
                for value in values):
            raise ValueError(f"{where}: Normalize has {key} {given!r}; it takes mean and std, each 1 or {channels} "
                             "numbers")
        if key == "std" and min(values) <= 0:
            raise ValueError(f"{where}: Normalize has std {given!r}; it must be above 0")


STEPS: Dict[str, Callable[..., NDArray[Any]]] = {
    "Normalize": normalize, "Resize": resize, "ResizeByLong": resize_by_long, "ResizeByShort": resize_by_short,
    "LimitLong": limit_long, "Padding": padding,
}
PIXELWISE = ("Normalize",)


class Step(NamedTuple):
    name: str
    function: Callable[..., NDArray[Any]]
    options: Dict[str, Any]


class Preprocess:
    """Prepares an image for a network.

    Args:
        steps: as a config or a deploy.yaml lists them, [{"type": "Normalize", "mean": ...}, ...].
        channels: of the images.
        where: the file that lists them, for errors.

    Raises:
        ValueError: there is no such step.
    """

    def __init__(self, steps: Sequence[Mapping[str, Any]], channels: int, where: str):
        self.channels = channels
        self.steps = []
        for step in steps:
            options = dict(step)
            name = options.pop("type", None)
            if name not in STEPS:
                raise ValueError(f"{where} has the transform {name}; here there are {', '.join(STEPS)}")
            if name == "Normalize":
                check_normalize(options, channels, where)
            self.steps.append(Step(name, STEPS[name], options))
        self.pixelwise = all(each.name in PIXELWISE for each in self.steps)

    def __call__(self, pixels: NDArray[Any], where: str) -> Prepared:
        """Prepares an image as image.py has it. `where` is what an error calls it.

        Raises:
            ValueError: a step makes nothing of it.
        """
        image = pixels.astype("float32")
        if self.channels == 3:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        undo: List[Tuple[str, Size]] = []
        for name, function, options in self.steps:
            before = image.shape[0], image.shape[1]
            try:
                image = function(image, **options)
            except cv2.error as error:
                raise ValueError(f"the transform {name} makes nothing of {where}, {before[1]} x {before[0]} by then: "
                                 f"{error.err}") from error
            if image.shape[:2] != before:
                undo.append(("padding" if name == "Padding" else "resize", before))
        return Prepared(np.ascontiguousarray(image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)), undo)


def restore(values: Array, undo: List[Tuple[str, Size]], resize_values: Callable[[Array, Size], Array]) -> Array:
    """Scores [B, C, H, W], or class ids [B, H, W], of images that have come to the network this way, in the images' own
    size.

    Args:
        undo: of Prepared.
        resize_values: as Network.resize.
    """
    for step, (height, width) in reversed(undo):
        values = values[..., :height, :width] if step == "padding" else resize_values(values, (height, width))
    return values


def resize_arrays(values: NDArray[Any], size: Size) -> NDArray[Any]:
    """Network.resize for NumPy arrays, by OpenCV."""
    height, width = size
    if values.shape[-2:] == tuple(size):
        return values
    if values.ndim == 3:
        return np.stack([cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST) for ids in values])
    whole = [cv2.resize(np.ascontiguousarray(scores.transpose(1, 2, 0)), (width, height)) for scores in values]
    return np.stack([scores.reshape(height, width, -1).transpose(2, 0, 1) for scores in whole])
