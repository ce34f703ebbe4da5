"""Scores for people and for programs: what is printed, JSON, CSV."""

import csv
import json
from typing import Any, Dict, List, Union

import numpy as np

from segrun.scoring import Scores

# Fields of Scores and PresenceScores, and what they are called in the table and in files.
MEANS = ("mean_iou", "accuracy", "mean_accuracy", "frequency_weighted_iou", "kappa", "mean_dice")
PIXELS = {"class_iou": "IoU", "class_accuracy": "accuracy", "class_precision": "precision", "class_f1": "F1",
          "class_share": "share"}
PRESENCE_MEANS = ("mean_precision", "mean_recall", "mean_average_precision")
PRESENCE = {"class_images": "images", "class_precision": "SE precision", "class_recall": "SE recall",
            "class_average_precision": "SE AP"}


def line(scores: Scores, images: int) -> str:
    """PaddleSeg's line, with what it leaves out at its end."""
    losses = "".join(f" Loss {name}: {value:.4f}" for name, value in scores.losses.items())
    return (f"[EVAL] #Images: {images} mIoU: {scores.mean_iou:.4f} Acc: {scores.accuracy:.4f} "
            f"Kappa: {scores.kappa:.4f} Dice: {scores.mean_dice:.4f} mAcc: {scores.mean_accuracy:.4f} "
            f"FWIoU: {scores.frequency_weighted_iou:.4f}{losses}")


def columns(scores: Scores) -> Dict[str, np.ndarray]:
    """What there is of each class, by the column's name: arrays [C]."""
    found = {name: getattr(scores, field) for field, name in PIXELS.items()}
    if scores.presence is not None:
        found.update((name, getattr(scores.presence, field)) for field, name in PRESENCE.items())
    return found


def class_table(scores: Scores, names: List[str]) -> str:
    """A line for each class by name, and below it the rule of the means as it works out here."""
    found = columns(scores)
    width = max(map(len, ["class", *names]))
    lines = [f"{'class':{width}}" + "".join(f"   {column:>6}" for column in found)]
    for i, name in enumerate(names):
        cells = (f"   {cell(values[i]):>{max(len(column), 6)}}" for column, values in found.items())
        lines.append(f"{name:{width}}{''.join(cells)}{'   absent' if np.isnan(scores.class_iou[i]) else ''}")
    return "\n".join(lines + rules(scores))


def cell(value: float) -> str:
    """A number of the table."""
    return str(value) if isinstance(value, np.integer) else "-" if np.isnan(value) else f"{value:.4f}"


def rules(scores: Scores) -> List[str]:
    """Which classes the means are taken over, and what the columns of the SE branch are."""
    count, labelled = len(scores.class_iou), scores.class_share > 0
    absent = np.isnan(scores.class_iou)
    lines = [f"mIoU and Dice are means over {(~absent).sum()} of {count} classes, mAcc over {labelled.sum()}."]
    if absent.any():
        lines.append(f"Absent, in no label and no prediction, so in no mean: {absent.sum()} of {count} classes.")
    if (~labelled & ~absent).any():
        lines.append(f"Only predicted, in no label: {(~labelled & ~absent).sum()} of {count} classes. Their IoU and F1 "
                     "are 0 and count; they have no accuracy.")
    if scores.presence is not None:
        lines.append("images hold the class; SE: is it believed present (probability above 0.5) in them, and only in "
                     "them?")
        lines.append("Means of SE: " + ", ".join(f"{name} {getattr(scores.presence, field):.4f}" for field, name in
                                                 zip(PRESENCE_MEANS, ("precision", "recall", "AP"))) + ".")
    if scores.codebook is not None:
        lines.append(f"Codebook: {scores.codebook.used:.1f} codewords used, {scores.codebook.alike:.1f} at a position; "
                     f"which one tells {scores.codebook.information:.2f} nats of where; if all were one vector, "
                     f"{scores.codebook.moved:.0%} would be assigned otherwise.")
    return lines


def as_dict(scores: Scores, names: List[str]) -> dict:
    """All scores in plain numbers, None for nan; "classes" has a dict for each class."""
    found: Dict[str, Any] = {field: plain(getattr(scores, field)) for field in MEANS}
    if scores.presence is not None:
        found["presence"] = {field: plain(getattr(scores.presence, field)) for field in PRESENCE_MEANS}
    if scores.codebook is not None:
        found["codebook_information"] = plain(scores.codebook.information)
        found["codewords_used"] = plain(scores.codebook.used)
        found["codewords_at_a_position"] = plain(scores.codebook.alike)
        found["moved_by_one_vector"] = plain(scores.codebook.moved)
    if scores.losses:
        found["losses"] = {name: plain(value) for name, value in scores.losses.items()}
    found["classes"] = [
        {"id": i, "class": name, **{key(column): plain(values[i]) for column, values in columns(scores).items()}}
        for i, name in enumerate(names)]
    found["confusion"] = scores.confusion.tolist()
    return found


def key(column: str) -> str:
    """A column's name in files."""
    return column.lower().replace(" ", "_")


def plain(value: Any) -> Union[int, float, None]:
    """A number that JSON knows: int, float, or None for one that is none."""
    return int(value) if isinstance(value, np.integer) else float(value) if np.isfinite(value) else None


def write_json(path: str, scores: Scores, names: List[str], about: dict) -> None:
    """Writes as_dict() after the entries of `about`; a class, and a row of the confusion matrix, on a line each."""
    entries = {**about, **as_dict(scores, names)}
    with open(path, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(f"  {dumps(name)}: {dumps(value)}" for name, value in entries.items()) + "\n}\n")


def dumps(value: Any) -> str:
    """JSON, a list of lists or dicts with one of them on a line."""
    if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        return "[\n    " + ",\n    ".join(map(dumps, value)) + "\n  ]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write_class_csv(path: str, scores: Scores, names: List[str]) -> None:
    """Writes a line for each class, an empty field for nan."""
    rows = as_dict(scores, names)["classes"]
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
