"""Fonts for names that OpenCV's letters can't write, as Chinese ones: found on the system, none is shipped."""

import contextlib
import functools
import importlib.util
import logging
import os
import shutil
import subprocess
from typing import Iterable, Iterator, List, NamedTuple, Optional, Sequence

from PIL import ImageFont

logger = logging.getLogger(__name__)

# Where systems keep fonts, for those without fontconfig: Linux, macOS, Windows.
FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts", "/System/Library/Fonts",
           "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts", "~/AppData/Local/Microsoft/Windows/Fonts")
ENDINGS = (".ttf", ".otf", ".ttc")
# Parts of the names of fonts with many scripts: looked at first, in this order.
KNOWN = ("notosanscjk", "sourcehansans", "wqy", "droidsansfallback", "pingfang", "hiragino", "stheiti", "msyh",
         "simhei", "simsun", "arialunicode", "notosans")
NO_CHARACTER = "\U0010ffff"     # is in no font: what is drawn of it stands for a missing letter
ADVICE = "install one (Debian, Ubuntu: apt-get install fonts-noto-cjk)"


class Font(NamedTuple):
    """A file, and which of the fonts in it: a .ttc holds several."""
    path: str
    number: int = 0

    def sized(self, size: int) -> ImageFont.FreeTypeFont:
        """To write with, in letters of this size in pixels."""
        return ImageFont.truetype(self.path, size, self.number)


def font_for(text: str) -> Optional[Font]:
    """The first font that is found with all letters of the text; None without one, which is said once."""
    letters = "".join(sorted({letter for letter in text if not letter.isspace()}))
    return find(letters)


@functools.lru_cache(maxsize=None)
def find(letters: str) -> Optional[Font]:
    for font in candidates(letters):
        if covers(font, letters):
            return font
    say_once()
    return None


@functools.lru_cache(maxsize=None)
def say_once() -> None:
    logger.warning("no installed font has the letters of some names of classes: in pictures, their numbers stand for "
                   f"them; {ADVICE}")


def shown(names: Sequence[str]) -> List[str]:
    """The names of class 0, 1, ... as charts have them: the number in place of one that no font has."""
    return [name if name.isascii() or font_for(name) else str(i) for i, name in enumerate(names)]


def candidates(letters: str) -> Iterator[Font]:
    """Fonts to look at: matplotlib's, then those that fontconfig has with all of these letters, then all others."""
    matplotlib = importlib.util.find_spec("matplotlib")
    if matplotlib is not None and matplotlib.origin:
        yield Font(os.path.join(os.path.dirname(matplotlib.origin), "mpl-data", "fonts", "ttf", "DejaVuSans.ttf"))
    yield from by_fontconfig(letters)
    yield from map(Font, installed())


def by_fontconfig(letters: str) -> List[Font]:
    """What fc-list finds; nothing where it is not installed."""
    program = shutil.which("fc-list")
    if program is None:
        return []
    charset = " ".join(f"{ord(letter):x}" for letter in letters)
    try:
        done = subprocess.run([program, "-f", "%{file}|%{index}\n", f":charset={charset}"], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line.rpartition("|") for line in done.stdout.splitlines()]
    fonts = [Font(path, int(index)) for path, _, index in lines if index.isdecimal() and int(index) < 1 << 16]
    return sorted(fonts, key=lambda font: (rank(font.path), font))


@functools.lru_cache(maxsize=None)
def installed() -> List[str]:
    """Paths of all fonts in FOLDERS, those with many scripts first."""
    found = [os.path.join(folder, file) for top in FOLDERS for folder, _, files in os.walk(os.path.expanduser(top))
             for file in files if file.lower().endswith(ENDINGS)]
    return sorted(found, key=lambda path: (rank(path), path))


def rank(path: str) -> int:
    """The place of a font among KNOWN; bold and thin ones behind them."""
    name = os.path.basename(path).lower().replace("-", "").replace("_", "").replace(" ", "")
    plain = not any(word in name for word in ("bold", "black", "light", "thin", "italic", "oblique"))
    places = [i for i, known in enumerate(KNOWN) if known in name]
    return (places[0] if places else len(KNOWN)) + (0 if plain else len(KNOWN) + 1)


def covers(font: Font, text: Iterable[str]) -> bool:
    """Whether the font draws each letter otherwise than one that it has not."""
    try:
        pen = font.sized(16)
        nothing = drawn(pen, NO_CHARACTER)
        return all(drawn(pen, letter) != nothing for letter in text)
    except (OSError, ValueError):       # damaged, or a bitmap font without this size
        return False


def drawn(pen: ImageFont.FreeTypeFont, letter: str) -> object:
    mask = pen.getmask(letter)
    return mask.size, bytes(mask)


@contextlib.contextmanager
def in_charts(names: Sequence[str]) -> Iterator[None]:
    """Within it matplotlib has the letters of these names, which `shown` has given. A chart is to be made and drawn
    there."""
    from matplotlib import font_manager, rc_context  # comes with PaddleSeg, through VisualDL; its import takes a second
    families = ["DejaVu Sans"]
    for font in sorted({font for font in (font_for(name) for name in names if not name.isascii()) if font}):
        font_manager.fontManager.addfont(font.path)
        families.append(font_manager.FontProperties(fname=font.path).get_name())
    with rc_context({"font.family": list(dict.fromkeys(families))}):
        yield
