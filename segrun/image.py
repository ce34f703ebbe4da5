"""An image from any source to the pixels that a network takes: a file, bytes, an array, a PIL image, frames of a video.

OpenCV reads, and Pillow what not every OpenCV reads as it is meant: GIF, AVIF, a WebP that moves or is to be turned,
some TIFF; for a network that takes other than one or three channels bands.py reads. NumPy, OpenCV and Pillow only, and
tifffile where bands.py needs it.
"""

import io
import os
from typing import Any, Iterator, Optional, Tuple, Union

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from segrun import bands
from segrun.errors import DataError
from segrun.pixel_ranges import eight_bits, said_white, stored_bits, white_of
from segrun.raw_files import read_bytes

# Pillow refuses twice that many pixels: what OpenCV reads of images, it is to read of labels. Set for good, as it is no
# one's but the process's.
Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, int(os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", 2 ** 30)))
UNREADABLE = "images that cannot be read"
SLACK = 0.02        # beyond 0..1: OpenCV writes floats as LogLuv, which comes back with errors of up to that
TILE_WIDTH, SAMPLE_FORMAT = 322, 339                    # tags of a TIFF
UNASSOCIATED = 2                                        # of the extra channels of a TIFF
LOG_LUV, LAB = (32844, 32845), (8, 9, 10)               # photometric interpretations
OF_FLOATS = (b"PF\n", b"Pf\n", b"#?R", b"\x76\x2f\x31\x01")        # PFM, Radiance, OpenEXR


class PictureError(DataError):
    """An image file can't be read; says which, what was seen and what to do."""

    def __init__(self, message: str, kind: str = UNREADABLE):
        super().__init__(message, kind)


class WrongChannels(PictureError):
    """An image has not as many channels as the network takes, but `found`."""

    def __init__(self, path: str, found: int, channels: int):
        super().__init__(f"the image {path} has {found} channel{'s' * (found != 1)}, but in_channels is {channels}: "
                         f"set in_channels to {found}, or give images of {channels}",
                         "images of another number of channels")
        self.path, self.found = path, found


def decode_image(data: bytes, path: str, channels: int = 3) -> NDArray[Any]:
    """The image as a network of so many channels takes it.

    One and three are as OpenCV reads them: uint8 [H, W], and uint8 [H, W, 3] in BGR. Any other number is what the file
    has: [H, W, channels] of its own type of number, in its own order, red first.

    For one and three, grey becomes three equal channels and colour grey, a palette its colours, of 16 bits, or of fewer
    where the file says so (pixel_ranges.py), the high 8 are taken, fractions (float32) count from 0, black, to 1. What
    is transparent shows the colour below. An EXIF orientation is followed, a colour profile is not. Of a moving
    picture, or of several pages, it is the first.

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
    if header and header[2] is not None and header[2] not in (1, 3):        # OpenCV leaves out some, or all
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


def largest_of_16_bits(path: str) -> Optional[int]:
    """The largest number in an image of 16 bits that says nothing of what is white in it; None of other files."""
    data = read_bytes(path)
    if stored_bits(data) != 16 or said_white(data) is not None or pixel_type(data)[0] != "unsigned":
        return None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return int(image.max()) if image is not None and image.dtype == np.uint16 else None


def refused_by_opencv(error: cv2.error, path: str) -> PictureError:
    if "CV_IO_MAX_IMAGE" not in str(error):
        return PictureError(f"cannot read the image {path}: {error.err}")
    return PictureError(f"the image {path} has more pixels than OpenCV reads, 2^30 unless the environment says "
                        "otherwise: cut it into parts, or set OPENCV_IO_MAX_IMAGE_PIXELS, _WIDTH and _HEIGHT",
                        "images that are too large")


def with_bands(data: bytes, path: str, channels: int) -> NDArray[Any]:
    try:
        image = bands.decode_bands(data)
    except ValueError as error:
        raise PictureError(f"the image {path} {error}") from error
    except cv2.error as error:
        raise refused_by_opencv(error, path) from error
    if image.shape[2] != channels:
        raise WrongChannels(path, image.shape[2], channels)
    return image


def of_any_type(data: bytes, path: str, flag: int) -> Optional[NDArray[Any]]:
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
    image: Optional[NDArray[Any]]
    if kind == "unsigned" and 8 < bits < 16:         # which OpenCV reads, refuses or scales, by its version
        return in_channels(by_pillow(data, path), flag)
    if kind == "unsigned" and bits <= 16:
        if said_white(data) is None:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
            return image
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_ANYDEPTH)
        return None if image is None else eight_bits(image, white_of(image, data))
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
    if tags is None:
        return None
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
    except Exception:       # as in pixel_type()
        return None


def from_fractions(image: NDArray[Any], path: str) -> NDArray[Any]:
    """uint8 of floats from 0 to 1."""
    if not (image.min() >= -SLACK and image.max() <= 1 + SLACK):     # so that NaN is refused too
        raise PictureError(f"cannot read the image {path}: its pixels are float32 from {image.min():g} to "
                           f"{image.max():g}, and it does not say what is black and what is white; scale it to 0 to 1, "
                           "or save it with 8 bits")
    shades: NDArray[Any] = np.rint(255 * np.clip(image, 0, 1))
    return shades.astype(np.uint8)


def by_pillow(data: bytes, path: str) -> NDArray[Any]:
    """The first picture of a file, grey or BGR; what is transparent shows the colour below."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16"):
                values = np.array(upright)
                return eight_bits(values, white_of(values, data))
            return np.array(upright.convert("RGB"))[..., ::-1]
    except Exception as error:      # Pillow raises whatever its decoders do: OSError, SyntaxError, EOFError, ...
        reason = "it is damaged, or this Pillow has no decoder for it; pip install -U pillow, or save it as PNG"
        raise PictureError(f"cannot read the image {path}: {reason}") from error


def in_channels(image: NDArray[Any], flag: int) -> NDArray[Any]:
    """Grey, BGR or BGRA in the channels that the flag asks for, without what is transparent."""
    if image.ndim == 3 and image.shape[2] > 3:
        image = image[..., :3]
    if (flag == cv2.IMREAD_GRAYSCALE) == (image.ndim == 2):
        return np.ascontiguousarray(image)
    converted: NDArray[Any] = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_BGR2GRAY)
    return converted


def is_cut_jpeg(data: bytes) -> bool:
    """Whether a JPEG ends inside its pixels. OpenCV fills the rest with grey and says nothing.

    Neither marker occurs in compressed pixels: the start of the last scan must be followed by an end of image.
    """
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


# --- other sources than files -----------------------------------------------------------------------------------------

ImageLike = Union[str, "os.PathLike[str]", bytes, NDArray[Any], Image.Image]
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")


def read_file(path: str, channels: int = 3) -> NDArray[Any]:
    """decode_image() of a file. DataError: there is none, or it can't be read."""
    return decode_image(read_bytes(path), path, channels)


def pixels_of(image: ImageLike, where: str, channels: int = 3) -> NDArray[Any]:
    """An image as decode_image() has it for a network of so many channels. `where` is what an error calls it.

    Raises:
        FileNotFoundError: there is no such file.
        DataError: the file can't be read.
        TypeError, ValueError: an array of other numbers or of another shape, or no image at all.
    """
    if isinstance(image, (str, os.PathLike)):
        path = os.fspath(image)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no image {path}" + (", it is a folder" if os.path.isdir(path) else ""))
        return read_file(path, channels)
    if isinstance(image, bytes):
        return decode_image(image, where, channels)
    if isinstance(image, Image.Image):
        image = of_pil(image, where, channels)
    elif not isinstance(image, np.ndarray):
        raise TypeError(f"{where} is a {type(image).__name__}; give a path, the bytes of a file, an array uint8 "
                        "[H, W, 3] in RGB, a PIL image or a list of these")
    if channels != 3:
        check_bands(image, where, channels)
        return np.ascontiguousarray(image)
    check_image(image, where)
    pixels: NDArray[Any] = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    return pixels


def of_pil(image: Image.Image, where: str, channels: int) -> NDArray[Any]:
    """RGB, or grey for one channel, of a PIL image, which may be grey, of a palette, or transparent."""
    if channels not in (1, 3):
        raise ValueError(f"{where} is a PIL image, the network takes {channels} channels (in_channels): give a path or "
                         f"an array [H, W, {channels}]")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{where} is a PIL image of mode {image.mode}, whose values go beyond 255: scale them and "
                         "make it one of mode L or RGB")
    return np.asarray(image.convert("RGB" if channels == 3 else "L"))


def check_bands(image: NDArray[Any], where: str, channels: int) -> None:
    """Raises TypeError or ValueError where an array is no image for a network of so many channels, not three."""
    if image.dtype.kind not in "uif" or (channels == 1 and image.dtype != np.uint8):
        raise TypeError(f"{where} is an array of {image.dtype}: it must be "
                        f"{'uint8, from 0 to 255' if channels == 1 else 'of numbers as the images of the training'}")
    if image.ndim != (2 if channels == 1 else 3) or image.shape[2:] not in ((), (channels,)) or 0 in image.shape:
        raise ValueError(f"{where} is an array of shape {list(image.shape)}: it must be "
                         f"{'[H, W]' if channels == 1 else f'[H, W, {channels}]'}, as the network has in_channels "
                         f"{channels}")


def check_image(image: NDArray[Any], where: str) -> None:
    """Raises TypeError or ValueError where an array is no image uint8 [H, W, 3]."""
    if image.dtype != np.uint8:
        advice = "; if its values go from 0 to 1, (255 * image).round().astype('uint8') is one" \
            if image.dtype.kind == "f" else ""
        raise TypeError(f"{where} is an array of {image.dtype}: it must be uint8, RGB from 0 to 255{advice}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"{where} is an array of shape {list(image.shape)}: it must be [H, W, 3], RGB"
                         f"{advice_on(image.shape)}")


def advice_on(shape: Tuple[int, ...]) -> str:
    """What may help where an array's shape is that of something else."""
    if 0 in shape:
        return ", with at least one pixel"
    if len(shape) == 2:
        return "; np.stack([image] * 3, axis=2) makes one of grey values"
    if len(shape) == 4:
        return "; of a batch give a list of its images, list(images)"
    if len(shape) == 3 and shape[2] == 1:
        return "; image.repeat(3, axis=2) makes one of grey values"
    if len(shape) == 3 and shape[2] == 4:
        return "; of RGBA take image[..., :3]"
    if len(shape) == 3 and shape[0] == 3:
        return "; of [3, H, W] take image.transpose(1, 2, 0)"
    return ""


def is_video(path: str) -> bool:
    return os.path.isfile(path) and path.lower().endswith(VIDEOS)


def frames_of(path: str) -> Iterator[NDArray[Any]]:
    """The frames of a video, uint8 [H, W, 3], RGB. DataError: there is none."""
    video, read = cv2.VideoCapture(path), 0
    try:
        while True:
            there, frame = video.read()
            if not there:
                break
            read += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        video.release()
    if not read:
        raise DataError(f"cannot read a frame of {path}: it is empty or damaged")
