"""Samples that are checked before a step is taken with them, and the loader that makes batches of them."""

import contextlib
import copy
import os
from typing import Any, Iterator, List

import numpy as np
import paddle
from paddle.io.dataloader.collate import default_collate_fn
from paddleseg.datasets import Dataset
from paddleseg.transforms import Compose

from paddleseg_encnet.data.label_values import allowed, likely_cause
from paddleseg_encnet.data.reading import check_mask
from paddleseg_encnet.data.transforms import CropFirst
from paddleseg_encnet.data.waiting import for_the_disk
from paddleseg_encnet.runtime.forking import frozen_garbage
from segrun.commands import command
from segrun.errors import DataError
from segrun.raw_files import missing
from segrun.stopping import protect_reader


class Checked(paddle.io.Dataset):
    """A PaddleSeg dataset whose samples are checked: without it a label outside the classes ends in an assertion on the
    GPU, or silently in a wrong loss."""

    def __init__(self, dataset: Dataset):
        super().__init__()
        self.dataset = dataset
        if type(getattr(dataset, "transforms", None)) is Compose:
            self.dataset = copy.copy(dataset)
            self.dataset.transforms = CropFirst(dataset.transforms)

    def __len__(self) -> int:
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

    def check_undone(self, size: tuple, mask: np.ndarray, image: str) -> None:
        """Raises DataError where transforms have changed an evaluated image, whose label fitted when both were read, so
        that PaddleSeg's inference can't undo it. `size` is where undoing it would end."""
        transforms = getattr(self.dataset, "transforms", None)
        if type(transforms) is CropFirst and mask.ndim == 2 and mask.shape != size:
            names = [type(transform).__name__ for transform in transforms.given]
            raise DataError(
                f"the transforms for {self.dataset.mode} ({', '.join(names)}) make {size[1]} x {size[0]} of the image "
                f"{image} of {mask.shape[1]} x {mask.shape[0]}, which no prediction undoes: take out what crops and "
                "scales at random", "transforms that can't be undone")

    def check_values(self, path: str, label: np.ndarray) -> None:
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

    def __init__(self, dataset: Dataset, **options: Any):
        checked = dataset if isinstance(dataset, Checked) else Checked(dataset)
        super().__init__(checked, collate_fn=collate, worker_init_fn=protect_reader, **options)

    def __iter__(self) -> Iterator[dict]:
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
