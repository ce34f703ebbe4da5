"""What came out of an ablation: every run, a table of the cells, and a plot."""

import csv
import functools
import io
import math
import os
import pathlib
import statistics
from typing import Any, Dict, List, Optional

from paddleseg_encnet.paper.ablation_plan import CellRun
from segrun.writing import write

# By its name in tools/val.py's JSON. Those of the SE branch and of the codebook are there where the network has them;
# the codebook's are nats and a number of codewords, the others are told in percent.
SCORES = {"mean_iou": "mIoU", "accuracy": "pixel accuracy", "mean_accuracy": "mean accuracy",
          "frequency_weighted_iou": "FWIoU"}
MORE_SCORES = {"presence.mean_average_precision": "presence AP", "codebook_information": "I, nats",
               "codewords_used": "codewords used", "moved_by_one_vector": "moved by one vector"}
PAIRED = ("mean_iou", "accuracy", "presence.mean_average_precision")      # differences between cells are told of these
NOT_PERCENT = ("codebook_information", "codewords_used")


def score_of(run: CellRun, score: str) -> Optional[float]:
    """A score of a finished run, "presence.x" being x in "presence"; None where it has none."""
    found: Any = run.scores()
    for key in score.split("."):
        found = (found or {}).get(key)
    return found


def seed_values(runs: List[CellRun], cell: str, score: str) -> List[float]:
    """A score of a cell as it is told, one for each seed that is finished and has it."""
    found = [score_of(run, score) for run in runs if run.cell.folder == cell]
    return [value if score in NOT_PERCENT else 100 * value for value in found if value is not None]


def scores_there(runs: List[CellRun]) -> Dict[str, str]:
    """SCORES and those of MORE_SCORES that one of the runs has."""
    return {**SCORES, **{score: name for score, name in MORE_SCORES.items()
                         if any(score_of(run, score) is not None for run in runs)}}


def as_csv(runs: List[CellRun]) -> str:
    """A line for each finished run."""
    text = io.StringIO()
    lines, scores = csv.writer(text, lineterminator="\n"), scores_there(runs)
    lines.writerow(["cell", "seed", *scores])
    for run in runs:
        if run.scores() is not None:
            lines.writerow([run.cell.folder, run.seed, *(score_of(run, score) for score in scores)])
    return text.getvalue()


def as_table(runs: List[CellRun]) -> str:
    """A line for each cell, in Markdown: mean and sample standard deviation over its seeds, in percent."""
    scores = scores_there(runs)
    lines = ["| | " + " | ".join(scores.values()) + " | seeds |", "| --- |" + " --- |" * (len(scores) + 1)]
    for folder, name in cells_of(runs).items():
        columns = [mean_and_spread(seed_values(runs, folder, score)) for score in scores]
        lines.append(f"| {name} | {' | '.join(columns)} | {len(seed_values(runs, folder, 'mean_iou'))} |")
    return "\n".join(lines) + "\n"


def as_differences(runs: List[CellRun]) -> str:
    """How much more the cell of a row has than that of a column, in Markdown, a table for each of PAIRED: the mean over
    the seeds that both have, which share data order and crops, and its standard error. Empty where no two cells share
    two seeds."""
    return "\n".join(filter(None, (differences_of(runs, score) for score in PAIRED)))


def differences_of(runs: List[CellRun], score: str) -> str:
    """The table of one score."""
    found = {folder: {run.seed: 100 * value for run in runs if run.cell.folder == folder
                      for value in [score_of(run, score)] if value is not None} for folder in cells_of(runs)}
    names = {folder: name for folder, name in cells_of(runs).items()
             if any(len(found[folder].keys() & found[other].keys()) > 1 for other in found if other != folder)}
    if not names:
        return ""
    name = {**SCORES, **MORE_SCORES}[score]
    lines = [f"{name} of the row's cell less that of the column's, paired by seed: mean ± "
             "standard error\n",
             "| | " + " | ".join(names.values()) + " |", "| --- |" + " --- |" * len(names)]
    for row, name in names.items():
        pairs = [[found[row][seed] - found[column][seed] for seed in found[row].keys() & found[column].keys()]
                 for column in names if column != row]
        told = iter([f"{statistics.mean(each):+.2f} ± {statistics.stdev(each) / math.sqrt(len(each)):.2f}"
                     if len(each) > 1 else "–" for each in pairs])
        lines.append(f"| {name} | " + " | ".join("" if column == row else next(told) for column in names) + " |")
    return "\n".join(lines) + "\n"


def cells_of(runs: List[CellRun]) -> Dict[str, str]:
    """The cells' folders and names, in the order of the runs."""
    return {run.cell.folder: run.cell.name for run in runs}


def mean_and_spread(numbers: List[float]) -> str:
    """ "43.21 ± 0.65"; without the spread if there is one number only. """
    if not numbers:
        return "–"
    mean = f"{statistics.mean(numbers):.2f}"
    return f"{mean} ± {statistics.stdev(numbers):.2f}" if len(numbers) > 1 else mean


def draw_scores(runs: List[CellRun], title: str, path: str) -> None:
    """Writes a PNG: mIoU and pixel accuracy of each cell, the mean with its standard deviation, and every seed."""
    from matplotlib.figure import Figure  # comes with PaddleSeg, through VisualDL; its import takes a second
    cells = {run.cell.folder: run.cell.name for run in runs if run.scores() is not None}
    slanted = dict(rotation=20, ha="right", rotation_mode="anchor") if len("".join(cells.values())) > 40 else {}
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(title)
    for axes, score, color in zip(figure.subplots(1, 2), ("mean_iou", "accuracy"), ("tab:blue", "tab:orange")):
        numbers = [seed_values(runs, cell, score) for cell in cells]
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


def write_text(path: str, text: str) -> None:
    pathlib.Path(path).write_text(text, encoding="utf-8")


def write_all(runs: List[CellRun], study: str, folder: str) -> None:
    """results.csv, results.md and the plot, of what is finished."""
    finished = sum(run.scores() is not None for run in runs)
    tables = "\n".join(filter(None, (as_table(runs), as_differences(runs))))
    for name, text in (("results.csv", as_csv(runs)), ("results.md", tables)):
        write(os.path.join(folder, name), functools.partial(write_text, text=text))
    title = f"{study}, {finished} {'run' if finished == 1 else 'runs'}"
    write(os.path.join(folder, f"{study}.png"), lambda path: draw_scores(runs, title, path))
