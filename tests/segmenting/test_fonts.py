"""Names of classes in other scripts than OpenCV's letters: written where a font for them is found, numbers and a line
where none is."""

import logging
import os

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from segmenters import picture

from paddleseg_encnet.evaluation import confusion
from segrun import drawing, fonts
from segrun.classes import Classes
from segrun.pages import Page, Section, as_picture
from segrun.result import Segmentation

NAMES = ["道路", "天空", "car"]


def glyph(left: int, right: int):
    """A box; each letter has one of its own."""
    pen = TTGlyphPen(None)
    pen.moveTo((left, 0))
    for corner in ((left, 700), (right, 700), (right, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


def make_font(path, letters: str):
    """A TrueType font with these letters."""
    names = [".notdef", *(f"u{ord(letter):04X}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names[1:])})
    builder.setupGlyf({name: glyph(50, 300 + 20 * i) for i, name in enumerate(names)})
    builder.setupHorizontalMetrics({name: (900, 50) for name in names})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, sTypoDescender=-200, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(str(path))


def forget():
    for function in (fonts.find, fonts.installed, fonts.say_once):
        function.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only folder of fonts, empty; without fontconfig."""
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(fonts.shutil, "which", lambda name: None)
    forget()
    yield tmp_path
    forget()


@pytest.fixture
def chinese(folder):
    make_font(folder / "another.ttf", "天")
    make_font(folder / "chinese.ttf", "道路天空abcdefghijklmnopqrstuvwxyz<0123456789%., ")


def test_a_font_is_found_by_its_letters(chinese, folder):
    assert fonts.font_for("道路 41%") == fonts.Font(str(folder / "chinese.ttf"))
    assert fonts.font_for("天").path == str(folder / "another.ttf")
    assert fonts.font_for("水") is None


def test_a_damaged_font_is_passed_over(chinese, folder):
    (folder / "a_first.ttf").write_bytes(b"no font")
    assert fonts.font_for("道路") == fonts.Font(str(folder / "chinese.ttf"))


def test_fonts_with_many_scripts_come_first(folder):
    for name in ("aaa.ttf", "NotoSansCJK-Bold.ttc", "NotoSansCJK-Regular.ttc", "msyh.ttc"):
        (folder / name).touch()
    assert [os.path.basename(path) for path in fonts.installed()] == ["NotoSansCJK-Regular.ttc", "msyh.ttc", "aaa.ttf",
                                                                     "NotoSansCJK-Bold.ttc"]


def test_fontconfig_is_asked_for_all_letters(chinese, folder, monkeypatch):
    program = folder / "fc-list"
    program.write_text(f"#!/bin/sh\necho \"$@\" > {folder}/asked\necho '{folder}/chinese.ttf|0'\necho 'x.ttf|65536'\n")
    program.chmod(0o755)
    monkeypatch.setattr(fonts.shutil, "which", lambda name: str(program))
    assert fonts.by_fontconfig("路道") == [fonts.Font(str(folder / "chinese.ttf"))]
    assert (folder / "asked").read_text().endswith(":charset=8def 9053\n")


def said(caplog) -> list:
    return [record.message for record in caplog.records if "no installed font" in record.message]


@pytest.fixture
def warnings(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("segrun"), "propagate", True)     # a tool ends it
    return caplog


def test_numbers_and_one_line_without_a_font(folder, warnings):
    assert [drawing.writable(name, i) for i, name in enumerate(NAMES)] == ["0", "1", "car"]
    assert fonts.shown(NAMES) == ["0", "1", "car"]
    (line,) = said(warnings)
    assert line.endswith("their numbers stand for them; install one (Debian, Ubuntu: apt-get install fonts-noto-cjk)")


def test_a_legend_has_the_names(chinese, warnings):
    colors = Classes(NAMES, [[200, 0, 0], [0, 200, 0], [0, 0, 200]]).colors
    named = drawing.draw_legend(NAMES, colors, [0, 1], 300, shares={0: 0.41, 1: 0.59})
    numbered = drawing.draw_legend(["0", "1"], colors, [0, 1], 300, shares={0: 0.41, 1: 0.59})
    assert named.shape == numbered.shape and not np.array_equal(named, numbered)
    other = drawing.draw_legend(["路道", "天空"], colors, [0, 1], 300, shares={0: 0.41, 1: 0.59})
    assert not np.array_equal(named, other) and said(warnings) == []


def test_the_width_of_a_name_is_that_of_its_letters(chinese):
    assert drawing.text_width("道路", 1.0) == round(2 * 0.9 * drawing.letters(1.0))
    paper = drawing.paper(40, 100)
    drawing.draw_text(paper, "道路", (10, 20), 1.0)
    rows, columns = np.nonzero((paper != drawing.PAPER).any(axis=2))
    assert 10 <= columns.min() and columns.max() <= 10 + drawing.text_width("道路", 1.0)
    assert 10 <= rows.min() and rows.max() <= 30


def test_save_legend(chinese, tmp_path):
    image = picture()
    seen = Segmentation(image, np.zeros(image.shape[:2], np.uint8), Classes(NAMES))
    seen.save(str(tmp_path / "named.png"))
    Segmentation(image, seen.ids, Classes(["0", "1", "2"])).save(str(tmp_path / "numbered.png"))
    assert (tmp_path / "named.png").read_bytes() != (tmp_path / "numbered.png").read_bytes()


def test_a_page_as_a_picture(chinese):
    pictures = [as_picture(Page(title, [], [Section("all", [], [])])) for title in ("道路 a", "天空 a")]
    assert not np.array_equal(*pictures)        # boxes of a font without them would be equal


def confusion_picture(names: list, path) -> np.ndarray:
    import cv2
    confusion.draw_confusion(str(path), np.array([[5, 1, 0], [0, 4, 2], [1, 0, 3]]), names)
    return cv2.imread(str(path))


@pytest.mark.filterwarnings("error:Glyph .* missing")
def test_charts_have_the_letters(chinese, tmp_path, recwarn):
    first, second = (confusion_picture(names, tmp_path / "matrix.png") for names in (NAMES, ["路道", "空天", "car"]))
    assert not np.array_equal(first, second)


@pytest.mark.filterwarnings("error:Glyph .* missing")
def test_charts_have_numbers_without_a_font(folder, tmp_path, warnings):
    assert np.array_equal(confusion_picture(NAMES, tmp_path / "a.png"),
                          confusion_picture(["0", "1", "car"], tmp_path / "a.png"))
    assert len(said(warnings)) == 1
