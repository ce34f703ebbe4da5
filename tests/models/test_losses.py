"""Class presence and SE-loss against numbers worked out by hand and plain NumPy."""

import numpy as np
import paddle
import pytest
from paddleseg.cvlibs import manager
from paddleseg.models.losses import SECrossEntropyLoss as StockSELoss

from paddleseg_encnet import SELoss
from paddleseg_encnet.models.losses import class_presence


def label(*rows):
    return paddle.to_tensor(np.array(rows), dtype="int64")


@pytest.mark.parametrize("values, num_classes, ignore_index, expected", [
    ([[[0, 1], [1, 3]]], 4, 255, [[1, 1, 0, 1]]),
    ([[[0, 0], [0, 255]], [[2, 2], [2, 2]]], 3, 255, [[1, 0, 0], [0, 0, 1]]),
    ([[[255, 255], [255, 255]]], 3, 255, [[0, 0, 0]]),
    ([[[-1, 3], [100, 1]]], 3, 255, [[0, 1, 0]]),           # outside [0, num_classes)
    ([[[0, 1], [2, 2]]], 3, 0, [[0, 1, 1]]),                # the ignored value may be a class id
    ([[[[0, 1], [2, 2]]]], 3, 255, [[1, 1, 1]]),            # [B, 1, H, W]
])
def test_presence_by_hand(values, num_classes, ignore_index, expected):
    assert class_presence(label(*values), num_classes, ignore_index).tolist() == expected


def test_loss_equals_binary_cross_entropy():
    random = np.random.default_rng(0)
    logit = random.normal(size=(3, 5)).astype("float32")
    labels = random.integers(0, 5, (3, 4, 6))
    labels[0, :2] = 255
    weight = [1.0, 2.0, 0.5, 1.0, 3.0]
    expected = []
    for image in range(3):
        for c in range(5):
            probability = 1 / (1 + np.exp(-float(logit[image, c])))
            present = (labels[image] == c).any()
            expected.append(-weight[c] * np.log(probability if present else 1 - probability))
    loss = SELoss(weight=weight)(paddle.to_tensor(logit), paddle.to_tensor(labels))
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-6)


def test_equals_the_stock_loss():
    random = np.random.default_rng(0)
    logit = paddle.to_tensor(random.normal(size=(2, 6)).astype("float32"))
    labels = paddle.to_tensor(random.integers(0, 6, (2, 8, 8)))
    assert float(SELoss()(logit, labels)) == pytest.approx(float(StockSELoss()(logit, labels)), rel=1e-6)


def test_all_ignored_gives_finite_loss_and_gradient():
    logit = paddle.to_tensor(np.array([[2.0, -3.0]], "float32"), stop_gradient=False)
    loss = SELoss()(logit.unsqueeze([2, 3]), label([[255, 255]]))
    loss.backward()
    # No class is present: the mean of log(1 + e^2) and log(1 + e^-3); its gradient is sigmoid(logit) / 2.
    assert float(loss) == pytest.approx((np.log1p(np.exp(2)) + np.log1p(np.exp(-3))) / 2, rel=1e-6)
    assert logit.grad.numpy() == pytest.approx(1 / (1 + np.exp([[-2.0, 3.0]])) / 2, rel=1e-5)


def test_nothing_waits_for_the_device():
    """A graph can be made of it without values: reading one on the host would fail."""
    compiled = paddle.jit.to_static(SELoss(), full_graph=True, input_spec=[
        paddle.static.InputSpec([None, 4], "float32"), paddle.static.InputSpec([None, None, None], "int64")])
    logit, labels = paddle.to_tensor(np.ones((2, 4), "float32")), label([[0, 1]], [[3, 255]])
    assert float(compiled(logit, labels)) == pytest.approx(float(SELoss()(logit, labels)), rel=1e-6)


def test_unknown_option_is_an_error():
    with pytest.raises(TypeError, match="wieght"):
        SELoss(wieght=[1.0])


@pytest.mark.parametrize("logit_shape, weight, words", [
    ((1, 3, 2, 2), None, "presence logits"), ((1, 3), [1.0, 2.0], "2 weights for 3 classes")])
def test_wrong_shapes_are_errors(logit_shape, weight, words):
    with pytest.raises(ValueError, match=words):
        SELoss(weight=weight)(paddle.zeros(logit_shape), label([[0]]))


def test_answers_to_both_names():
    assert manager.LOSSES["SELoss"] is manager.LOSSES["SECrossEntropyLoss"] is SELoss
