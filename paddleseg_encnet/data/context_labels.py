"""PASCAL-Context's published labels, a MATLAB file for each image, become the masks that PascalContext reads."""

import functools
import os
import pathlib
from typing import Callable, List, Optional

import cv2
import numpy as np

from paddleseg_encnet.data.pascal import need_file
from segrun.errors import DataError
from segrun.own_files import check_outputs, write_own
from segrun.raw_files import read_text

# The 59 classes that are scored, as numbers in labels.txt of the published labels, which has 459. Their order, which is
# that of their names, gives the ids 1 to 59, as in PyTorch-Encoding, mmsegmentation and PaddleSeg.
CLASSES = (2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158,
           159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366,
           368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458)
PUBLISHED = 459


def class_ids(label_map: np.ndarray) -> np.ndarray:
    """Published numbers, integers of 0 to 459, -> uint8 of the same shape: 1 to 59, and 0 for all other classes.

    Raises:
        ValueError: there are other numbers.
    """
    if label_map.min() < 0 or label_map.max() > PUBLISHED:
        raise ValueError(f"numbers from {label_map.min()} to {label_map.max()}, the published labels have 0 to "
                         f"{PUBLISHED}")
    ids = np.zeros(PUBLISHED + 1, np.uint8)
    ids[list(CLASSES)] = np.arange(1, len(CLASSES) + 1)
    return ids[label_map]


def convert_context_labels(label_folder: str, dataset_root: str,
                           progress: Optional[Callable[[int], None]] = None) -> None:
    """Writes Context/*.png, and the lists {train,val,trainval}_context.txt into ImageSets/Segmentation, when all masks
    are there.

    Args:
        label_folder: the published trainval, a NAME.mat with LabelMap for each image.
        dataset_root: VOC2010, whose ImageSets/Main/{train,val}.txt are the splits.
        progress: called with the number of images after each.

    Raises:
        DataError: a folder, a list or a label is missing or wrong; a list is empty, or both have an image.
    """
    for folder, what in ((dataset_root, "VOC2010 of the published VOCtrainval_03-May-2010.tar"),
                         (label_folder, "the published trainval.tar.gz, unpacked")):
        if not os.path.isdir(folder):
            raise DataError(f"there is no folder {folder}; it is {what}")
    splits = {split: read_split(os.path.join(dataset_root, "ImageSets", "Main", f"{split}.txt"))
              for split in ("train", "val")}
    twice = sorted(set(splits["train"]) & set(splits["val"]))
    if twice:
        raise DataError(f"{twice[0]} is in train.txt and in val.txt of {dataset_root}/ImageSets/Main; unpack them "
                        "again")
    splits["trainval"] = sorted(splits["train"] + splits["val"])
    check_outputs([*(mask_of(dataset_root, name) for name in splits["trainval"]),
                   *(list_of(dataset_root, split) for split in splits)])
    for name in splits["trainval"]:
        mask = read_matlab_label(os.path.join(label_folder, f"{name}.mat"))
        png = cv2.imencode(".png", mask)[1].tobytes()
        write_own(mask_of(dataset_root, name), functools.partial(write_bytes, content=png))
        if progress is not None:
            progress(len(splits["trainval"]))
    for split, names in splits.items():
        text = "".join(f"{name}\n" for name in names)
        write_own(list_of(dataset_root, split), functools.partial(write_bytes, content=text.encode()))


def mask_of(dataset_root: str, name: str) -> str:
    return os.path.join(dataset_root, "Context", f"{name}.png")


def list_of(dataset_root: str, split: str) -> str:
    return os.path.join(dataset_root, "ImageSets", "Segmentation", f"{split}_context.txt")


def write_bytes(path: str, content: bytes) -> None:
    pathlib.Path(path).write_bytes(content)


def read_split(path: str) -> List[str]:
    need_file(path, "dataset_root is VOC2010 of the published VOCtrainval_03-May-2010.tar")
    names = read_text(path, "list").split()
    if not names:
        raise DataError(f"{path} is empty; unpack it again")
    return names


def read_matlab_label(path: str) -> np.ndarray:
    """The mask of a MATLAB file, uint8 [H, W]."""
    from scipy.io import loadmat  # comes with PaddleSeg; not loaded by what only trains
    need_file(path, "the published trainval.tar.gz has one for each image of VOC2010's train and val")
    try:
        return class_ids(loadmat(path)["LabelMap"])
    except Exception as error:          # SciPy raises whatever its parser does
        raise DataError(f"cannot read the label {path}: {type(error).__name__}: {error}") from error
