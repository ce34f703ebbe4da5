"""Windows of any size over images of any size."""

import numpy as np
import paddle
from hypothesis import strategies as st
from paddleseg.core import infer
from rules import rule, seeds, sides

from segrun import tiling


@rule(size=st.tuples(sides(50), sides(50)), crop=st.tuples(sides(60), sides(60)), seed=seeds(),
      part=st.tuples(st.floats(0, 1), st.floats(0, 1)), deep=st.integers(1, 4))
def test_rule_windows_are_means_of_all_that_show_a_pixel(size, crop, seed, part, deep):
    """`strips` against sums over the whole image, each pixel divided by how often it was seen."""
    stride = tuple(max(1, round(share * side)) for share, side in zip(part, crop))
    (height, width), random = size, np.random.default_rng(seed)
    image = random.normal(size=(deep, height, width)).astype("float32")
    sums, counts = np.zeros((deep, height, width)), np.zeros((height, width))

    def logits_of(top, bottom, left, right):
        assert 0 <= top < bottom <= height and 0 <= left < right <= width
        seen = image[:, top:bottom, left:right] * np.float32(top + 2 * left + 1)      # depends on the window
        sums[:, top:bottom, left:right] += seen
        counts[top:bottom, left:right] += 1
        return np.pad(seen, [(0, 0), (0, 1), (0, 2)])       # more than asked for, as networks that round up give

    rows, found = [], []
    for first, logits in tiling.strips(logits_of, size, crop, stride):
        rows += range(first, first + logits.shape[1])
        found.append(logits.copy())
    assert rows == list(range(height)) and counts.min() > 0
    np.testing.assert_allclose(np.concatenate(found, axis=1), sums / counts, rtol=1e-12, atol=1e-9)


@rule(size=st.tuples(sides(20), sides(20)), more=st.tuples(st.integers(0, 9), st.integers(0, 9)), seed=seeds())
def test_rule_one_window_is_the_whole(size, more, seed):
    """A window that holds the image gives its logits to the last bit, whatever the network sees."""
    random = np.random.default_rng(seed)
    images = paddle.to_tensor(random.normal(size=(1, 3, *size)).astype("float32"))
    model = paddle.nn.Conv2D(3, 4, 3, padding=1)

    def network(x):
        return [model(x)]

    crop = [size[1] + more[1], size[0] + more[0]]
    with paddle.no_grad():
        whole = network(images)[0].numpy()
        strips = [logits.copy() for _, logits in tiling.strips(
            lambda top, bottom, left, right: network(images[:, :, top:bottom, left:right])[0][0].numpy(), size, crop,
            crop)]
        stock = infer.slide_inference(network, images, crop, crop).numpy()
    np.testing.assert_array_equal(np.concatenate(strips, axis=1), whole[0])
    np.testing.assert_array_equal(stock, whole)
