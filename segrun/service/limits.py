"""What a request may ask for: bytes, pixels, places in the queue, seconds. Whatever goes beyond is Refused."""

import io
import ipaddress
import warnings
from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

from fastapi import Request
from PIL import Image

MOST_PIXELS = 1024 * 1024 * 1024 // 4 // 3      # Pillow's own limit, beyond which it warns of headers
MOST_CONNECTIONS, OTHER_FILES = 2000, 200   # open at a time, where the system grants so many
HEAD_TIME, SEND_TIME, LINGER = 10.0, 10.0, 2.0      # seconds for a request's head, for its answer, for a refused body
MIN_RATE = 1024.0                           # bytes a second, of a body
LONGEST_MESSAGE = 300

# What is predicted, of all that segrun/image.py reads: Pillow tells their sizes without decoding them.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")


@dataclass(frozen=True)
class Limits:
    """max_bytes: of a body. max_pixels: of an image. queue: requests whose body is here, those that wait and the one
    that is predicted. queue_time, body_time: seconds that one may wait, that a body may take. min_rate: bytes a second
    with which a body must come."""
    max_bytes: int = 16 << 20
    max_pixels: int = 4 << 20
    queue: int = 32
    queue_time: float = 10.0
    body_time: float = 10.0
    min_rate: float = MIN_RATE


class Refused(Exception):
    """Why a request gets no prediction, in a line that the client reads, and the status that says it by number."""

    def __init__(self, status: int, message: str, retry_after: Optional[int] = None):
        super().__init__(" ".join(message.split())[:LONGEST_MESSAGE])
        self.status, self.retry_after = status, retry_after


class Size(NamedTuple):
    height: int
    width: int


def check_kind(request: Request) -> None:
    """Raises Refused where the head says that the body is no image."""
    kind = request.headers.get("content-type", "application/octet-stream").split(";")[0].strip().lower()
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise Refused(415, f"the body must be the bytes of an image, with Content-Type image/... or "
                           f"application/octet-stream, not {kind[:80]}")
    coding = request.headers.get("content-encoding", "identity").lower()
    if coding != "identity":
        raise Refused(415, f"the body comes with Content-Encoding {coding[:80]}; send the image's bytes as they are")


def address_of(client: Optional[Tuple[str, int]]) -> str:
    """Whose a connection is: an address, or of IPv6 a network's 64 bits, in which anybody has as many as they like."""
    host = client[0] if client else ""
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return host


def check_header(data: bytes, limits: Limits) -> Size:
    """The size that an image claims to have, before anything of it is decoded: what a few bytes claim may take
    gigabytes.

    Raises:
        Refused: it has too many pixels, or is no image that is predicted here.
    """
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN]) as picture:
                width, height = picture.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused(413, f"the image has more than the {limits.max_pixels} pixels that are taken") from None
    except Exception:       # Pillow raises whatever its plugins do: OSError, SyntaxError, struct.error, ...
        raise Refused(422, f"the body is no image that can be read; there are {', '.join(FORMATS)}") from None
    if height * width > limits.max_pixels:
        raise Refused(413, f"the image has {width} x {height} pixels, more than the {limits.max_pixels} that are taken")
    return Size(height, width)
