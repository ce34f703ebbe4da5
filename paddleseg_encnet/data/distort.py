"""PaddleSeg's RandomDistort in a fraction of the time: the same random numbers, and the same pixels but for hues.

Brightness and contrast are tables of 256 numbers, bit by bit what Pillow computes for each pixel, and saturation is
Pillow's arithmetic on many pixels at once. The hue is turned by OpenCV, whose way from RGB to HSV and back is shorter
than Pillow's. Both round to 256 hues on the way, Pillow downwards, OpenCV to the nearest, so that neither is exact and
this is the nearer. Sharpness and the grey of a colour stay Pillow's. `benchmarks/data_loading.py` measures what
that saves.
"""

import random
from typing import Callable, List

import cv2
import numpy as np
from paddleseg.transforms import RandomDistort
from PIL import Image, ImageEnhance

STRIP = 2 ** 18     # floats that are worked on at a time: a megabyte stays in a core's cache
BYTES = np.arange(256, dtype="float32")


class FasterDistort:
    """What a RandomDistort does to a sample, faster.

    Args:
        distort: PaddleSeg's transform. It is not changed.
    """

    def __init__(self, distort: RandomDistort):
        self.distort = distort
        self.made = "float32"       # PaddleSeg's; data/transforms.py has it leave bytes as they are

    def __call__(self, data: dict) -> dict:
        if data["img"].shape[2:] not in ((), (3,)):
            return self.distort(data)       # which knows of transparency, or refuses it
        image = np.ascontiguousarray(data["img"]).astype("uint8", copy=False)
        # In PaddleSeg's order, which the random numbers go by: it shuffles them, and draws twice for each at most.
        changes: List[Callable[[np.ndarray, float], np.ndarray]] = [brightness, contrast, saturation, sharpness]
        if image.ndim > 2:
            changes.append(hue)
        random.shuffle(changes)
        for change in changes:
            reach, probability = (getattr(self.distort, f"{change.__name__}_{what}") for what in ("range", "prob"))
            if np.random.uniform(0, 1) < probability:
                middle = 0 if change is hue else 1
                image = change(image, np.random.uniform(middle - reach, middle + reach))
        data["img"] = image.astype(self.made, copy=False)
        return data


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.LUT(image, blended(0, factor))


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    mean = cv2.sumElems(greys(image))[0] / (image.shape[0] * image.shape[1])
    return cv2.LUT(image, blended(int(mean + 0.5), factor))


def blended(towards: int, factor: float) -> np.ndarray:
    """For each byte what Pillow's blend makes of `towards` and it: float32, cut off after the point, 0 to 255."""
    values = np.float32(towards) + np.float32(factor) * (BYTES - np.float32(towards))
    return values.clip(0, 255).astype("uint8")


def greys(image: np.ndarray) -> np.ndarray:
    """Pillow's grey of colours, [H, W]. It keeps them in four bytes each and takes over an array that does too."""
    if image.ndim == 2:
        return image
    size = image.shape[1], image.shape[0]
    four = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    return np.asarray(Image.frombuffer("RGBX", size, four, "raw", "RGBX", 0, 1).convert("L"))


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Pillow's blend of each pixel with its grey, as in blended()."""
    if image.ndim == 2:
        return image
    grey, made = greys(image), np.empty_like(image)
    strip = max(STRIP // (3 * image.shape[1]), 1)
    for top in range(0, len(image), strip):
        rows = slice(top, top + strip)
        towards = cv2.cvtColor(grey[rows], cv2.COLOR_GRAY2RGB).astype("float32")
        values = image[rows].astype("float32")
        values -= towards
        values *= np.float32(factor)
        values += towards
        cv2.threshold(values, 0, 0, cv2.THRESH_TOZERO, dst=values)     # a tenth of the time of np.clip
        cv2.threshold(values, 255, 0, cv2.THRESH_TRUNC, dst=values)
        made[rows] = values
    return made


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    return np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor))


def hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turned by turn / 255 of the circle."""
    turned = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    steps = np.zeros(3 * image.shape[1], "uint8")
    steps[::3] = round(turn * 256 / 255) % 256
    rows = turned.reshape(len(turned), -1)
    rows += steps       # 256 begins the circle again, as bytes do
    return cv2.cvtColor(turned, cv2.COLOR_HSV2RGB_FULL)
