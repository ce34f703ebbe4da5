"""labelme's JSON files, one an image.

Shapes become pixels as in labelme itself: Pillow's ImageDraw fills polygon, rectangle or ellipse with its outline, so
that pixels on the border belong to the shape. Later shapes lie on top.
"""

import base64
import binascii
import io
import math
import os
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
from PIL import Image, ImageDraw

from paddleseg_encnet.labelling import images, json_files
from paddleseg_encnet.labelling.images import Size
from paddleseg_encnet.labelling.label_classes import ALIASES, IGNORE_LABEL
from paddleseg_encnet.labelling.project import Project, Rules, Tally
from paddleseg_encnet.labelling.shapes import Annotated, LabelledShape, items, points
from segrun.errors import DataError

POINTS = {"polygon": 3, "oriented_rectangle": 4, "rectangle": 2, "circle": 2, "mask": 2}
NO_AREA = ("line", "linestrip", "point", "points")


def read_labelme(folder: str, image_folder: Optional[str], names: Optional[str], ignore: List[str], rules: Rules,
                 tally: Tally) -> Project:
    """The project of a folder with JSON files, in it and below.

    Args:
        folder: of the JSON files; their images are where `imagePath` says, or
        image_folder: here.
        names: file with labels in the order of their ids; without it they are sorted, behind background.
        ignore: labels that become 255.

    Raises:
        DataError: a file is damaged, or something is open that the rules say to stop at.
    """
    files = images.below(folder, (".json",))
    if not files:
        raise DataError(f"no .json in the folder {folder}, where labelme's files are expected")
    by_stem = images.by_stem(files, folder)
    annotated: List[Annotated] = []
    used: Dict[str, str] = {}
    for name, file in by_stem.items():
        path = os.path.join(folder, file)
        try:
            content = read_own(path)
        except DataError as error:
            if rules.foreign == "stop":
                raise DataError(f"{error}; --foreign leave_out passes over it") from error
            tally.add("JSON files that are none of labelme's: left out (--foreign leave_out)", str(error))
            continue
        image = find_image(content, path, image_folder, tally)
        if image is None:
            images.absent(f"{path}: there is no image {content.get('imagePath')}", rules, tally,
                          "say with --images in which folder it is")
            continue
        if os.path.realpath(image) in used:
            raise DataError(f"{used[os.path.realpath(image)]} and {path} both annotate {image}: keep one of them")
        used[os.path.realpath(image)] = path
        size = json_files.size(content.get("imageHeight"), content.get("imageWidth"), path)
        annotated.append(Annotated(name, image, size, shapes_of(content, path, size, tally)))
    annotated += without_json([folder, image_folder], used, set(by_stem))
    found = sorted({shape.label for one in annotated for shape in one.shapes} - {IGNORE_LABEL})
    return Project(*items(annotated, found, names, ignore, rules, tally))


def read_own(path: str) -> dict:
    """What a file of labelme's holds.

    Raises:
        DataError: it is none.
    """
    content = json_files.read_json(path)
    if not isinstance(content.get("shapes"), list) or not isinstance(content.get("imagePath"), str):
        raise DataError(f"{path} is no file of labelme's: it has no list `shapes` and text `imagePath`")
    return content


def without_json(folders: List[Optional[str]], used: Dict[str, str], taken: set) -> List[Annotated]:
    """The images of these folders that no JSON names."""
    others = []
    for folder in filter(None, folders):
        for name in images.below(folder):
            path = os.path.join(folder, name)
            if os.path.realpath(path) not in used:
                used[os.path.realpath(path)] = path
                stem = images.stem(name) if images.stem(name) not in taken else name
                taken.add(stem)
                others.append(Annotated(stem, path, None, []))
    return others


def find_image(content: dict, path: str, image_folder: Optional[str], tally: Tally) -> Optional[str]:
    """The image's path: as `imagePath` has it from the JSON file's folder or from `image_folder`, else by its name
    alone in one of them; None if it is in none of these places."""
    said = content["imagePath"].replace("\\", "/")      # written on Windows
    folders = [folder for folder in (os.path.dirname(path), image_folder) if folder is not None]
    for place in (os.path.normpath(os.path.join(folder, said)) for folder in folders):
        if os.path.isfile(place):
            return place
    for place in (os.path.normpath(os.path.join(folder, os.path.basename(said))) for folder in folders):
        if os.path.isfile(place):
            tally.add("images not where imagePath says: found by their name", f"{path}: {said} is {place}")
            return place
    return None


def shapes_of(content: dict, path: str, size: Optional[Size], tally: Tally) -> List[LabelledShape]:
    """The shapes that have an area, in the order of the file."""
    found = []
    for i, shape in enumerate(content["shapes"]):
        where = f"{path}, shape {i}"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
            raise DataError(f"{where}: it is no object with a text `label`")
        kind, label = shape.get("shape_type") or "polygon", shape["label"].strip()
        if kind in NO_AREA or kind == "polygon" and len(shape.get("points") or []) < 3:
            tally.add("shapes without an area (points, lines, polygons of two points): left out",
                      f"{where}: {kind} {label!r}")
            continue
        if kind not in POINTS:
            raise DataError(f"{where}: a shape of type {kind!r}; known are {', '.join((*POINTS, *NO_AREA))}")
        corners = points(shape.get("points"), POINTS[kind], size, where)
        if kind == "mask":
            found.append(LabelledShape(ALIASES.get(label, label), pasted(shape.get("mask"), corners, where), where))
        else:
            found.append(LabelledShape(ALIASES.get(label, label), drawing_of(kind, corners), where))
    return found


def drawing_of(kind: str, corners: List[Tuple[float, float]]) -> Callable[[Size], np.ndarray]:
    """Draws polygon, rectangle (two opposite corners) or circle (centre, a point on it)."""
    def draw(size: Size) -> np.ndarray:
        canvas = Image.new("1", size[::-1])
        pencil = ImageDraw.Draw(canvas)
        if kind == "circle":
            (x, y), edge = corners[:2]
            radius = math.dist((x, y), edge)
            pencil.ellipse([x - radius, y - radius, x + radius, y + radius], fill=1, outline=1)
        elif kind == "rectangle":
            xs, ys = zip(*corners)
            pencil.rectangle([min(xs), min(ys), max(xs), max(ys)], fill=1, outline=1)
        else:
            pencil.polygon(corners, fill=1, outline=1)
        return np.array(canvas)
    return draw


def pasted(encoded: Any, corners: List[Tuple[float, float]], where: str) -> Callable[[Size], np.ndarray]:
    """Draws a mask that the file holds as a PNG in base64: pixels from the first corner to the second, both included.

    Raises:
        DataError: it is none, or does not fit between the corners.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded, validate=True))) as image:
            part = np.array(image).astype(bool)
    except (TypeError, ValueError, binascii.Error, OSError, SyntaxError) as error:
        raise DataError(f"{where}: its mask is no PNG in base64: {error}") from None
    (left, top), (right, bottom) = [(int(x), int(y)) for x, y in corners[:2]]
    if part.shape != (bottom - top + 1, right - left + 1) or left < 0 or top < 0:
        raise DataError(f"{where}: its mask has shape {part.shape}, its corners {left}, {top} and {right}, {bottom}")

    def draw(size: Size) -> np.ndarray:
        if bottom >= size[0] or right >= size[1]:
            raise DataError(f"{where}: its mask ends at {right}, {bottom}, outside the image of {size[1]} x {size[0]}")
        whole = np.zeros(size, bool)
        whole[top:bottom + 1, left:right + 1] = part
        return whole
    return draw
