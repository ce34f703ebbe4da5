"""Rules: what holds for any input, shown on as many examples as the profile in conftest.py says."""

import contextlib
import functools
from typing import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segrun.errors import innermost, one_line

RAN = {}        # examples by rule; conftest.py prints them


def rule(**strategies) -> Callable:
    """given(), and that so many examples really ran: Hypothesis ends earlier where it finds no more."""
    def decorate(test):
        @functools.wraps(test)
        def counted(*args, **kwargs):
            RAN[test.__name__] += 1
            return test(*args, **kwargs)

        run = given(**strategies)(counted)

        @functools.wraps(run)
        def whole(*args, **kwargs):
            RAN[test.__name__] = 0
            run(*args, **kwargs)
            assert RAN[test.__name__] >= settings.default.max_examples, f"only {RAN[test.__name__]} examples ran"
        return pytest.mark.rule(whole)
    return decorate


@contextlib.contextmanager
def one_clear_line(*words: str):
    """What goes wrong within is told as the tools tell it: in one line, of an error that was foreseen, with these words
    in it. Nothing need go wrong."""
    try:
        yield
    except Exception as error:
        line = one_line(error)
        if "--debug shows where" in line:
            raise
        assert "\n" not in line and len(line) > 20, line
        missing = [word for word in words if word not in line]
        assert not missing, f"{missing} not in: {line}"
        assert not isinstance(innermost(error), AssertionError) or str(innermost(error))


def seeds() -> st.SearchStrategy:
    """Of NumPy's generators. Pixels drawn one by one take Hypothesis longer than what is tested; sizes, kinds and
    values, which failures depend on, it draws itself."""
    return st.integers(0, 2 ** 32 - 1)


@st.composite
def images(draw, longest: int = 40, channels: int = 3) -> np.ndarray:
    """uint8 [H, W, channels]: noise, one shade, or a ramp."""
    height, width = draw(sides(longest)), draw(sides(longest))
    random = np.random.default_rng(draw(seeds()))
    content = draw(st.sampled_from(["noise", "noise", "shade", "ramp"]))
    if content == "noise":
        return random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if content == "shade":
        return np.full((height, width, channels), random.integers(0, 256, channels), np.uint8)
    return np.resize(np.linspace(0, 255, height * width * channels), (height, width, channels)).astype(np.uint8)


@st.composite
def labels(draw, size, classes: int, ignored: int = 255) -> np.ndarray:
    """uint8 [H, W] of class ids and `ignored`; of one value alone too."""
    random = np.random.default_rng(draw(seeds()))
    values = np.array(draw(st.lists(st.sampled_from([*range(classes), ignored]), min_size=1, max_size=classes + 1)))
    return values[random.integers(0, len(values), size)].astype(np.uint8)


def sides(longest: int) -> st.SearchStrategy:
    """Of a picture: 1 and small ones as often as large ones."""
    return st.one_of(st.integers(1, 8), st.integers(1, longest))
