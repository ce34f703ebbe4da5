"""Confusion matrix and scores against hand-worked numbers, a slow loop, PaddleSeg's own, and scikit-learn's."""

import cv2
import numpy as np
import paddle
import pytest
from paddleseg.utils import metrics as stock
from segmenters import picture, random, small

from segrun.scoring import average_precision, confusion_matrix, presence_scores, score_network, scores

LABEL = np.array([[0, 0, 1], [1, 2, 255]])
PREDICTION = np.array([[0, 1, 1], [1, 0, 2]])
#               predicted  0  1  2
MATRIX = np.array([[1, 1, 0], [0, 2, 0], [1, 0, 0]])


def test_matrix_by_hand():
    assert confusion_matrix(LABEL, PREDICTION, 3).tolist() == MATRIX.tolist()


def test_counts_beyond_the_digits_of_float32():
    label = np.zeros(2 ** 24 + 3, np.uint8)
    assert confusion_matrix(label, label, 2).tolist() == [[2 ** 24 + 3, 0], [0, 0]]


def test_scores_by_hand():
    result = scores(MATRIX)
    assert result.accuracy == pytest.approx(3 / 5)
    assert result.class_iou == pytest.approx([1 / 3, 2 / 3, 0])
    assert result.mean_iou == pytest.approx(1 / 3)
    assert result.class_precision[:2] == pytest.approx([1 / 2, 2 / 3]) and np.isnan(result.class_precision[2])
    assert result.class_accuracy == pytest.approx([1 / 2, 1, 0]) and result.mean_accuracy == pytest.approx(1 / 2)
    assert result.frequency_weighted_iou == pytest.approx((2 * 1 / 3 + 2 * 2 / 3 + 1 * 0) / 5)
    assert result.class_f1 == pytest.approx([2 / 4, 4 / 5, 0])
    assert result.mean_dice == pytest.approx((2 / 4 + 4 / 5 + 0) / 3)
    assert result.class_share == pytest.approx([2 / 5, 2 / 5, 1 / 5])
    # chance: (2 * 2 + 2 * 3 + 1 * 0) / 25 = 0.4
    assert result.kappa == pytest.approx((0.6 - 0.4) / 0.6)


def slow_scores(label, prediction, classes) -> dict:
    """Every score from its definition, pixel by pixel."""
    pairs = [(int(i), int(j)) for i, j in zip(label.flat, prediction.flat) if i != 255]
    iou, accuracy, precision, f1, share, chance = [], [], [], [], [], 0.0
    for c in range(classes):
        right = sum(i == c and j == c for i, j in pairs)
        missed, wrong = sum(i == c and j != c for i, j in pairs), sum(i != c and j == c for i, j in pairs)
        nan = float("nan")
        iou.append(right / (right + missed + wrong) if right + missed + wrong else nan)
        accuracy.append(right / (right + missed) if right + missed else nan)
        precision.append(right / (right + wrong) if right + wrong else nan)
        f1.append(2 * right / (2 * right + missed + wrong) if right + missed + wrong else nan)
        share.append((right + missed) / len(pairs))
        chance += share[-1] * (right + wrong) / len(pairs)
    agreement = sum(i == j for i, j in pairs) / len(pairs)
    return dict(
        class_iou=iou, class_accuracy=accuracy, class_precision=precision, class_f1=f1, class_share=share,
        mean_iou=np.nanmean(iou), accuracy=agreement, mean_accuracy=np.nanmean(accuracy), mean_dice=np.nanmean(f1),
        frequency_weighted_iou=sum(s * v for s, v in zip(share, iou) if s), kappa=(agreement - chance) / (1 - chance))


def test_scores_equal_a_slow_loop_where_classes_are_absent_or_only_predicted():
    random = np.random.default_rng(0)
    label = random.choice([0, 1, 2, 4, 255], (30, 40), p=[0.4, 0.3, 0.1, 0.1, 0.1])
    prediction = np.where(random.random((30, 40)) < 0.6, np.minimum(label, 5), random.choice([0, 1, 5], (30, 40)))
    result = scores(confusion_matrix(label, prediction, 7))
    assert np.isnan(result.class_iou).tolist() == [False, False, False, True, False, False, True]
    for name, expected in slow_scores(label, prediction, 7).items():
        assert getattr(result, name) == pytest.approx(expected, rel=1e-12, nan_ok=True), name


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


def test_class_that_is_only_predicted_counts_as_wrong_but_has_no_accuracy():
    result = scores(np.array([[4, 2], [0, 0]]))
    assert result.class_iou.tolist() == [4 / 6, 0] and result.mean_iou == pytest.approx(1 / 3)
    assert np.isnan(result.class_accuracy[1]) and result.mean_accuracy == result.accuracy == pytest.approx(2 / 3)
    assert result.frequency_weighted_iou == pytest.approx(2 / 3)


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


# --- a segmenter against labels --------------------------------------------------------------------------------------

def test_a_segmenters_score_is_that_of_its_masks(tmp_path):
    own, expected, labels, done = small(), np.zeros((5, 5), int), {}, []
    for i in range(3):
        image, label = picture(20 + i, 30), random.choice([0, 1, 2, 3, 4, 255], (20 + i, 30)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        np.save(tmp_path / f"{i}.npy", label)
        labels[str(tmp_path / f"{i}.png")] = str(tmp_path / f"{i}.npy")
        expected += confusion_matrix(label, own.segment(image).ids, 5)

    def read(path, size):
        assert np.load(path).shape == size
        return np.load(path)
    found = score_network(own, labels, read, lambda seen: done.append(1))
    np.testing.assert_array_equal(found.confusion, expected)
    assert found.mean_iou == scores(expected).mean_iou and len(done) == 3


# --- presence --------------------------------------------------------------------------------------------------------

#                       image:  a   b   c   d
PRESENT = np.array([[1, 0, 1, 0], [1, 1, 0, 0]]).T                      # of two classes
LOGITS = np.array([[2.0, 1.0, -1.0, -3.0], [-1.0, -2.0, -3.0, -4.0]]).T


def test_presence_by_hand():
    result = presence_scores(PRESENT, LOGITS)
    assert result.class_images.tolist() == [2, 2]
    assert result.class_precision[0] == 1 / 2 and np.isnan(result.class_precision[1])
    assert result.class_recall.tolist() == [1 / 2, 0]
    assert result.class_average_precision == pytest.approx([(1 / 1 + 2 / 3) / 2, 1])
    assert result.mean_precision == 1 / 2 and result.mean_recall == 1 / 4
    assert result.mean_average_precision == pytest.approx((5 / 6 + 1) / 2)


def test_class_in_no_image_has_no_average_precision():
    result = presence_scores(np.array([[1, 0], [0, 0]]), np.array([[1.0, 1.0], [-1.0, -1.0]]))
    assert np.isnan(result.class_average_precision[1]) and result.mean_average_precision == 1
    assert result.class_precision[1] == 0 and np.isnan(result.class_recall[1])


def slow_average_precision(present, score) -> float:
    """Area under precision over recall, in steps from one threshold to the next."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        taken = score >= threshold
        previous, recall = recall, (taken & present).sum() / present.sum()
        area += (recall - previous) * (taken & present).sum() / taken.sum()
    return area


@pytest.mark.parametrize("digits", [8, 1, 0])       # the fewer digits, the more images have one score
def test_average_precision_equals_a_slow_loop_and_scikit_learns(digits):
    sklearn = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(digits)
    for count in (1, 2, 5, 60):
        present, score = random.random(count) < 0.4, random.normal(size=count).round(digits)
        present[0] = True
        found = average_precision(present, score)
        assert found == pytest.approx(slow_average_precision(present, score), rel=1e-12)
        assert found == pytest.approx(sklearn.average_precision_score(present, score), rel=1e-12)


def test_average_precision_of_one_score_for_all_is_the_share_of_images():
    assert average_precision(np.array([True, False, False, True]), np.zeros(4)) == 1 / 2
