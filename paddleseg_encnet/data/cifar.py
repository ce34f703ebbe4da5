"""CIFAR-10 from the archive that its authors publish, without running the pickles in it."""

import gzip
import pathlib
import re
import tarfile
import zlib
from typing import Dict, Tuple

import numpy as np
from paddleseg.datasets import Dataset
from paddleseg.transforms import Compose

from paddleseg_encnet.registry import register
from paddleseg_encnet.weights.arrays import Budget, CheckpointError, to_array
from paddleseg_encnet.weights.pickle_names import Array
from paddleseg_encnet.weights.unpickle import unpickle
from segrun.errors import DataError

MAX_BYTES = 1 << 26         # of a batch; the real ones have 31 MB
FOLDER = "cifar-10-batches-py"
HOME = "cs.toronto.edu/~kriz/cifar.html"
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "val": ["test_batch"]}


class Cifar10(Dataset):
    """CIFAR-10 as a data set of PaddleSeg: an image's label is a map of one pixel.

    Args:
        transforms: list of PaddleSeg transforms.
        dataset_root: path of cifar-10-python.tar.gz.
        mode: "train" for the 50,000 images of the five training batches, "val" for the 10,000 test images.

    A sample has "img" float32 [3, 32, 32], RGB, and "label" int64 [1, 1].

    Raises:
        DataError: the archive is missing or damaged, or no CIFAR-10.
    """

    NUM_CLASSES = 10
    IGNORE_INDEX = 255
    IMG_CHANNELS = 3

    def __init__(self, transforms: list, dataset_root: str, mode: str = "train"):
        if mode not in BATCHES:
            raise DataError(f'Cifar10 has the modes "train" and "val", got {mode!r}')
        self.mode, self.dataset_root = mode, dataset_root
        self.num_classes, self.ignore_index, self.img_channels = self.NUM_CLASSES, self.IGNORE_INDEX, self.IMG_CHANNELS
        self.edge = False
        self.transforms = Compose(transforms, to_rgb=False)
        self.images, self.labels = read_archive(dataset_root, BATCHES[mode])
        # No string, which would be the path of a file.
        archive = pathlib.PurePath(dataset_root)
        self.file_list = [[archive / f"image {i} of {mode}", label] for i, label in enumerate(self.labels.tolist())]

    def __getitem__(self, index: int) -> dict:
        image = self.images[index].transpose(1, 2, 0).astype("float32")         # [32, 32, 3], 0 to 255
        return {**self.transforms({"img": image, "gt_fields": []}), "label": self.labels[index].reshape(1, 1)}


class RandomShift:
    """A crop of the image's size out of the image with `padding` black pixels around it: CIFAR's usual augmentation.

    Stands before Normalize, as all of PaddleSeg's transforms that fill with a colour do.
    """

    def __init__(self, padding: int = 4):
        self.padding = padding

    def __call__(self, data: dict) -> dict:
        height, width = data["img"].shape[:2]
        padded = np.pad(data["img"], [(self.padding, self.padding)] * 2 + [(0, 0)])
        top, left = np.random.randint(0, 2 * self.padding + 1, size=2)
        data["img"] = padded[top:top + height, left:left + width]
        return data


def read_archive(path: str, names: list) -> Tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N] of the named batches.

    Raises:
        DataError: the file is missing, no tar.gz, damaged, or has not these batches whole.
    """
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            batches = [read_batch(archive, f"{FOLDER}/{name}") for name in names]
            while stream.read(1 << 20):     # to its end, where the checksum stands and tarfile does not come
                pass
    except (gzip.BadGzipFile, tarfile.TarError, zlib.error, EOFError, CheckpointError) as error:
        raise DataError(f"{path} is no cifar-10-python.tar.gz, or damaged: {error}; get it from {HOME}") from error
    except OSError as error:
        raise DataError(f"cannot read {path} ({error.strerror or error}); dataset_root must be the path of "
                        f"cifar-10-python.tar.gz, which is to be had at {HOME}") from error
    images, labels = zip(*batches)
    return np.concatenate(images), np.concatenate(labels)


def read_batch(archive: tarfile.TarFile, name: str) -> Tuple[np.ndarray, np.ndarray]:
    """The images and labels of one member, whose pickle is read by a reader that executes nothing."""
    try:
        member = archive.getmember(name)
    except KeyError:
        raise CheckpointError(f"there is no {name} in it") from None
    if not member.isfile() or member.size > MAX_BYTES:
        raise CheckpointError(f"{name} is no file of at most {MAX_BYTES >> 20} MiB")
    content = archive.extractfile(member)
    assert content is not None      # a file has one
    data = memoryview(content.read())
    budget = Budget(len(data))
    try:
        batch, _ = unpickle(data, budget)
        return arrays(batch, budget)
    except CheckpointError as error:
        seen = re.split("; |, which", str(error))[0]        # the rest is advice for files of weights
        raise CheckpointError(f"{name} {seen}") from error


def arrays(batch: Dict[str, object], budget: Budget) -> Tuple[np.ndarray, np.ndarray]:
    """The dict of a batch, checked."""
    pixels, labels = (batch.get("data"), batch.get("labels")) if isinstance(batch, dict) else (None, None)
    if not isinstance(pixels, Array) or pixels.kind != "uint8" or pixels.fortran or pixels.data is None:
        raise CheckpointError('has no array of bytes under "data"')
    images = to_array(pixels.data, pixels.kind, pixels.shape, budget)
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 10 for label in labels):
        raise CheckpointError('has no list of classes from 0 to 9 under "labels"')
    if images.shape != (len(labels), 3 * 32 * 32):
        raise CheckpointError(f"has {len(labels)} labels for data of shape {list(images.shape)}")
    return images.reshape(-1, 3, 32, 32), np.array(labels, dtype="int64")


register("DATASETS", Cifar10)
register("TRANSFORMS", RandomShift)
