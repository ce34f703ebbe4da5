"""One step from several micro-batches, as from the large batch that they make together: --accum_steps.

A mean over pixels is a sum divided by the pixels that count, and micro-batches have unequal numbers of those, as the
rest is ignored. So that each pixel weighs what it weighs in the large batch, the loss is not the mean of N losses but

    L = (d_1 L_1 + ... + d_N L_N) / (d_1 + ... + d_N)           d_k: what L_k was divided by; known from labels alone

What this can't undo: BatchNorm sees a micro-batch at a time; dropout draws other masks; a loss that chooses or sorts
pixels does so within each micro-batch.
"""

from typing import Any, List, Optional

import paddle
from paddleseg.models.losses import (
    BCELoss,
    BootstrappedCrossEntropyLoss,
    CrossEntropyLoss,
    DiceLoss,
    MixedLoss,
)
from paddleseg.models.losses.focal_loss import FocalLoss, MultiClassFocalLoss

from paddleseg_encnet.models.losses import SELoss, has_own_rule

OF_IMAGES = (SELoss, DiceLoss, BootstrappedCrossEntropyLoss)            # means over the images of a batch
OF_PIXELS = (CrossEntropyLoss, FocalLoss, MultiClassFocalLoss, BCELoss)     # means over the pixels that count


def micro_batches(data: dict, count: int) -> List[dict]:
    """A batch cut into `count` of equal size, in its order. What is no tensor is of no image, and in each of them.

    Args:
        data: the batch: "img" [B, C, H, W], "label" [B, H, W], ...; B is a multiple of `count`.
    """
    if count == 1:
        return [data]
    size = len(data["img"]) // count
    return [{key: value[k * size:(k + 1) * size] if isinstance(value, paddle.Tensor) else value
             for key, value in data.items()} for k in range(count)]


def term_factors(model: paddle.nn.Layer, losses: dict, parts: List[dict]) -> List[Optional[list]]:
    """For each micro-batch the factor of each of its loss terms, so that their sum is the large batch's. None of one
    that is alone."""
    if len(parts) == 1:
        return [None]
    by_term = []
    for loss in terms_of(model, losses):
        if exact(loss) and type(loss) in OF_PIXELS:
            divisors = paddle.stack([divisor(loss, part) for part in parts])
            by_term.append(list(divisors / divisors.sum()))     # on the device: nobody waits for it
        else:
            by_term.append([1 / len(parts)] * len(parts))
    return [list(factors) for factors in zip(*by_term)]


def weighted(terms: list, factors: Optional[list]) -> list:
    """The loss terms of a micro-batch, times their factors."""
    if factors is None:
        return terms
    if len(factors) != len(terms):        # of a model with a rule of its own
        factors = factors[:1] * len(terms)
    return [term * factor for term, factor in zip(terms, factors)]


def terms_of(model: paddle.nn.Layer, losses: dict) -> list:
    """The loss of each term, in order. Of a model with a rule of its own nothing is known: one None for all."""
    if has_own_rule(model):
        return [None]
    return [part for loss in losses["types"] for part in (loss.losses if isinstance(loss, MixedLoss) else [loss])]


def exact(loss: Any) -> bool:
    """Whether the loss of a batch follows from those of its parts."""
    if type(loss) is CrossEntropyLoss:
        return loss.top_k_percent_pixels == 1
    if type(loss) is BCELoss:       # "dynamic" weights are counted over what it is given
        return not any(isinstance(weight, str) for weight in (loss.weight, loss.pos_weight))
    return type(loss) in OF_IMAGES + OF_PIXELS


def divisor(loss: Any, data: dict) -> paddle.Tensor:
    """What a mean over pixels divides by: the share of pixels that count, with their classes' weights, as PaddleSeg's
    losses have it, their EPS included."""
    label = (data["edge"] if getattr(loss, "edge_label", False) else data["label"]).astype("int64")
    valid = label != loss.ignore_index
    counts = valid.astype("float32")
    if type(loss) is CrossEntropyLoss:
        if not loss.avg_non_ignore:
            counts = paddle.ones_like(counts)
        if loss.weight is not None:
            classes = paddle.where(valid, label, paddle.zeros_like(label)).flatten()
            counts = counts.flatten() * paddle.gather(loss.weight, classes)
    return counts.mean() + loss.EPS


def accumulation_line(model: paddle.nn.Layer, losses: dict, batch_size: int, count: int) -> str:
    """The line that says what a step is made of, and what of the large batch it is not."""
    line = (f"--accum_steps {count}: a step learns from {count} micro-batches of {batch_size} what it would from a "
            f"batch of {count * batch_size}, but that BatchNorm has the statistics of each micro-batch, and dropout "
            "other masks")
    apart = ["the model's own rule" if loss is None else type(loss).__name__
             for loss in terms_of(model, losses) if not exact(loss)]
    if apart:
        line += (f"; {', '.join(dict.fromkeys(apart))}: the mean of the losses of the micro-batches, not the batch's "
                 "own")
    return line
