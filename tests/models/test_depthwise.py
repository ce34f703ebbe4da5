"""Depthwise convolution against float64 NumPy written out, and against Paddle's kernel."""

import numpy as np
import paddle
import pytest
from conftest import relative_difference
from paddle import nn

from paddleseg_encnet.models.depthwise import Depthwise, DepthwiseConv2D

# B, C, kernel, stride, padding before and after, dilation, H, W.
GEOMETRIES = [
    (2, 3, 3, 1, (1, 1), 1, 7, 9),
    (1, 1, 5, 1, (2, 2), 1, 1, 1),          # the kernel is larger than the image
    (2, 3, 3, 2, (0, 1), 1, 7, 10),
    (2, 3, 3, 2, (1, 1), 1, 8, 9),
    (3, 4, 5, 2, (1, 2), 1, 9, 6),
    (2, 4, 5, 1, (4, 4), 2, 11, 9),
    (2, 4, 3, 1, (4, 4), 4, 6, 12),
    (2, 3, 3, 1, (8, 8), 8, 10, 12),        # from 11 x 11 on, kernels are applied to every 8th row
    (1, 2, 3, 1, (8, 8), 8, 35, 20),
    (2, 2, 3, 1, (24, 24), 24, 5, 30),      # from 3 x 41 on, row by row
    (1, 2, 5, 1, (12, 12), 6, 26, 30),
    (1, 2, 5, 2, (8, 7), 4, 9, 12),
    (2, 2, 3, 1, (0, 0), 1, 5, 6),
    (1, 3, 3, 1, (1, 1), 1, 7, 9),          # of one image, no picture is made beside it
    (1, 2, 5, 1, (1, 3), 1, 7, 9),
    (1, 2, 3, 1, (4, 4), 4, 6, 12),
]
# Float32 against float64, relative to the largest value: sums of up to B * H * W = 200 products.
TOLERANCE = 1e-6


def tensors(batch, channels, kernel, stride, padding, dilation, height, width):
    random = np.random.RandomState(0)
    layer = DepthwiseConv2D(channels, kernel, stride, padding, dilation)
    layer.weight.set_value(random.standard_normal(layer.weight.shape).astype("float32"))
    x = paddle.to_tensor(random.standard_normal((batch, channels, height, width)).astype("float32"))
    x.stop_gradient = False
    return layer, x


def slowly(x, weight, stride, padding, dilation, dy=None):
    """The output, and with its gradient those of x and weight, one product after the other."""
    batch, channels, height, width = x.shape
    size, before = weight.shape[2], padding[0]
    reach = dilation * (size - 1)
    rows, columns = ((n + sum(padding) - reach - 1) // stride + 1 for n in (height, width))
    y, d_x, d_weight = np.zeros((batch, channels, rows, columns)), np.zeros(x.shape), np.zeros(weight.shape)
    for b, c, i, j, k, m in np.ndindex(batch, channels, rows, columns, size, size):
        row, column = i * stride + k * dilation - before, j * stride + m * dilation - before
        if 0 <= row < height and 0 <= column < width:
            y[b, c, i, j] += x[b, c, row, column] * weight[c, 0, k, m]
            if dy is not None:
                d_x[b, c, row, column] += dy[b, c, i, j] * weight[c, 0, k, m]
                d_weight[c, 0, k, m] += dy[b, c, i, j] * x[b, c, row, column]
    return y, d_x, d_weight


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_values_and_gradients_equal_the_sum_written_out(geometry):
    layer, x = tensors(*geometry)
    y = layer(x)
    dy = paddle.to_tensor(np.random.RandomState(1).standard_normal(y.shape).astype("float32"))
    gradients = paddle.grad([y], [x, layer.weight], [dy])
    expected = slowly(*(value.numpy().astype("float64") for value in (x, layer.weight)), *layer.geometry,
                      dy.numpy().astype("float64"))
    for ours, theirs in zip([y, *gradients], expected):
        assert relative_difference(ours.numpy(), theirs) < TOLERANCE


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_equals_paddles_kernel(geometry):
    layer, x = tensors(*geometry)
    outputs = []
    for y in (layer(x), nn.Conv2D.forward(layer, x)):
        outputs.append([y, *paddle.grad([y], [x, layer.weight], [paddle.ones_like(y)])])
    for ours, theirs in zip(*outputs):
        assert relative_difference(ours.numpy(), theirs.numpy()) < TOLERANCE


def test_an_image_needs_no_gradient():
    layer, x = tensors(*GEOMETRIES[0])
    x.stop_gradient = True
    layer(x).sum().backward()
    assert x.grad is None
    assert layer.weight.grad is not None


def test_a_frozen_kernel_hands_gradients_on():
    layer, x = tensors(*GEOMETRIES[0])
    layer.weight.stop_gradient = True
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is not None


def test_a_static_graph_has_paddles_kernel():
    layer, x = tensors(*GEOMETRIES[0])
    expected = layer(x).numpy()
    static = paddle.jit.to_static(layer, full_graph=True)
    assert relative_difference(static(x).numpy(), expected) < TOLERANCE
    operators = str(static.forward.concrete_program.main_program)
    assert "depthwise_conv2d" in operators
    assert "py_layer" not in operators.lower().replace("pylayer", "py_layer")


def test_other_types_are_paddles(monkeypatch):
    monkeypatch.setattr(Depthwise, "apply", lambda *_: pytest.fail("was called"))
    layer, x = tensors(*GEOMETRIES[0])
    assert layer.to(dtype="float64")(x.astype("float64")).dtype == paddle.float64


def test_trains_through_paddles_bytecode_tracer():
    layer, x = tensors(*GEOMETRIES[0])
    static = paddle.jit.to_static(layer)
    gradients = paddle.grad([static(x)], [x, layer.weight], [paddle.ones_like(x)])
    expected = paddle.grad([layer(x)], [x, layer.weight], [paddle.ones_like(x)])
    for a, b in zip(gradients, expected):
        assert relative_difference(a.numpy(), b.numpy()) < TOLERANCE


def test_second_use_of_a_layer_keeps_both_gradients():
    layer, x = tensors(*GEOMETRIES[0])
    layer(layer(x)).sum().backward()
    twice = layer.weight.grad.numpy()
    reference = nn.Conv2D.forward(layer, nn.Conv2D.forward(layer, x)).sum()
    assert relative_difference(twice, paddle.grad([reference], [layer.weight])[0].numpy()) < TOLERANCE
