"""Any labels and predictions: what is counted, and scores of any counts."""

import numpy as np
import pytest
from counting import counted_slowly
from hypothesis import strategies as st
from rules import rule, seeds, sides

from segrun.scoring import confusion_matrix, scores


@rule(classes=st.sampled_from([1, 2, 5, 19, 150, 255, 256, 300]), ignored=st.sampled_from([255, 0, -1, 7, 999]),
      size=st.tuples(sides(20), sides(20)), dtype=st.sampled_from(["uint8", "int32", "int64"]), seed=seeds(),
      wrong=st.sampled_from(["", "", "", "label", "prediction"]))
def test_rule_counts_are_those_of_a_slow_loop(classes, ignored, size, dtype, seed, wrong):
    random = np.random.default_rng(seed)
    if dtype == "uint8":
        classes, ignored = min(classes, 250), ignored % 256
    label, prediction = random.integers(0, classes, (2, *size)).astype(dtype)
    label = np.where(random.random(size) < random.random(), np.array(ignored).astype(dtype), label)
    # A network may say what it likes where nobody asks.
    prediction = np.where((label == ignored) & (random.random(size) < 0.5), np.array(200).astype(dtype), prediction)
    place = tuple(random.integers(0, side) for side in size)
    if wrong and (label[place] != ignored or wrong == "label"):
        values, prediction[place] = label if wrong == "label" else prediction, 0
        values[place] = next(value for value in (classes, classes + 1) if value != ignored)
        if wrong == "label" and values[place] >= classes or wrong == "prediction":
            with pytest.raises(ValueError, match=f"{wrong} values from .* with {classes} classes"):
                confusion_matrix(label, prediction, classes, ignored)
            return
    matrix = confusion_matrix(label, prediction, classes, ignored)
    np.testing.assert_array_equal(matrix, counted_slowly(label, prediction, classes, ignored))
    # Sums: whatever is not ignored; of the parts, the whole.
    assert matrix.sum() == (label != ignored).sum()
    parts = sum(confusion_matrix(label[rows], prediction[rows], classes, ignored)
                for rows in (slice(0, size[0] // 2), slice(size[0] // 2, None)))
    np.testing.assert_array_equal(parts, matrix)


@rule(classes=st.integers(1, 12), seed=seeds(), most=st.sampled_from([1, 3, 1000, 10 ** 12]), gaps=st.floats(0, 1))
def test_rule_scores_are_what_they_are_called(classes, seed, most, gaps):
    random = np.random.default_rng(seed)
    matrix = random.integers(0, most + 1, (classes, classes)) * (random.random((classes, classes)) >= gaps)
    if matrix.sum() == 0:
        with pytest.raises(ValueError, match="no pixel has a label that counts"):
            scores(matrix)
        return
    found = scores(matrix)
    for name in ("class_iou", "class_accuracy", "class_precision", "class_f1", "class_share"):
        values = getattr(found, name)
        assert values.shape == (classes,) and ((values >= 0) & (values <= 1) | np.isnan(values)).all()
    for value in (found.mean_iou, found.accuracy, found.frequency_weighted_iou, found.mean_dice, found.mean_accuracy):
        assert 0 <= value <= 1
    assert -1 <= found.kappa <= 1
    assert abs(found.class_share.sum() - 1) < 1e-9
    absent = (matrix.sum(0) == 0) & (matrix.sum(1) == 0)
    np.testing.assert_array_equal(np.isnan(found.class_iou), absent)
    # Counted twice as often it is the same; with the classes in another order, too.
    order = random.permutation(classes)
    for other in (scores(2 * matrix), scores(matrix[order][:, order])):
        for name in ("mean_iou", "accuracy", "kappa", "mean_dice", "frequency_weighted_iou", "mean_accuracy"):
            assert abs(getattr(other, name) - getattr(found, name)) < 1e-9, name
