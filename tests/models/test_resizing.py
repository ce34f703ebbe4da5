"""The gradient of bilinear resizing against Paddle's, and against resizing in float64 NumPy by its definition."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from conftest import relative_difference

from paddleseg_encnet.models import resizing
from paddleseg_encnet.models.resizing import Bilinear, bilinear

SIZES = [((4, 6), (13, 9)), ((4, 6), (8, 12)), ((9, 7), (4, 3)), ((1, 5), (6, 5)), ((3, 1), (1, 4)), ((5, 5), (5, 5))]
TOLERANCE = 1e-5        # float32 sums of up to 13 x 9 products, in another order


def tensors(before, after):
    random = np.random.default_rng(0)
    x = paddle.to_tensor(random.normal(size=(2, 3, *before)).astype("float32"), stop_gradient=False)
    return x, paddle.to_tensor(random.normal(size=(2, 3, *after)).astype("float32"))


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("before, after", SIZES)
def test_equals_paddles(before, after, align_corners):
    found, dy = tensors(before, after)
    expected, _ = tensors(before, after)
    ours = bilinear(found, paddle.to_tensor(after), align_corners)
    theirs = F.interpolate(expected, after, mode="bilinear", align_corners=align_corners)
    assert np.array_equal(ours, theirs)
    ours.backward(dy)
    theirs.backward(dy)
    assert relative_difference(found.grad, expected.grad) < TOLERANCE


def resized(line, after, align_corners):
    """A line of numbers, each place of the result by the definition."""
    result = []
    for i in range(after):
        if align_corners:
            place = i * (len(line) - 1) / (after - 1) if after > 1 else 0
        else:
            place = max((i + 0.5) * len(line) / after - 0.5, 0)
        first = int(place)
        second = min(first + 1, len(line) - 1)
        result.append(line[first] + (place - first) * (line[second] - line[first]))
    return np.array(result)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("before, after", [size for size in SIZES if 1 not in size[0]])
def test_gradient_is_that_of_the_definition(before, after, align_corners):
    """Resizing is linear: the gradient at a pixel is what moving it by one moves dot(y, dy)."""
    x, dy = tensors(before, after)
    bilinear(x, paddle.to_tensor(after), align_corners).backward(dy)
    expected = np.zeros(before)
    for pixel in np.ndindex(*before):
        unit = np.zeros(before)
        unit[pixel] = 1
        rows = np.apply_along_axis(resized, 0, unit, after[0], align_corners)
        expected[pixel] = (np.apply_along_axis(resized, 1, rows, after[1], align_corners) * dy.numpy()[1, 2]).sum()
    assert relative_difference(x.grad[1, 2], expected) < TOLERANCE


def test_is_paddles_where_nothing_is_trained(monkeypatch):
    x, _ = tensors((4, 6), (8, 12))
    size = paddle.to_tensor((8, 12))
    assert resizing.is_ours(x)
    monkeypatch.setattr(Bilinear, "apply", None)
    with paddle.no_grad():
        assert bilinear(x, size, True).shape == [2, 3, 8, 12]
    assert bilinear(x.detach(), size, True).shape == [2, 3, 8, 12]
    x = x.detach().astype("float64")
    x.stop_gradient = False
    bilinear(x, size, True).sum().backward()
    assert x.grad is not None


def test_another_function_resizes_for_a_while_and_no_longer():
    """PaddleSeg's networks and Paddle's layers too, and also where the trace fails."""
    asked = []

    def noted(x, *args, **options):
        asked.append(x.shape)
        return resizing.interpolate(x, *args, **options)

    x, upsample = paddle.rand([1, 2, 3, 4]), paddle.nn.Upsample(scale_factor=2)
    before = F.interpolate
    with pytest.raises(KeyError):
        with resizing.resizing_by(noted):
            bilinear(x, paddle.to_tensor([6, 8]), False)
            upsample(x)
            raise KeyError
    assert asked == [[1, 2, 3, 4]] * 2 and F.interpolate is before
    upsample(x)
    assert len(asked) == 2
