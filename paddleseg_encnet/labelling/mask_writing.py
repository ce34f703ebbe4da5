"""Masks and lists in a folder: all of them, or nothing."""

import contextlib
import os
import random
import re
import shutil
import tempfile
from typing import Dict, Iterator, List, NamedTuple, Optional

import numpy as np
from PIL import Image

from paddleseg_encnet.labelling.project import Item, LabelClasses
from segrun.errors import DataError
from segrun.palettes import color_table

MASKS, CONFIG = "masks", "config.yml"
WRITTEN = (MASKS, "train.txt", "val.txt", "labels.txt", CONFIG)


class MaskPair(NamedTuple):
    """An image and its mask, in the list of `split`."""
    image: str
    mask: str           # below the folder that is written
    split: str


@contextlib.contextmanager
def staged(folder: str) -> Iterator[str]:
    """A folder inside of which to write; at the end its files move into `folder`, after an error none does.

    Raises:
        DataError: what is to be written is there already, or the folder can't be made.
    """
    there = [name for name in WRITTEN if os.path.lexists(os.path.join(folder, name))]
    if there:
        raise DataError(f"{os.path.join(folder, there[0])} is there already; remove {', '.join(there)} or choose "
                        "another --save_dir")
    made = first_missing(folder)
    try:
        os.makedirs(folder, exist_ok=True)
        stage = tempfile.mkdtemp(prefix=".converting.", dir=folder)
    except OSError as error:
        raise DataError(f"cannot write into {folder}: {error.strerror}") from error
    try:
        yield stage
        for name in sorted(os.listdir(stage), key=lambda name: name == CONFIG):     # last what training takes
            os.rename(os.path.join(stage, name), os.path.join(folder, name))
        made = None
    finally:
        shutil.rmtree(made or stage)


def first_missing(folder: str) -> Optional[str]:
    """The highest folder of this path that is not there, which making it would make; None if it is there."""
    folder, missing = os.path.abspath(folder), None
    while not os.path.lexists(folder):
        folder, missing = os.path.dirname(folder), folder
    return missing


def assign_splits(items: List[Item], share: float, seed: int, group: Optional[str] = None) -> Dict[str, str]:
    """{name: "train" or "val"}: `share` of the images, drawn at random, to train on; at least one in each.

    The draw depends on the names and the seed alone, not on the order of the items or the machine.

    Args:
        group: a regular expression: images in whose names it finds the same (in its group, if it has one) come into
            one split, as those of a drive, a patient or a site must. Each image alone if None.

    Raises:
        DataError: there are too few images or groups, or the expression is none or finds nothing in a name.
    """
    names = sorted(item.name for item in items)
    if len(names) < 2:
        raise DataError(f"{len(names)} images with annotation can't be split into train and val; annotate some more")
    members: Dict[str, List[str]] = {}
    for name, key in zip(names, names if group is None else group_keys(names, group)):
        members.setdefault(key, []).append(name)
    if len(members) < 2:
        raise DataError(f"--group {group} finds {next(iter(members))} in all {len(names)} names: of one group nothing "
                        "is left to evaluate on")
    keys = list(members)
    random.Random(seed).shuffle(keys)
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    trained: List[str] = []
    for key in keys[:-1]:       # where that comes nearer to the share
        if not trained or abs(len(trained) + len(members[key]) - count) < abs(len(trained) - count):
            trained += members[key]
    chosen = set(trained)
    return {name: "train" if name in chosen else "val" for name in names}


def group_keys(names: List[str], group: str) -> List[str]:
    """What the expression finds in each name."""
    try:
        expression = re.compile(group)
    except re.error as error:
        raise DataError(f"--group {group} is no regular expression: {error}") from error
    keys = []
    for name in names:
        found = expression.search(name)
        if found is None:
            raise DataError(f"--group {group} finds nothing in the name {name}")
        keys.append(" ".join(part or "" for part in found.groups()) if found.groups() else found.group())
    return keys


def mask_path(name: str) -> str:
    """Where the mask of this name goes: below masks/, whatever folders an annotation names."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts or os.path.isabs(name) or ":" in parts[0]:
        parts = parts[-1:]
    return "/".join([MASKS, *parts]) + ".png"


def write_mask(path: str, mask: np.ndarray, colors: np.ndarray) -> None:
    """uint8 [H, W] as a PNG of 8 bits with a palette: its pixels are class ids, and viewers show colours."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    picture = Image.fromarray(mask)
    picture.putpalette(colors.tobytes())
    picture.save(path)


def colors_of(classes: LabelClasses) -> np.ndarray:
    """uint8 [256, 3]: the source's colours, else PaddleSeg's."""
    return color_table(classes.colors and {name: classes.colors[name] for name in classes.names})


def separator(pairs: List[MaskPair], folder: str) -> str:
    """What stands between image and mask in a list: a space, or a tab where a path has a space.

    Raises:
        DataError: a path has a tab or the end of a line in it, which no list can hold.
    """
    paths = [path for pair in pairs for path in (relative(pair.image, folder), pair.mask)]
    for path in paths:
        if path != path.strip() or any(character in path for character in "\t\r\n"):
            raise DataError(f"{path!r}: no list can hold a path with a tab, the end of a line or spaces at its ends; "
                            "rename it")
    return "\t" if any(" " in path for path in paths) else " "


def relative(path: str, folder: str) -> str:
    """The path as seen from a folder, with links followed, as the system follows them before it goes up by ..; as it
    is where there is no such way (another drive on Windows)."""
    try:
        return os.path.relpath(os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)),
                               os.path.realpath(folder)).replace(os.sep, "/")
    except ValueError:
        return os.path.abspath(path)


def write_lists(stage: str, folder: str, pairs: List[MaskPair], names: List[str]) -> None:
    """train.txt and val.txt, whose paths begin at `folder`, and labels.txt."""
    between = separator(pairs, folder)
    texts = {f"{split}.txt": "".join(f"{relative(pair.image, folder)}{between}{pair.mask}\n" for pair in pairs
                                     if pair.split == split) for split in ("train", "val")}
    texts["labels.txt"] = "".join(f"{name}\n" for name in names)
    for name, text in texts.items():
        with open(os.path.join(stage, name), "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
