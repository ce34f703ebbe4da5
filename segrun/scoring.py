"""Scores: of pixels, from a confusion matrix, and of the classes that the SE branch believes present in an image.

n[i, j] = pixels of class i predicted as class j, over pixels whose label is a class.
"""

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segrun.result import Segmentation
from segrun.segmenter import Segmenter


def confusion_matrix(label: NDArray[Any], prediction: NDArray[Any], num_classes: int,
                     ignore_index: int = 255) -> NDArray[Any]:
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
        pairs: NDArray[Any] = label.astype(np.uint16 if rows * num_classes <= 2 ** 16 else np.int64)
        pairs *= num_classes
        pairs += prediction.astype(pairs.dtype)
        counts = histogram(pairs, rows * num_classes).reshape(rows, num_classes)
        if not counts[num_classes:-1].any():
            return counts[:num_classes]
    name, values = ("label", label) if within(prediction, num_classes) else ("prediction", prediction)
    values = values[label != rows - 1] if not wrong else values
    raise ValueError(f"{name} values from {values.min()} to {values.max()} with {num_classes} classes "
                     f"and ignore_index {ignore_index}")


def within(values: NDArray[Any], end: int) -> bool:
    """Are all of them in [0, end)?"""
    return values.size == 0 or 0 <= values.min() <= values.max() < end


def histogram(values: NDArray[Any], end: int) -> NDArray[Any]:
    """How often each value of [0, end) occurs in a flat array, int64."""
    if values.dtype != np.uint16:
        return np.bincount(values, minlength=end)
    # OpenCV's takes half the time. It hands over float32, which counts to 2^24 one by one.
    counts = np.zeros(end, np.int64)
    for start in range(0, values.size, 2 ** 24):
        part = values[None, start:start + 2 ** 24]
        counts += cv2.calcHist([part], [0], None, [end], [0, end]).reshape(-1).astype(np.int64)
    return counts


class PresenceScores(NamedTuple):
    """How well the SE branch tells which classes an image holds, each image counting once.

    A class is predicted present where its probability is above 0.5. A score whose denominator is 0 is nan, and a mean
    is taken over the classes that are not nan.
    """
    mean_precision: float
    mean_recall: float
    mean_average_precision: float
    class_precision: NDArray[Any]           # [C], right ones among the images that are predicted to hold the class
    class_recall: NDArray[Any]              # [C], found ones among the images that hold the class
    class_average_precision: NDArray[Any]   # [C], see average_precision()
    class_images: NDArray[Any]              # [C], int64, the images that hold the class


class Scores(NamedTuple):
    """What a data set says of a model, from the confusion matrix n over all its images.

    With t_i = sum_j n_ij the pixels labelled i and p_i = sum_j n_ji those predicted i. All are in [0, 1] but kappa, in
    [-1, 1]. A score whose denominator is 0 is nan, and a mean is taken over the classes that are not nan. So a class in
    no label and no prediction is absent and counts in no mean; one that is only predicted counts as IoU and Dice 0, but
    has no accuracy.
    """
    mean_iou: float                 # mean of class_iou
    accuracy: float                 # of pixels: sum_i n_ii / sum_i t_i
    mean_accuracy: float            # mean of class_accuracy
    frequency_weighted_iou: float   # sum_i t_i IoU_i / sum_i t_i
    kappa: float                    # (a - c) / (1 - c), a accuracy, c = sum_i t_i p_i / (sum_i t_i)^2 that by chance
    mean_dice: float                # mean of class_f1
    class_iou: NDArray[Any]         # [C], n_ii / (t_i + p_i - n_ii)
    class_accuracy: NDArray[Any]    # [C], n_ii / t_i; also called recall
    class_precision: NDArray[Any]   # [C], n_ii / p_i
    class_f1: NDArray[Any]          # [C], 2 n_ii / (t_i + p_i); also called Dice
    class_share: NDArray[Any]       # [C], t_i / sum_i t_i
    confusion: NDArray[Any]         # [C, C], n
    presence: Optional[PresenceScores]      # of the SE branch, where the network has one
    losses: Dict[str, float]        # weighted mean validation loss by name; empty unless asked for
    codebook: Optional[Any] = None  # how much of its codebook the network used, where it has one: codebook.CodebookUse


def scores(confusion: NDArray[Any], presence: Optional[PresenceScores] = None,
           losses: Optional[Dict[str, float]] = None, codebook: Any = None) -> Scores:
    """All scores of a confusion matrix [C, C], together with those that it does not tell.

    Raises:
        ValueError: the matrix counts no pixel.
    """
    total = confusion.sum()
    if total == 0:
        raise ValueError("no pixel has a label that counts: is everything ignored, or ignore_index wrong?")
    both = confusion.diagonal().astype(np.float64)
    label, prediction = confusion.sum(1).astype(np.float64), confusion.sum(0).astype(np.float64)
    class_iou = ratio(both, label + prediction - both)
    class_accuracy = ratio(both, label)
    class_f1 = ratio(2 * both, label + prediction)
    accuracy = both.sum() / total
    chance = (label * prediction).sum() / float(total) ** 2
    return Scores(
        mean_iou=mean(class_iou),
        accuracy=float(accuracy),
        mean_accuracy=mean(class_accuracy),
        frequency_weighted_iou=float(np.nansum(label * class_iou) / total),
        # One class only, all right: agreement is whole, and chance alone would give it.
        kappa=float((accuracy - chance) / (1 - chance)) if chance < 1 else 1.0,
        mean_dice=mean(class_f1),
        class_iou=class_iou,
        class_accuracy=class_accuracy,
        class_precision=ratio(both, prediction),
        class_f1=class_f1,
        class_share=label / total,
        confusion=confusion,
        presence=presence,
        losses=losses or {},
        codebook=codebook)


def presence_scores(present: NDArray[Any], logits: NDArray[Any]) -> PresenceScores:
    """Scores of presence logits [N, C] against the classes that are present, 0 or 1 [N, C], for N images.

    Logits are as good as probabilities here: one is above 0 where the other is above 0.5, and both have one order.
    """
    present, predicted = present > 0.5, logits > 0
    both = (present & predicted).sum(0)
    precision, recall = ratio(both, predicted.sum(0)), ratio(both, present.sum(0))
    average = np.array([average_precision(*columns) for columns in zip(present.T, logits.T)])
    return PresenceScores(mean(precision), mean(recall), mean(average), precision, recall, average, present.sum(0))


def average_precision(present: NDArray[Any], score: NDArray[Any]) -> float:
    """Mean, over the images that hold a class, of the precision when all images with at least that image's score are
    taken for it; nan where no image holds the class. present: bool [N]; score: [N], the higher the surer.

    That is sum_k (R_k - R_{k-1}) P_k over the distinct scores, without interpolation, as scikit-learn's
    average_precision_score has it: images of one score are taken together, so their order does not matter.
    """
    if not present.any():
        return float("nan")
    order = np.argsort(-score, kind="stable")
    score, found = score[order], present[order].cumsum()
    # Of images with one score the last knows how many are taken, and how many of them are right.
    last = np.searchsorted(-score, -score[present[order]], side="right") - 1
    return float(np.mean(found[last] / (last + 1)))


def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """part / whole, float64, nan where whole is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)


def mean(values: NDArray[Any]) -> float:
    """Mean of those that are not nan; nan where all are."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


# --- a segmenter against labels ---------------------------------------------------------------------------------------

def score_network(segmenter: Segmenter, labels: Dict[str, str], read: Callable[[str, Tuple[int, int]], NDArray[Any]],
                  watch: Callable[[Segmentation], None] = lambda seen: None) -> Scores:
    """Scores on labelled images.

    Args:
        labels: {image: label}, paths.
        read: read(label, (height, width)) gives its class ids [H, W], 255 where it has no class.
        watch: is called with what was seen in each image.

    Raises:
        DataError: an image or a label can't be read.
        ValueError: no pixel has a label.
    """
    count = len(segmenter.names)
    confusion = np.zeros([count, count], np.int64)
    for seen in segmenter.stream(labels):
        confusion += confusion_matrix(read(labels[seen.source], (len(seen.ids), seen.ids.shape[1])), seen.ids, count)
        watch(seen)
    return scores(confusion)
