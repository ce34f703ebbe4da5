"""Data: CamVid, pairs by file name, and labels that are checked before a step is taken with them."""

import contextlib
import copy
import glob
import os
from typing import List, Tuple

import numpy as np
import paddle
from paddle.io.dataloader.collate import default_collate_fn
from paddleseg.datasets import Dataset
from paddleseg.transforms import Compose

from paddleseg_encnet.data.label_values import allowed, likely_cause
from paddleseg_encnet.data.reading import check_mask
from paddleseg_encnet.data.transforms import CropFirst
from paddleseg_encnet.data.waiting import for_the_disk
from paddleseg_encnet.registry import register
from paddleseg_encnet.runtime.forking import frozen_garbage
from segrun.commands import command
from segrun.errors import DataError
from segrun.raw_files import missing
from segrun.stopping import protect_reader


class CamVid(Dataset):
    """CamVid with 11 classes at 480 x 360, in the layout of the SegNet authors' copy: images in `train/`, `val/`,
    `test/`, labels of the same names in `trainannot/`, `valannot/`, `testannot/`.

    Args:
        transforms: list of PaddleSeg transforms.
        dataset_root: folder with these folders.
        mode: "train", "val" or "test".

    The files call void 11; here it becomes 255, the value that losses and transforms of PaddleSeg take for ignored.

    Raises:
        DataError: a folder, an image or a label is missing.
    """

    NUM_CLASSES = 11
    IGNORE_INDEX = 255
    IMG_CHANNELS = 3
    VOID = 11

    def __init__(self, transforms: list, dataset_root: str, mode: str = "train"):
        # PaddleSeg's own datasets do not call Dataset.__init__ either: it reads list files.
        self.mode = mode.lower()
        self.dataset_root = dataset_root
        self.num_classes, self.ignore_index, self.img_channels = self.NUM_CLASSES, self.IGNORE_INDEX, self.IMG_CHANNELS
        self.edge = False
        self.transforms = Compose([self.void_to_ignored, *transforms])
        images = find_files(os.path.join(dataset_root, self.mode), "*.png")
        labels = find_files(os.path.join(dataset_root, f"{self.mode}annot"), "*.png")
        self.file_list = pair(images, labels, stem=lambda path: os.path.splitext(os.path.basename(path))[0])

    def void_to_ignored(self, data: dict) -> dict:
        if "label" in data:
            # 255 has all bits; a fifth of the time of np.where.
            data["label"] = data["label"] | (data["label"] == self.VOID) * np.uint8(self.IGNORE_INDEX)
        return data

    void_to_ignored.only_changes_ids = True


def cityscapes_pairs(dataset_root: str, mode: str) -> List[List[str]]:
    """Image and label paths of a Cityscapes split, sorted by image; every image has a label and the other way round.

    Raises:
        DataError: a folder, an image or a label is missing.
    """
    image_end, label_end = "_leftImg8bit.png", "_gtFine_labelTrainIds.png"
    images = find_files(os.path.join(dataset_root, "leftImg8bit", mode), "*", f"*{image_end}")
    label_folder = os.path.join(dataset_root, "gtFine", mode)
    if mode == "test" and not os.path.isdir(label_folder):      # its labels are not published
        return [[image, None] for image in images]
    labels = find_files(label_folder, "*", f"*{label_end}")

    def stem(path):
        name = os.path.basename(path)
        return name[:-len(image_end)] if name.endswith(image_end) else name[:-len(label_end)]
    return pair(images, labels, stem)


def ade20k_pairs(dataset_root: str, mode: str) -> List[List[str]]:
    """Image and label paths of an ADE20K split, sorted by image; every image has a label and the other way round.

    Raises:
        DataError: a folder, an image or a label is missing.
    """
    split = {"train": "training", "val": "validation"}[mode]
    images = find_files(os.path.join(dataset_root, "images", split), "*.jpg")
    labels = find_files(os.path.join(dataset_root, "annotations", split), "*.png")
    return pair(images, labels, stem=lambda path: os.path.splitext(os.path.basename(path))[0])


def need_folder(folder: str):
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


def pair(images: List[str], labels: List[str], stem) -> List[List[str]]:
    """[image, label] for each image, matched by `stem(path)`; DataError where one has no other."""
    pairs, lonely_images, lonely_labels = match(images, labels, stem)
    if lonely_images:
        raise DataError(f"no label for {len(lonely_images)} of {len(images)} images, the first one {lonely_images[0]}; "
                        f"labels were looked for like {labels[0]}")
    if lonely_labels:
        raise DataError(f"no image for {len(lonely_labels)} of {len(labels)} labels, the first one {lonely_labels[0]}")
    return pairs


def match(images: List[str], labels: List[str], stem) -> Tuple[List[List[str]], List[str], List[str]]:
    """Pairs of images and labels with one `stem(path)`, images without a label, and labels without an image."""
    label_of = {stem(path): path for path in labels}
    image_of = {stem(path): path for path in images}
    return ([[path, label_of[stem(path)]] for path in images if stem(path) in label_of],
            [image_of[name] for name in sorted(image_of.keys() - label_of.keys())],
            [label_of[name] for name in sorted(label_of.keys() - image_of.keys())])


class Checked(paddle.io.Dataset):
    """A PaddleSeg dataset whose samples are checked: without it a label outside the classes ends in an assertion on the
    GPU, or silently in a wrong loss."""

    def __init__(self, dataset: Dataset):
        super().__init__()
        self.dataset = dataset
        if type(getattr(dataset, "transforms", None)) is Compose:
            self.dataset = copy.copy(dataset)
            self.dataset.transforms = CropFirst(dataset.transforms)

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        """The sample, or {ERROR: what is wrong with it}, for Loader to raise. Waits for a disk that is gone."""
        try:
            return for_the_disk(lambda: self.read(index), self.dataset.file_list)
        except DataError as wrong:
            return error(str(wrong))

    def read(self, index: int) -> dict:
        """The sample as PaddleSeg makes it.

        Raises:
            DataError: its image or label can't be read, they differ in size, the label is no single-channel id mask, or
                has a value that is neither in [0, num_classes) nor ignore_index.
        """
        sample = self.read_mask(index)
        label = self.dataset.file_list[index][1]
        if "label" in sample and isinstance(label, str):
            self.check_values(label, np.asarray(sample["label"]))
        return sample

    def read_mask(self, index: int) -> dict:
        """The same, except that label values are not looked at."""
        image, label = self.dataset.file_list[index][:2]
        for path in (image, label):
            if isinstance(path, str) and not os.path.exists(path):
                raise missing(path)
        try:
            sample = self.dataset[index]
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"cannot read the sample {image} with label {label}: {type(error).__name__}: {error}",
                            "samples that cannot be read") from error
        if "label" in sample and isinstance(label, str):
            mask = np.asarray(sample["label"])
            if mask.ndim == 3 and mask.shape[0] == 1:     # PaddleSeg adds an axis in mode "val"
                mask = mask[0]
            # An evaluated label keeps its size; then the image's own size is what the first resizing remembered. One to
            # train on is resized with the image.
            history = [] if "label" in sample.get("gt_fields", ()) else sample.get("trans_info") or []
            size = tuple(history[0][1]) if history else sample["img"].shape[-2:]
            if "label" not in sample.get("gt_fields", ()):
                self.check_undone(size, mask, image)
            check_mask(mask, size, label)
        return sample

    def check_undone(self, size: tuple, mask: np.ndarray, image: str):
        """Raises DataError where transforms have changed an evaluated image, whose label fitted when both were read, so
        that PaddleSeg's inference can't undo it. `size` is where undoing it would end."""
        transforms = getattr(self.dataset, "transforms", None)
        if type(transforms) is CropFirst and mask.ndim == 2 and mask.shape != size:
            names = [type(transform).__name__ for transform in transforms.given]
            raise DataError(
                f"the transforms for {self.dataset.mode} ({', '.join(names)}) make {size[1]} x {size[0]} of the image "
                f"{image} of {mask.shape[1]} x {mask.shape[0]}, which no prediction undoes: take out what crops and "
                "scales at random", "transforms that can't be undone")

    def check_values(self, path: str, label: np.ndarray):
        classes, ignored = self.dataset.num_classes, self.dataset.ignore_index
        wrong = label >= classes
        if label.dtype.kind != "u":
            wrong |= label < 0
        wrong &= label != ignored
        if wrong.any():
            values = np.unique(label[wrong])
            few = ", ".join(str(value) for value in values[:5])
            seen = {0, *np.unique(label).tolist()}      # another crop may well have 0
            cause = likely_cause(values.tolist(), seen, classes, ignored, type(self.dataset).__name__, [path])
            raise DataError(f"the label {path} has {wrong.sum()} pixels with value {few}: {allowed(classes, ignored)}. "
                            f"Likely: {cause}. {command('check_data')} looks at all labels")


# Key of a sample or batch that could not be read. Its value is text as an array of bytes: arrays are what passes from
# DataLoader's worker processes, while an exception there, or in its thread, reaches the loop as a queue that broke.
ERROR = "error"


class Loader(paddle.io.DataLoader):
    """A DataLoader of checked samples that raises DataError where a sample is wrong, with any number of workers.

    Takes a PaddleSeg dataset, or one that is Checked already, and DataLoader's options.
    """

    def __init__(self, dataset: Dataset, **options):
        checked = dataset if isinstance(dataset, Checked) else Checked(dataset)
        super().__init__(checked, collate_fn=collate, worker_init_fn=protect_reader, **options)

    def __iter__(self):
        with frozen_garbage() if self.num_workers else contextlib.nullcontext():
            batches = super().__iter__()        # this starts the workers
        try:
            for batch in batches:
                if ERROR in batch:
                    raise DataError(bytes(np.asarray(batch[ERROR])).decode())
                yield batch
        finally:
            # After an error, or where no more batches are wanted, its workers would live until garbage is collected.
            batches._try_shutdown_all()


def collate(samples: List[dict]) -> dict:
    """A batch of the samples, or the first error among them. What is raised here would leave the loop waiting."""
    sizes = {sample["img"].shape[-2:] for sample in samples if ERROR not in sample}
    if len(sizes) > 1:
        (height, width), (other_height, other_width) = sorted(sizes)[:2]
        samples = [error(f"images of a batch have different sizes, {width} x {height} and {other_width} x "
                         f"{other_height}: let the transforms end with a crop or a Resize to one size, or set "
                         "batch_size to 1")]
    return next((sample for sample in samples if ERROR in sample), None) or default_collate_fn(samples)


def error(message: str) -> dict:
    return {ERROR: np.frombuffer(message.encode(), dtype=np.uint8)}


register("DATASETS", CamVid)
