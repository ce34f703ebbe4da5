"""Shapes with labels become masks: in which order they are drawn, and what becomes of pixels that two classes claim."""

from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import numpy as np

from paddleseg_encnet.labelling import label_classes
from paddleseg_encnet.labelling.images import Size, check_size, read_header, unannotated
from paddleseg_encnet.labelling.project import IGNORED, Item, LabelClasses, Rules, Tally
from segrun.errors import DataError


class LabelledShape(NamedTuple):
    label: str
    draw: Callable[[Size], np.ndarray]      # -> bool [H, W]
    where: str                              # file and place in it
    ignored: bool = False                   # whatever its label, its pixels become 255


class Annotated(NamedTuple):
    """An image with its shapes."""
    name: str
    image: str
    size: Optional[Size]        # of the image that was drawn on, where the file tells
    shapes: List[LabelledShape]
    split: Optional[str] = None


def points(values: Any, count: int, size: Optional[Size], where: str) -> List[Tuple[float, float]]:
    """[(x, y), ...] of a JSON list of pairs.

    Raises:
        DataError: it is none, has fewer than `count` points, or some so far outside that the image must be another.
    """
    try:
        pairs = np.array([[float(x), float(y)] for x, y in values]).reshape(-1, 2)
    except (TypeError, ValueError):
        raise DataError(f"{where}: its points are no list of pairs of numbers") from None
    if not np.isfinite(pairs).all():
        raise DataError(f"{where}: its points have a coordinate that is no finite number")
    if len(pairs) < count:
        raise DataError(f"{where}: {len(pairs)} points, it needs {count}")
    # Tools let the mouse leave the image a little; what lies a whole image away was drawn on another one.
    if size and ((pairs < -np.array(size[::-1])) | (pairs > 2 * np.array(size[::-1]))).any():
        far = pairs[np.abs(pairs).max(1).argmax()]
        raise DataError(f"{where}: the point {far[0]:g}, {far[1]:g} is far outside the image of {size[1]} x {size[0]}")
    return list(map(tuple, pairs.tolist()))


def items(annotated: List[Annotated], found: List[str], names: Optional[str], ignore: List[str], rules: Rules,
          tally: Tally) -> Tuple[LabelClasses, List[Item]]:
    """Classes and items of a project of shapes.

    Args:
        annotated: all images; those without shapes are unannotated.
        found: the source's labels in the order that they are to have.
        names: file of a list of labels.
        ignore: labels that become 255.
    """
    seen = label_classes.count((shape.label, shape.where) for one in annotated for shape in one.shapes)
    fixed = label_classes.read_names(names) if names else [label_classes.BACKGROUND] * (rules.rest == "background")
    written = label_classes.settle_spelling(found, seen, fixed, rules, tally)
    annotated = [one._replace(shapes=[shape._replace(label=written[shape.label]) for shape in one.shapes])
                 for one in annotated]
    found = list(dict.fromkeys(written.get(label, label) for label in found))
    ignore = [written.get(label, label) for label in ignore]
    classes = label_classes.settle_classes(found, names, ignore, rules)
    uses = label_classes.count((shape.label, shape.where) for one in annotated for shape in one.shapes)
    classes = label_classes.unknown(uses, classes, rules, names or "the categories", tally)
    background = IGNORED if rules.rest == "ignore" else classes.id(label_classes.BACKGROUND)

    def item(one: Annotated) -> Item:
        def draw() -> np.ndarray:
            picture = read_header(one.image)
            size = one.size or picture.annotated(rules)
            check_size(size, picture)       # before memory is taken for a size that a file made up
            return compose(one, size, classes, background, rules, tally)
        return Item(one.name, one.image, draw, one.split)

    return classes, [item(one) for one in annotated if one.shapes or unannotated(one.image, rules, tally)]


def compose(one: Annotated, size: Size, classes: LabelClasses, background: Optional[int], rules: Rules,
            tally: Tally) -> np.ndarray:
    """The mask, uint8 [H, W]."""
    known = [(IGNORED if shape.ignored else classes.id(shape.label), shape) for shape in one.shapes]
    known = [(number, shape) for number, shape in known if number is not None]      # the rest is left out by the rule
    if rules.overlap == "smallest":
        areas = [int(shape.draw(size).sum()) for _, shape in known]
        known = [known[i] for i in sorted(range(len(known)), key=lambda i: -areas[i])]      # equals as in the file
    mask = np.full(size, background, np.uint8)
    covered, claimed_twice = np.zeros(size, bool), np.zeros(size, bool)
    for number, shape in known:
        inside = shape.draw(size)
        if not inside.any():
            tally.add("shapes that cover no pixel: left out", shape.where)
            continue
        claimed_twice |= covered & inside & (mask != number)
        covered |= inside
        mask[inside] = number
    if claimed_twice.any():
        tally.add("images with pixels that shapes of two classes cover: " +
                  {"last": "the class of the last in the file", "smallest": "the class of the smallest shape",
                   "ignore": "ignored (255)"}[rules.overlap] + f" (--overlap {rules.overlap})",
                  f"{one.image}: {claimed_twice.sum()} pixels")
        if rules.overlap == "ignore":
            mask[claimed_twice] = IGNORED
    return mask
