"""What is white in a file: of numbers of 16 bits it may be less than 65535, as 4095 of a camera of 12 bits.

A file may say so: a PNG by sBIT, a TIFF by MaxSampleValue or by its bits, a PGM or PPM by its maxval. Of one that says
nothing, 65535 is white.
"""

import re
import struct
from typing import Any, Iterator, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from segrun import bands

LARGEST_OF_TIFF = 281       # tag MaxSampleValue
PNG = b"\x89PNG\r\n\x1a\n"
PNM = re.compile(rb"P[2356](?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+(\d+)\s")


def stored_bits(data: bytes) -> int:
    """Bits of a number in a PNG, a TIFF, a PGM or a PPM; 8 of other files, and where there are no such tags."""
    if data.startswith(PNG):
        return data[24] if len(data) > 24 else 8
    if maxval := PNM.match(data[:1000]):
        return 16 if int(maxval[1]) > 255 else 8
    tags = bands.tiff_tags(data)
    try:
        return 8 if tags is None else int(np.max(tags.get(bands.BITS, 1)))
    except Exception:       # Pillow decodes a tag when it is asked for it, and raises what it meets in damaged ones
        return 8


def said_white(data: bytes) -> Optional[int]:
    """The number that a file says to be the largest that it can hold, where it is not that of its type; else None."""
    if maxval := PNM.match(data[:1000]):
        return int(maxval[1]) if 0 < int(maxval[1]) < 65535 and int(maxval[1]) != 255 else None
    if data.startswith(PNG):
        bits = next((max(content) for kind, content in png_chunks(data) if kind == b"sBIT" and content), 16)
        return (1 << bits) - 1 if stored_bits(data) == 16 and 8 <= bits < 16 else None
    tags, bits = bands.tiff_tags(data), stored_bits(data)
    if tags is None or not 8 < bits <= 16:
        return None
    if bits < 16:
        return (1 << bits) - 1
    try:
        largest = int(np.max(tags.get(LARGEST_OF_TIFF, 65535)))
    except Exception:       # as above
        return None
    # Another number than that of whole bits is the largest in this image, which says nothing of what is white.
    return largest if 255 <= largest < 65535 and (largest & (largest + 1)) == 0 else None


def png_chunks(data: bytes) -> Iterator[Tuple[bytes, bytes]]:
    """Kind and content of each chunk that stands before the pixels."""
    place = len(PNG)
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place:place + 8])
        if kind == b"IDAT":
            return
        yield kind, data[place + 8:place + 8 + length]
        place += 12 + length


def white_of(image: NDArray[Any], data: bytes) -> int:
    """What is white in an image of uint16, as far as the file says it.

    A PNG with sBIT should have its numbers spread over all 16 bits, and many have; they are told from numbers that are
    not by their size, or by the bits below, which are empty where they are spread.
    """
    white = said_white(data)
    if white is None or image.max() > white:
        return 65535
    if data.startswith(PNG):
        bits = white.bit_length()
        below = int((image & ((1 << (16 - bits)) - 1)).max())
        if bits > 12 and below <= (bits < 15):      # by a factor of 65535 / white, 1 may be left there
            return 65535
    return white


def eight_bits(image: NDArray[Any], white: int) -> NDArray[Any]:
    """uint8 of numbers up to `white`: the high 8 bits where it is that of whole bits."""
    if white >= 255 and white & (white + 1) == 0:
        return (image >> (white.bit_length() - 8)).astype(np.uint8)
    shades: NDArray[Any] = np.rint(image.astype(np.float32) * np.float32(255 / white))
    return shades.astype(np.uint8)
