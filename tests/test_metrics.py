"""Confusion matrix and scores against hand-worked numbers, a slow loop, and PaddleSeg's own."""

import numpy as np
import paddle
import pytest
from paddleseg.utils import metrics as stock

from paddleseg_encnet.metrics import confusion_matrix, scores

LABEL = np.array([[0, 0, 1], [1, 2, 255]])
PREDICTION = np.array([[0, 1, 1], [1, 0, 2]])
#               predicted  0  1  2
MATRIX = np.array([[1, 1, 0], [0, 2, 0], [1, 0, 0]])


def test_matrix_by_hand():
    assert confusion_matrix(LABEL, PREDICTION, 3).tolist() == MATRIX.tolist()


@pytest.mark.parametrize("classes", [5, 255, 256, 300])         # from 256 on, pairs of classes don't fit 16 bits
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_matrix_equals_a_slow_loop(classes, dtype):
    random = np.random.default_rng(0)
    label, prediction = random.integers(0, classes, (2, 30, 40)).astype(dtype)
    label[:2] = 999
    label[2], prediction[2] = classes - 1, classes - 1
    expected = np.zeros((classes, classes), int)
    for i, j in zip(label.flat, prediction.flat):
        if i != 999:
            expected[i, j] += 1
    assert confusion_matrix(label, prediction, classes, ignore_index=999).tolist() == expected.tolist()


def test_counts_beyond_the_digits_of_float32():
    label = np.zeros(2 ** 24 + 3, np.uint8)
    assert confusion_matrix(label, label, 2).tolist() == [[2 ** 24 + 3, 0], [0, 0]]


@pytest.mark.parametrize("ignore_index", [255, -1, 3, -100])
def test_what_is_predicted_at_ignored_pixels_does_not_count(ignore_index):
    label, prediction = np.array([0, ignore_index, 2]), np.array([0, 255, 2])
    assert confusion_matrix(label, prediction, 3, ignore_index).tolist() == np.diag([1, 0, 1]).tolist()


def test_scores_by_hand():
    result = scores(MATRIX)
    assert result.accuracy == pytest.approx(3 / 5)
    assert result.class_iou == pytest.approx([1 / 3, 2 / 3, 0])
    assert result.mean_iou == pytest.approx(1 / 3)
    assert result.class_precision[:2] == pytest.approx([1 / 2, 2 / 3]) and np.isnan(result.class_precision[2])
    assert result.class_accuracy == pytest.approx([1 / 2, 1, 0])
    assert result.mean_dice == pytest.approx((2 / 4 + 4 / 5 + 0) / 3)
    # chance: (2 * 2 + 2 * 3 + 1 * 0) / 25 = 0.4
    assert result.kappa == pytest.approx((0.6 - 0.4) / 0.6)


def test_equals_paddlesegs_scores_where_every_class_occurs():
    random = np.random.default_rng(0)
    label, prediction = random.integers(0, 4, (2, 1, 50, 50))
    areas = stock.calculate_area(paddle.to_tensor(prediction), paddle.to_tensor(label), 4)
    result = scores(confusion_matrix(label, prediction, 4))
    class_iou, mean_iou = stock.mean_iou(*areas)
    accuracy, precision, recall = stock.class_measurement(*areas)
    assert result.class_iou == pytest.approx(class_iou) and result.mean_iou == pytest.approx(mean_iou)
    assert result.accuracy == pytest.approx(accuracy) and result.kappa == pytest.approx(stock.kappa(*areas))
    assert result.class_precision == pytest.approx(precision) and result.class_accuracy == pytest.approx(recall)
    assert result.mean_dice == pytest.approx(stock.dice(*areas)[1])


def test_absent_class_is_left_out_of_the_mean():
    result = scores(np.diag([4, 0, 6]))
    assert np.isnan(result.class_iou[1]) and result.mean_iou == 1.0 and result.kappa == 1.0


def test_one_class_only():
    assert scores(np.diag([5, 0])).kappa == 1.0


@pytest.mark.parametrize("label, prediction, words", [
    ([0, 3], [0, 1], "label values from 0 to 3 with 3 classes"),
    ([0, -1], [0, 1], "label values from -1 to 0"),
    ([0, 1], [0, 3], "prediction values from 0 to 3"),
    ([0, 70000], [0, 1], "label values from 0 to 70000"),
    ([255, 7], [0, 1], "label values from 7 to 7"),
    ([0, 1, 1], [0, 1], "the label has 3 pixels, the prediction 2")])
def test_values_that_are_no_class_are_errors(label, prediction, words):
    with pytest.raises(ValueError, match=words):
        confusion_matrix(np.array(label), np.array(prediction), 3)


def test_255_is_no_class_where_something_else_is_ignored():
    with pytest.raises(ValueError, match="label values from 0 to 255 with 3 classes and ignore_index 9"):
        confusion_matrix(np.array([0, 255, 9]), np.array([0, 1, 1]), 3, ignore_index=9)


def test_nothing_to_score_is_an_error():
    with pytest.raises(ValueError, match="no pixel has a label that counts"):
        scores(confusion_matrix(np.full((2, 2), 255), np.zeros((2, 2), int), 3))
