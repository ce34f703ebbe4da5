"""PASCAL VOC 2012 and PASCAL-Context, whose splits are lists of names in a folder ImageSets."""

import os

import numpy as np
from paddleseg.datasets import PascalContext

from paddleseg_encnet.data.datasets import need_folder, only_changes_ids
from paddleseg_encnet.registry import register
from segrun.commands import command
from segrun.errors import DataError


class PascalContext59(PascalContext):
    """PASCAL-Context as the paper's ablations count it: 59 classes, background ignored.

    The files are those of PaddleSeg's PascalContext, which makes background a class of its own, the first of 60. Here
    background, 0 in the files, becomes 255, and 1 to 59 become 0 to 58.

    Args:
        transforms: list of PaddleSeg transforms.
        dataset_root: folder with JPEGImages/, Context/ and ImageSets/Segmentation/{train,val,trainval}_context.txt.
        mode: "train", "val" or "trainval".

    Raises:
        DataError: the folder or the list is missing.
    """

    NUM_CLASSES = 59

    def __init__(self, transforms: list, dataset_root: str, mode: str = "train"):
        super().__init__([self.background_to_ignored, *transforms], dataset_root, mode)

    @only_changes_ids
    def background_to_ignored(self, data: dict) -> dict:
        if "label" in data:
            label = data["label"]
            data["label"] = np.where(label == 0, self.IGNORE_INDEX, label.astype("int16") - 1).astype(label.dtype)
        return data


def need_lists_of_voc(dataset_root: str, mode: str) -> None:
    """Raises DataError where a list that PascalVOC reads is missing."""
    need_folder(dataset_root)
    lists = os.path.join(dataset_root, "VOC2012", "ImageSets", "Segmentation")
    need_file(os.path.join(lists, f"{'train' if mode == 'trainaug' else mode}.txt"),
              "dataset_root is the folder that holds VOC2012")
    if mode == "trainaug":
        need_file(os.path.join(lists, "aug.txt"), "tools/data/voc_augment.py of PaddleSeg's repository writes it, and "
                                                  "its labels into SegmentationClassAug")


def need_lists_of_context(dataset_root: str, mode: str) -> None:
    """Raises DataError where the list that PascalContext reads is missing."""
    need_folder(dataset_root)
    need_file(os.path.join(dataset_root, "ImageSets", "Segmentation", f"{mode}_context.txt"),
              f"{command('convert_pascal_context')} writes it, and its labels into Context")


def need_file(path: str, hint: str) -> None:
    if not os.path.isfile(path):
        raise DataError(f"there is no file {path}; {hint}")


register("DATASETS", PascalContext59)
