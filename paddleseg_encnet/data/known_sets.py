"""What is known of data sets by the names of their classes, PaddleSeg's and ours, beside the names and colours of what
they show (segrun/palettes.py): PaddleSeg's classes can't be asked for it."""

from typing import Dict, NamedTuple


class Known(NamedTuple):
    """
    Fields:
        value_of_class_0: what a label file has for class 0; what is below it in a file is no class.
        takes_folders: whether the set takes the pictures in its folders, by their endings, and not those of a list.
        has_other_ids: whether label files of the same layout with other ids, Cityscapes' labelIds, come with it.
        keeps_background: whether what others ignore, 0 in the files, is a class of it.
    """
    value_of_class_0: int = 0
    takes_folders: bool = False
    has_other_ids: bool = False
    keeps_background: bool = False


SETS: Dict[str, Known] = {
    "ADE20K": Known(value_of_class_0=1, takes_folders=True),
    "CamVid": Known(takes_folders=True),
    "Cityscapes": Known(takes_folders=True, has_other_ids=True),
    "CocoStuff": Known(takes_folders=True),
    "PascalContext": Known(keeps_background=True),
    "PascalContext59": Known(value_of_class_0=1),
}


def known(name: str) -> Known:
    """Of a class of data sets by its name; what is usual where nothing is known of it."""
    return SETS.get(name, Known())
