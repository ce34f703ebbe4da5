"""The pixels of an image file, whatever their type, as a network takes them: the one reader of all tools.

OpenCV reads, and Pillow what not every OpenCV reads as it is meant: GIF, AVIF, a WebP that moves or is to be turned,
some TIFF; for a network that takes other than one or three channels bands.py reads. NumPy, OpenCV and Pillow only, and
tifffile where bands.py needs it.
"""

import io
from typing import Optional, Tuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from paddleseg_encnet.pictures import bands

UNREADABLE = "images that cannot be read"
SLACK = 0.02        # beyond 0..1: OpenCV writes floats as LogLuv, which comes back with errors of up to that
TILE_WIDTH, SAMPLE_FORMAT = 322, 339                    # tags of a TIFF
UNASSOCIATED = 2                                        # of the extra channels of a TIFF
LOG_LUV, LAB = (32844, 32845), (8, 9, 10)               # photometric interpretations
OF_FLOATS = (b"PF\n", b"Pf\n", b"#?R", b"\x76\x2f\x31\x01")        # PFM, Radiance, OpenEXR


class PictureError(ValueError):
    """An image file can't be read; says which, what was seen and what to do. `kind` is what such files share."""

    def __init__(self, message: str, kind: str = UNREADABLE):
        super().__init__(message)
        self.kind = kind


class WrongChannels(PictureError):
    """An image has not as many channels as the network takes, but `found`."""

    def __init__(self, path: str, found: int, channels: int):
        super().__init__(f"the image {path} has {found} channel{'s' * (found != 1)}, but in_channels is {channels}: "
                         f"set in_channels to {found}, or give images of {channels}",
                         "images of another number of channels")
        self.found = found


def decode(data: bytes, path: str, channels: int = 3) -> np.ndarray:
    """The image as a network of so many channels takes it.

    One and three are as OpenCV reads them: uint8 [H, W], and uint8 [H, W, 3] in BGR. Any other number is what the file
    has: [H, W, channels] of its own type of number, in its own order, red first.

    For one and three, grey becomes three equal channels and colour grey, a palette its colours, of 16 bits the high 8
    are taken, fractions (float32) count from 0, black, to 1. What is transparent shows the colour below. An EXIF
    orientation is followed, a colour profile is not. Of a moving picture, or of several pages, it is the first.

    Args:
        data: what is in the file.
        path: its name, for the message.

    Raises:
        WrongChannels: it has another number of channels; of one and three, more bands than colours.
        PictureError: it is damaged, cut short, larger than OpenCV reads, or its pixels are of a type that has no such
            meaning, which is told.
    """
    if channels not in (1, 3):
        return with_bands(data, path, channels)
    header = bands.tiff_header(data)
    if header and header[2] not in (None, 1, 3):        # OpenCV leaves out some, or all
        raise WrongChannels(path, header[2], channels)
    try:
        image = of_any_type(data, path, cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise refused_by_opencv(error, path) from error
    if image is None or image.dtype != np.uint8:
        raise PictureError(f"cannot read the image {path}: it is damaged, cut short or no image")
    if is_cut_jpeg(data) or bands.is_cut_tiff(data):
        raise PictureError(f"cannot read the image {path}: it is cut short")
    return image


def refused_by_opencv(error: cv2.error, path: str) -> PictureError:
    if "CV_IO_MAX_IMAGE" not in str(error):
        return PictureError(f"cannot read the image {path}: {error.err}")
    return PictureError(f"the image {path} has more pixels than OpenCV reads, 2^30 unless the environment says "
                        "otherwise: cut it into parts, or set OPENCV_IO_MAX_IMAGE_PIXELS, _WIDTH and _HEIGHT",
                        "images that are too large")


def with_bands(data: bytes, path: str, channels: int) -> np.ndarray:
    try:
        image = bands.decode(data)
    except ValueError as error:
        raise PictureError(f"the image {path} {error}") from error
    except cv2.error as error:
        raise refused_by_opencv(error, path) from error
    if image.shape[2] != channels:
        raise WrongChannels(path, image.shape[2], channels)
    return image


def of_any_type(data: bytes, path: str, flag: int):
    """The image, or None where OpenCV can't decode it."""
    if not data:
        return None
    misread = misread_tiff(data)
    if data.startswith((b"GIF87a", b"GIF89a")) or data[4:12] in (b"ftypavif", b"ftypavis") or is_more_than_webp(data) \
            or misread in ("transparency", "tiles"):
        return in_channels(by_pillow(data, path), flag)
    kind, bits = pixel_type(data)
    if misread == "planes":
        raise PictureError(f"cannot read the image {path}: its channels, of {bits} bits, stand one after the other "
                           "(PlanarConfiguration 2), which OpenCV and Pillow mix up; save it with the channels of a "
                           "pixel together")
    if kind == "CIELAB":
        raise PictureError(f"cannot read the image {path}: its colours are CIELAB, which OpenCV does not read as they "
                           "are meant; save it as RGB")
    if kind == "unsigned" and bits <= 16:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if (kind, bits) != ("float", 32):
        raise PictureError(f"cannot read the image {path}: its pixels are {kind} numbers of {bits} bits; save it with "
                           "8 or 16 bits unsigned, or as float32 from 0 to 1")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return None if image is None else in_channels(from_fractions(image, path), flag)


def pixel_type(data: bytes) -> Tuple[str, int]:
    """Kind and bits of the numbers in a TIFF, where OpenCV takes signed ones for unsigned and integers for floats. Of
    another file, or one whose tags can't be read, it is for OpenCV to judge: 8 unsigned bits."""
    if data.startswith(OF_FLOATS):
        return "float", 32
    tags = bands.tiff_tags(data)
    if tags is None:
        return "unsigned", 8
    try:
        if tags.get(bands.PHOTOMETRIC) in LOG_LUV:
            return "float", 32
        if tags.get(bands.PHOTOMETRIC) in LAB:
            return "CIELAB", 8
        kind = {1: "unsigned", 2: "signed", 3: "float", 4: "unsigned"}.get(int(np.max(tags.get(SAMPLE_FORMAT, 1))))
        return kind or "complex", int(np.max(tags.get(bands.BITS, 1)))
    except Exception:       # Pillow decodes a tag when it is asked for it, and raises what it meets in damaged ones
        return "unsigned", 8


def is_more_than_webp(data: bytes) -> bool:
    """Whether a WebP has several pictures, which OpenCV takes for damaged, or EXIF, of which it knows nothing."""
    return data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8X" and len(data) > 20 and bool(data[20] & 0x0a)


def misread_tiff(data: bytes) -> Optional[str]:
    """What OpenCV reads wrongly in a TIFF: "transparency", multiplied into colours that are whole in the file; "tiles"
    of 16 bits grey, where the image does not fill the last of a row; "planes" of floats, or of 16 bits with
    transparency. None: nothing, or tags that can't be read, which others refuse."""
    tags = bands.tiff_tags(data)
    try:
        bits, kind = (int(np.max(tags.get(tag, 1))) for tag in (bands.BITS, SAMPLE_FORMAT))
        colours = tags.get(bands.PHOTOMETRIC) == bands.RGB
        transparent = colours and kind == 1 and bits in (8, 16) and UNASSOCIATED in tags.get(bands.EXTRA, ())
        in_planes = tags.get(bands.PLANES) == 2 and int(tags.get(bands.SAMPLES, 1)) > 1
        if in_planes and (kind == 3 or transparent and bits == 16):
            return "planes"
        if transparent:
            return "transparency"
        tiles = kind == 1 and bits == 16 and not colours and tags.get(TILE_WIDTH)
        return "tiles" if tiles and tags[bands.WIDTH] % tags[TILE_WIDTH] else None
    except Exception:       # as in pixel_type(); there are no tags
        return None


def from_fractions(image: np.ndarray, path: str) -> np.ndarray:
    """uint8 of floats from 0 to 1."""
    if not (image.min() >= -SLACK and image.max() <= 1 + SLACK):     # so that NaN is refused too
        raise PictureError(f"cannot read the image {path}: its pixels are float32 from {image.min():g} to "
                           f"{image.max():g}, and it does not say what is black and what is white; scale it to 0 to 1, "
                           "or save it with 8 bits")
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def by_pillow(data: bytes, path: str) -> np.ndarray:
    """The first picture of a file, grey or BGR; what is transparent shows the colour below."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16"):
                return (np.array(upright) >> 8).astype(np.uint8)
            return np.array(upright.convert("RGB"))[..., ::-1]
    except Exception as error:      # Pillow raises whatever its decoders do: OSError, SyntaxError, EOFError, ...
        reason = "it is damaged, or this Pillow has no decoder for it; pip install -U pillow, or save it as PNG"
        raise PictureError(f"cannot read the image {path}: {reason}") from error


def in_channels(image: np.ndarray, flag: int) -> np.ndarray:
    """Grey, BGR or BGRA in the channels that the flag asks for, without what is transparent."""
    if image.ndim == 3 and image.shape[2] > 3:
        image = image[..., :3]
    if (flag == cv2.IMREAD_GRAYSCALE) == (image.ndim == 2):
        return np.ascontiguousarray(image)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_BGR2GRAY)


def is_cut_jpeg(data: bytes) -> bool:
    """Whether a JPEG ends inside its pixels. OpenCV fills the rest with grey and says nothing.

    Neither marker occurs in compressed pixels: the start of the last scan must be followed by an end of image.
    """
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
