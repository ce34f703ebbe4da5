"""Masks in which each class has a colour, with a table of the colours: CVAT's labelmap.txt, PASCAL VOC's, a palette."""

import functools
import os
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from PIL import Image

from paddleseg_encnet.data.reading import upright
from paddleseg_encnet.labelling import images
from paddleseg_encnet.labelling.label_classes import IGNORE_LABEL, enough, read_names, settle_spelling
from paddleseg_encnet.labelling.project import IGNORED, Item, LabelClasses, Project, Rules, Tally
from segrun.errors import DataError
from segrun.palettes import PASCAL_VOC, bit_reversed
from segrun.raw_files import missing, read_lines

Color = Tuple[int, int, int]

NEAR = 32       # how far JPEG takes most colours, away from borders; only for advice


class Table(NamedTuple):
    """Colours (RGB) of all names, and those that mean 255 without having one."""
    colors: Dict[str, Color]
    border: Optional[Color] = None


def read_coloured(folder: str, image_folder: str, table: str, names: Optional[str], ignore: List[str], suffix: str,
                  rules: Rules, tally: Tally) -> Project:
    """The project of a folder of masks, in it and below, which have the names of their images.

    Args:
        table: "voc", a text file or a PNG with a palette; see read_table.
        names: file of the names of a palette's first colours.
        ignore: names that become 255.
        suffix: what the mask's names have behind those of the images, for instance "_mask".

    Raises:
        DataError: a folder or the table is missing or damaged, or something is open that the rules say to stop at. A
            colour of no class is found only when its mask is drawn.
    """
    known = read_table(table, names)
    never = [name for name in ignore if name not in known.colors]
    if never:
        raise DataError(f"--ignore {never[0]}: {table} has {', '.join(known.colors)}")
    written = settle_spelling(list(known.colors), {}, [], rules, tally)
    kept: Dict[str, Color] = {}
    for name, color in known.colors.items():
        if name not in (*ignore, IGNORE_LABEL):
            kept.setdefault(written[name], color)       # of names that are joined the first one's colour
    classes = LabelClasses(enough(list(kept), table), frozenset([*ignore, IGNORE_LABEL]), kept)
    lookup = Lookup(classes, known, written)
    found = []
    for stem, image, mask in pairs(folder, image_folder, suffix, rules, tally):
        found.append(Item(stem, image, functools.partial(lookup.ids, mask, rules, tally)))
    return Project(classes, found)


def pairs(folder: str, image_folder: str, suffix: str, rules: Rules, tally: Tally) -> List[Tuple[str, str, str]]:
    """(name, image, mask) of each image in `image_folder` that has a mask of its name in `folder`."""
    masks = images.by_stem(images.below(folder), folder)
    ending = {stem: stem[:len(stem) - len(suffix)] for stem in masks if stem.endswith(suffix)}
    if not ending:
        raise DataError(f"no mask in the folder {folder}" + (f" whose name ends in {suffix}" if suffix else ""))
    mask_of = {name: os.path.join(folder, masks[stem]) for stem, name in ending.items()}
    taken = {os.path.realpath(mask) for mask in mask_of.values()}      # where masks lie among the images
    images_at = images.by_stem([path for path in images.below(image_folder)
                                if os.path.realpath(os.path.join(image_folder, path)) not in taken], image_folder)
    for name in sorted(mask_of.keys() - images_at.keys()):
        images.absent(f"the mask {mask_of[name]} has no image {name}.* in {image_folder}", rules, tally,
                      "say with --images in which folder it is")
    for name in sorted(images_at.keys() - mask_of.keys()):
        images.unannotated(os.path.join(image_folder, images_at[name]), rules, tally)
    return [(name, os.path.join(image_folder, images_at[name]), mask_of[name])
            for name in sorted(mask_of.keys() & images_at.keys())]


def read_table(table: str, names: Optional[str] = None) -> Table:
    """Names and colours.

    Args:
        table: "voc"; or a text file, lines `name:R,G,B` and maybe more behind another colon, as CVAT's labelmap.txt has
            them, or `R G B name`; or a PNG with a palette, whose first colours are those of `names`.

    Raises:
        DataError: it is none of these, or two names share a colour.
    """
    if table == "voc":
        return Table(dict(PASCAL_VOC), tuple(bit_reversed([IGNORED])[0].tolist()))
    if not os.path.isfile(table):
        raise DataError(f"there is no table of colours {table}; give voc, a labelmap.txt or a PNG with a palette")
    if table.lower().endswith(".png"):
        found = palette_of(table, names)
    else:
        if names is not None:
            raise DataError(f"--labels names the colours of a palette; {table} has names of its own")
        found = Table(text_colors(table))
    owners: Dict[Color, str] = {}
    for name, color in found.colors.items():
        if color in owners:
            raise DataError(f"{table}: {owners[color]} and {name} have one colour, {color}: which a pixel is can't be "
                            "told")
        owners[color] = name
    return found


def text_colors(path: str) -> Dict[str, Color]:
    try:
        lines = [line.strip() for line in read_lines(path, "table of colours")]
    except DataError as error:
        raise DataError(f"{error}; a PNG with a palette is one too") from None
    found: Dict[str, Color] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"(?P<name>[^:]+):\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(:.*)?", line) or \
            re.fullmatch(r"(\d+)\s+(\d+)\s+(\d+)\s+(?P<name>.+)", line)
        color = tuple(int(text) for text in match.groups() if text and text.isdigit())[:3] if match else ()
        if match is None or len(color) != 3 or max(color) > 255:
            raise DataError(f"{path}, line {number}: {line!r} is neither name:R,G,B nor R G B name, of 0 to 255")
        name = match["name"].strip()
        if name in found:
            raise DataError(f"{path}, line {number}: {name} has a colour already, {found[name]}")
        found[name] = color
    if not found:
        raise DataError(f"the table of colours {path} is empty")
    return found


def palette_of(path: str, names: Optional[str]) -> Table:
    if names is None:
        raise DataError(f"{path} gives colours and no names: add --labels FILE with a name a line, for the palette's "
                        "first colours in their order")
    with opened(path) as image:
        if image.mode != "P":
            raise DataError(f"{path} has no palette: give a PNG that has one, or a table as text")
        colors = np.array(image.convert("P").getpalette("RGB"), np.uint8).reshape(-1, 3)
    listed = read_names(names)
    if len(listed) > len(colors):
        raise DataError(f"{names} has {len(listed)} names, the palette of {path} {len(colors)} colours")
    border = tuple(colors[IGNORED].tolist()) if len(colors) > IGNORED else None
    known = {name: tuple(color) for name, color in zip(listed, colors.tolist())}
    return Table(known, None if border in known.values() else border)


def opened(path: str) -> Image.Image:
    if not os.path.exists(path):
        raise missing(path)
    try:
        return upright(path)
    except Exception as error:      # Pillow raises whatever its decoders do
        raise DataError(f"cannot read the mask {path}: {error}") from error


class Lookup:
    """From colours to class ids."""

    def __init__(self, classes: LabelClasses, table: Table, written: Dict[str, str]):
        self.numbers = [classes.id(name if name in classes.ignored else written[name]) for name in table.colors]
        self.numbers += [IGNORED] * (table.border is not None)
        self.colors = np.array([*table.colors.values(), *filter(None, [table.border])], np.int64)
        self.names = [*table.colors, "the border"]
        self.table = np.full(1 << 24, -1, np.int16)     # by R * 65536 + G * 256 + B
        self.table[packed(self.colors)] = self.numbers

    def ids(self, path: str, rules: Rules, tally: Tally) -> np.ndarray:
        """The mask of a picture, uint8 [H, W].

        Raises:
            DataError: it can't be read, is transparent somewhere, or has a colour of no class and the rule is to stop.
        """
        colors = packed(read_colors(path))
        ids = self.table[colors]
        strange = ids < 0
        if not strange.any():
            return ids.astype(np.uint8)
        values, counts = np.unique(colors[strange], return_counts=True)
        near, distance = self.nearest(values)
        close = distance <= rules.tolerance
        if close.any():
            tally.add(f"masks with colours near those of a class: taken for it (--tolerance {rules.tolerance})",
                      f"{path}: {counts[close].sum()} pixels, off by up to {distance[close].max()}")
        if not close.all():
            self.refuse(path, values, counts, near, distance, close, rules, tally)
        fitted = np.where(close, np.array(self.numbers)[near], IGNORED)
        ids[strange] = fitted[np.searchsorted(values, colors[strange])]
        return ids.astype(np.uint8)

    def nearest(self, values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """For each packed colour the nearest of the table, and how far it is: the largest difference in R, G or B, and
        among equals the smallest sum of squares."""
        colors = np.stack([values >> 16, values >> 8 & 255, values & 255], 1)
        near, distance = [], []
        for part in np.array_split(colors, max(1, len(colors) // 4096)):
            difference = np.abs(part[:, None] - self.colors)
            rank = difference.max(2) * 200000 + (difference ** 2).sum(2)       # squares sum up to at most 195075
            near.append(rank.argmin(1))
            distance.append(difference.max(2)[np.arange(len(part)), near[-1]])
        return np.concatenate(near), np.concatenate(distance)

    def refuse(self, path: str, values: np.ndarray, counts: np.ndarray, near: np.ndarray, distance: np.ndarray,
               close: np.ndarray, rules: Rules, tally: Tally) -> None:
        """Colours of no class: counted or, by the rule, raised as DataError."""
        most = np.flatnonzero(~close)[counts[~close].argmax()]
        color = (int(values[most] >> 16), int(values[most] >> 8 & 255), int(values[most] & 255))
        example = f"{path}: {counts[~close].sum()} pixels in {(~close).sum()} colours, most of them {color}"
        if rules.unknown == "stop":
            share = counts[~close & (distance <= NEAR)].sum() / counts[~close].sum()
            nearest = f"{self.names[near[most]]}, {tuple(self.colors[near[most]].tolist())}"
            raise DataError(f"{example}, which the table does not have; the nearest, off by {distance[most]}, is "
                            f"{nearest}. Correct the table, or add --tolerance {NEAR}, which takes {share:.0%} of them "
                            "for the class near them, and --unknown ignore, which makes others 255")
        tally.add("masks with colours that the table does not have: ignored (255)", example)


def packed(colors: np.ndarray) -> np.ndarray:
    """RGB [..., 3] -> R * 65536 + G * 256 + B."""
    colors = colors.astype(np.int32)
    return colors[..., 0] << 16 | colors[..., 1] << 8 | colors[..., 2]


def read_colors(path: str) -> np.ndarray:
    """A picture's colours, uint8 [H, W, 3]; those of a palette for its indices."""
    with opened(path) as image:
        if image.mode.startswith(("I", "F")):
            raise DataError(f"the mask {path} has more than 8 bits a pixel: no colours but numbers, it seems")
        if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info:
            if np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                raise DataError(f"the mask {path} is transparent in places: save it without transparency")
        return np.asarray(image.convert("RGB"))
