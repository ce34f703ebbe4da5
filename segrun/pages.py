"""A page of words and pictures: as one PNG, and as one HTML file that asks for nothing from elsewhere.

The HTML is put together by hand: as a jinja2 template, which gave the same elements, it took more lines.
"""

import base64
import html
import os
from typing import Any, List, NamedTuple, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segrun import fonts
from segrun.drawing import encoded

WIDTH, MARGIN, GAP = 1200, 30, 14           # of the PNG, in pixels
Color = Tuple[int, int, int]
INK, GREY, PAPER = (25, 25, 25), (95, 95, 95), (255, 255, 255)

# Phones, wide screens and paper alike: pictures stand side by side as far as there is room.
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #191919; background: #fff; margin: 0 auto; padding: 0 16px 32px;
       max-width: 1200px; }
h1 { font-size: 1.6em; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.2em; margin: 1.6em 0 .2em; border-top: 1px solid #ccc; padding-top: .8em; }
p { margin: .3em 0 .8em; max-width: 100ch; }
.pictures { display: flex; flex-wrap: wrap; gap: 14px; align-items: flex-start; }
figure { margin: 0; max-width: 100%; }
img { width: 100%; height: auto; display: block; }
figcaption { font-size: 13px; line-height: 1.35; color: #5f5f5f; margin-top: 3px; }
@media screen and (max-width: 600px) {
  figure.wide { width: 100% !important; }
  figure.huge { overflow-x: auto; } figure.huge img { width: 640px; }
}
@media print { body { font-size: 11pt; padding: 0; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


class Picture(NamedTuple):
    """pixels: uint8 [H, W, 3], RGB; shown `width` wide on a screen. `alt` says what is to be seen to those who can't.
    A photo is kept as JPEG, all else without loss."""
    pixels: NDArray[Any]
    width: int
    caption: str
    alt: str
    photo: bool = False


class Section(NamedTuple):
    """A title, paragraphs and pictures, which fill rows from left to right."""
    title: str
    text: List[str]
    pictures: List[Picture]


class Page(NamedTuple):
    title: str
    text: List[str]
    sections: List[Section]


# --- HTML ------------------------------------------------------------------------------------------------------------

def as_html(page: Page) -> str:
    """The page with its pictures inside."""
    parts = ["<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
             '<meta name="viewport" content="width=device-width, initial-scale=1">',
             f"<title>{html.escape(page.title)}</title>", f"<style>{STYLE}</style>", "</head>", "<body>",
             f"<h1>{html.escape(page.title)}</h1>", *paragraphs(page.text)]
    for section in page.sections:
        parts += ["<section>", f"<h2>{html.escape(section.title)}</h2>", *paragraphs(section.text),
                  '<div class="pictures">', *map(figure, section.pictures), "</div>", "</section>"]
    return "\n".join([*parts, "</body>", "</html>", ""])


def paragraphs(text: List[str]) -> List[str]:
    return [f"<p>{html.escape(paragraph)}</p>" for paragraph in text]


def figure(picture: Picture) -> str:
    kind = "jpeg" if picture.photo else "png"
    source = f"data:image/{kind};base64,{base64.b64encode(encoded(picture.pixels, f'.{kind}')).decode()}"
    caption = f"<figcaption>{html.escape(picture.caption)}</figcaption>" if picture.caption else ""
    size = "huge" if picture.width > 600 else "wide" if picture.width > 200 else "narrow"
    image = f'<img alt="{html.escape(picture.alt)}" src="{source}">'
    return f'<figure class="{size}" style="width:{picture.width}px">{image}{caption}</figure>'


# --- PNG -------------------------------------------------------------------------------------------------------------

def as_picture(page: Page) -> NDArray[Any]:
    """The same as pixels: uint8 [H, WIDTH, 3], RGB.

    Raises:
        ImportError: matplotlib, whose fonts are used, is missing.
    """
    canvas = PageCanvas()
    canvas.write(page.title, 26, bold=True)
    for paragraph in page.text:
        canvas.write(paragraph, 16)
    for section in page.sections:
        canvas.rule()
        canvas.write(section.title, 20, bold=True)
        for paragraph in section.text:
            canvas.write(paragraph, 16)
        canvas.place(section.pictures)
    return canvas.cut()


def font_folder() -> str:
    """The folder of the fonts that pages are written in; ImportError without matplotlib, which brings them."""
    try:
        import matplotlib  # comes with PaddleSeg, through VisualDL; its import takes a second
    except ImportError as error:
        raise ImportError(f"pages are drawn with matplotlib ({error}); pip install matplotlib") from error
    return os.path.join(matplotlib.get_data_path(), "fonts", "ttf")


class PageCanvas:
    """Paper that grows while it is written on from the top."""

    def __init__(self) -> None:
        self.fonts = font_folder()
        self.paper = Image.new("RGB", (WIDTH, 1000), PAPER)
        self.bottom = MARGIN

    def font(self, text: str, size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
        """DejaVu Sans, or another that has the letters of the text, if one is found."""
        usual = fonts.Font(os.path.join(self.fonts, f"DejaVuSans{'-Bold' if bold else ''}.ttf"))
        other = None if text.isascii() or fonts.covers(usual, "".join(text.split())) else fonts.font_for(text)
        return (other or usual).sized(size)

    def room_for(self, height: int) -> None:
        needed = self.bottom + height + MARGIN
        if needed > self.paper.height:
            paper = Image.new("RGB", (WIDTH, max(needed, 2 * self.paper.height)), PAPER)
            paper.paste(self.paper)
            self.paper = paper

    def rule(self) -> None:
        self.room_for(30)
        y = self.bottom + 12
        ImageDraw.Draw(self.paper).line([(MARGIN, y), (WIDTH - MARGIN, y)], (200, 200, 200))
        self.bottom += 24

    def write(self, text: str, size: int, bold: bool = False) -> None:
        font = self.font(text, size, bold)
        lines = wrapped(text, font, WIDTH - 2 * MARGIN)
        self.bottom += self.draw_lines(lines, font, INK, MARGIN, self.bottom) + 8

    def draw_lines(self, lines: List[str], font: ImageFont.FreeTypeFont, color: Color, x: int, y: int) -> int:
        """Writes lines below each other and returns the height that they take."""
        step = round(font.size * 1.35)
        self.room_for(y - self.bottom + step * len(lines))
        pen = ImageDraw.Draw(self.paper)
        for i, line in enumerate(lines):
            pen.text((x, y + i * step), line, fill=color, font=font)
        return step * len(lines)

    def place(self, pictures: List[Picture]) -> None:
        row: List[Picture] = []
        used = 0
        for picture in pictures:
            if row and used + picture.width > WIDTH - 2 * MARGIN:
                self.place_row(row)
                row, used = [], 0
            row.append(picture)
            used += picture.width + GAP
        if row:
            self.place_row(row)

    def place_row(self, row: List[Picture]) -> None:
        x, heights = MARGIN, [0]
        for picture in row:
            font = self.font(picture.caption, 12)
            pixels = fitted(picture.pixels, picture.width)
            self.room_for(len(pixels))
            self.paper.paste(Image.fromarray(pixels), (x, self.bottom))
            lines = wrapped(picture.caption, font, picture.width)
            heights.append(len(pixels) + 3 + self.draw_lines(lines, font, GREY, x, self.bottom + len(pixels) + 3))
            x += picture.width + GAP
        self.bottom += max(heights) + GAP

    def cut(self) -> NDArray[Any]:
        return np.asarray(self.paper)[:self.bottom + MARGIN // 2]


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> List[str]:
    """The text in lines that fit, a word that is too long on a line of its own."""
    lines: List[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def fitted(pixels: NDArray[Any], width: int) -> NDArray[Any]:
    """A picture, or a map [H, W], at this width."""
    if pixels.shape[1] == width:
        return pixels
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    shrinks = width < pixels.shape[1]
    scaled: NDArray[Any] = cv2.resize(pixels, (width, height),
                                      interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return scaled
