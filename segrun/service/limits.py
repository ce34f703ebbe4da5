"""What a request may ask for: bytes, pixels, places in the queue, seconds. Whatever goes beyond is Refused."""

import asyncio
import io
import warnings
from dataclasses import dataclass
from typing import NamedTuple, Optional

from fastapi import Request
from PIL import Image

MOST_PIXELS = 1024 * 1024 * 1024 // 4 // 3      # Pillow's own limit, beyond which it warns of headers
MOST_CONNECTIONS = 900                      # systems commonly grant 1024 open files
HEAD_TIME, SEND_TIME, LINGER = 10.0, 10.0, 2.0      # seconds for a request's head, for its answer, for a refused body
LONGEST_MESSAGE = 300
TURNS = 3       # of the event loop, in which a part of a body that the system has reaches who waits for it

# What is predicted, of all that segrun/image.py reads: Pillow tells their sizes without decoding them.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")


@dataclass(frozen=True)
class Limits:
    """max_bytes: of a body. max_pixels: of an image. queue: requests at a time, those whose body still comes, those
    that wait and the one that is predicted. queue_time, body_time: seconds that one may wait, that a body may take."""
    max_bytes: int = 16 << 20
    max_pixels: int = 4 << 20
    queue: int = 32
    queue_time: float = 10.0
    body_time: float = 10.0


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


async def body_of(request: Request, limits: Limits) -> bytes:
    """The whole body.

    Raises:
        Refused: it is empty, too large or too slow.
        ClientDisconnect: the client ended before.
    """
    too_large = Refused(413, f"the body has more than the {limits.max_bytes} bytes that are taken")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.max_bytes:
        raise too_large
    body = bytearray()

    async def receive() -> None:
        async for part in request.stream():
            if len(body) + len(part) > limits.max_bytes:
                raise too_large
            body.extend(part)

    async def nothing_more() -> None:
        """Until its time is over and nothing more of it is here: a busy service reads late what came in time."""
        await asyncio.sleep(limits.body_time)
        seen = -1
        while seen < len(body):
            seen = len(body)
            for _ in range(TURNS):
                await asyncio.sleep(0)

    receiving, waiting = asyncio.ensure_future(receive()), asyncio.ensure_future(nothing_more())
    try:
        await asyncio.wait([receiving, waiting], return_when=asyncio.FIRST_COMPLETED)
        if not receiving.done():
            raise Refused(408, f"the body was not there after {limits.body_time:g} s")
        receiving.result()
    finally:
        receiving.cancel()
        waiting.cancel()
    if not body:
        raise Refused(400, "the body is empty: it must be the bytes of an image")
    return bytes(body)


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
