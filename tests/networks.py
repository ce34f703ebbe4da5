"""Networks for tests that do not train them."""

import contextlib

import numpy as np
import paddle
from paddleseg.cvlibs import Config, SegBuilder


@contextlib.contextmanager
def uninitialised():
    """Networks are made with constant weights within, which takes a tenth of the time."""
    constant = paddle.nn.initializer.Constant(0.0)
    paddle.nn.initializer.set_global_initializer(constant, constant)
    try:
        yield
    finally:
        paddle.nn.initializer.set_global_initializer(None, None)


def evaluating(layer):
    layer.eval()        # which returns nothing in Paddle 2.6
    return layer


def network_of(config) -> paddle.nn.Layer:
    return SegBuilder(Config(str(config))).model


def scrambled(network: paddle.nn.Layer, spread: float = 0.1) -> paddle.nn.Layer:
    """The same, with random values in all that starts as 0 or 1, so that no part of a formula can be left out unseen.
    """
    random = np.random.default_rng(0)
    for name, value in network.state_dict().items():
        if name.endswith(("_variance", "_batch_norm.weight", "encoding.1.weight")):
            value.set_value(random.uniform(0.5, 1.5, value.shape).astype("float32"))
        elif name.endswith(("_mean", "bias")):
            value.set_value(random.normal(0, spread, value.shape).astype("float32"))
    return network


def normalized(pixels: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] as a network takes it, float32 [1, 3, H, W]."""
    return ((pixels / 255 - 0.5) / 0.5).astype("float32").transpose(2, 0, 1)[np.newaxis]


def randomised(network: paddle.nn.Layer) -> paddle.nn.Layer:
    """The same, each tensor random and of a size that keeps activations near 1; in evaluation mode."""
    random = np.random.RandomState(3)
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            bound = (6 / np.prod(tensor.shape[1:])) ** 0.5
            tensor.set_value(random.uniform(-bound, bound, tensor.shape).astype("float32"))
        elif name.endswith(".scale"):
            tensor.set_value(random.uniform(-1, 0, tensor.shape).astype("float32"))
        else:       # BatchNorm's four, and biases
            tensor.set_value(random.uniform(0.2, 0.8, tensor.shape).astype("float32"))
    return evaluating(network)


def lively(config, pixels: np.ndarray) -> paddle.nn.Layer:
    """An ENCNet's config's network, with random weights with which these pixels have many classes."""
    network = randomised(network_of(config))
    with paddle.no_grad():      # each class is as often above 0 as below
        logits = network(paddle.to_tensor(normalized(pixels)))[0].numpy()
        network.head.bias.set_value(network.head.bias.numpy() - np.median(logits, axis=(0, 2, 3)))
    return network
