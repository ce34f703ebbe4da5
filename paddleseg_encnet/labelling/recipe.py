"""The config that a converted project is trained with: a shipped recipe with the project's classes and lists."""

import os
from typing import Any, Dict, List, Tuple

import yaml
from paddleseg.cvlibs.config import parse_from_yaml

from paddleseg_encnet.weights import packages
from paddleseg_encnet.weights.arrays import CheckpointError
from segrun.errors import DataError, joined

HEAD = """\
# Written by tools/convert_labels.py. Where the folder moves, dataset_root and both lists have to follow.
"""


def write_config(path: str, bases: List[str], folder: str, num_classes: int, separator: str,
                 train: int) -> Tuple[dict, List[str]]:
    """Writes the config, checks that it fits, and returns it with its bases merged, and notes on it.

    Args:
        path: where it is written.
        bases: configs that it builds on.
        folder: that of the lists.
        separator: of the lists.
        train: images to train on; the batch is no larger.

    Raises:
        DataError: a base is missing or no config, or its losses have weights for another number of classes.
    """
    for base in bases:
        if not os.path.isfile(base):
            raise DataError(f"there is no config {base}")
    folder = os.path.abspath(folder)
    data = {"type": "Dataset", "dataset_root": folder, "num_classes": num_classes}
    if separator != " ":
        data["separator"] = separator
    content: Dict[str, Any] = {
        "_base_": [os.path.abspath(base) for base in bases],
        "train_dataset": {**data, "train_path": os.path.join(folder, "train.txt"), "mode": "train"},
        "val_dataset": {**data, "val_path": os.path.join(folder, "val.txt"), "mode": "val"},
        "model": {"num_classes": num_classes}}
    merged = save_config(path, content)
    notes = []
    for i, loss in enumerate((merged.get("loss") or {}).get("types") or []):
        weight = loss.get("weight") if isinstance(loss, dict) else None
        if isinstance(weight, list) and len(weight) != num_classes:
            raise DataError(f"{', '.join(bases)}: loss.types[{i}] has weights for {len(weight)} classes, there are "
                            f"{num_classes}; give a --base without")
    if (merged.get("batch_size") or 1) > train:
        content = {"_base_": content.pop("_base_"), "batch_size": train, **content}
        notes.append(f"batch_size is {train}, not {merged['batch_size']}: there are no more images to train on")
        merged = save_config(path, content)
    pretrained = ((merged.get("model") or {}).get("backbone") or {}).get("pretrained")
    if isinstance(pretrained, str) and pretrained.startswith(packages.PREFIX):
        try:
            packages.weights_file(pretrained)
        except CheckpointError as error:
            notes.append(f"before training: {error}")
    return merged, notes


def save_config(path: str, content: dict) -> dict:
    with open(path, "w", encoding="utf-8") as file:
        file.write(HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    try:
        return parse_from_yaml(path)
    except (yaml.YAMLError, OSError, AttributeError, TypeError) as error:
        bases = ", ".join(content["_base_"])
        raise DataError(f"{bases}: no config to build on: {joined(str(error))}") from error
