"""What is wrong with what was seen: of a list of files, of one sample, of all labels together, of two sets."""

import os
from typing import Any, List, Optional

import numpy as np
from paddleseg.transforms import Compose, Normalize
from PIL import Image

from paddleseg_encnet.data import shared_scenes
from paddleseg_encnet.data.file_doubts import DAMAGED, JPEG_LABELS, TURNED
from paddleseg_encnet.data.findings import Split
from paddleseg_encnet.data.known_sets import known
from paddleseg_encnet.data.label_values import JPEG, ONLY_ZERO_AND_255, allowed, likely_cause, only_zero_and_255
from paddleseg_encnet.data.looking import SampleReport, no_class

IN_BOTH = "images that are in train and in val"
DARK = 2 ** 14      # of numbers of 16 bits: a quarter of white, as images of 14 bits have it
OTHER_SCALES = "data sets that Normalize scales in another way than those to train on"
# What may be as it is meant, or can't be known to be wrong: a training is told of it, and begins.
MAY_BE_MEANT = (IN_BOTH, TURNED, DAMAGED)
NO_CLASS = "labels with values that are no class"


def check_list(split: Split) -> None:
    """What the names alone tell."""
    pairs = [pair[:2] for pair in split.dataset.file_list if isinstance(pair[1], str)]
    image_of = {base_stem(image): image for image, _ in pairs}
    for image, label in pairs:
        if label.lower().endswith((".jpg", ".jpeg")):
            split.add(JPEG_LABELS, f"{label} is a JPEG", JPEG)
        if base_stem(label) != base_stem(image) and base_stem(label) in image_of:
            split.add("labels of another image", f"{image} is paired with {label}",
                      "images and labels are paired by their position in two lists, and a file is missing")


def note_passed_over(split: Split) -> None:
    """Pictures among the images of a data set without a list, which does not take them: their endings are others."""
    if not known(type(split.dataset).__name__).takes_folders:
        return
    images = [pair[0] for pair in split.dataset.file_list]
    taken, pictures = {os.path.splitext(image)[1] for image in images}, Image.registered_extensions()
    for folder in sorted({os.path.dirname(image) for image in images}):
        for name in sorted(os.listdir(folder)):
            ending = os.path.splitext(name)[1]
            if ending.lower() in pictures and ending not in taken and not name.startswith("."):
                split.passed_over.append(os.path.join(folder, name))


def base_stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def note(split: Split, index: int, seen: SampleReport) -> None:
    """Adds one sample to what is known of the split."""
    image, label = split.dataset.file_list[index][:2]
    if seen.fault is not None:
        split.add(*seen.fault)
        return
    split.digests.setdefault(seen.digest, image)
    if seen.largest is not None:
        split.largest[image] = seen.largest
    if seen.look is not None:
        split.looks[image] = seen.look
    for doubt in seen.doubts:
        split.add(*doubt)
    classes, ignored = split.dataset.num_classes, split.dataset.ignore_index
    labelled = sum(pixels for value, pixels in seen.values.items() if value != ignored)
    for value, pixels in seen.values.items():
        split.pixels[value] += pixels
        split.beside[value] += labelled
    if seen.first:
        split.no_class_in.append(label)
        wrong = [f"{value} in {seen.values[value]} pixels, the first at row {row}, column {column}"
                 for value, (row, column) in seen.first.items()]
        more = f", and {len(wrong) - 3} more values" if len(wrong) > 3 else ""
        split.add(NO_CLASS, f"{label}: {'; '.join(wrong[:3])}{more}: {allowed(classes, ignored)}")


def check_values(split: Split) -> None:
    """Judges what all images and labels of a split hold together."""
    check_range(split)
    classes, ignored = split.dataset.num_classes, split.dataset.ignore_index
    first = str(split.dataset.file_list[0][1])
    if split.no_class_in:
        wrong = [value for value in split.pixels if no_class(value, split.dataset)]
        split.findings[NO_CLASS].hint = likely_cause(wrong, split.pixels, classes, ignored,
                                                     type(split.dataset).__name__, split.no_class_in)
    elif classes == 1:
        split.add("data sets of one class", f"num_classes is 1, and labels like {first} hold class 0 alone: there is "
                  "nothing to learn, and every network scores 1",
                  "what is not the class is one too: num_classes 2, with 0 for the background and 1 for the class")
    elif only_zero_and_255(split.pixels, classes, ignored):
        split.add("data sets with no label value but 0 and 255", f"labels like {first}", ONLY_ZERO_AND_255)
    elif set(split.pixels) == {ignored}:
        split.add("data sets whose labels are ignored altogether", f"labels like {first} hold {ignored} alone")


def check_range(split: Split) -> None:
    """Judges the images of 16 bits together: one may be of a night, but not all."""
    if split.largest and max(split.largest.values()) < DARK:
        first, largest = max(split.largest.items(), key=lambda item: item[1])
        split.add("data sets whose images of 16 bits are nearly black", f"{len(split.largest)} images, the largest "
                  f"value {largest} of 65535, in {first}", f"are they of {largest.bit_length()} bits? Multiply their "
                  f"numbers by {2 ** (16 - largest.bit_length())}, or save them with 8 bits")


def check_both(train: Split, val: Split) -> None:
    """An image or a scene that is in both makes the score of the second too good."""
    for digest, image in val.digests.items():
        if digest in train.digests:
            val.add(IN_BOTH, f"{image} is {train.digests[digest]}",
                    "the same pixels, whatever the files are called: take them out of one")
    shared_scenes.check_scenes(train, val)


def check_scales(train: Split, val: Split) -> None:
    """A network that is evaluated, and exported, on other values than it learns from."""
    if train.dataset is None or val.dataset is None:
        return
    channels = getattr(train.dataset.transforms, "img_channels", 3)
    scales = [scales_of(split.dataset.transforms, channels) for split in (train, val)]
    if None not in scales and scales[0] != scales[1]:
        told = [" and ".join(scale or ()) or "none" for scale in scales]
        val.add(OTHER_SCALES, f"Normalize of train: {told[0]}; of val: {told[1]}", "give both the same Normalize")


def scales_of(transforms: Any, channels: int) -> Optional[List[str]]:
    """Each Normalize among the transforms of a data set, in words; None where they are not PaddleSeg's to look into."""
    if not isinstance(transforms, Compose):
        return None
    return [" ".join(f"{name} {np.broadcast_to(value, channels).tolist()}" for name, value in
                     (("mean", each.mean), ("std", each.std))) for each in transforms.transforms
            if type(each) is Normalize]
