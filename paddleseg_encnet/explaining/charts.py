"""The maps and charts on the pages of tools/explain.py, as pictures."""

from typing import TYPE_CHECKING, List, Optional

import cv2
import numpy as np

from paddleseg_encnet.explaining.explanations import Explanation
from segrun.pages import fitted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHART = 540             # width of a chart, whose letters can still be read when a phone shrinks it
SHARP = 2               # pixels of a chart for each of the page
BLUE, ORANGE = "#2a6fbb", "#e08214"


def viridis(values: np.ndarray, most: float) -> np.ndarray:
    """A map [H, W] from dark (0) to yellow (`most` and more): perceptually uniform, also for the colour-blind."""
    levels = np.clip(values / most if most > 0 else np.zeros_like(values), 0, 1)
    return cv2.applyColorMap(np.rint(levels * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)[..., ::-1]


def map_picture(explanation: Explanation, values: np.ndarray, most: float, width: int) -> np.ndarray:
    """A map [h, w] of the feature map as a picture of the image's shape, for `width` pixels of the page."""
    return viridis(fitted(explanation.on_image(values), width), most)


def mixture_picture(explanation: Explanation, width: int) -> np.ndarray:
    """All codewords in one picture: each has a colour, and a position the mixture of the colours by its shares."""
    assert explanation.assignment is not None
    colors = codeword_colors(len(explanation.assignment))
    mixed = np.tensordot(explanation.assignment, colors, axes=(0, 0))       # [h, w, 3]
    channels = [fitted(explanation.on_image(mixed[..., c]), width) for c in range(3)]
    return np.clip(np.rint(np.stack(channels, axis=-1)), 0, 255).astype(np.uint8)


def codeword_colors(count: int) -> np.ndarray:
    """RGB, float32 [count, 3], 0 to 255: hues a golden angle apart, in three brightnesses."""
    k = np.arange(count)
    hsv = np.stack([k * 137.508 % 360, np.full(count, 0.75), 1 - 0.25 * (k % 3)], axis=-1)
    return 255 * cv2.cvtColor(hsv[np.newaxis].astype(np.float32), cv2.COLOR_HSV2RGB)[0]


def limited(picture: np.ndarray, width: int = 744) -> np.ndarray:
    """The picture, shrunk where it is wider."""
    return fitted(picture, min(width, picture.shape[1]))


def shares_of(ids: np.ndarray, classes: int) -> np.ndarray:
    """Each class's share of the pixels that have one: float64 [classes]."""
    counts = np.bincount(ids.reshape(-1).astype(np.int64), minlength=classes)[:classes]
    return counts / max(counts.sum(), 1)


def percentage(share: float) -> str:
    """Two digits are enough: 90 %, 2.5 %, 0.02 %."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %" if value >= 1 else f"{value:.1g} %"


def number(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


def new_figure(width: int, height: int) -> "Figure":
    """A matplotlib figure of so many pixels of the page."""
    from matplotlib.figure import Figure  # not above: its import takes a second
    return Figure((width / 100, height / 100), dpi=100 * SHARP, layout="constrained")


def chart_pixels(figure: "Figure") -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def presence_chart(probabilities: np.ndarray, shares: np.ndarray, names: List[str],
                   labelled: Optional[np.ndarray]) -> np.ndarray:
    places = range(len(names))
    figure = new_figure(CHART, 70 + 24 * len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, values, color, title in ((left, probabilities, BLUE, "believed present,\nprobability"),
                                       (right, shares, ORANGE, "predicted,\nshare of pixels")):
        axes.barh(places, values, 0.7, color=color)
        axes.set_title(title, fontsize=10)
        axes.set_xlim(0, 1.25 * max(1e-9, max(values)) if axes is right else 1.2)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    left.axvline(0.5, color="0.6", linewidth=0.8, linestyle="--")
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_yticks(places, names if labelled is None else
                    [f"{name}  {'(in the label)' if there else '(not in the label)'}"
                     for name, there in zip(names, labelled)], fontsize=10)
    for i, (probability, share) in enumerate(zip(probabilities, shares)):
        left.text(probability + 0.02, i, f"{probability:.2f}", va="center", fontsize=9)
        right.text(share + 0.02 * max(shares), i, percentage(share) if share else "none", va="center", fontsize=9)
    return chart_pixels(figure)


def gamma_chart(gamma: np.ndarray) -> np.ndarray:
    figure = new_figure(CHART, 190)
    axes = figure.add_subplot(xlim=(0, len(gamma)), ylim=(0, 1), ylabel="gamma",
                              xlabel=f"the {len(gamma)} channels, raised most to raised least")
    ordered = np.sort(gamma)[::-1]
    axes.fill_between(np.arange(len(gamma)) + 0.5, ordered, color=BLUE, alpha=0.3)
    axes.plot(np.arange(len(gamma)) + 0.5, ordered, color=BLUE)
    axes.axhline(gamma.mean(), color="0.4", linewidth=0.8, linestyle="--")
    axes.text(len(gamma), gamma.mean() + 0.02, f"mean {gamma.mean():.2f} ", ha="right", va="bottom", fontsize=9)
    axes.set_xticks([])
    axes.spines[["top", "right"]].set_visible(False)
    return chart_pixels(figure)


def lift_chart(lift: np.ndarray, rows: List[str], columns: List[str]) -> np.ndarray:
    """Orange where a codeword takes more of a class than elsewhere, blue where less; colours end at 8 times and 1/8."""
    longest = max(map(len, columns))
    figure = new_figure(190 + 46 * max(len(columns), 8), 90 + 6 * longest + 19 * len(rows))
    axes = figure.add_subplot()
    with np.errstate(divide="ignore"):
        steps = np.clip(np.log2(lift), -3, 3)
    picture = axes.imshow(steps, "PuOr_r", vmin=-3, vmax=3, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="left", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(range(len(rows)), rows, fontsize=9)
    axes.set_ylabel("codeword and its share of all pixels")
    axes.tick_params(length=0, labeltop=True, labelbottom=False, top=True, bottom=False)
    axes.spines[:].set_visible(False)
    for i, j in np.ndindex(*lift.shape):
        axes.text(j, i, short(lift[i, j]), ha="center", va="center", fontsize=8,
                  color="white" if abs(steps[i, j]) > 2 else "black")
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, ticks=range(-3, 4))
    bar.ax.set_yticklabels(["1/8", "1/4", "1/2", "1", "2", "4", "8"], fontsize=9)
    bar.outline.set_visible(False)
    return chart_pixels(figure)


def short(lift: float) -> str:
    return "-" if np.isnan(lift) else f"{lift:.0f}" if lift >= 9.95 else f"{lift:.1f}"
