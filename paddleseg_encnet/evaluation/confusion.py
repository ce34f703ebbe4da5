"""A picture of a confusion matrix that a person can read, with the pairs that are confused most in words."""

import os
from typing import TYPE_CHECKING, List, NamedTuple

import numpy as np

from segrun import fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = (".png", ".pdf", ".svg")
NUMBERED = 30       # with more classes the squares are too small for numbers
LISTED = 60         # no more pairs than these


class ConfusedPair(NamedTuple):
    """Pixels of one class that were predicted as another."""
    label: int
    prediction: int
    of_all: float       # share of all pixels
    of_label: float     # share of the label's pixels


def confused_pairs(confusion: np.ndarray, count: int) -> List[ConfusedPair]:
    """The pairs of classes with the most wrong pixels, most first; those without a wrong pixel are left out."""
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    return [ConfusedPair(int(i), int(j), wrong[i, j] / confusion.sum(), wrong[i, j] / confusion[i].sum())
            for i, j in zip(*np.unravel_index(order, wrong.shape)) if wrong[i, j]]


def check_picture(path: str) -> None:
    """Raises ValueError or ImportError where draw_confusion() can't make such a file."""
    if os.path.splitext(path)[1].lower() not in ENDINGS:
        raise ValueError(f"the picture of the confusion matrix can't be {path}: its name must end in "
                         f"{', '.join(ENDINGS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f"the confusion matrix is drawn with matplotlib ({error}); pip install matplotlib") from error


def draw_confusion(path: str, confusion: np.ndarray, names: List[str]) -> None:
    """Writes the picture: a row for each class, whose squares say what share of its pixels was taken for which class;
    beside it a list of the pairs that are confused most.

    Args:
        path: where, with one of ENDINGS.
        confusion: int64 [C, C], rows are labels.
        names: of the classes.
    """
    names = fonts.shown(names)
    with fonts.in_charts(names):
        confusion_figure(confusion, names).savefig(path, dpi=100)


def confusion_figure(confusion: np.ndarray, names: List[str]) -> "Figure":
    """The picture before it is drawn; the arguments are those of draw_confusion()."""
    from matplotlib.figure import Figure  # comes with PaddleSeg, through VisualDL; its import takes a second
    numbered = len(names) <= NUMBERED
    square, font = (0.4, 9) if numbered else (0.16, 7)          # inches, points
    side = square * max(len(names), 11)
    longest = max(map(len, names))
    labels = longest * font * 0.6 / 72 * (1 if numbered else 2)         # inches, on all sides where there are many
    words = 1.6 + 2.4 * longest * 9 * 0.6 / 72
    figure = Figure((side + labels + words + 0.5, side + labels + 1), layout="constrained")
    squares, text = figure.subplots(1, 2, width_ratios=[side + labels, words])
    draw_squares(squares, confusion, names, font, numbered)
    list_pairs(text, confused_pairs(confusion, min(int(side * 5), LISTED)), names)
    return figure


def draw_squares(axes: "Axes", confusion: np.ndarray, names: List[str], font: float, numbered: bool) -> None:
    """The matrix, right pixels in blue and wrong ones in orange, darker where there are more."""
    labelled, places = confusion.sum(axis=1), range(len(names))
    shares = 100 * confusion / np.maximum(labelled, 1)[:, None]
    right, unknown = np.eye(len(names), dtype=bool), np.repeat(labelled[:, None] == 0, len(names), axis=1)
    axes.set_facecolor("0.9")       # shows where nothing is drawn: rows of classes in no label
    for hidden, colors in ((~right, "Blues"), (right, "Oranges")):
        # The square root makes the few wrong pixels visible beside the many right ones.
        axes.imshow(np.ma.array(np.sqrt(shares), mask=hidden | unknown), colors, vmin=0, vmax=12)
    axes.set(xlabel="predicted as", ylabel="label", title="What the pixels of a class are taken for, in percent")
    axes.set_xticks(places, names, rotation=90, fontsize=font)
    axes.set_yticks(places, names, fontsize=font)
    axes.tick_params(length=0, labeltop=not numbered, labelright=not numbered)
    axes.spines[:].set_visible(False)
    for i in range(len(names) + 1):
        axes.axhline(i - 0.5, color="white", linewidth=1 if numbered else 0.5)
        axes.axvline(i - 0.5, color="white", linewidth=1 if numbered else 0.5)
    for i in places:
        if not labelled[i]:
            axes.text(len(names) / 2 - 0.5, i, "in no label", ha="center", va="center", fontsize=font, color="0.4")
        elif numbered:
            for j in np.flatnonzero((shares[i] >= 0.5) | right[i]):
                axes.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=8,
                          color="white" if shares[i, j] > 45 else "black")


def list_pairs(axes: "Axes", pairs: List[ConfusedPair], names: List[str]) -> None:
    """The pairs in words, one below the other."""
    axes.axis("off")
    words = ["Most confused, in percent of all pixels", ""] + [
        f"{100 * pair.of_all:.2f}   {names[pair.label]} as {names[pair.prediction]} "
        f"({100 * pair.of_label:.2g} % of {names[pair.label]})" for pair in pairs]
    for i, word in enumerate(words if pairs else ["No pixel is wrong"]):
        axes.annotate(word, (0, 1), (0, -13 * i), xycoords="axes fraction", textcoords="offset points", va="top",
                      fontsize=9)
