"""Pictures of class ids. All pictures are RGB, uint8 [H, W, 3].

Words are written in OpenCV's letters, which are ASCII's; others in a font that is found (fonts.py).
"""

import unicodedata
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from segrun import fonts

PAPER, INK = (255, 255, 255), (30, 30, 30)
RIGHT, WRONG, UNLABELLED = (222, 228, 222), (200, 30, 30), (70, 70, 70)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def colorize(ids: NDArray[Any], colors: NDArray[Any]) -> NDArray[Any]:
    """Class ids [H, W] in their colours; `colors` is uint8 [N, 3], as color_table() gives it."""
    picture: NDArray[Any] = np.asarray(colors, np.uint8)[ids]
    return picture


def draw_overlay(image: NDArray[Any], ids: NDArray[Any], colors: NDArray[Any], alpha: float = 0.5) -> NDArray[Any]:
    """The image with the classes' colours laid over it: alpha 0 shows the image alone, 1 the colours alone."""
    picture: NDArray[Any] = cv2.addWeighted(image, 1 - alpha, colorize(ids, colors), alpha, 0)
    return picture


def error_map(label: NDArray[Any], prediction: NDArray[Any], ignore_index: int = 255) -> NDArray[Any]:
    """Where two masks [H, W] differ: right is light grey, wrong is red, without a label is dark grey."""
    table = np.array([RIGHT, WRONG, UNLABELLED], np.uint8)
    picture: NDArray[Any] = table[np.where(label == ignore_index, 2, label != prediction)]
    return picture


def draw_legend(names: Sequence[str], colors: NDArray[Any], ids_shown: Iterable[int], width: int = 480,
                scale: float = 1.0, shares: Optional[Dict[int, float]] = None) -> NDArray[Any]:
    """Swatch and name of each class shown, in lines that fit `width`.

    Args:
        names: of class 0, 1, ...; an id beyond them is shown as "unknown".
        ids_shown: the classes, in the order in which they stand.
        scale: 1 writes in letters about 10 pixels high.
        shares: of the pixels, by class, to stand behind the names.
    """
    ids = list(ids_shown)
    texts = [writable(names[i], i) if i < len(names) else "unknown" for i in ids]
    if shares is not None:
        texts = [f"{text} {percent(shares[i])}" for text, i in zip(texts, ids)]
    swatch, gap, line = round(14 * scale), round(7 * scale), round(24 * scale)
    widths = [swatch + gap + text_width(text, scale) + 2 * gap for text in texts]
    places, x, y = [], gap, 0
    for entry in widths:
        if x > gap and x + entry > width:
            x, y = gap, y + line
        places.append((x, y))
        x += entry
    picture = paper(y + line, max([width, *(gap + entry for entry in widths)]))
    for text, i, (x, y) in zip(texts, ids, places):
        top = y + (line - swatch) // 2
        corner = (x + swatch, top + swatch)
        cv2.rectangle(picture, (x, top), corner, [int(value) for value in colors[i]], cv2.FILLED)
        cv2.rectangle(picture, (x, top), corner, INK, stroke(scale))
        draw_text(picture, text, (x + swatch + gap, y + line // 2), scale)
    return picture


def writable(name: str, number: int) -> str:
    """The name in the letters that OpenCV has, which are ASCII's: without accents. Of other scripts as it is, if a font
    is found that has it; else the number, which is said once."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    if sum(map(str.isalnum, plain)) == sum(map(str.isalnum, name)):
        return plain
    return name if fonts.font_for(f"{name} <0123456789%") else str(number)       # its share stands behind it


def percent(share: float) -> str:
    return "<1%" if share < 0.01 else f"{share:.0%}"


def side_by_side(pictures: List[NDArray[Any]], titles: Optional[Sequence[str]] = None) -> NDArray[Any]:
    """Pictures of one height next to each other, each under its title."""
    gap, scale = 6, text_scale(pictures[0].shape[0])
    band = round(26 * scale)
    columns = []
    for i, picture in enumerate(pictures):
        if titles is not None:
            head = paper(band, picture.shape[1])
            draw_text(head, titles[i], (round(2 * scale), band // 2), scale)
            picture = np.concatenate([head, picture])
        columns += [paper(picture.shape[0], gap), picture]
    return np.concatenate(columns[1:], axis=1)


def stacked(pictures: List[NDArray[Any]]) -> NDArray[Any]:
    """Pictures below each other, filled up with paper to the width of the widest."""
    width = max(picture.shape[1] for picture in pictures)
    return np.concatenate([np.concatenate([picture, paper(picture.shape[0], width - picture.shape[1])], axis=1)
                           for picture in pictures])


def text_scale(pixels: int) -> float:
    """Letters grow with pictures higher than 600 pixels, so that they can be read when the screen shrinks them."""
    return max(1.0, pixels / 600)


def paper(height: int, width: int) -> NDArray[Any]:
    return np.full((height, width, 3), PAPER, np.uint8)


def text_width(text: str, scale: float) -> int:
    font = font_beyond_ascii(text)
    if font is not None:
        return round(font.sized(letters(scale)).getlength(text))
    return int(cv2.getTextSize(text, FONT, 0.45 * scale, stroke(scale))[0][0])


def draw_text(picture: NDArray[Any], text: str, where: Tuple[int, int], scale: float) -> None:
    """Writes into the picture; `where` is the left end of the line's middle."""
    x, y = where
    font = font_beyond_ascii(text)
    if font is not None:
        canvas = Image.fromarray(picture)
        ImageDraw.Draw(canvas).text((x, y), text, fill=INK, font=font.sized(letters(scale)), anchor="lm")
        picture[:] = np.asarray(canvas)
        return
    cv2.putText(picture, text, (x, y + round(4.5 * scale)), FONT, 0.45 * scale, INK, stroke(scale), cv2.LINE_AA)


def font_beyond_ascii(text: str) -> Optional[fonts.Font]:
    """The font for a text that OpenCV has not the letters of; None for others."""
    return None if text.isascii() else fonts.font_for(text)


def letters(scale: float) -> int:
    """Their size in a font, about as high as OpenCV's."""
    return round(14 * scale)


def stroke(scale: float) -> int:
    return max(1, round(1.2 * scale))


def encoded(picture: NDArray[Any], ending: str = ".png") -> bytes:
    """RGB [H, W, 3], or [H, W], as the bytes of an image file."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(ending, picture)
    if not done:
        raise OSError(f"OpenCV can't make a {ending} file of a picture of {picture.shape[1]} x {picture.shape[0]}")
    return bytes(data)
