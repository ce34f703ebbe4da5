"""Losses that sort or sample: of a batch without a pixel that counts, and RMILoss against its formula in NumPy."""

import numpy as np
import paddle
import pytest
from paddleseg.models import losses

IGNORED = 255


def loss_and_gradient(loss, inputs, label):
    """The value, and the gradients at these inputs, tensors by any names."""
    value = loss(inputs if len(inputs) > 1 else next(iter(inputs.values())), label)
    value.backward()
    return float(value), [tensor.grad for tensor in inputs.values()]


def tensors(seed=0, **shapes):
    random = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes.items():
        made[name] = paddle.to_tensor(random.normal(size=shape).astype("float32"))
        made[name].stop_gradient = False
    return made


SORT_OR_SAMPLE = {
    "LovaszSoftmaxLoss": (dict(), dict(logit=(2, 3, 16, 16))),
    "LovaszHingeLoss": (dict(), dict(logit=(2, 2, 16, 16))),
    "RMILoss": (dict(num_classes=3), dict(logit=(2, 3, 16, 16))),
    "OhemCrossEntropyLoss": (dict(min_kept=5), dict(logit=(2, 3, 16, 16))),
    "BootstrappedCrossEntropyLoss": (dict(min_K=10, loss_th=0.1), dict(logit=(2, 3, 16, 16))),
    "CrossEntropyLoss": (dict(top_k_percent_pixels=0.2), dict(logit=(2, 3, 16, 16))),
    "PixelContrastCrossEntropyLoss": (dict(max_views=10), dict(seg=(2, 3, 16, 16), embed=(2, 4, 16, 16))),
}


@pytest.mark.parametrize("name", SORT_OR_SAMPLE)
def test_a_batch_whose_pixels_are_all_ignored_teaches_nothing(name):
    options, shapes = SORT_OR_SAMPLE[name]
    loss = getattr(losses, name)(**options)
    label = paddle.full([2, 16, 16], IGNORED, "float32" if "embed" in shapes else "int64")
    value, gradients = loss_and_gradient(loss, tensors(**shapes), label)
    assert value == 0
    for gradient in gradients:
        assert gradient is None or not gradient.numpy().any()


@pytest.mark.parametrize("name", SORT_OR_SAMPLE)
def test_a_batch_with_other_pixels_still_does(name):
    """One image of the two is ignored altogether."""
    options, shapes = SORT_OR_SAMPLE[name]
    ids = np.full([2, 16, 16], IGNORED)
    ids[1] = np.random.default_rng(1).integers(0, 2, (16, 16))
    label = paddle.to_tensor(ids.astype("float32" if "embed" in shapes else "int64"))
    value, gradients = loss_and_gradient(getattr(losses, name)(**options), tensors(**shapes), label)
    assert np.isfinite(value) and value != 0
    assert any(gradient is not None and gradient.numpy()[1].any() for gradient in gradients)


@pytest.mark.parametrize("thresh, min_kept", [(0.7, 20), (0.2, 20), (0.7, 10000), (0.5, 1)])
def test_ohem_keeps_the_hardest_pixels(thresh, min_kept):
    """As NumPy has it: those below the threshold, and below that of the `min_kept`-th hardest."""
    random = np.random.default_rng(4)
    logits, label = random.normal(size=(2, 3, 6, 5)).astype("float32"), random.integers(0, 3, (2, 6, 5))
    label[0, :2] = IGNORED
    counts = label != IGNORED
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    own = np.take_along_axis(probability, np.where(counts, label, 0)[:, None], 1)[:, 0]
    kept = counts
    if min_kept < counts.sum():
        kept = counts & (own < max(thresh, np.sort(own[counts])[min_kept - 1]))
    loss = losses.OhemCrossEntropyLoss(thresh, min_kept)(paddle.to_tensor(logits), paddle.to_tensor(label))
    # It divides by the share of the pixels, and 1e-5.
    assert float(loss) == pytest.approx(-np.log(own[kept]).sum() / kept.size / (kept.mean() + 1e-5), rel=1e-5)


def test_ohem_of_edges_looks_at_these_alone():
    random = np.random.default_rng(5)
    logits, label = random.normal(size=(1, 3, 6, 5)).astype("float32"), random.integers(0, 3, (1, 6, 5))
    edge = random.uniform(size=(1, 1, 6, 5)).astype("float32")
    seen = losses.OhemEdgeAttentionLoss(edge_threshold=0.5, min_kept=3)(
        [paddle.to_tensor(logits), paddle.to_tensor(edge)], paddle.to_tensor(label))
    hidden = np.where(edge[:, 0] > 0.5, label, IGNORED)
    expected = losses.OhemCrossEntropyLoss(min_kept=3)(paddle.to_tensor(logits), paddle.to_tensor(hidden))
    assert float(seen) == pytest.approx(float(expected), rel=1e-4)      # 1e-5 and 1e-10 in the divisors


def rmi(logits, label, classes, radius=3, pool=3, alpha=5e-4, least=1e-6):
    """Zhao et al. 2019, equations 13 to 16, as PaddleSeg has them, in float64: of each class half the logarithm of the
    determinant of what the labels' windows leave unexplained by those of the probabilities."""
    mask = label != IGNORED
    onehot = np.stack([(label == k) & mask for k in range(classes)], 1).astype(float)
    probabilities = 1 / (1 + np.exp(-logits.astype(float))) * mask[:, None] + least
    total = 0
    for k in range(classes):
        of_images = []
        for y, p in zip(onehot[:, k], probabilities[:, k]):
            windows = []
            for values in (y, p):
                padded = np.pad(values, pool // 2, constant_values=-np.inf)
                side = (len(padded) - pool) // pool + 1
                pooled = np.array([[padded[pool * i:pool * i + pool, pool * j:pool * j + pool].max()
                                    for j in range(side)] for i in range(side)])
                end = side - radius + 1
                found = np.stack([pooled[i:i + end, j:j + end].ravel() for i in range(radius) for j in range(radius)])
                windows.append(found - found.mean(1, keepdims=True))
            y, p = windows
            diagonal = alpha * np.eye(radius * radius)
            left = y @ y.T - (y @ p.T) @ np.linalg.inv(p @ p.T + diagonal) @ (y @ p.T).T + diagonal
            of_images.append(0.5 * np.linalg.slogdet(left)[1])
        total += np.mean(of_images) / radius ** 2
    return total


def test_rmi_is_its_formula():
    random = np.random.default_rng(3)
    logits, label = random.normal(size=(2, 3, 30, 30)).astype("float32"), random.integers(0, 3, (2, 30, 30))
    label[0, :6, :9] = IGNORED
    made = losses.RMILoss(num_classes=3)(paddle.to_tensor(logits), paddle.to_tensor(label))
    # The sigmoid and the pooling are float32, what the matrices make of it float64.
    assert float(made) == pytest.approx(rmi(logits, label, 3), rel=1e-4)
