"""CamVid, and the pairs of image and label of data sets whose files are matched by name."""

import glob
import os
from typing import Any, Callable, List, Optional, Tuple

import numpy as np
from paddleseg.datasets import Dataset
from paddleseg.transforms import Compose

from paddleseg_encnet.registry import register
from segrun.errors import DataError

# (images, labels, stem) -> [image, label] of those that belong together, by what stem(path) makes of both. To a data
# set that takes one as its argument `pair`, data/checks.py gives one that notes what is alone, and goes on.
Stem = Callable[[str], str]
Pair = Callable[[List[str], List[str], Stem], List[List[str]]]


def only_changes_ids(convert: Any) -> Any:
    """Marks a data set's own transform that gives pixels of the label other ids and does nothing else, see
    changes_ids() in transforms.py."""
    convert.only_changes_ids = True
    return convert


class CamVid(Dataset):
    """CamVid with 11 classes at 480 x 360, in the layout of the SegNet authors' copy: images in `train/`, `val/`,
    `test/`, labels of the same names in `trainannot/`, `valannot/`, `testannot/`.

    Args:
        transforms: list of PaddleSeg transforms.
        dataset_root: folder with these folders.
        mode: "train", "val" or "test".
        pair: makes the pairs; pair_all() unless another is given.

    The files call void 11; here it becomes 255, the value that losses and transforms of PaddleSeg take for ignored.

    Raises:
        DataError: a folder, an image or a label is missing.
    """

    NUM_CLASSES = 11
    IGNORE_INDEX = 255
    IMG_CHANNELS = 3
    VOID = 11

    def __init__(self, transforms: list, dataset_root: str, mode: str = "train", *, pair: Optional[Pair] = None):
        # PaddleSeg's own datasets do not call Dataset.__init__ either: it reads list files.
        self.mode = mode.lower()
        self.dataset_root = dataset_root
        self.num_classes = self.NUM_CLASSES
        self.ignore_index = self.IGNORE_INDEX
        self.img_channels = self.IMG_CHANNELS
        self.edge = False
        self.transforms = Compose([self.void_to_ignored, *transforms])
        images = find_files(os.path.join(dataset_root, self.mode), "*.png")
        labels = find_files(os.path.join(dataset_root, f"{self.mode}annot"), "*.png")
        self.file_list = (pair or pair_all)(images, labels, name_of)

    @only_changes_ids
    def void_to_ignored(self, data: dict) -> dict:
        if "label" in data:
            # 255 has all bits; a fifth of the time of np.where.
            data["label"] = data["label"] | (data["label"] == self.VOID) * np.uint8(self.IGNORE_INDEX)
        return data


def name_of(path: str) -> str:
    """A file's name without folders and ending."""
    return os.path.splitext(os.path.basename(path))[0]


def cityscapes_pairs(dataset_root: str, mode: str, pair: Optional[Pair] = None) -> List[list]:
    """Image and label paths of a Cityscapes split, sorted by image, as `pair` makes them, or pair_all().

    Raises:
        DataError: a folder, an image or a label is missing.
    """
    image_end, label_end = "_leftImg8bit.png", "_gtFine_labelTrainIds.png"
    images = find_files(os.path.join(dataset_root, "leftImg8bit", mode), "*", f"*{image_end}")
    label_folder = os.path.join(dataset_root, "gtFine", mode)
    if mode == "test" and not os.path.isdir(label_folder):      # its labels are not published
        return [[image, None] for image in images]
    labels = find_files(label_folder, "*", f"*{label_end}")

    def stem(path: str) -> str:
        name = os.path.basename(path)
        return name[:-len(image_end)] if name.endswith(image_end) else name[:-len(label_end)]
    return (pair or pair_all)(images, labels, stem)


def ade20k_pairs(dataset_root: str, mode: str, pair: Optional[Pair] = None) -> List[List[str]]:
    """Image and label paths of an ADE20K split, sorted by image, as `pair` makes them, or pair_all().

    Raises:
        DataError: a folder, an image or a label is missing.
    """
    split = {"train": "training", "val": "validation"}[mode]
    images = find_files(os.path.join(dataset_root, "images", split), "*.jpg")
    labels = find_files(os.path.join(dataset_root, "annotations", split), "*.png")
    return (pair or pair_all)(images, labels, name_of)


def need_folder(folder: str) -> None:
    """Raises DataError where there is no such folder."""
    if not os.path.isdir(folder):
        raise DataError(f"there is no folder {folder}; set dataset_root in the config, or on the command line with "
                        "--opts train_dataset.dataset_root=DIR val_dataset.dataset_root=DIR")


def find_files(folder: str, *pattern: str) -> List[str]:
    """Files of a folder that match a pattern, sorted; DataError where there is no folder or no such file."""
    need_folder(folder)
    files = sorted(glob.glob(os.path.join(glob.escape(folder), *pattern)))
    if not files:
        raise DataError(f"no file {os.path.join(*pattern)} in {folder}")
    return files


def pair_all(images: List[str], labels: List[str], stem: Stem) -> List[List[str]]:
    """[image, label] for each image, matched by `stem(path)`; DataError where one has no other."""
    pairs, lonely_images, lonely_labels = match(images, labels, stem)
    if lonely_images:
        raise DataError(f"no label for {len(lonely_images)} of {len(images)} images, the first one {lonely_images[0]}; "
                        f"labels were looked for like {labels[0]}")
    if lonely_labels:
        raise DataError(f"no image for {len(lonely_labels)} of {len(labels)} labels, the first one {lonely_labels[0]}")
    return pairs


def match(images: List[str], labels: List[str], stem: Stem) -> Tuple[List[List[str]], List[str], List[str]]:
    """Pairs of images and labels with one `stem(path)`, images without a label, and labels without an image."""
    label_of = {stem(path): path for path in labels}
    image_of = {stem(path): path for path in images}
    return ([[path, label_of[stem(path)]] for path in images if stem(path) in label_of],
            [image_of[name] for name in sorted(image_of.keys() - label_of.keys())],
            [label_of[name] for name in sorted(label_of.keys() - image_of.keys())])


register("DATASETS", CamVid)
