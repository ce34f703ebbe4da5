"""The counts of benchmarks/scaling.py, against numbers worked out by hand."""

import importlib.util

import paddle
import pytest
from conftest import ROOT

from paddleseg_encnet import Encoding

spec = importlib.util.spec_from_file_location("scaling", ROOT / "benchmarks" / "scaling.py")
scaling = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scaling)


@pytest.mark.parametrize("layer, shape, by_hand", [
    # multiply-adds of an output: 3 x 3 x 4 channels; outputs: 2 x 6 x 5 x 5
    (paddle.nn.Conv2D(4, 6, 3, stride=2, padding=1), [2, 4, 10, 10], 2 * 36 * 300),
    (paddle.nn.Conv2D(4, 6, 3, padding=1, groups=2), [1, 4, 5, 5], 2 * 18 * 150),
    (paddle.nn.Linear(7, 3), [2, 7], 2 * 7 * 6),
    # products of codewords and features, and of assignments and features: 5 x 8 x 12 multiply-adds each
    (Encoding(8, 5), [1, 8, 3, 4], 2 * 2 * 5 * 8 * 12),
    (paddle.nn.ReLU(), [1, 8, 3, 4], 0)])
def test_operations_of_a_layer(layer, shape, by_hand):
    images = paddle.randn(shape)
    assert scaling.operations(layer, (images,), layer(images)) == (by_hand, by_hand)
    images.stop_gradient = False
    assert scaling.operations(layer, (images,), layer(images)) == (by_hand, 2 * by_hand)


class Small(paddle.nn.Layer):
    """Keeps for its backward pass the images (for the convolution) and the result of the ReLU."""

    def __init__(self):
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, 2, 1, bias_attr=False)

    def forward(self, images):
        return [paddle.nn.functional.relu(self.conv(images))]


def test_counts_of_a_step():
    losses = {"types": [lambda logits, label: logits.sum()], "coef": [1]}
    step = scaling.count(Small(), losses, height=4, width=8, classes=2, batch=5)
    assert step.parameters == 6 and step.norms == 0
    assert step.forward == 5 * 2 * 3 * 2 * 32 and step.backward == step.forward
    assert step.kept == 5 * 4 * (3 + 2) * 32


def test_prediction_from_counts():
    """4 V100s at 1 TFLOP/s: 3 s of computing; of 1 GB of gradients at 1 GB/s only the last bucket is waited for."""
    step = scaling.Step(2, 250_000_000, 10, 100, 10 ** 12, 2 * 10 ** 12, 0)
    machines = scaling.Machines(peak=1, utilisation=1, inside=1, small=0.001)
    seconds, computing, gradients, norms = scaling.predict(step, 4, machines)
    assert computing == 3 and norms == pytest.approx(0.02)
    assert gradients == pytest.approx(1.5 * 25 * 2 ** 20 / 1e9) and seconds == pytest.approx(3.02 + gradients)
    assert scaling.predict(step, 1, machines) == (3, 3, 0, 0)
    # Slower than the backward pass: 15 s on the way, 2 s of them beside it.
    assert scaling.predict(step, 4, machines._replace(inside=0.1))[2] == pytest.approx(13)
