"""PASCAL VOC 2012 and ADE20K as they are published: masks of numbers, with their own train and val."""

import functools
import os
from typing import Callable, Collection, Iterable, List

import numpy as np

from paddleseg_encnet.labelling import images
from paddleseg_encnet.labelling.cityscapes import mapped_ids
from paddleseg_encnet.labelling.project import IGNORED, Item, LabelClasses, Project, Rules, Tally
from segrun.errors import DataError
from segrun.palettes import ADE20K, PASCAL_VOC
from segrun.raw_files import read_text


def read_voc(root: str, rules: Rules, tally: Tally) -> Project:
    """VOC2012 with JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/{train,val}.txt: 21 classes with
    background, as in the files; borders are 255 there too.

    Raises:
        DataError: a list or file is missing, or something is open that the rules say to stop at.
    """
    found: List[Item] = []
    draw = functools.partial(mapped_ids, table=id_table(range(len(PASCAL_VOC))), rules=rules, tally=tally,
                             expected="numbers of VOC, which are 0 to 20 and 255")
    for split in ("train", "val"):
        path = os.path.join(root, "ImageSets", "Segmentation", f"{split}.txt")
        if not os.path.isfile(path):
            raise DataError(f"there is no list {path}; give the folder VOC2012 of VOCtrainval_11-May-2012.tar")
        names = read_text(path, "list").split()
        for name in names:
            image, mask = (os.path.join(root, folder, name + ending)
                           for folder, ending in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")))
            add(found, f"{split}/{name}", image, mask, draw, split, rules, tally)
    return Project(LabelClasses(list(PASCAL_VOC), colors=PASCAL_VOC), found)


def read_ade20k(root: str, rules: Rules, tally: Tally) -> Project:
    """ADEChallengeData2016 with images/ and annotations/{training,validation}: 1 to 150 become 0 to 149, 0 becomes 255.

    Raises:
        DataError: a folder or file is missing, or something is open that the rules say to stop at.
    """
    found: List[Item] = []
    draw = functools.partial(mapped_ids, table=id_table(range(1, len(ADE20K) + 1), others=(0,)), rules=rules,
                             tally=tally, expected="numbers of ADE20K's scene parsing, which are 0 to 150")
    for split, folder in (("train", "training"), ("val", "validation")):
        folders = [os.path.join(root, part, folder) for part in ("images", "annotations")]
        stems = {images.stem(name) for one in folders for name in images.below(one)}
        for name in sorted(stems):
            add(found, f"{split}/{name}", os.path.join(folders[0], f"{name}.jpg"),
                os.path.join(folders[1], f"{name}.png"), draw, split, rules, tally)
    return Project(LabelClasses(list(ADE20K), colors=ADE20K), found)


def add(found: List[Item], name: str, image: str, mask: str, draw: Callable[[str], np.ndarray], split: str,
        rules: Rules,
        tally: Tally) -> None:
    """Another item, or what is missing of it."""
    if not os.path.isfile(image):
        images.absent(f"there is no image {image}", rules, tally, "unpack the archive again")
    elif not os.path.isfile(mask):
        images.unannotated(image, rules, tally)
    else:
        found.append(Item(name, image, functools.partial(draw, mask), split))


def id_table(numbers: Collection[int], others: Iterable[int] = (IGNORED,)) -> np.ndarray:
    """int16 [256]: class i for the i-th number, 255 for the others, -1 for what is neither."""
    ids = np.full(256, -1, np.int16)
    ids[list(others)] = IGNORED
    ids[list(numbers)] = range(len(numbers))
    return ids
