"""Names and colours of a data set's classes."""

import os
from typing import List, Optional, Sequence

from paddle.io import Dataset
from paddleseg.utils import logger

from segrun.classes import Classes
from segrun.palettes import PALETTES, Palette
from segrun.raw_files import read_lines


def fitting(palette: Optional[Palette], count: int) -> Optional[Palette]:
    """The palette if it is one of this many classes, else None."""
    return palette if palette and len(palette) == count else None


def classes_of(dataset_type: Optional[str], count: int, dataset_root: Optional[str] = None,
               custom_color: Optional[Sequence[int]] = None) -> Classes:
    """The classes of a type of data set with so many: names and colours are those of its palette, else the lines of
    `labels.txt` in its folder, as PaddleSeg's guide to own data has it, and PaddleSeg's colours; else they go by their
    numbers, "0", "1", ...

    Args:
        custom_color: R, G, B of class 0, of class 1, ..., in place of the palette's.

    Raises:
        ValueError: `custom_color` is not three numbers from 0 to 255 a class.
        DataError: `labels.txt` can't be read.
    """
    custom = list(custom_color or ())
    if len(custom) % 3 or not all(0 <= value <= 255 for value in custom):
        raise ValueError(f"--custom_color takes R G B from 0 to 255 for each class, got {len(custom)} numbers")
    palette = fitting(PALETTES.get(dataset_type or ""), count) or {}
    colors = list(palette.values())
    colors[:len(custom) // 3] = [(custom[i], custom[i + 1], custom[i + 2]) for i in range(0, len(custom), 3)]
    return Classes(list(palette) or names_in(dataset_root, count), colors)


def names_in(dataset_root: Optional[str], count: int) -> List[str]:
    path = os.path.join(dataset_root or "", "labels.txt")
    if os.path.isfile(path):
        names = [line.strip() for line in read_lines(path, "list of class names") if line.strip()]
        if len(names) == count:
            return names
        logger.warning(f"{path} names {len(names)} classes, the data set has {count}: they go by their numbers")
    return [str(i) for i in range(count)]


def classes_of_dataset(dataset: Dataset) -> Classes:
    """Those of a PaddleSeg data set."""
    return classes_of(type(dataset).__name__, dataset.num_classes, getattr(dataset, "dataset_root", None))


def class_names(dataset: Dataset) -> List[str]:
    """Names of a data set's classes, in the order of their ids."""
    return classes_of_dataset(dataset).names
