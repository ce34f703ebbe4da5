"""What the comparison of classes lets pass, and what it does not."""

import numpy as np
import pytest
from near_ties import assert_same_classes

SCORES = np.random.default_rng(0).normal(size=(5, 40, 60)).astype("float32")
IDS = SCORES.argmax(axis=0)


def changed(first: int, second: int, gap: float):
    """(scores, ids): at one pixel two classes have the largest scores, so far apart; ids has the second."""
    scores, ids = SCORES.copy(), IDS.copy()
    scores[first, 3, 4] = 2
    scores[second, 3, 4] = 2 - gap
    ids[3, 4] = second
    return scores, ids


def test_a_tie_may_fall_to_either_side():
    scores, ids = changed(1, 4, 1e-6)
    assert assert_same_classes(ids, scores.argmax(axis=0), scores) == 1
    assert assert_same_classes(IDS, IDS, SCORES) == 0


def test_what_is_no_tie_has_one_class():
    scores, ids = changed(1, 4, 1e-3)
    with pytest.raises(AssertionError, match="1 of 2400 pixels have another class"):
        assert_same_classes(ids, scores.argmax(axis=0), scores)
    scores, ids = changed(1, 4, 1e-6)
    ids[3, 4] = 0       # the two largest are near to each other, and this is a third
    with pytest.raises(AssertionError, match="1 of 2400 pixels have another class"):
        assert_same_classes(ids, scores.argmax(axis=0), scores)


def test_logits_that_are_all_alike_say_nothing():
    with pytest.raises(AssertionError, match="are ties: the logits say nothing"):
        assert_same_classes(IDS, np.zeros_like(IDS), np.ones_like(SCORES))
