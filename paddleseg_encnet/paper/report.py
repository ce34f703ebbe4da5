"""What came out of an ablation: every run, a table of the cells, and a plot."""

import csv
import io
import math
import os
import pathlib
import statistics
from typing import List

from paddleseg_encnet.paper.ablation import Run
from paddleseg_encnet.runtime.writing import write

# By its name in tools/val.py's JSON.
SCORES = {"mean_iou": "mIoU", "accuracy": "pixel accuracy", "mean_accuracy": "mean accuracy",
          "frequency_weighted_iou": "FWIoU"}


def values(runs: List[Run], cell: str, score: str) -> List[float]:
    """A score of a cell in percent, one for each seed that is finished."""
    return [100 * run.scores()[score] for run in runs if run.cell.folder == cell and run.scores() is not None]


def as_csv(runs: List[Run]) -> str:
    """A line for each finished run."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["cell", "seed", *SCORES])
    for run in runs:
        if run.scores() is not None:
            lines.writerow([run.cell.folder, run.seed, *(run.scores()[score] for score in SCORES)])
    return text.getvalue()


def as_table(runs: List[Run]) -> str:
    """A line for each cell, in Markdown: mean and sample standard deviation over its seeds, in percent."""
    lines = ["| | " + " | ".join(SCORES.values()) + " | seeds |", "| --- |" + " --- |" * (len(SCORES) + 1)]
    for folder, name in {run.cell.folder: run.cell.name for run in runs}.items():
        columns = [mean_and_spread(values(runs, folder, score)) for score in SCORES]
        lines.append(f"| {name} | {' | '.join(columns)} | {len(values(runs, folder, 'mean_iou'))} |")
    return "\n".join(lines) + "\n"


def mean_and_spread(numbers: List[float]) -> str:
    """ "43.21 ± 0.65"; without the spread if there is one number only. """
    if not numbers:
        return "–"
    mean = f"{statistics.mean(numbers):.2f}"
    return f"{mean} ± {statistics.stdev(numbers):.2f}" if len(numbers) > 1 else mean


def draw(runs: List[Run], title: str, path: str):
    """Writes a PNG: mIoU and pixel accuracy of each cell, the mean with its standard deviation, and every seed."""
    from matplotlib.figure import Figure  # comes with PaddleSeg, through VisualDL; its import takes a second
    cells = {run.cell.folder: run.cell.name for run in runs if run.scores() is not None}
    slanted = dict(rotation=20, ha="right", rotation_mode="anchor") if len("".join(cells.values())) > 40 else {}
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(title)
    for axes, score, color in zip(figure.subplots(1, 2), ("mean_iou", "accuracy"), ("tab:blue", "tab:orange")):
        numbers = [values(runs, cell, score) for cell in cells]
        axes.errorbar(range(len(cells)), [statistics.mean(each) for each in numbers], color=color, marker="o",
                      yerr=[statistics.stdev(each) if len(each) > 1 else math.nan for each in numbers], capsize=4)
        for place, each in enumerate(numbers):
            axes.plot([place] * len(each), each, ".", color="black", markersize=4, zorder=3)      # above the mean
        axes.set_xticks(range(len(cells)), cells.values(), **slanted)
        axes.set_ylabel(f"{SCORES[score]}, percent")
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("points: one seed each; line: mean, with the standard deviation where there are several seeds",
                     fontsize="small")
    figure.savefig(path, dpi=110)


def write_all(runs: List[Run], study: str, folder: str):
    """results.csv, results.md and the plot, of what is finished."""
    finished = sum(run.scores() is not None for run in runs)
    for name, text in (("results.csv", as_csv(runs)), ("results.md", as_table(runs))):
        write(os.path.join(folder, name), lambda path: pathlib.Path(path).write_text(text, encoding="utf-8"))
    title = f"{study}, {finished} {'run' if finished == 1 else 'runs'}"
    write(os.path.join(folder, f"{study}.png"), lambda path: draw(runs, title, path))
