"""COCO's JSON: polygons, run lengths compressed and not, crowds.

pycocotools turns a segmentation into pixels, as COCO.annToMask does: the parts of a polygon are joined, so that one
inside another is no hole; holes are in run lengths only.
"""

import os
from collections import Counter
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from paddleseg_encnet.labelling import images, json_files
from paddleseg_encnet.labelling.images import Size
from paddleseg_encnet.labelling.project import Project, Rules, Tally
from paddleseg_encnet.labelling.shapes import Annotated, LabelledShape, items, points
from segrun.errors import DataError

try:
    from pycocotools import mask as coco_mask
except ImportError:
    coco_mask = None


def read_coco(path: str, val_path: Optional[str], image_folder: Optional[str], names: Optional[str], ignore: List[str],
              rules: Rules, tally: Tally) -> Project:
    """The project of a JSON file, or of two: one to train on and one to evaluate.

    Args:
        path, val_path: the files.
        image_folder: where `file_name` begins; by default the folder of each file.
        names: file with category names in the order of their ids; without it they come by category id.
        ignore: categories that become 255.

    Raises:
        DataError: pycocotools is missing, a file is damaged, or something is open that the rules say to stop at.
    """
    if coco_mask is None:
        raise DataError("COCO's files are read through pycocotools; pip install pycocotools")
    annotated: List[Annotated] = []
    categories: Dict[int, str] = {}
    for file, split in ((path, "train" if val_path else None), (val_path, "val")):
        if file is not None:
            content = json_files.read_json(file)
            for key, kind in (("images", dict), ("annotations", dict), ("categories", dict)):
                check_json_list(content, key, kind, file)
            own = categories_of(content["categories"], file)
            if categories and own != categories:
                raise DataError(f"{path} and {file} differ in their categories: {categories} and {own}")
            categories = own
            annotated += images_of(content, file, split, image_folder, categories, rules, tally)
    empty = set(categories.values()) - {shape.label for one in annotated for shape in one.shapes}
    for name in (name for name in categories.values() if name in empty):
        tally.add("categories without a shape: classes all the same", name)
    return Project(*items(annotated, list(categories.values()), names, ignore, rules, tally))


def check_json_list(content: dict, key: str, kind: type, path: str) -> None:
    value = content.get(key)
    if not isinstance(value, list):
        raise DataError(f"{path} is no file of COCO's: it has no list `{key}`")
    for i, entry in enumerate(value):
        if not isinstance(entry, kind):
            raise DataError(f"{path}, {key}[{i}]: it is no object")


def categories_of(entries: List[dict], path: str) -> Dict[int, str]:
    """{category id: name}, by id."""
    found: Dict[int, str] = {}
    for i, entry in enumerate(entries):
        number: Any = entry.get("id")
        name = entry.get("name")
        if not json_files.whole(number) or not isinstance(name, str):
            raise DataError(f"{path}, categories[{i}]: it has no whole number `id` and text `name`")
        if number in found or name in found.values():
            raise DataError(f"{path}, categories[{i}]: its id {number} or name {name!r} is that of an earlier one")
        found[number] = name
    return dict(sorted(found.items()))


def images_of(content: dict, path: str, split: Optional[str], image_folder: Optional[str], categories: Dict[int, str],
              rules: Rules, tally: Tally) -> List[Annotated]:
    """The images of one file with their shapes."""
    folder = os.path.dirname(path) if image_folder is None else image_folder
    sizes: Dict[object, Optional[Size]] = {}
    file_names: Dict[object, str] = {}
    for i, entry in enumerate(content["images"]):
        where, number, name = f"{path}, images[{i}]", entry.get("id"), entry.get("file_name")
        if not isinstance(number, (int, str)) or not isinstance(name, str) or not name:
            raise DataError(f"{where}: it has no `id` and text `file_name`")
        if number in file_names or name in file_names.values():
            raise DataError(f"{where}: its id {number} or file_name {name} is that of an earlier one")
        sizes[number], file_names[number] = json_files.size(entry.get("height"), entry.get("width"), where), name
    shapes: Dict[object, List[LabelledShape]] = {number: [] for number in file_names}
    for i, entry in enumerate(content["annotations"]):
        where, number = f"{path}, annotations[{i}]", entry.get("image_id")
        if not isinstance(number, (int, str)) or number not in shapes:
            raise DataError(f"{where}: no image has its image_id {number!r}")
        shape = shape_of(entry, where, sizes[number], categories, rules, tally)
        shapes[number] += [shape] if shape else []
    count_crowds(content["annotations"], file_names, rules, tally)
    found = []
    stems = images.by_stem([name.replace("\\", "/") for name in file_names.values()], path)
    for (number, name), stem in zip(file_names.items(), stems):
        image = os.path.join(folder, name.replace("\\", "/"))
        if os.path.isfile(image):
            found.append(Annotated(f"{split}/{stem}" if split else stem, image, sizes[number], shapes[number], split))
        else:
            images.absent(f"{path}: there is no image {image}", rules, tally, "say with --images in which folder it is")
    return found


def count_crowds(annotations: List[dict], file_names: dict, rules: Rules, tally: Tally) -> None:
    what = "the class of their category" if rules.crowd == "class" else "ignored (255)"
    for number, crowds in Counter(one["image_id"] for one in annotations if one.get("iscrowd")).items():
        tally.add(f"images with crowds: {what} (--crowd {rules.crowd})", f"{file_names[number]}: {crowds}")


def shape_of(entry: dict, where: str, size: Optional[Size], categories: Dict[int, str], rules: Rules,
             tally: Tally) -> Optional[LabelledShape]:
    """The shape of an annotation; None if it has no area."""
    category: Any = entry.get("category_id")
    segmentation = entry.get("segmentation")
    if not json_files.whole(category):
        raise DataError(f"{where}: its category_id {category!r} is no whole number")
    label = categories.get(category, f"category_id {category}")
    ignored = bool(entry.get("iscrowd")) and rules.crowd == "ignore"
    if not segmentation:
        tally.add("annotations without a segmentation (boxes, key points): left out", f"{where}: {label!r}")
        return None
    if isinstance(segmentation, dict):
        return LabelledShape(label, run_lengths(segmentation, where), where, ignored)
    if not isinstance(segmentation, list) or not all(isinstance(part, list) for part in segmentation):
        raise DataError(f"{where}: its segmentation is neither a list of polygons nor run lengths")
    parts = []
    for part in segmentation:
        if len(part) % 2:
            raise DataError(f"{where}: a polygon of {len(part)} numbers; they must be pairs of x and y")
        if len(part) < 6:       # pycocotools would take four numbers for a box
            tally.add("shapes without an area (points, lines, polygons of two points): left out", f"{where}: {label!r}")
            continue
        parts.append([value for pair in points(list(zip(part[::2], part[1::2])), 3, size, where) for value in pair])

    def draw(size: Size) -> np.ndarray:
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, *size))).astype(bool)
    return LabelledShape(label, draw, where, ignored) if parts else None


def run_lengths(segmentation: dict, where: str) -> Callable[[Size], np.ndarray]:
    """Draws run lengths, compressed or not.

    pycocotools fills what they leave out with whatever was in memory, so that their sum is checked first.
    """
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not (isinstance(size, list) and len(size) == 2 and all(json_files.whole(side) and side > 0 for side in size)):
        raise DataError(f"{where}: the size of its run lengths is {size!r}, it must be height and width")
    if isinstance(counts, str):
        runs = decompressed(counts, where)
    elif isinstance(counts, list) and all(json_files.whole(run) for run in counts):
        runs = counts
    else:
        raise DataError(f"{where}: its run lengths are neither whole numbers nor text")
    if min(runs, default=-1) < 0 or sum(runs) != size[0] * size[1]:
        raise DataError(f"{where}: its run lengths are for {sum(runs)} pixels, their size {size[1]} x {size[0]} has "
                        f"{size[0] * size[1]}")

    def draw(canvas: Size) -> np.ndarray:
        if tuple(size) != tuple(canvas):
            raise DataError(f"{where}: its run lengths are for {size[1]} x {size[0]} pixels, the image has "
                            f"{canvas[1]} x {canvas[0]}")
        packed = segmentation if isinstance(counts, str) else coco_mask.frPyObjects(segmentation, *size)
        return coco_mask.decode(packed).astype(bool)
    return draw


def decompressed(text: str, where: str) -> List[int]:
    """Run lengths of COCO's compressed text: five bits a character, lowest first, a sixth says that more follow; from
    the fourth on each is the difference to the one two before."""
    runs: List[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise DataError(f"{where}: its run lengths are no text of COCO's, for {character!r}")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise DataError(f"{where}: its run lengths end in the middle of a number")
    return runs
