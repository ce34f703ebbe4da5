"""The Encoding layer against float64 NumPy written out slowly, and against PaddleSeg's layer."""

import subprocess
import sys

import numpy as np
import paddle
import pytest
from conftest import relative_difference
from paddleseg.models.encnet import Encoding as StockEncoding

from paddleseg_encnet import Encoding


def encode_slowly(x, codewords, scale):
    """[C, N], [K, C], [K] -> [K, C], one position and codeword at a time."""
    encoded = np.zeros_like(codewords)
    for i in range(x.shape[1]):
        residuals = x[:, i] - codewords
        exponents = np.exp(scale * (residuals ** 2).sum(1))
        encoded += (exponents / exponents.sum())[:, None] * residuals
    return encoded


def layer_and_values(channels, num_codes, seed=0):
    """A layer whose codewords spread like the features, so that the assignment is neither even nor one-sided."""
    random = np.random.default_rng(seed)
    layer = Encoding(channels, num_codes)
    layer.codewords.set_value(random.normal(size=(num_codes, channels)).astype("float32"))
    layer.scale.set_value(random.uniform(-1, 0, num_codes).astype("float32") / channels)
    return layer, random


# float32 sums of some hundred terms against float64 ones
TOLERANCE = 1e-5


@pytest.mark.parametrize("batch, channels, num_codes, height, width", [
    (2, 16, 8, 5, 7), (1, 4, 1, 3, 3), (3, 8, 5, 1, 1), (1, 64, 32, 16, 16)])
def test_equals_the_formula(batch, channels, num_codes, height, width):
    layer, random = layer_and_values(channels, num_codes)
    x = random.normal(size=(batch, channels, height, width)).astype("float32")
    expected = [encode_slowly(image.reshape(channels, -1).astype("float64"),
                              layer.codewords.numpy().astype("float64"), layer.scale.numpy().astype("float64"))
                for image in x]
    encoded = layer(paddle.to_tensor(x))
    assert encoded.shape == [batch, num_codes, channels]
    assert relative_difference(encoded, expected) < TOLERANCE
    flat = layer(paddle.to_tensor(x.reshape(batch, channels, -1)))
    assert relative_difference(flat, expected) < TOLERANCE


def test_values_and_gradients_equal_the_stock_layer():
    layer, random = layer_and_values(24, 6)
    stock = StockEncoding(24, 6)
    stock.set_state_dict(layer.state_dict())
    values = random.normal(size=(2, 24, 6, 5)).astype("float32")
    weights = paddle.to_tensor(random.normal(size=(2, 6, 24)).astype("float32"))
    gradients = []
    for each in (layer, stock):
        x = paddle.to_tensor(values, stop_gradient=False)
        (each(x) * weights).sum().backward()
        gradients.append((x.grad, each.codewords.grad, each.scale.grad))
    for own, other in zip(*gradients):
        assert relative_difference(own, other) < TOLERANCE


def test_assignment_sums_to_one():
    layer, random = layer_and_values(8, 4)
    features = paddle.to_tensor(random.normal(size=(2, 8, 9)).astype("float32"))
    assert relative_difference(layer.assign(features).sum(1), np.ones((2, 9))) < TOLERANCE


def test_starts_as_published():
    paddle.seed(0)
    layer = Encoding(64, 16)
    bound = (64 * 16) ** -0.5
    codewords, scale = layer.codewords.numpy(), layer.scale.numpy()
    assert 0.9 * bound < np.abs(codewords).max() <= bound
    assert -1 <= scale.min() < scale.max() <= 0


def test_float16_input_does_not_overflow():
    layer = Encoding(512, 4)
    x = np.full((1, 512, 2, 2), 30.0, "float16")             # |x|^2 = 460800, float16 ends at 65504
    encoded = layer(paddle.to_tensor(x))
    assert encoded.dtype == paddle.float16
    assert np.isfinite(encoded.numpy()).all()
    expected = layer(paddle.to_tensor(x.astype("float32")))
    assert relative_difference(encoded, expected) < 1e-3     # float16 has 11 bits


@pytest.mark.parametrize("shape, words", [
    ((2, 8), "rank 4 or 3, got rank 2"), ((2, 8, 1, 1, 1), "rank 4 or 3, got rank 5"),
    ((2, 7, 3, 3), "8 channels, the input has 7"), ((2, 3, 8), "8 channels, the input has 3")])
def test_wrong_input_is_an_error_with_both_numbers(shape, words):
    with pytest.raises(ValueError, match=words):
        Encoding(8, 4)(paddle.zeros(shape))


def test_no_codewords_is_an_error():
    with pytest.raises(ValueError, match="num_codes >= 1"):
        Encoding(8, 0)


def test_never_builds_the_residuals():
    """[1, 512, 64, 128] and K = 32: the residuals would take 512 MiB, the input takes 16."""
    code = """
import resource
import paddleseg_encnet, paddle
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
layer = paddleseg_encnet.Encoding(512, 32)
x = paddle.ones([1, 512, 64, 128]); x.stop_gradient = False
paddle.matmul(x.flatten(2), x.flatten(2), transpose_y=True).sum().backward()      # workspaces of the libraries
before = peak()
layer(x).sum().backward()
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown = int(done.stdout.split()[-1])
    assert grown < 128, f"{grown} MiB more at its peak"
