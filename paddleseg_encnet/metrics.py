"""Scores from a confusion matrix.

n[i, j] = pixels of class i predicted as class j, over pixels whose label is a class.
"""

from typing import NamedTuple

import cv2
import numpy as np


def confusion_matrix(label: np.ndarray, prediction: np.ndarray, num_classes: int,
                     ignore_index: int = 255) -> np.ndarray:
    """Counts label against prediction in one pass over the pixels: integer arrays of one size -> int64 [C, C].

    Pixels labelled `ignore_index` do not count.

    Raises:
        ValueError: the sizes differ; a label is neither a class nor `ignore_index`; a prediction is no class.
    """
    label, prediction = np.asarray(label).reshape(-1), np.asarray(prediction).reshape(-1)
    if label.size != prediction.size:
        raise ValueError(f"the label has {label.size} pixels, the prediction {prediction.size}")
    # Ignored pixels are counted in the last row, which takes less time than leaving them out. 255 is there already.
    rows = max(num_classes, 255) + 1
    wrong = False
    if ignore_index != rows - 1:
        wrong = (label == rows - 1).any()
        label = np.where(label == ignore_index, rows - 1, label)
    if not within(prediction, num_classes):
        prediction = np.where(label == rows - 1, 0, prediction)
    if not wrong and within(label, rows) and within(prediction, num_classes):
        pairs = label.astype(np.uint16 if rows * num_classes <= 2 ** 16 else np.int64)
        pairs *= num_classes
        pairs += prediction.astype(pairs.dtype)
        counts = histogram(pairs, rows * num_classes).reshape(rows, num_classes)
        if not counts[num_classes:-1].any():
            return counts[:num_classes]
    name, values = ("label", label) if within(prediction, num_classes) else ("prediction", prediction)
    values = values[label != rows - 1] if not wrong else values
    raise ValueError(f"{name} values from {values.min()} to {values.max()} with {num_classes} classes "
                     f"and ignore_index {ignore_index}")


def within(values: np.ndarray, end: int) -> bool:
    """Are all of them in [0, end)?"""
    return values.size == 0 or 0 <= values.min() <= values.max() < end


def histogram(values: np.ndarray, end: int) -> np.ndarray:
    """How often each value of [0, end) occurs in a flat array, int64."""
    if values.dtype != np.uint16:
        return np.bincount(values, minlength=end)
    # OpenCV's takes half the time. It hands over float32, which counts to 2^24 one by one.
    counts = np.zeros(end, np.int64)
    for start in range(0, values.size, 2 ** 24):
        part = values[None, start:start + 2 ** 24]
        counts += cv2.calcHist([part], [0], None, [end], [0, end]).reshape(-1).astype(np.int64)
    return counts


class Scores(NamedTuple):
    """All in [0, 1] but kappa, in [-1, 1]. A class that is in no label and no prediction has IoU nan."""
    mean_iou: float         # over the classes that occur in labels or predictions
    accuracy: float         # share of pixels that are right
    kappa: float            # agreement beyond chance
    mean_dice: float        # over the same classes as mean_iou
    class_iou: np.ndarray   # [C]
    class_precision: np.ndarray     # [C], nan where the class is never predicted
    class_recall: np.ndarray        # [C], nan where the class is in no label


def scores(matrix: np.ndarray) -> Scores:
    """All scores of a confusion matrix [C, C].

    Raises:
        ValueError: the matrix counts no pixel.
    """
    total = matrix.sum()
    if total == 0:
        raise ValueError("no pixel has a label that counts: is everything ignored, or ignore_index wrong?")
    both = matrix.diagonal().astype(np.float64)
    label, prediction = matrix.sum(1).astype(np.float64), matrix.sum(0).astype(np.float64)
    class_iou = ratio(both, label + prediction - both)
    accuracy = both.sum() / total
    chance = (label * prediction).sum() / float(total) ** 2
    return Scores(
        mean_iou=float(np.nanmean(class_iou)),
        accuracy=float(accuracy),
        # One class only, all right: agreement is whole, and chance alone would give it.
        kappa=float((accuracy - chance) / (1 - chance)) if chance < 1 else 1.0,
        mean_dice=float(np.nanmean(ratio(2 * both, label + prediction))),
        class_iou=class_iou,
        class_precision=ratio(both, prediction),
        class_recall=ratio(both, label))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, nan where whole is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)
