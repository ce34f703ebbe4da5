"""Cityscapes' labels as published, labelIds or polygons, as the train ids of its 19 classes.

Equal to what csCreateTrainIdLabelImgs of cityscapesScripts writes: polygons filled by Pillow in the order of the file.
"""

import functools
import os
from typing import List, Tuple

import numpy as np
from PIL import Image, ImageDraw

from paddleseg_encnet.data.datasets import match
from paddleseg_encnet.data.reading import read_label
from paddleseg_encnet.labelling import images, json_files
from paddleseg_encnet.labelling.project import IGNORED, Item, LabelClasses, Project, Rules, Tally
from paddleseg_encnet.labelling.shapes import points
from segrun.errors import DataError
from segrun.palettes import CITYSCAPES

# The label of each labelId, https://www.cityscapes-dataset.com; those that are no class of the 19 are ignored.
LABELS = ("unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground", "road",
          "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole",
          "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car",
          "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle")
NOT_DRAWN = "license plate"
CLASSES = LabelClasses(list(CITYSCAPES), frozenset(set(LABELS) - set(CITYSCAPES)), CITYSCAPES)
IMAGE_END = "_leftImg8bit.png"


def read_cityscapes(root: str, kind: str, rules: Rules, tally: Tally) -> Project:
    """The project of a folder with leftImg8bit/ and gtFine/, its own train and val.

    Args:
        kind: "labelIds" or "polygons".

    Raises:
        DataError: a folder or a file is missing, or something is open that the rules say to stop at.
    """
    end = {"labelIds": "_gtFine_labelIds.png", "polygons": "_gtFine_polygons.json"}[kind]
    draw = {"labelIds": train_ids, "polygons": drawn_polygons}[kind]
    found: List[Item] = []
    for split in ("train", "val"):
        folders = [os.path.join(root, part, split) for part in ("leftImg8bit", "gtFine")]
        pictures = [os.path.join(folders[0], path) for path in images.below(folders[0]) if path.endswith(IMAGE_END)]
        labels = [os.path.join(folders[1], path) for path in images.below(folders[1], (end.lower(),))]
        if not labels:
            raise DataError(f"no *{end} in {folders[1]}; is it the other of --read labelIds and polygons?")

        def stem(path: str, ends: Tuple[str, ...] = (IMAGE_END, end)) -> str:
            return next(os.path.basename(path)[:-len(one)] for one in ends if path.endswith(one))
        together, lonely_images, lonely_labels = match(pictures, labels, stem)
        for label in lonely_labels:
            images.absent(f"the annotation {label} has no image in {folders[0]}", rules, tally,
                          "unpack the images again")
        for image in lonely_images:
            images.unannotated(image, rules, tally)
        for image, label in together:
            name = f"{split}/{os.path.relpath(image, folders[0])[:-len(IMAGE_END)]}".replace(os.sep, "/")
            found.append(Item(name, image, functools.partial(draw, label, rules, tally), split))
    return Project(CLASSES, found)


def train_ids(path: str, rules: Rules, tally: Tally) -> np.ndarray:
    """labelIds of a file -> train ids, uint8 [H, W]."""
    table = np.full(256, -1, np.int16)
    table[:len(LABELS)] = [CLASSES.id(label) for label in LABELS]
    return mapped_ids(path, table, rules, tally, "labelIds, which are 0 to 33")


def mapped_ids(path: str, table: np.ndarray, rules: Rules, tally: Tally, expected: str) -> np.ndarray:
    """The numbers of a mask through a table, int16 [256], of class ids, 255, or -1 for what is unknown.

    Raises:
        DataError: it is no mask of 8 bits, or has an unknown number and the rule is to stop.
    """
    numbers = read_label(path)
    if numbers.ndim != 2 or numbers.dtype != np.uint8:
        raise DataError(f"the mask {path} has shape {numbers.shape} of {numbers.dtype}: it must have one channel of 8 "
                        "bits; what has colours is converted by `colours`")
    ids = table[numbers]
    strange = ids < 0
    if strange.any():
        values = np.unique(numbers[strange])
        example = f"{path}: {strange.sum()} pixels of {', '.join(map(str, values[:5]))}"
        if rules.unknown == "stop":
            raise DataError(f"{example}: no {expected}; --unknown ignore makes them 255")
        tally.add(f"masks with numbers that are no {expected}: ignored (255)", example)
    return np.where(strange, IGNORED, ids).astype(np.uint8)


def drawn_polygons(path: str, rules: Rules, tally: Tally) -> np.ndarray:
    """The train ids of a file with polygons, uint8 [H, W]."""
    content = json_files.read_json(path)
    size = json_files.size(content.get("imgHeight"), content.get("imgWidth"), path)
    if size is None or not isinstance(content.get("objects"), list):
        raise DataError(f"{path} is no file of Cityscapes': it has no imgHeight, imgWidth and list `objects`")
    canvas = Image.new("L", size[::-1], IGNORED)
    pencil = ImageDraw.Draw(canvas)
    for i, entry in enumerate(content["objects"]):
        where = f"{path}, objects[{i}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("label"), str):
            raise DataError(f"{where}: it is no object with a text `label`")
        if entry.get("deleted"):
            continue
        label = entry["label"]
        if label not in LABELS and label.endswith("group"):     # several cars that can't be told apart are a cargroup
            label = label[:-len("group")]
        if label == NOT_DRAWN:
            continue
        number = CLASSES.id(label)
        if number is None:
            if rules.unknown == "stop":
                raise DataError(f"{where}: {label!r} is no label of Cityscapes; --unknown ignore makes it 255")
            tally.add("labels that are none of Cityscapes': ignored (255)", f"{where}: {label!r}")
            number = IGNORED
        corners = points(entry.get("polygon"), 2, size, where)
        pencil.polygon(corners, fill=number)
    return np.array(canvas)
