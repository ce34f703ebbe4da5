"""What label values outside the classes mean: the likely cause and what to do about it."""

from typing import Iterable, Sequence

from paddleseg_encnet.data.known_sets import known

CITYSCAPES_IDS = "these are Cityscapes' labelIds; train on *_gtFine_labelTrainIds.png, which " \
                 "createTrainIdLabelImgs.py of cityscapesScripts writes"
JPEG = "JPEG changes pixels, and so class ids: write labels as PNG"
ONLY_ZERO_AND_255 = "255 is ignored, so that only class 0 is left to learn; if 255 means the second class, divide " \
                    "the masks by 255, so that it is 1"


def allowed(classes: int, ignore_index: int) -> str:
    return f"neither a class (0 to {classes - 1}) nor ignore_index ({ignore_index})"


def likely_cause(values: Iterable[int], seen: Iterable[int], classes: int, ignore_index: int,
                 dataset: str = "Dataset", files: Sequence[str] = ()) -> str:
    """One sentence on values that are no class.

    Args:
        values: those that are no class.
        seen: all values that were seen, of one label or of many.
        classes: num_classes.
        dataset: name of the dataset class, for data sets that are known for a mistake.
        files: names of some labels with such values.
    """
    values, seen = sorted(set(values)), set(seen)
    facts = known(dataset)
    if any(name.lower().endswith((".jpg", ".jpeg")) for name in files):
        return JPEG
    if any("labelIds" in name for name in files) or (
            facts.has_other_ids and -1 <= values[0] and values[-1] <= 33):
        return CITYSCAPES_IDS
    if facts.value_of_class_0 == 1 and values == [254]:
        return f"{dataset} subtracts 1 from what is in the file, and these files count from 0 already, with 255 for " \
               "no class; use the original annotations, or the type Dataset with a list of files"
    if seen <= {0, 255} and 255 in values:
        return "a mask of 0 and 255: divide it by 255, so that the second class is 1"
    if len(values) > 20:
        return "this looks like a grey or smoothed picture, or a palette of colours, and not like a mask of class " \
               "ids; resize labels with nearest neighbours only"
    if values == [classes] and 0 not in seen:
        return "the ids begin at 1: subtract 1"
    if facts.keeps_background and values == [classes]:
        return "off by one: PaddleSeg's PascalContext has ids from 0 (background) to 59, as its " \
               "tools/data/convert_voc2010.py writes them"
    if dataset != "Dataset":
        return f"{dataset} has ids from 0 to {classes - 1}, and {ignore_index} for no class: the labels have to be " \
               "converted"
    if values == [classes]:
        if classes == 150:
            return "these are ADE20K's files, where 0 is no class and 1 the first: use the type ADE20K, which " \
                   "subtracts 1"
        return f"num_classes is one short: if 0 is a class too (background), it is {classes + 1}; if 0 is no class, " \
               "as in some files of ADE20K and PASCAL-Context, subtract 1 from the labels, so that 0 becomes 255"
    if values == [255]:
        return f"255 stands for ignored in most data sets: set ignore_index to 255, it is {ignore_index}"
    if values[0] >= 0 and values[-1] < 255:
        return f"either num_classes is {values[-1] + 1}, or the labels have to be converted to ids from 0 to " \
               f"{classes - 1}"
    return f"the labels have to be converted to ids from 0 to {classes - 1}"


def only_zero_and_255(seen: Iterable[int], classes: int, ignore_index: int) -> bool:
    """Whether labels use class 0 and ignored pixels alone: nothing is out of range, and nothing is learnt."""
    return classes > 1 and ignore_index == 255 and set(seen) == {0, 255}
