"""A head with one output channel, whose sigmoid is compared with a threshold, as one of two classes.

Softmax over (0, z) is (1 - sigmoid(z), sigmoid(z)), so that a channel of zeros before the one of the file makes the
same decision at a threshold of 0.5. At another one, t, its logit, log(t / (1 - t)), is subtracted: z > logit(t) where
sigmoid(z) > t.
"""

import math
from typing import Dict, Sequence

import numpy as np

USUAL = 0.5


def two_classes(state: Dict[str, np.ndarray], classifiers: Sequence[str], presence: str,
                threshold: float) -> Dict[str, np.ndarray]:
    """The same tensors with class 0, the background, before the file's own.

    Args:
        classifiers: names of the layers, 1x1 convolutions, of which those that have one output get two.
        presence: name of the presence layer. One of a single class is left out: nobody has trained it for a background.
        threshold: of the sigmoid, between 0 and 1.
    """
    result = dict(state)
    for name in classifiers:
        weight, bias = state.get(f"{name}.weight"), state.get(f"{name}.bias")
        if weight is None or weight.shape[:1] != (1,):
            continue
        result[f"{name}.weight"] = np.concatenate([np.zeros_like(weight), weight])
        shift = math.log(threshold / (1 - threshold))
        own = np.zeros(1, weight.dtype) if bias is None else bias - np.array(shift, bias.dtype)
        result[f"{name}.bias"] = np.concatenate([np.zeros(1, own.dtype), own])
    layer = state.get(f"{presence}.bias")
    if layer is not None and layer.shape == (1,):
        for part in ("weight", "bias"):
            result.pop(f"{presence}.{part}", None)
    return result
