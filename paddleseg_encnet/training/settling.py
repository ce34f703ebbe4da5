"""Numbers that decay to nothing while training become nothing, before they become denormal numbers.

Where a weight has no gradient any more (a channel that ReLU silences), momentum loses a tenth at each step: after 790
steps it is below 1.18e-38, where an Intel processor takes a hundred times as long for each product. There it stays, for
0.9 times a few of the least numbers is rounded to as many again. The same goes for Adam's first moments and for
BatchNorm's running values of a channel that is 0. With the weight decay of Momentum no gradient is 0 for long.

With a tenth of 3.5 million weights so, a step of Momentum takes seven times as long on an Intel Xeon; settle() takes
60 ms there.
"""

from typing import List

import paddle
from paddle.nn.layer.norm import _BatchNormBase

EVERY = 100         # steps
# What is above it stays normal for EVERY steps at a decay of 0.9: 1e-32 * 0.9^100 = 2.7e-37. What is below changes no
# weight above 1e-17 in a step: momentum moves it by lr * 1e-32, Adam by lr * 1e-32 / 1e-8. In a variance, an epsilon of
# 1e-5 or 1e-8 hides it.
NEGLIGIBLE = 1e-32


def settle(model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> None:
    """What is below NEGLIGIBLE in the optimiser's moments and the model's running values is 0 afterwards."""
    moments = [tensor for tensors in optimizer._accumulators.values() for tensor in tensors.values()]
    with paddle.no_grad():
        for tensor in [*moments, *running_values(model)]:
            if tensor.dtype == paddle.float32:
                tensor.set_value(paddle.where(tensor.abs() < NEGLIGIBLE, paddle.zeros_like(tensor), tensor))


def running_values(model: paddle.nn.Layer) -> List[paddle.Tensor]:
    """Means and variances of all BatchNorm layers."""
    norms = [layer for layer in model.sublayers(include_self=True) if isinstance(layer, _BatchNormBase)]
    return [value for norm in norms for value in (norm._mean, norm._variance)]
