"""Images and labels as arrays, or an error that names the file."""

import os
from typing import Tuple

import cv2
import numpy as np
from PIL import Image

from paddleseg_encnet.pictures import bands


class DataError(ValueError):
    """A file of the data set is missing or wrong; says which, what was seen and what to do.

    `kind` is what files with the same fault share, so that thousands of them can be told in one line.
    """

    def __init__(self, message: str, kind: str = "wrong files"):
        super().__init__(message)
        self.kind = kind


def read_image(path: str, channels: int = 3) -> np.ndarray:
    """The image as a network of so many channels takes it.

    One and three are as OpenCV reads them: uint8 [H, W], and uint8 [H, W, 3] in BGR. Grey becomes three equal channels
    and colour grey, a palette its colours, of 16 bits the high 8 are taken, and what is transparent shows the colour
    below. An EXIF orientation is followed. Any other number is what the file has: [H, W, channels] of its own type of
    number, in its own order.

    Raises:
        DataError: there is no such file, or it is damaged, cut short or larger than OpenCV reads; or it has another
            number of channels.
    """
    data = read_bytes(path)
    if channels in (1, 3):
        return as_opencv_reads(path, data, channels)
    try:
        image = bands.decode(data)
    except ValueError as error:
        raise DataError(f"the image {path} {error}", "images that cannot be read") from error
    if image.shape[2] != channels:
        raise wrong_channels(path, image.shape[2], channels)
    return image


def as_opencv_reads(path: str, data: bytes, channels: int) -> np.ndarray:
    header = bands.tiff_header(data) if bands.is_tiff(data) else None
    if header and header[2] not in (None, 1, 3):        # OpenCV leaves out some, or all
        raise wrong_channels(path, header[2], channels)
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" not in str(error):
            raise DataError(f"cannot read the image {path}: {error.err}", "images that cannot be read") from error
        raise DataError(f"the image {path} has more pixels than OpenCV reads, 2^30 unless the environment says "
                        "otherwise: cut it into parts, or set OPENCV_IO_MAX_IMAGE_PIXELS, _WIDTH and _HEIGHT",
                        "images that are too large") from error
    if image is None:
        raise DataError(f"cannot read the image {path}: it is damaged, cut short or no image",
                        "images that cannot be read")
    if is_cut_jpeg(data):
        raise DataError(f"cannot read the image {path}: it is cut short", "images that cannot be read")
    return image


def wrong_channels(path: str, found: int, channels: int) -> DataError:
    return DataError(f"the image {path} has {found} channel{'s' * (found != 1)}, but in_channels is {channels}: set "
                     f"in_channels to {found}, or give images of {channels}", "images of another number of channels")


def read_label(path: str) -> np.ndarray:
    """The label as PaddleSeg reads it: [H, W], for a palette image its indices, for a colour picture [H, W, C].

    Raises:
        DataError: there is no such file, or it is damaged or cut short.
    """
    if not os.path.exists(path):
        raise missing(path)
    try:
        with Image.open(path) as image:
            label = np.array(image)
    except Exception as error:      # Pillow raises whatever its decoders do: OSError, SyntaxError, EOFError, ...
        raise DataError(f"cannot read the label {path}: {error}", "labels that cannot be read") from error
    return label.astype(np.uint8) if label.dtype == bool else label     # a mask of 1 bit a pixel


def read_bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "files that cannot be opened") from error


def missing(path: str) -> DataError:
    return DataError(f"there is no file {path}, which the data set lists", "files that do not exist")


def is_cut_jpeg(data: bytes) -> bool:
    """Whether a JPEG ends inside its pixels. OpenCV fills the rest with grey and says nothing.

    Neither marker occurs in compressed pixels: the start of the last scan must be followed by an end of image.
    """
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


def check_mask(label: np.ndarray, image_size: Tuple[int, int], name: str):
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
    if label.dtype == np.uint16:
        raise DataError(
            f"the label {name} has 16 bits a pixel, which Paddle takes for another type of number and turns into 0; "
            "save it with 8 bits", "labels with 16 bits a pixel")
    if label.shape != tuple(image_size):
        turned = " (does an EXIF orientation turn the image? OpenCV follows it)"
        raise DataError(f"the label {name} is {label.shape[1]} x {label.shape[0]}, its image "
                        f"{image_size[1]} x {image_size[0]}; they must have one size"
                        f"{turned if label.shape == tuple(image_size[::-1]) else ''}",
                        "labels of another size than their image")
