"""Tiny data sets in the layout and encoding of the published ones: four images to train on, two to evaluate."""

import pathlib

import cv2
import numpy as np
from PIL import Image

SIZE = (64, 96)     # height, width
NAMES = {"train": ["a1", "a2", "a3", "a4"], "val": ["b1", "b2"]}


def image(path: pathlib.Path, random):
    """A JPEG or PNG of blocks in random colours: no two are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = random.integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3), dtype=np.uint8)
    cv2.imwrite(str(path), blocks.repeat(8, 0).repeat(8, 1))


def ids(random, values) -> np.ndarray:
    """A mask of blocks, uint8 [H, W], that has all of `values`."""
    rows, columns = SIZE[0] // 4, SIZE[1] // 4
    blocks = np.array(values)[random.permutation(rows * columns) % len(values)].reshape(rows, columns)
    return blocks.repeat(4, 0).repeat(4, 1).astype(np.uint8)


def mask(path: pathlib.Path, label: np.ndarray, colours: bool = False):
    """A PNG of 8 bits a pixel: grey, or indices of a palette whose colours say nothing about them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(label)
    if colours:
        picture.putpalette([(37 * i + 11 * channel) % 256 for i in range(256) for channel in range(3)])
    picture.save(path)


def ade20k(root: pathlib.Path) -> pathlib.Path:
    """ADEChallengeData2016: 0 is no class, 1 to 150 are the classes."""
    random = np.random.default_rng(0)
    for split, folder in (("train", "training"), ("val", "validation")):
        for name in NAMES[split]:
            image(root / "images" / folder / f"ADE_{split}_{name}.jpg", random)
            mask(root / "annotations" / folder / f"ADE_{split}_{name}.png", ids(random, range(151)))
    return root


def pascal_voc(root: pathlib.Path) -> pathlib.Path:
    """VOCdevkit with VOC2012: palette pictures, 0 background, 255 borders; in SegmentationClassAug, as voc_augment.py
    writes SBD's labels, grey pictures without borders."""
    random, voc = np.random.default_rng(0), root / "VOC2012"
    lists = {"train": NAMES["train"][:2], "aug": NAMES["train"][2:], "val": NAMES["val"]}
    for part, names in lists.items():
        (voc / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (voc / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            image(voc / "JPEGImages" / f"{name}.jpg", random)
            if part == "aug":
                mask(voc / "SegmentationClassAug" / f"{name}.png", ids(random, range(21)))
            else:
                mask(voc / "SegmentationClass" / f"{name}.png", ids(random, [*range(21), 255]), colours=True)
    return root


def pascal_context(root: pathlib.Path) -> pathlib.Path:
    """VOC2010 with the folder Context, as convert_voc2010.py writes it: 0 background, 1 to 59 the classes."""
    random = np.random.default_rng(0)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, names in NAMES.items():
        (root / "ImageSets" / "Segmentation" / f"{split}_context.txt").write_text("".join(f"{n}\n" for n in names))
        for name in names:
            image(root / "JPEGImages" / f"{name}.jpg", random)
            mask(root / "Context" / f"{name}.png", ids(random, range(60)))
    return root


def camvid(root: pathlib.Path) -> pathlib.Path:
    """The SegNet authors' copy: 11 is no class."""
    random = np.random.default_rng(0)
    for split, names in NAMES.items():
        for name in names:
            image(root / split / f"{name}.png", random)
            mask(root / f"{split}annot" / f"{name}.png", ids(random, range(12)))
    return root


def facade(root: pathlib.Path) -> pathlib.Path:
    """LabelMeFacade: lists of pairs, photographs of several sizes, names of classes; 255 is no class."""
    random = np.random.default_rng(0)
    for split, names in NAMES.items():
        for name in names:
            image(root / split / f"{name}.jpg", random)
            mask(root / f"{split}annot" / f"{name}.png", ids(random, [*range(8), 255]))
        lines = [f"{split}/{name}.jpg {split}annot/{name}.png\n" for name in names]
        (root / f"{split}.txt").write_text("".join(lines))
    names = ("building", "car", "door", "pavement", "road", "sky", "vegetation", "window")
    (root / "labels.txt").write_text("\n".join(names))
    return root
