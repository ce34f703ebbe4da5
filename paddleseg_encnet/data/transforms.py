"""PaddleSeg's transforms with less work: the same pixels for the same random numbers, but for hues (data/distort.py).

PaddleSeg makes a float picture of the whole image, scales all of it, and then crops. Here the crop is chosen first and
only what it shows becomes float and is scaled. `benchmarks/data_loading.py` measures what that saves.
"""

import copy
import functools
import math
import random
from typing import Any, Callable, Optional, Tuple

import cv2
import numpy as np
from paddleseg.transforms import (
    Compose,
    Normalize,
    RandomDistort,
    RandomHorizontalFlip,
    RandomPaddingCrop,
    ResizeStepScaling,
    functional,
)

from paddleseg_encnet.data.distort import STRIP, FasterDistort
from paddleseg_encnet.data.reading import check_mask, reader_of
from segrun.errors import DataError

# Transforms of PaddleSeg that make bytes of an image, or cut what is above 255.
OF_BYTES = ("RandomAffine", "RandomBlur", "RandomDistort", "RandomNoise", "ScalePadding")


def prepared(compose: Compose, image: np.ndarray, where: str = "an image") -> dict:
    """What the transforms make of an image as read_image has it, to be predicted. `where` is what an error calls it.

    Raises:
        DataError: OpenCV can't do what they ask for, for instance where a side becomes 0.
    """
    try:
        return compose({"img": image.astype("float32")})
    except cv2.error as error:
        names = ", ".join(type(transform).__name__ for transform in compose.transforms)
        raise DataError(f"the transforms ({names}) make nothing of {where} of {image.shape[1]} x {image.shape[0]}: "
                        f"{error.err}", "images that the transforms make nothing of") from error


class CropFirst:
    """Does what a PaddleSeg Compose does to a sample, faster where it starts with ResizeStepScaling and
    RandomPaddingCrop, and with an error that names the file where one is wrong.

    Labels and random numbers are the same. So are images whose hues are not turned, bit by bit, at Cityscapes' size
    where OpenCV interpolates with IPP, as its wheels for x86 do, and up to 2e-5 of 255 at other sizes. Without IPP its
    weights depend on where in the picture a pixel is, and images differ by up to 0.02 of 255 before RandomDistort cuts
    them to whole numbers.

    Args:
        compose: the transforms of a data set, and what they read with. It is not changed.

    Raises (when called):
        DataError: image or label can't be read, they differ in size, the label is no mask, or a transform is not for
            this type of number.
    """

    def __init__(self, compose: Compose):
        self.given = compose.transforms
        self.reader = reader_of(compose)
        self.whole = copy.copy(compose)
        self.whole.transforms = [faster(transform) for transform in compose.transforms]
        for k, transform in enumerate(self.whole.transforms[:-1]):
            if type(transform) is FasterDistort and type(compose.transforms[k + 1]) is Normalize:
                transform.made = "uint8"
                self.whole.transforms[k + 1] = NormalizeOfBytes(self.whole.transforms[k + 1])
        names = [type(transform).__name__ for transform in compose.transforms]
        self.of_bytes = next((name for name in names if name in OF_BYTES), None)
        self.scaling: Any = None        # PaddleSeg's two
        self.crop: Any = None
        # Some data sets have a method of their own come first, which turns the labels' ids into others.
        start = next((k for k, transform in enumerate(compose.transforms) if not changes_ids(transform)), 0)
        self.ahead, first = compose.transforms[:start], compose.transforms[start:start + 2]
        if [type(transform) for transform in first] == [ResizeStepScaling, RandomPaddingCrop] and \
                first[1].category_max_ratio >= 1:       # below 1 the crop depends on the scaled label
            self.scaling, self.crop = first
            self.rest = copy.copy(self.whole)
            self.rest.transforms = self.whole.transforms[start + 2:]
            # Bytes are turned, mirrored and copied in a quarter of the time, and RandomDistort takes no others.
            others = (transform for transform in self.rest.transforms if type(transform) is not FasterFlip)
            self.to_bytes = type(next(others, None)) is FasterDistort

    def __call__(self, data: dict) -> dict:
        image = data["img"]
        if not isinstance(image, str):      # some data sets read for themselves
            return self.whole(data)
        self.read(data)
        if self.crop is None or data.get("gt_fields", []) not in ([], ["label"]):
            data["img"] = data["img"].astype("float32")
            return self.whole(data)
        self.scale_and_crop(data)
        return self.rest(data)

    def read(self, data: dict) -> None:
        """Paths become arrays: the image as read_image has it, the label [H, W]."""
        image, label = data["img"], data.get("label")
        data["img"] = self.reader.image(image, self.whole.img_channels)
        if data["img"].dtype != np.uint8 and self.of_bytes:
            raise DataError(f"the image {image} has numbers of type {data['img'].dtype}, and {self.of_bytes} is for 8 "
                            "bits alone: take it out of the transforms", "images of more than 8 bits")
        if label is not None:
            data["label"] = self.reader.label(label) if isinstance(label, str) else label
            check_mask(data["label"], data["img"].shape[:2], label if isinstance(label, str) else f"of {image}")

    def scale_and_crop(self, data: dict) -> None:
        """What the two transforms do one after the other."""
        image, crop = data["img"], self.crop
        factor = random_scale(self.scaling)
        height, width = (int(round(factor * side)) for side in image.shape[:2])
        x = y = 0
        if (height, width) != crop.crop_size:
            x, y, _, _ = crop._get_crop_coordinates((max(height, crop.crop_size[0]), max(width, crop.crop_size[1])))
        bottom, right = min(y + crop.crop_size[0], height), min(x + crop.crop_size[1], width)
        padded = (bottom - y, right - x) != tuple(crop.crop_size)       # with 127.5, which bytes don't hold
        to_bytes = self.to_bytes and image.dtype == np.uint8
        data["img"] = resized_window(image, (height, width), (y, bottom), (x, right),
                                     "uint8" if to_bytes and not padded else "float32")
        for key in data.get("gt_fields", []):
            data[key] = nearest_window(data[key], (height, width), (y, bottom), (x, right))
        for transform in self.ahead:        # less to do than before, and what is padded still comes later
            data.update(transform(data))
        crop._padding(data)
        if to_bytes:
            data["img"] = data["img"].astype("uint8", copy=False)


class NormalizeOfBytes:
    """A Normalize after RandomDistort: of each byte it makes one number in each channel, and so is a table.

    Args:
        normalize: what does the same to floats. It fills the table.
    """

    def __init__(self, normalize: Callable[[dict], dict]):
        self.normalize = normalize
        self.table: Optional[np.ndarray] = None

    def __call__(self, data: dict) -> dict:
        if data["img"].dtype != np.uint8 or data["img"].shape[2:] != (3,):
            data["img"] = data["img"].astype("float32", copy=False)
            return self.normalize(data)
        if self.table is None:
            bytes_of_channels = np.arange(256, dtype="float32").repeat(3).reshape(1, 256, 3)
            table = self.normalize({"img": bytes_of_channels})["img"]
            one_for_all = (table == table[..., :1]).all()
            self.table = np.ascontiguousarray(table[..., 0] if one_for_all else table)
        data["img"] = cv2.LUT(data["img"], self.table)
        return data


def changes_ids(transform: Any) -> bool:
    """Whether all that a transform does is to give pixels of the label another id, each by its own; it says so."""
    return getattr(transform, "only_changes_ids", False)


def faster(transform: Any) -> Any:
    """The transform, or one with the same result in less time; of RandomDistort but for the rounding of hues."""
    if type(transform) is RandomDistort:
        return FasterDistort(transform)
    if type(transform) is RandomHorizontalFlip:
        return FasterFlip(transform)
    exact = type(transform) is Normalize and all(
        np.array_equal(value, value.astype("float32")) for value in (transform.mean, transform.std))
    return Float32Normalize(transform) if exact else transform


class Float32Normalize:
    """Normalize for means and deviations that float32 holds exactly. NumPy goes through float64 for PaddleSeg's, and
    the result is the same: it is rounded to float32, and float64 has more than twice its digits."""

    def __init__(self, normalize: Normalize):
        self.mean, self.std = normalize.mean.astype("float32"), normalize.std.astype("float32")

    def __call__(self, data: dict) -> dict:
        image = data["img"].astype("float32", copy=False) / np.float32(255)
        image -= self.mean
        image /= self.std
        data["img"] = image
        return data


class FasterFlip:
    """RandomHorizontalFlip that leaves arrays in the order of their pixels: others are slow to go on with."""

    def __init__(self, flip: RandomHorizontalFlip):
        self.probability = flip.prob

    def __call__(self, data: dict) -> dict:
        if random.random() < self.probability:
            for key in ("img", *data.get("gt_fields", [])):
                known = data[key].dtype in (np.uint8, np.float32) and data[key].shape[2:] in ((), (3,))
                data[key] = cv2.flip(data[key], 1) if known else functional.horizontal_flip(data[key])
        return data


def random_scale(scaling: ResizeStepScaling) -> float:
    """The factor that the transform draws, from the same random numbers."""
    low, high, step = scaling.min_scale_factor, scaling.max_scale_factor, scaling.scale_step_size
    if low == high:
        return low
    if step == 0:
        return np.random.uniform(low, high)
    factors = list(steps_between(low, high, step))
    np.random.shuffle(factors)
    return factors[0]


@functools.lru_cache(None)
def steps_between(low: float, high: float, step: float) -> Tuple[float, ...]:
    return tuple(np.linspace(low, high, int((high - low) / step + 1)).tolist())


def resized_window(image: np.ndarray, size: Tuple[int, int], rows: Tuple[int, int], columns: Tuple[int, int],
                   dtype: str = "float32") -> np.ndarray:
    """cv2.resize(image as float32, size)[rows, columns] in `dtype`, from those pixels that it needs.

    Args:
        image: [H, W, C] or [H, W].
        size: (height, width) of the whole resized image.
        rows, columns: (start, stop) of the window in it.
        dtype: uint8 cuts off what is after the point, as astype does.
    """
    if image.shape[:2] == tuple(size):
        return image[slice(*rows), slice(*columns)].astype(dtype)
    window = np.empty((rows[1] - rows[0], columns[1] - columns[0], *image.shape[2:]), dtype)
    if window.size == 0:
        return window
    # A strip of rows at a time, whose floats stay in a core's cache; not where little of it would be new.
    strip = max(STRIP // window[0].size, 8 * size[0] // math.gcd(image.shape[0], size[0]), 1)
    for start in range(*rows, strip):
        stop = min(start + strip, rows[1])
        window[start - rows[0]:stop - rows[0]] = resized_strip(image, size, (start, stop), columns)
    return window


def resized_strip(image: np.ndarray, size: Tuple[int, int], rows: Tuple[int, int],
                  columns: Tuple[int, int]) -> np.ndarray:
    (top, bottom), target_rows = around(image.shape[0], size[0], *rows)
    (left, right), target_columns = around(image.shape[1], size[1], *columns)
    part = cv2.resize(image[top:bottom, left:right].astype("float32"),
                      (target_columns[1] - target_columns[0], target_rows[1] - target_rows[0]),
                      interpolation=cv2.INTER_LINEAR)
    y, x = rows[0] - target_rows[0], columns[0] - target_columns[0]
    return part[y:y + rows[1] - rows[0], x:x + columns[1] - columns[0]]


def around(source: int, target: int, start: int, stop: int) -> Tuple[Tuple[int, int], Tuple[int, int]]:
    """A stretch of an axis that, resized alone, gives the pixels start to stop of the axis resized as a whole.

    It begins and ends where a source pixel and a target pixel begin together, which they do every target / gcd pixels,
    and reaches beyond start and stop by the neighbours that interpolation looks at.

    Returns:
        (first, last) in source pixels and (first, last) in target pixels, both without the last.
    """
    periods = math.gcd(source, target)
    period = target // periods
    first = max(start // period - 1, 0)
    last = min(-(-stop // period) + 1, periods)
    return (first * source // periods, last * source // periods), (first * period, last * period)


def nearest_window(label: np.ndarray, size: Tuple[int, int], rows: Tuple[int, int],
                   columns: Tuple[int, int]) -> np.ndarray:
    """cv2.resize(label, size, nearest)[rows, columns]: the rows and columns that it takes, of any type of number."""
    def taken(side: int, resized: int, window: Tuple[int, int]) -> np.ndarray:
        step = 1 / (resized / side)     # so that it is rounded as OpenCV's
        return np.minimum(np.floor(np.arange(*window) * step).astype(int), side - 1)
    row, column = taken(label.shape[0], size[0], rows), taken(label.shape[1], size[1], columns)
    if len(column) == 0:
        return label[row][:, column]
    part = label[row, column[0]:column[-1] + 1]
    return np.take(part, column - column[0], axis=1, mode="clip")       # it need not look for indices beyond the end
