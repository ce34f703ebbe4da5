"""What is wrong with the data of a config: every file is looked at before a training run meets it.

Files are read by the code that training reads them with (datasets.Checked), so that what is judged is what the network
would see: ids after the data set's own conversions, such as ADE20K's minus 1, and not what a picture viewer shows.
"""

import concurrent.futures
import copy
import hashlib
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple
from unittest import mock

import cv2
import numpy as np
from paddleseg.cvlibs import SegBuilder
from paddleseg.transforms import Compose
from paddleseg.utils import logger
from PIL import Image

from paddleseg_encnet.data import datasets
from paddleseg_encnet.data.datasets import Checked
from paddleseg_encnet.data.label_values import JPEG, ONLY_ZERO_AND_255, allowed, likely_cause, only_zero_and_255
from paddleseg_encnet.data.reading import DataError, check_mask, missing
from paddleseg_encnet.data.transforms import CropFirst
from paddleseg_encnet.runtime.errors import innermost
from paddleseg_encnet.runtime.progress import Progress

IN_BOTH = "images that are in train and in val"
AT_LEAST = 10       # files that a quick look takes in, however long they take
NO_CLASS = "labels with values that are no class"


class Finding:
    """A fault and the files that have it. Of thousands a few are kept."""

    EXAMPLES = 5

    def __init__(self):
        self.count, self.examples, self.hint = 0, [], ""

    def add(self, example: str, hint: str):
        self.count += 1
        self.hint = self.hint or hint
        if len(self.examples) < self.EXAMPLES:
            self.examples.append(example)


class Split:
    """One data set of the config, what was found in it, and how many pixels each value has."""

    def __init__(self, name: str):
        self.name, self.dataset = name, None
        self.findings: Dict[str, Finding] = {}
        self.pixels, self.beside = Counter(), Counter()     # of each value; of all labels that have it
        self.no_class_in: List[str] = []                    # labels with values that are no class
        self.looked_at = "not looked at"
        self.digests: Dict[bytes, str] = {}                 # of the images' pixels

    def add(self, kind: str, example: str, hint: str = ""):
        self.findings.setdefault(kind, Finding()).add(example, hint)

    def lines(self) -> List[str]:
        """The report."""
        lines = [f"{self.name}: {self.looked_at}, {'found:' if self.findings else 'nothing wrong'}"]
        for kind, finding in self.findings.items():
            lines.append(f"  {finding.count} x {kind}")
            lines += [f"      {example}" for example in finding.examples]
            if finding.count > len(finding.examples):
                lines.append(f"      and {finding.count - len(finding.examples)} more")
            if finding.hint:
                lines.append(f"      hint: {finding.hint}")
        return lines


class Look(NamedTuple):
    """What reading one sample told."""
    fault: Optional[Tuple[str, str]]        # kind and message
    digest: bytes = b""                     # of the image's pixels
    values: Dict[int, int] = {}             # pixels of each value in the label
    first: Dict[int, Tuple[int, int]] = {}  # row and column where each value that is no class comes first


# --- looking ---------------------------------------------------------------------------------------------------------

def check(builder: SegBuilder, num_workers: int = 0) -> List[Split]:
    """Looks at every file of `train_dataset` and `val_dataset`, with progress on stderr."""
    splits = build_all(builder)
    for split in splits:
        if split.dataset is not None:
            check_list(split)
            count = len(split.dataset)
            note_all(split, range(count), num_workers)
            split.looked_at = f"{count} of {count} samples looked at"
            check_values(split)
    if len(splits) == 2:
        check_both(*splits)
    return splits


def quick_check(builder: SegBuilder, with_val: bool, seconds: float = 1.0):
    """For the start of training: file headers, and then samples, for `seconds` each in each data set.

    Raises:
        DataError: something is wrong; it names the first file of each kind. Images in both sets are only warned of.
    """
    splits = build_all(builder, ("train", "val") if with_val else ("train",))
    for split in splits:
        if split.dataset is not None:
            check_list(split)
            order = random.Random(0).sample(range(len(split.dataset)), len(split.dataset))
            headers, samples = look_quickly(split, order, seconds)
            split.looked_at = f"{headers} of {len(order)} file headers and {samples} samples looked at"
            check_values(split)
            logger.info(f"Data for {split.name}: {split.looked_at}; tools/check_data.py looks at all")
    if len(splits) == 2 and all(split.dataset is not None for split in splits):
        both = {pair[0] for pair in splits[0].dataset.file_list} & {pair[0] for pair in splits[1].dataset.file_list}
        if both:
            logger.warning(f"{len(both)} {IN_BOTH}, for instance {min(both)}")
    found = [f"{split.name}: {finding.examples[0]}"
             + (f", and {finding.count - 1} more {kind}" if finding.count > 1 else "")
             + (f" (hint: {finding.hint})" if finding.hint else "")
             for split in splits for kind, finding in split.findings.items()]
    if found:
        raise DataError("; ".join(found) + ". tools/check_data.py looks at all files; --no_data_check trains anyway")


def build_all(builder: SegBuilder, names=("train", "val")) -> List[Split]:
    """The splits that the config names, built; where that fails, with the reason and without a dataset."""
    return [build(builder, name) for name in names if getattr(builder.config, f"{name}_dataset_cfg")]


def build(builder: SegBuilder, name: str) -> Split:
    split, options = Split(name), dict(getattr(builder.config, f"{name}_dataset_cfg"))

    def pair(images, labels, stem):
        """Pairs what can be paired, so that the rest is looked at too."""
        pairs, lonely_images, lonely_labels = datasets.match(images, labels, stem)
        for kind, paths in ((f"images without a label like {labels[0]}", lonely_images),
                            (f"labels without an image like {images[0]}", lonely_labels)):
            for path in paths:
                split.add(kind, f"{path} is alone", "the other file is missing, or has another name")
        return pairs

    list_key = f"{options.get('mode', name)}_path"
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(datasets, "pair", pair):
        path = options.get(list_key)
        if path and os.path.isfile(path):
            options[list_key] = os.path.join(folder, "good_lines.txt")
            with open(options[list_key], "w") as file:
                file.writelines(good_lines(split, path, options.get("separator", " ")))
        try:
            dataset = builder.build_component(options)
        except Exception as error:
            split.add("data sets that cannot be built", " ".join(str(innermost(error)).split()))
            return split
    if len(dataset) == 0:
        split.add("data sets without images", f"{path or options.get('dataset_root')} names no image",
                  "an empty list, or another dataset_root")
    else:
        split.dataset = dataset
    return split


def good_lines(split: Split, path: str, separator: str) -> Iterator[str]:
    """The lines of a list of files that are pairs. The others are noted: PaddleSeg says only that there is one."""
    with open(path) as file:
        for number, line in enumerate(file, 1):
            parts = line.strip().split(separator)
            if len(parts) == 2:
                yield line
            else:
                what = f"{len(parts)} parts: {line.strip()!r}" if line.strip() else "nothing"
                split.add("lines of a list that are not `image label`", f"{path}, line {number}, has {what}",
                          f"names may not contain the separator, which is {separator!r}; set `separator` to another, "
                          "and take out empty lines")


def check_list(split: Split):
    """What the names alone tell."""
    pairs = [pair[:2] for pair in split.dataset.file_list if isinstance(pair[1], str)]
    image_of = {stem(image): image for image, _ in pairs}
    for image, label in pairs:
        if label.lower().endswith((".jpg", ".jpeg")):
            split.add("labels that are JPEG", f"{label} is a JPEG", JPEG)
        if stem(label) != stem(image) and stem(label) in image_of:
            split.add("labels of another image", f"{image} is paired with {label}",
                      "images and labels are paired by their position in two lists, and a file is missing")


def stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


class AsRead(CropFirst):
    """Image and label as they are read: without the transforms that move, cut and colour, which are PaddleSeg's. Those
    of a data set itself and of users stay, as they may convert ids."""

    def __call__(self, data: dict) -> dict:
        if isinstance(data["img"], str):
            self.read(data)
        for transform in self.whole.transforms:
            if type(transform).__module__ not in ("paddleseg.transforms.transforms", CropFirst.__module__):
                data = transform(data)
        data["img"] = data["img"].reshape(*data["img"].shape[:2], -1).transpose(2, 0, 1)
        return data


def as_read(dataset) -> Checked:
    view = copy.copy(dataset)
    view.edge = False       # slow, and not looked at
    if isinstance(dataset.transforms, Compose):
        view.transforms = AsRead(dataset.transforms)
    return Checked(view)


def look(dataset: Checked, index: int) -> Look:
    """Reads the sample as training would, without its random transforms."""
    try:
        sample = dataset.read_mask(index)
    except DataError as error:
        return Look((error.kind, str(error)))
    digest = hashlib.blake2b(np.ascontiguousarray(sample["img"].transpose(1, 2, 0)), digest_size=16).digest()
    if "label" not in sample or not isinstance(dataset.dataset.file_list[index][1], str):
        return Look(None, digest)
    label = np.asarray(sample["label"])
    label = label[0] if label.ndim == 3 else label
    values = pixels_of_values(label)
    first = {value: tuple(map(int, np.unravel_index((label == value).argmax(), label.shape)))
             for value in values if no_class(value, dataset.dataset)}
    return Look(None, digest, values, first)


def pixels_of_values(label: np.ndarray) -> Dict[int, int]:
    if label.dtype == np.uint8:         # ten times as fast as unique
        counts = np.bincount(label.reshape(-1), minlength=256)
        return {int(value): int(counts[value]) for value in counts.nonzero()[0]}
    return {int(value): int(count) for value, count in zip(*np.unique(label, return_counts=True))}


def no_class(value: int, dataset) -> bool:
    return value != dataset.ignore_index and not 0 <= value < dataset.num_classes


_dataset = None     # of a worker process


def start_worker(dataset: Checked):
    global _dataset
    _dataset = dataset


def look_in_worker(index: int) -> Look:
    return look(_dataset, index)


def note_all(split: Split, indices, num_workers: int):
    """Looks at these samples, in this process or in `num_workers` others."""
    progress = Progress(len(indices), f"{split.name} images")
    dataset = as_read(split.dataset)

    def note_each(looks):
        for index, seen in zip(indices, looks):
            note(split, index, seen)
            progress.advance()

    if num_workers == 0:
        note_each(look(dataset, index) for index in indices)
    else:
        # Forked where that is safe, as a new process would import Paddle first. OpenCV's threads don't survive a fork.
        method = "fork" if sys.platform.startswith("linux") else "spawn"
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            with concurrent.futures.ProcessPoolExecutor(
                    num_workers, multiprocessing.get_context(method), start_worker, (dataset,)) as pool:
                note_each(pool.map(look_in_worker, indices, chunksize=4))
        finally:
            cv2.setNumThreads(threads)
    progress.close()


def look_quickly(split: Split, order: List[int], seconds: float) -> Tuple[int, int]:
    """Headers, then samples, in this order until the time is over, but some at least; returns how many. Faulty files
    are noted once."""
    dataset, faulty = as_read(split.dataset), set()

    def until_late(work) -> int:
        end = time.monotonic() + seconds
        for done, index in enumerate(order, 1):
            work(index)
            if done >= AT_LEAST and time.monotonic() > end:
                return done
        return len(order)

    def header(index):
        try:
            check_headers(*split.dataset.file_list[index][:2])
        except DataError as error:
            faulty.add(index)
            split.add(error.kind, str(error))

    def sample(index):
        if index not in faulty:
            note(split, index, look(dataset, index))
    return until_late(header), until_late(sample)


def check_headers(image: str, label: Optional[str]):
    """Raises DataError where the headers tell that the files don't fit. Files that are no pictures are not judged."""
    for path in (image, label):
        if isinstance(path, str) and not os.path.exists(path):
            raise missing(path)
    size, _ = header_of(image, "image")
    if isinstance(label, str) and not label.endswith((".npy", ".npz")):
        label_size, (channels, dtype) = header_of(label, "label")
        shape = label_size if channels == 1 else (*label_size, channels)
        check_mask(np.broadcast_to(np.zeros((), dtype), shape), size, label)


def header_of(path: str, what: str) -> Tuple[Tuple[int, int], Tuple[int, type]]:
    """(height, width) as OpenCV would read it, and the number of channels with their type of number."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = what == "image" and picture.format == "JPEG" and picture.getexif().get(274, 1) >= 5
            return ((width, height) if turned else (height, width)), \
                (len(picture.getbands()), np.uint16 if picture.mode.startswith("I;16") else np.uint8)
    except Exception as error:
        raise DataError(f"cannot read the {what} {path}: {error}", f"{what}s that cannot be read") from error


# --- judging ---------------------------------------------------------------------------------------------------------

def note(split: Split, index: int, seen: Look):
    """Adds one sample to what is known of the split."""
    image, label = split.dataset.file_list[index][:2]
    if seen.fault is not None:
        split.add(*seen.fault)
        return
    split.digests.setdefault(seen.digest, image)
    classes, ignored = split.dataset.num_classes, split.dataset.ignore_index
    labelled = sum(pixels for value, pixels in seen.values.items() if value != ignored)
    for value, pixels in seen.values.items():
        split.pixels[value] += pixels
        split.beside[value] += labelled
    if seen.first:
        split.no_class_in.append(label)
        wrong = [f"{value} in {seen.values[value]} pixels, the first at row {row}, column {column}"
                 for value, (row, column) in seen.first.items()]
        more = f", and {len(wrong) - 3} more values" if len(wrong) > 3 else ""
        split.add(NO_CLASS, f"{label}: {'; '.join(wrong[:3])}{more}: {allowed(classes, ignored)}")


def check_values(split: Split):
    """Judges what all labels of a split hold together."""
    classes, ignored = split.dataset.num_classes, split.dataset.ignore_index
    first = str(split.dataset.file_list[0][1])
    if split.no_class_in:
        wrong = [value for value in split.pixels if no_class(value, split.dataset)]
        split.findings[NO_CLASS].hint = likely_cause(wrong, split.pixels, classes, ignored,
                                                     type(split.dataset).__name__, split.no_class_in)
    elif only_zero_and_255(split.pixels, classes, ignored):
        split.add("data sets with no label value but 0 and 255", f"labels like {first}", ONLY_ZERO_AND_255)
    elif set(split.pixels) == {ignored}:
        split.add("data sets whose labels are ignored altogether", f"labels like {first} hold {ignored} alone")


def check_both(train: Split, val: Split):
    """An image that is in both makes the score of the second too good."""
    for digest, image in val.digests.items():
        if digest in train.digests:
            val.add(IN_BOTH, f"{image} is {train.digests[digest]}",
                    "the same pixels, whatever the files are called: take them out of one")
