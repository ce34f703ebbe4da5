"""Image and label files of every type of pixel that people have, with what they show: for tests of the reader."""

import io
from typing import Callable, Dict, NamedTuple

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps


class Kind(NamedTuple):
    """write(colours uint8 [H, W, 3] RGB, transparency uint8 [H, W]) -> bytes of a file; shows(colours) -> what is to be
    read of it, RGB."""
    write: Callable
    shows: Callable = lambda colours: colours


def saved(picture: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def grey(colours: np.ndarray) -> np.ndarray:
    return np.repeat(colours[..., :1], 3, axis=2)


def two(colours: np.ndarray) -> np.ndarray:
    return np.where(grey(colours) > 127, np.uint8(255), np.uint8(0))


# --- PNG and what Pillow writes --------------------------------------------------------------------------------------

PALETTE = np.random.default_rng(3).permutation(256 * 3).reshape(256, 3).astype(np.uint8)


def indexed(colours: np.ndarray) -> Image.Image:
    """A palette picture: its colours are PALETTE's."""
    picture = Image.fromarray(np.ascontiguousarray(colours[..., 0]), "P")
    picture.putpalette(PALETTE.tobytes())
    return picture


def of_palette(colours: np.ndarray) -> np.ndarray:
    return PALETTE[colours[..., 0]]


def pillow(format: str, mode: str, **options) -> Callable:
    def write(colours, alpha):
        first = colours[..., 0]
        picture = {
            "1": lambda: Image.fromarray(first > 127), "L": lambda: Image.fromarray(first),
            "LA": lambda: Image.fromarray(np.dstack([first, alpha]), "LA"), "P": lambda: indexed(colours),
            "RGB": lambda: Image.fromarray(colours), "RGBA": lambda: Image.fromarray(np.dstack([colours, alpha])),
            "CMYK": lambda: Image.fromarray(np.dstack([255 - colours, 0 * alpha]), "CMYK"),
            "I;16": lambda: Image.fromarray(first.astype(np.uint16) * 257)}[mode]()
        return saved(picture, format, **options)
    return write


def turned(format: str, orientation: int, **options) -> Callable:
    """A picture that its EXIF turns back to these colours."""
    def write(colours, alpha):
        exif = Image.Exif()
        exif[274] = orientation
        back = {3: 2, 6: 1, 8: -1}[orientation]
        return saved(Image.fromarray(np.ascontiguousarray(np.rot90(colours, back))), format, exif=exif, **options)
    return write


def moving(format: str, **options) -> Callable:
    """Followed by its negative."""
    def write(colours, alpha):
        return saved(Image.fromarray(colours), format, save_all=True, append_images=[Image.fromarray(255 - colours)],
                     **options)
    return write


def png16(channels: int) -> Callable:
    def write(colours, alpha):
        pixels = np.dstack([colours[..., ::-1], alpha])[..., :channels].astype(np.uint16) * 257
        return cv2.imencode(".png", pixels)[1].tobytes()
    return write


# --- TIFF ------------------------------------------------------------------------------------------------------------

def tiff(dtype, channels: int, **options) -> Callable:
    """uint16 and float32 hold the same shades as uint8."""
    def write(colours, alpha):
        pixels = np.dstack([colours, alpha])[..., :channels]
        pixels = pixels * np.uint16(257) if dtype == np.uint16 else pixels / np.float32(255) if dtype == np.float32 \
            else pixels
        pixels = pixels[..., 0] if channels == 1 else pixels
        if options.get("planarconfig") == "separate":
            pixels = np.moveaxis(pixels, 2, 0)
        file = io.BytesIO()
        tifffile.imwrite(file, np.ascontiguousarray(pixels), metadata=None,
                         **{"photometric": "minisblack" if channels == 1 else "rgb",
                            **({"extrasamples": ["unassalpha"]} if channels == 4 else {}), **options})
        return file.getvalue()
    return write


EXACT: Dict[str, Kind] = {
    "PNG of 1 bit": Kind(pillow("PNG", "1"), two),
    "PNG, grey": Kind(pillow("PNG", "L"), grey),
    "PNG, grey and alpha": Kind(pillow("PNG", "LA"), grey),
    "PNG, palette": Kind(pillow("PNG", "P"), of_palette),
    "PNG, palette with a transparent entry": Kind(pillow("PNG", "P", transparency=7), of_palette),
    "PNG": Kind(pillow("PNG", "RGB")),
    "PNG with a transparent colour": Kind(pillow("PNG", "RGB", transparency=(1, 2, 3))),
    "PNG and alpha": Kind(pillow("PNG", "RGBA")),
    "PNG, grey of 16 bits": Kind(pillow("PNG", "I;16"), grey),
    "PNG of 16 bits": Kind(png16(3)),
    "PNG of 16 bits and alpha": Kind(png16(4)),
    "PNG that moves": Kind(moving("PNG")),
    **{f"PNG turned, {n}": Kind(turned("PNG", n)) for n in (3, 6, 8)},
    "BMP of 1 bit": Kind(pillow("BMP", "1"), two),
    "BMP, grey": Kind(pillow("BMP", "L"), grey),
    "BMP, palette": Kind(pillow("BMP", "P"), of_palette),
    "BMP": Kind(pillow("BMP", "RGB")),
    "BMP and alpha": Kind(pillow("BMP", "RGBA")),
    "GIF": Kind(pillow("GIF", "P"), of_palette),
    "WebP": Kind(pillow("WEBP", "RGB", lossless=True)),
    "WebP and alpha": Kind(pillow("WEBP", "RGBA", lossless=True, exact=True)),
    "WebP that moves": Kind(moving("WEBP", lossless=True)),
    **{f"WebP turned, {n}": Kind(turned("WEBP", n, lossless=True)) for n in (3, 6, 8)},
    "PGM": Kind(pillow("PPM", "L"), grey),
    "PGM of 16 bits": Kind(pillow("PPM", "I;16"), grey),
    "PPM": Kind(pillow("PPM", "RGB")),
    "TIFF of 1 bit": Kind(pillow("TIFF", "1"), two),
    "TIFF of 1 bit, as a fax": Kind(pillow("TIFF", "1", compression="group4"), two),
    "TIFF, palette": Kind(pillow("TIFF", "P"), of_palette),
    "TIFF, grey and alpha": Kind(pillow("TIFF", "LA"), grey),
    "TIFF, CMYK": Kind(pillow("TIFF", "CMYK")),
    "TIFF, LZW": Kind(pillow("TIFF", "RGB", compression="tiff_lzw")),
    "TIFF of two pages": Kind(moving("TIFF")),
    **{f"TIFF turned, {n}": Kind(turned("TIFF", n)) for n in (3, 6, 8)},
    "TIFF, white is 0": Kind(tiff(np.uint8, 1, photometric="miniswhite"), lambda colours: 255 - grey(colours)),
    **{f"TIFF of {name}, {what}, {place}, {order}": Kind(
        tiff(dtype, channels, byteorder=order, **options), grey if channels == 1 else lambda colours: colours)
        for name, dtype in (("8 bits", np.uint8), ("16 bits", np.uint16), ("fractions", np.float32))
        for what, channels in (("grey", 1), ("colours", 3), ("colours and alpha", 4))
        for place, options in (("strips", {"rowsperstrip": 5}), ("tiles", {"tile": (16, 16)}),
                               ("deflated", {"compression": "zlib"}))
        for order in "<>"},
    **{f"TIFF of {name}, colours in planes": Kind(tiff(dtype, 3, planarconfig="separate"))
       for name, dtype in (("8 bits", np.uint8), ("16 bits", np.uint16))},
    "TIFF of 8 bits, colours and alpha in planes": Kind(tiff(np.uint8, 4, planarconfig="separate")),
}


def decoded_by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))


# Written with losses: what they show is what Pillow, which is not what reads JPEG here, makes of them. Each rounds in
# its own way, CMYK for instance.
OFF = 2
LOSSY = {
    "JPEG, grey": pillow("JPEG", "L"), "JPEG": pillow("JPEG", "RGB", subsampling=0),
    "JPEG, progressive": pillow("JPEG", "RGB", progressive=True, subsampling=0),
    "JPEG, CMYK": pillow("JPEG", "CMYK"), **{f"JPEG turned, {n}": turned("JPEG", n, subsampling=0) for n in (3, 6, 8)},
    **({"AVIF": pillow("AVIF", "RGB"), "AVIF and alpha": pillow("AVIF", "RGBA"), "AVIF that moves": moving("AVIF"),
        **{f"AVIF turned, {n}": turned("AVIF", n) for n in (3, 6, 8)}}
       if ".avif" in Image.registered_extensions() else {})}


# --- those that are refused ------------------------------------------------------------------------------------------

def lab(colours, alpha) -> bytes:
    return saved(Image.fromarray(colours).convert("LAB"), "TIFF")


def pfm(colours, alpha) -> bytes:
    return saved(Image.fromarray(colours[..., 0].astype(np.float32)), "PPM")


REFUSED = {
    "CIELAB": (lab, "its colours are CIELAB"),
    "fractions in planes": (tiff(np.float32, 3, planarconfig="separate"), "its channels, of 32 bits, stand one after"),
    "16 bits and alpha in planes": (tiff(np.uint16, 4, planarconfig="separate"), "its channels, of 16 bits, stand one"),
    "PFM beyond 1": (pfm, "its pixels are float32 from "),
    "text": (lambda colours, alpha: b"no picture", "it is damaged, cut short or no image"),
    "nothing": (lambda colours, alpha: b"", "it is damaged, cut short or no image"),
}
