"""Images of other than one or three channels for segrun/image.py: from the bytes of a file; and how they are shown.

OpenCV reads grey and colour. Of a TIFF with more it multiplies the colours by what it takes
for transparency, or shows the first band alone; so TIFF is tifffile's here. What else has four channels (PNG, WebP) is
OpenCV's. NumPy, OpenCV and Pillow only, and tifffile where there is a TIFF to be read.
"""

import io
import math
import os
import warnings
from typing import Any, Optional, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin

from segrun.errors import joined

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANES, EXTRA = \
    256, 257, 258, 259, 262, 277, 278, 284, 338         # tags
STRIPS, TILES = (273, 279), (324, 325)                  # where they begin, and how many bytes they have
ALPHA, RGB, CMYK = (1, 2), 2, 5        # of EXTRA; of PHOTOMETRIC
MOST = int(os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", 2 ** 30)) * 16      # numbers: what OpenCV reads, of 16 channels
DARKEST, BRIGHTEST = 2, 98      # percentiles of the values that are shown as black and white


def is_tiff(data: bytes) -> bool:
    return data[:4] in TIFF


def decode_bands(data: bytes) -> NDArray[Any]:
    """The image [H, W, C] of a file's content, in the file's own type of number and with its channels in their order:
    R, G, B and what follows. A TIFF whose pages are bands of one size has as many channels.

    Raises:
        ValueError: what is wrong, in words that follow the name of the file.
    """
    if is_tiff(data):
        return from_tiff(data)
    image: Optional[NDArray[Any]] = None
    if data:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("cannot be read: it is damaged, cut short or no image")
    if image.ndim == 2:
        return image[..., np.newaxis]
    return image[..., [2, 1, 0, 3][:image.shape[2]]]        # OpenCV has blue first


def from_tiff(data: bytes) -> NDArray[Any]:
    try:
        import tifffile
    except ImportError as error:
        raise ValueError("is a TIFF of other than one or three channels, which needs tifffile: pip install tifffile") \
            from error
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            check_complete(file.series[0], len(data))
            image: NDArray[Any] = file.series[0].asarray()
            axes: str = file.series[0].axes
    except Exception as error:      # tifffile raises whatever its decoders do; it names a package that it needs
        raise ValueError(f"cannot be read: {joined(str(error)) or type(error).__name__}") from error
    if 0 in image.shape:
        raise ValueError("cannot be read: it has no pixels")
    kept = [i for i, axis in enumerate(axes) if axis in "YX" or image.shape[i] > 1]
    image, axes = image.reshape([image.shape[i] for i in kept]), "".join(axes[i] for i in kept)
    if image.ndim == 2:
        return image[..., np.newaxis]
    if image.ndim != 3 or "Y" not in axes or "X" not in axes:
        raise ValueError(f"has the shape {list(image.shape)} ({axes}): height, width and channels are expected")
    channels = next(i for i, axis in enumerate(axes) if axis not in "YX")
    return np.moveaxis(image, channels, 2)


def check_complete(series: Any, length: int) -> None:
    """Raises ValueError where parts of a TIFF lie beyond the end of its file, or are not there: tifffile has zeros in
    their place."""
    if series.size > MOST:
        raise ValueError(f"it claims to have {series.size:,} numbers")
    for page in series.pages:
        ends = [start + count for start, count in zip(page.dataoffsets, page.databytecounts) if start and count]
        if len(ends) != math.prod(page.chunked) or max(ends) > length:
            raise ValueError("it is cut short")


def tiff_tags(data: bytes) -> Optional[TiffImagePlugin.ImageFileDirectory_v2]:
    """The tags of the first page of a TIFF; None of another file, or where they are damaged."""
    if not is_tiff(data):
        return None
    try:
        begin = 16 if data[2:3] in b"+" or data[3:4] in b"+" else 8         # BigTIFF's is longer
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:begin])
        file = io.BytesIO(data)
        file.seek(tags.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")         # of what is wrong with tags that nobody asks for
            tags.load(file)
        return tags
    except Exception:       # Pillow raises whatever it stumbles over: SyntaxError, struct.error, KeyError, ...
        return None


def tiff_header(data: bytes) -> Optional[Tuple[int, int, Optional[int]]]:
    """(height, width, channels) of the first page of a TIFF, from its tags: a channel that is alpha is not counted, nor
    the fourth of RGB that nothing is said of, as libtiff has it; of CMYK the number is None, as OpenCV makes colours of
    it. None if there are no such tags.

    Args:
        data: the file's bytes.
    """
    tags = tiff_tags(data)
    if tags is None:
        return None
    try:
        height, width, channels = int(tags[HEIGHT]), int(tags[WIDTH]), int(tags.get(SAMPLES, 1))
        kind = tags.get(PHOTOMETRIC)
        alpha = sum(value in ALPHA for value in tags.get(EXTRA, ALPHA[:1] if (kind, channels) == (RGB, 4) else ()))
    except Exception:       # there are not these tags, or damaged ones, which Pillow decodes only here
        return None
    return height, width, None if kind == CMYK else channels - alpha


def is_cut_tiff(data: bytes) -> bool:
    """Whether pixels of a TIFF without compression lie beyond the end of the file: OpenCV may then have what was in the
    memory. Compressed ones it can't decode."""
    tags = tiff_tags(data)
    try:
        if tags is None or tags.get(COMPRESSION, 1) != 1:
            return False
        if TILES[0] in tags:
            parts = [start + count for start, count in zip(tags[TILES[0]], tags[TILES[1]])]
        else:
            height, bits = tags[HEIGHT], int(np.sum(tags.get(BITS, 1)))
            planes = int(tags.get(SAMPLES, 1)) if tags.get(PLANES) == 2 else 1
            row, rows = -(-tags[WIDTH] * bits // planes // 8), min(tags.get(ROWS, height), height)
            firsts = [i % -(-height // rows) * rows for i in range(len(tags[STRIPS[0]]))]
            # The last may be said to be as long as the others.
            parts = [start + min(count, row * (height - first)) for first, start, count in
                     zip(firsts, tags[STRIPS[0]], tags[STRIPS[1]])]
        return bool(max(parts) > len(data))
    except Exception:       # there are no such tags, or damaged ones
        return False


def shown(image: NDArray[Any]) -> NDArray[Any]:
    """An image as a picture, RGB uint8 [H, W, 3].

    Args:
        image: [H, W] grey; [H, W, 3] in BGR, as OpenCV has it; or [H, W, C] of any type, of which the first three
            channels are shown as red, green and blue, or the first one as grey if there are but two. Other numbers than
            8 bits are stretched: of all values the darkest 2 % are black, the brightest 2 % as bright as can be.
    """
    if image.ndim == 3 and image.shape[2] == 3:
        return to_bytes(image[..., ::-1])
    if image.ndim == 3:
        image = image[..., :3] if image.shape[2] > 3 else image[..., 0]
    image = to_bytes(image)
    return image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)


def to_bytes(image: NDArray[Any]) -> NDArray[Any]:
    if image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    image = np.nan_to_num(image.astype("float32"))
    low, high = np.percentile(image, [DARKEST, BRIGHTEST])
    stretched: NDArray[Any] = np.clip((image - low) * (255 / max(high - low, 1e-12)), 0, 255)
    return stretched.astype(np.uint8)
