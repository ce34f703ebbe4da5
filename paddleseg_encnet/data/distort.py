"""PaddleSeg's RandomDistort in a fraction of the time: the same random numbers, and the same pixels but for hues.

Brightness and contrast are tables of 256 numbers, bit by bit what Pillow computes for each pixel. The hue is turned by
OpenCV, whose way from RGB to HSV and back is shorter than Pillow's. Both round to 256 hues on the way, Pillow
downwards, OpenCV to the nearest, so that neither is exact and this is the nearer. Saturation and sharpness stay
Pillow's. `benchmarks/data_loading.py` measures what that saves.
"""

import random

import cv2
import numpy as np
from paddleseg.transforms import RandomDistort
from PIL import Image, ImageEnhance


class FasterDistort:
    """What a RandomDistort does to a sample, faster.

    Args:
        distort: PaddleSeg's transform. It is not changed.
    """

    def __init__(self, distort: RandomDistort):
        self.distort = distort

    def __call__(self, data: dict) -> dict:
        if data["img"].shape[2:] not in ((), (3,)):
            return self.distort(data)       # which knows of transparency, or refuses it
        image = data["img"].astype("uint8")
        # In PaddleSeg's order, which the random numbers go by: it shuffles them, and draws twice for each at most.
        changes = [brightness, contrast, saturation, sharpness]
        if image.ndim > 2:
            changes.append(hue)
        random.shuffle(changes)
        for change in changes:
            reach, probability = (getattr(self.distort, f"{change.__name__}_{what}") for what in ("range", "prob"))
            if np.random.uniform(0, 1) < probability:
                middle = 0 if change is hue else 1
                image = change(image, np.random.uniform(middle - reach, middle + reach))
        data["img"] = image.astype("float32")
        return data


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.LUT(image, blended(0, factor))


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    grey = int(np.asarray(Image.fromarray(image).convert("L")).mean() + 0.5)
    return cv2.LUT(image, blended(grey, factor))


def blended(towards: int, factor: float) -> np.ndarray:
    """For each byte what Pillow's blend makes of `towards` and it: float32, cut off after the point, 0 to 255."""
    values = np.float32(towards) + np.float32(factor) * (np.arange(256) - towards).astype("float32")
    return np.clip(values, 0, 255).astype("uint8")


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    return np.asarray(ImageEnhance.Color(Image.fromarray(image)).enhance(factor))


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    return np.asarray(ImageEnhance.Sharpness(Image.fromarray(image)).enhance(factor))


def hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turned by turn / 255 of the circle."""
    table = np.repeat(np.arange(256, dtype="uint8")[:, np.newaxis], 3, axis=1)
    table[:, 0] = np.round(np.arange(256) + turn * 256 / 255).astype(int) % 256
    turned = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), table[np.newaxis])
    return cv2.cvtColor(turned, cv2.COLOR_HSV2RGB_FULL)
