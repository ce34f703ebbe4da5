"""How often each class occurs in a data set: a picture of it, and the weights that even it out."""

from typing import TYPE_CHECKING, List

import numpy as np

from paddleseg_encnet.data.class_names import class_names
from paddleseg_encnet.data.findings import Split
from segrun import fonts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def class_pixels(split: Split) -> np.ndarray:
    """Pixels of each class: int64 [num_classes]."""
    return np.array([split.pixels[value] for value in range(split.dataset.num_classes)])


def class_weights(split: Split) -> List[float]:
    """Weights for CrossEntropyLoss by median frequency balancing (Eigen and Fergus 2015): the median of all classes'
    frequencies divided by the class's own, where a frequency is the class's share of the labels that have it. A class
    without a pixel gets 1."""
    pixels = class_pixels(split)
    beside = np.array([split.beside[value] for value in range(len(pixels))])
    present = pixels > 0
    frequency = pixels[present] / beside[present]
    weights = np.ones(len(pixels))
    weights[present] = np.median(frequency) / frequency
    return [float(f"{weight:.4g}") for weight in weights]


def draw_histogram(splits: List[Split], path: str) -> None:
    """Writes a PNG with the share of each class in each split."""
    names = fonts.shown(class_names(splits[0].dataset))
    with fonts.in_charts(names):
        histogram(splits, names).savefig(path, dpi=100)


def histogram(splits: List[Split], names: List[str]) -> "Figure":
    """The picture before it is drawn."""
    from matplotlib.figure import Figure  # comes with PaddleSeg, through VisualDL; its import takes a second
    figure = Figure(figsize=(9, 1.4 + 0.3 * len(names)), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="share of labelled pixels in percent, logarithmic",
                              ylim=(len(names) - 0.5, -0.5))
    height = 0.8 / len(splits)
    for i, split in enumerate(splits):
        pixels = class_pixels(split)
        share = 100 * pixels / max(pixels.sum(), 1)
        places = np.arange(len(names)) + (i + 0.5) * height - 0.4
        axes.barh(places, share, height, label=split.name)
        for place, value in zip(places, share):
            axes.annotate(f" {value:.3g} %" if value else " none", (value, place) if value else (0, place), fontsize=7,
                          xycoords="data" if value else ("axes fraction", "data"), va="center")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(right=200)                    # room for the numbers
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure
