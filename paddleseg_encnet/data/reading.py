"""Images and labels as arrays, or an error that names the file.

What a data set reads, it reads by the reader that its transforms have, `reader_of`: the files themselves, or a cache
of them (data/cache.py) where `read_by` has given it one.
"""

import copy
from typing import Any, Tuple

import numpy as np
from paddleseg.transforms import Compose
from PIL import Image, ImageOps, UnidentifiedImageError

from paddleseg_encnet.data.file_doubts import ORIENTATION
from segrun.errors import DataError
from segrun.image import read_file
from segrun.raw_files import missing


def read_image(path: str, channels: int = 3) -> np.ndarray:
    """The image as a network of so many channels takes it: of three uint8 [H, W, 3] in BGR, of one uint8 [H, W], else
    [H, W, channels] of the file's type of number. segrun/image.py says what becomes of grey, palettes, 16 bits,
    fractions and transparency.

    Raises:
        DataError: there is no such file, or it is damaged, cut short, larger than OpenCV reads, of a type of pixels
            that is not read, or of another number of channels.
    """
    return read_file(path, channels)


def read_label(path: str) -> np.ndarray:
    """The label as PaddleSeg reads it: [H, W], for a palette image its indices, for a colour picture [H, W, C]. Whole
    numbers that 8 bits hold become uint8, however many bits they have in the file. Its EXIF orientation is followed, as
    an image's is.

    Raises:
        DataError: there is no such file, or it is damaged or cut short, or holds fractions.
    """
    try:
        label = np.array(upright(path))
    except FileNotFoundError:
        raise missing(path) from None
    except Exception as error:      # Pillow raises whatever its decoders do: OSError, SyntaxError, EOFError, ...
        why = "it is damaged or no image" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"cannot read the label {path}: {why}", "labels that cannot be read") from error
    if label.dtype.kind == "f":
        raise DataError(f"the label {path} has pixels of type {label.dtype}: class ids are whole numbers; save it with "
                        "8 bits", "labels of fractions")
    if label.dtype != np.uint8 and label.min() >= 0 and label.max() <= 255:
        label = label.astype(np.uint8)
    return label


def upright(path: str) -> Image.Image:
    """The picture in a file, decoded, as its EXIF orientation has it; whatever Pillow raises where it is none."""
    # Given the path, Pillow 13 maps a TIFF into memory and turns it before it knows how long its rows are.
    with open(path, "rb") as file, Image.open(file) as image:
        image.load()        # which turns a TIFF
        return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image.copy()


class Reader:
    """Reads the files themselves."""

    def image(self, path: str, channels: int = 3) -> np.ndarray:
        """As read_image()."""
        return read_image(path, channels)

    def label(self, path: str) -> np.ndarray:
        """As read_label()."""
        return read_label(path)


FILES = Reader()


def reader_of(transforms: Any) -> Reader:
    """What the transforms of a data set read with."""
    return getattr(transforms, "reader", FILES)


def read_by(reader: Reader, dataset: Any) -> Any:
    """The data set, which is not changed, as one that reads with this reader. One whose transforms are not PaddleSeg's
    Compose reads for itself and stays as it is."""
    if not isinstance(dataset.transforms, Compose):
        return dataset
    view = copy.copy(dataset)
    view.transforms = copy.copy(dataset.transforms)
    view.transforms.reader = reader
    return view


def check_mask(label: np.ndarray, image_size: Tuple[int, ...], name: str) -> None:
    """Raises DataError where a label that was just read is no mask of class ids of its image's size.

    Args:
        label: the array as read.
        image_size: (height, width) of the image.
        name: the label's path, for the message.
    """
    if label.ndim != 2:
        raise DataError(
            f"the label {name} has shape {label.shape}: it must be a mask with one channel of class ids, not a colour "
            "picture; replace each colour by its class id", "labels that are colour pictures")
    if label.dtype.kind == "u" and label.dtype.itemsize == 2:
        raise DataError(
            f"the label {name} has 16 bits a pixel and values up to {label.max()}, which Paddle takes for another type "
            "of number and turns into 0; class ids go up to 255: save it with 8 bits",
            "labels with 16 bits a pixel and values above 255")
    if label.shape != tuple(image_size):
        turned = " (does an EXIF orientation turn the image? OpenCV follows it)"
        raise DataError(f"the label {name} is {label.shape[1]} x {label.shape[0]}, its image "
                        f"{image_size[1]} x {image_size[0]}; they must have one size"
                        f"{turned if label.shape == tuple(image_size[::-1]) else ''}",
                        "labels of another size than their image")
