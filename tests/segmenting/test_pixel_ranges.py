"""Images whose numbers have fewer bits than their type: read as the file says, at the brightness that is meant."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile

from segrun import pixel_ranges
from segrun.image import decode_image, largest_of_16_bits

TWELVE = np.linspace(0, 4095, 64 * 48).reshape(48, 64).astype(np.uint16)
MEANT = (TWELVE >> 4).astype(np.uint8)


def colour(values: np.ndarray) -> np.ndarray:
    return np.dstack([values] * 3)


def png(values: np.ndarray, *significant: int) -> bytes:
    """A PNG whose sBIT says so many bits."""
    data = cv2.imencode(".png", values)[1].tobytes()
    chunk = b"sBIT" + bytes(significant)
    place = data.index(b"IDAT") - 4
    return data[:place] + struct.pack(">I", len(significant)) + chunk + struct.pack(">I", zlib.crc32(chunk)) \
        + data[place:]


def tiff(values: np.ndarray, largest: int) -> bytes:
    channels = 1 if values.ndim == 2 else 3
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="minisblack" if channels == 1 else "rgb",
                     extratags=[(281, "H", channels, (largest,) * channels, True)])
    return file.getvalue()


def packed_tiff(values: np.ndarray) -> bytes:
    """A TIFF of 12 bits a pixel, two in three bytes."""
    height, width = values.shape
    pairs = values.reshape(-1, 2).astype(np.uint32)
    whole = (pairs[:, 0] << 12) | pairs[:, 1]
    strip = np.stack([whole >> 16, whole >> 8, whole], 1).astype(np.uint8).tobytes()
    tags = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8 + 2 + 9 * 12 + 4), (277, 1),
            (278, height), (279, len(strip))]
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + struct.pack("<I", 0) + strip


FILES = {
    "PNG, grey": png(TWELVE, 12), "PNG": png(colour(TWELVE), 12, 12, 12),
    "PNG that spreads its bits, grey": png((TWELVE << 4) | (TWELVE >> 8), 12),
    "PNG that spreads its bits": png(colour((TWELVE << 4) | (TWELVE >> 8)), 12, 12, 12),
    "TIFF, grey": tiff(TWELVE, 4095), "TIFF": tiff(colour(TWELVE), 4095), "TIFF of 12 bits": packed_tiff(TWELVE),
    "PGM": b"P5\n# a camera\n64 48\n4095\n" + TWELVE.astype(">u2").tobytes(),
    "PPM": b"P6 64 48 4095\n" + colour(TWELVE).astype(">u2").tobytes(),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", FILES)
def test_twelve_bits_are_as_bright_as_they_are_meant(kind, channels):
    seen = decode_image(FILES[kind], kind, channels)
    assert seen.shape == MEANT.shape + (() if channels == 1 else (3,))
    for values in [seen] if channels == 1 else seen.transpose(2, 0, 1):
        # Grey of colours is a sum of rounded products.
        np.testing.assert_allclose(values.astype(int), MEANT, atol=1 if channels == 1 and kind in (
            "PNG", "PNG that spreads its bits", "TIFF", "PPM") else 0)


@pytest.mark.parametrize("bits", [9, 10, 14, 15])
def test_other_numbers_of_bits(bits):
    values = np.linspace(0, 2 ** bits - 1, 64 * 48).reshape(48, 64).astype(np.uint16)
    np.testing.assert_array_equal(decode_image(png(values, bits), "x", 1), values >> (bits - 8))


@pytest.mark.parametrize("data", [
    png((TWELVE >> 2) << 2, 14),        # a night of 14 bits that are spread: the two below are empty
    tiff(TWELVE, 65535), tiff(TWELVE, 4000), tiff(TWELVE, 2047),    # no range, the largest here, less than that
    cv2.imencode(".png", TWELVE)[1].tobytes()])
def test_what_the_file_does_not_say_is_not_guessed(data):
    np.testing.assert_array_equal(decode_image(data, "x", 1), TWELVE >> 8)


def test_a_pgm_of_few_greys():
    data = b"P5 2 1 100\n" + bytes([0, 100])
    assert decode_image(data, "x", 1).tolist() == [[0, 255]]


@pytest.mark.parametrize("cut", range(8, 80, 3))
def test_a_cut_file_is_no_crash(cut):
    for kind in ("PNG", "TIFF of 12 bits", "PGM"):
        pixel_ranges.said_white(FILES[kind][:cut])
        pixel_ranges.stored_bits(FILES[kind][:cut])


def test_the_largest_number_of_16_bits(tmp_path):
    def largest(data: bytes):
        (tmp_path / "x").write_bytes(data)
        return largest_of_16_bits(str(tmp_path / "x"))
    assert largest(cv2.imencode(".png", colour(TWELVE))[1].tobytes()) == 4095
    assert largest(tiff(TWELVE, 65535)) == 4095
    assert largest(png(TWELVE, 12)) is largest(cv2.imencode(".png", MEANT)[1].tobytes()) is largest(b"") is None
