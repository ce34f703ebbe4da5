"""Looks at samples and file headers, and says what is there. judging.py says what is wrong with it.

Files are read by the code that training reads them with (samples.Checked), so that what is judged is what the network
would see: ids after the data set's own conversions, such as ADE20K's minus 1, and not what a picture viewer shows.
"""

import concurrent.futures
import copy
import hashlib
import multiprocessing
import os
import sys
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from paddle.io import Dataset
from paddleseg.transforms import Compose
from PIL import Image

from paddleseg_encnet.data.file_doubts import ORIENTATION, Doubt, doubts_of, listening, orientation_of
from paddleseg_encnet.data.likeness import thumbnail
from paddleseg_encnet.data.reading import check_mask, read_image, read_label
from paddleseg_encnet.data.samples import Checked
from paddleseg_encnet.data.transforms import CropFirst
from paddleseg_encnet.runtime.forking import forked_pool
from segrun.errors import DataError
from segrun.image import largest_of_16_bits
from segrun.raw_files import missing, read_bytes


class SampleReport(NamedTuple):
    """What reading one sample told."""
    fault: Optional[Tuple[str, str]]        # kind and message
    digest: bytes = b""                     # of the image's pixels
    values: Dict[int, int] = {}             # pixels of each value in the label
    first: Dict[int, Tuple[int, int]] = {}  # row and column where each value that is no class comes first
    look: Optional[bytes] = None            # the image's thumbnail (likeness.py)
    doubts: Sequence[Doubt] = ()            # of files that can be read
    largest: Optional[int] = None           # number in an image of 16 bits


class AsRead(CropFirst):
    """Image and label as they are read: without the transforms that move, cut and colour, which are PaddleSeg's. Those
    of a data set itself and of users stay, as they may convert ids."""

    def __call__(self, data: dict) -> dict:
        if isinstance(data["img"], str):
            self.read(data)
        for transform in self.given:
            if type(transform).__module__ != "paddleseg.transforms.transforms":
                data = transform(data)
        data["img"] = data["img"].reshape(*data["img"].shape[:2], -1).transpose(2, 0, 1)
        return data


def as_read(dataset: Dataset) -> Checked:
    view = copy.copy(dataset)
    view.edge = False       # slow, and not looked at
    if isinstance(dataset.transforms, Compose):
        # A copy: what a user's transform draws or counts while it is looked at is not to be missing in training.
        view.transforms = AsRead(copy.deepcopy(dataset.transforms))
    return Checked(view)


def look_at_sample(dataset: Checked, index: int) -> SampleReport:
    """Reads the sample as training would, without its random transforms."""
    image, label_file = dataset.dataset.file_list[index][:2]
    label_file = label_file if isinstance(label_file, str) else None
    doubts: Sequence[Doubt] = ()
    try:
        if isinstance(image, str) and os.path.isfile(image):
            with listening(image) as complaint:
                sample = dataset.read_mask(index)
            doubts = doubts_of(image, label_file, complaint.text)
        else:
            sample = dataset.read_mask(index)
    except DataError as error:
        return SampleReport((error.kind, str(error)))
    pixels = np.ascontiguousarray(sample["img"].transpose(1, 2, 0))
    path = dataset.dataset.file_list[index][0]
    largest = largest_of_16_bits(path) if isinstance(path, str) and len(sample["img"]) in (1, 3) else None
    digest, look = hashlib.blake2b(pixels.data, digest_size=16).digest(), thumbnail(pixels)
    if "label" not in sample or label_file is None:
        return SampleReport(None, digest, look=look, doubts=doubts, largest=largest)
    label = np.asarray(sample["label"])
    label = label[0] if label.ndim == 3 else label
    values = pixels_of_values(label)
    first = {}
    for value in values:
        if no_class(value, dataset.dataset):
            row, column = np.unravel_index((label == value).argmax(), label.shape)
            first[value] = int(row), int(column)
    return SampleReport(None, digest, values, first, look, doubts, largest)


def pixels_of_values(label: np.ndarray) -> Dict[int, int]:
    if label.dtype == np.uint8:         # ten times as fast as unique
        counts = np.bincount(label.reshape(-1), minlength=256)
        return {int(value): int(counts[value]) for value in counts.nonzero()[0]}
    return {int(value): int(count) for value, count in zip(*np.unique(label, return_counts=True))}


def no_class(value: int, dataset: Dataset) -> bool:
    return value != dataset.ignore_index and not 0 <= value < dataset.num_classes


# Of a worker process, which look_at_all() starts with it: with each index the data set and its list of files would be
# pickled anew.
_dataset: Any = None


def start_worker(dataset: Checked) -> None:
    global _dataset
    _dataset = dataset


def look_at_sample_in_worker(index: int) -> SampleReport:
    return look_at_sample(_dataset, index)


def look_at_all(dataset: Checked, indices: Iterable[int], num_workers: int) -> Iterator[SampleReport]:
    """Looks at these samples in their order, in this process or in `num_workers` others."""
    if num_workers == 0:
        yield from (look_at_sample(dataset, index) for index in indices)
        return
    # Forked where that is safe, as a new process would import Paddle first.
    method = "fork" if sys.platform.startswith("linux") else "spawn"
    with forked_pool(), concurrent.futures.ProcessPoolExecutor(
            num_workers, multiprocessing.get_context(method), start_worker, (dataset,)) as pool:
        yield from pool.map(look_at_sample_in_worker, indices, chunksize=4)


def check_headers(image: str, label: Optional[str], image_channels: int = 3) -> None:
    """Raises DataError where the headers tell that the files don't fit. Files that are no pictures are not judged."""
    for path in (image, label):
        if isinstance(path, str) and not os.path.exists(path):
            raise missing(path)
    size, _ = header_of(image, "image", image_channels)
    if isinstance(label, str) and not label.endswith((".npy", ".npz")):
        label_size, channels = header_of(label, "label")
        shape = label_size if channels == 1 else (*label_size, channels)
        check_mask(np.broadcast_to(np.uint8(0), shape), size, label)


def size_of(image: np.ndarray) -> Tuple[int, int]:
    return image.shape[0], image.shape[1]


def header_of(path: str, what: str, image_channels: int = 3) -> Tuple[Tuple[int, int], int]:
    """(height, width) as OpenCV would read it, and the number of channels."""
    try:
        with Image.open(path) as picture:
            # Turned by a quarter; which of the types the reader turns, and Pillow's size has turned, is its affair.
            if what == "image" and picture.getexif().get(ORIENTATION, 1) >= 5:
                return size_of(read_image(path, image_channels)), image_channels
            if what == "label" and orientation_of(read_bytes(path)) >= 5:
                return size_of(read_label(path)), len(picture.getbands())
            return picture.size[::-1], len(picture.getbands())
    except DataError:
        raise
    except Exception as error:
        if what == "image":         # others read what Pillow doesn't know, fractions and bands for instance
            return size_of(read_image(path, image_channels)), image_channels
        raise DataError(f"cannot read the {what} {path}: {error}", f"{what}s that cannot be read") from error
