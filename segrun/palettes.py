"""Class names and colours (RGB, 0 to 255) of the data sets that have their own, in the order of their class ids.

Cityscapes: train ids, https://www.cityscapes-dataset.com. CamVid: the 11 classes of SegNet. ADE20K: names (the first of
each class's synonyms) and colours of the scene parsing benchmark, http://sceneparsing.csail.mit.edu. PASCAL VOC has no
list of colours but a rule, `bit_reversed`; PASCAL-Context, which has none, takes the same.
"""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Palette = Dict[str, Tuple[int, int, int]]


def bit_reversed(numbers: ArrayLike) -> NDArray[Any]:
    """PASCAL VOC's colours of numbers [N], uint8 [N, 3]: the bits of each, lowest first, become the highest bits of R,
    G, B, R, G, B, ..."""
    numbers = np.asarray(numbers)
    colors = np.zeros([len(numbers), 3], np.uint8)
    for bit in range(24):
        colors[:, bit % 3] |= ((numbers >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return colors


def numbered(names: List[str]) -> Palette:
    """Class i with PASCAL VOC's colour of i."""
    return dict(zip(names, map(tuple, bit_reversed(range(len(names))).tolist())))


CITYSCAPES = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0), "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180),
    "person": (220, 20, 60), "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100),
    "train": (0, 80, 100), "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32),
}

CAMVID = {
    "sky": (128, 128, 128), "building": (128, 0, 0), "pole": (192, 192, 128), "road": (128, 64, 128),
    "pavement": (60, 40, 222), "tree": (128, 128, 0), "sign": (192, 128, 128), "fence": (64, 64, 128),
    "car": (64, 0, 128), "pedestrian": (64, 64, 0), "bicyclist": (0, 128, 192),
}

ADE20K = {
    "wall": (120, 120, 120), "building": (180, 120, 120), "sky": (6, 230, 230), "floor": (80, 50, 50),
    "tree": (4, 200, 3), "ceiling": (120, 120, 80), "road": (140, 140, 140), "bed": (204, 5, 255),
    "windowpane": (230, 230, 230), "grass": (4, 250, 7), "cabinet": (224, 5, 255), "sidewalk": (235, 255, 7),
    "person": (150, 5, 61), "earth": (120, 120, 70), "door": (8, 255, 51), "table": (255, 6, 82),
    "mountain": (143, 255, 140), "plant": (204, 255, 4), "curtain": (255, 51, 7), "chair": (204, 70, 3),
    "car": (0, 102, 200), "water": (61, 230, 250), "painting": (255, 6, 51), "sofa": (11, 102, 255),
    "shelf": (255, 7, 71), "house": (255, 9, 224), "sea": (9, 7, 230), "mirror": (220, 220, 220), "rug": (255, 9, 92),
    "field": (112, 9, 255), "armchair": (8, 255, 214), "seat": (7, 255, 224), "fence": (255, 184, 6),
    "desk": (10, 255, 71), "rock": (255, 41, 10), "wardrobe": (7, 255, 255), "lamp": (224, 255, 8),
    "bathtub": (102, 8, 255), "railing": (255, 61, 6), "cushion": (255, 194, 7), "base": (255, 122, 8),
    "box": (0, 255, 20), "column": (255, 8, 41), "signboard": (255, 5, 153), "chest of drawers": (6, 51, 255),
    "counter": (235, 12, 255), "sand": (160, 150, 20), "sink": (0, 163, 255), "skyscraper": (140, 140, 140),
    "fireplace": (250, 10, 15), "refrigerator": (20, 255, 0), "grandstand": (31, 255, 0), "path": (255, 31, 0),
    "stairs": (255, 224, 0), "runway": (153, 255, 0), "case": (0, 0, 255), "pool table": (255, 71, 0),
    "pillow": (0, 235, 255), "screen door": (0, 173, 255), "stairway": (31, 0, 255), "river": (11, 200, 200),
    "bridge": (255, 82, 0), "bookcase": (0, 255, 245), "blind": (0, 61, 255), "coffee table": (0, 255, 112),
    "toilet": (0, 255, 133), "flower": (255, 0, 0), "book": (255, 163, 0), "hill": (255, 102, 0),
    "bench": (194, 255, 0), "countertop": (0, 143, 255), "stove": (51, 255, 0), "palm": (0, 82, 255),
    "kitchen island": (0, 255, 41), "computer": (0, 255, 173), "swivel chair": (10, 0, 255), "boat": (173, 255, 0),
    "bar": (0, 255, 153), "arcade machine": (255, 92, 0), "hovel": (255, 0, 255), "bus": (255, 0, 245),
    "towel": (255, 0, 102), "light": (255, 173, 0), "truck": (255, 0, 20), "tower": (255, 184, 184),
    "chandelier": (0, 31, 255), "awning": (0, 255, 61), "streetlight": (0, 71, 255), "booth": (255, 0, 204),
    "television": (0, 255, 194), "airplane": (0, 255, 82), "dirt track": (0, 10, 255), "apparel": (0, 112, 255),
    "pole": (51, 0, 255), "land": (0, 194, 255), "bannister": (0, 122, 255), "escalator": (0, 255, 163),
    "ottoman": (255, 153, 0), "bottle": (0, 255, 10), "buffet": (255, 112, 0), "poster": (143, 255, 0),
    "stage": (82, 0, 255), "van": (163, 255, 0), "ship": (255, 235, 0), "fountain": (8, 184, 170),
    "conveyor belt": (133, 0, 255), "canopy": (0, 255, 92), "washer": (184, 0, 255), "plaything": (255, 0, 31),
    "swimming pool": (0, 184, 255), "stool": (0, 214, 255), "barrel": (255, 0, 112), "basket": (92, 255, 0),
    "waterfall": (0, 224, 255), "tent": (112, 224, 255), "bag": (70, 184, 160), "minibike": (163, 0, 255),
    "cradle": (153, 0, 255), "oven": (71, 255, 0), "ball": (255, 0, 163), "food": (255, 204, 0), "step": (255, 0, 143),
    "tank": (0, 255, 235), "trade name": (133, 255, 0), "microwave": (255, 0, 235), "pot": (245, 0, 255),
    "animal": (255, 0, 122), "bicycle": (255, 245, 0), "lake": (10, 190, 212), "dishwasher": (214, 255, 0),
    "screen": (0, 204, 255), "blanket": (20, 0, 255), "sculpture": (255, 255, 0), "hood": (0, 153, 255),
    "sconce": (0, 41, 255), "vase": (0, 255, 204), "traffic light": (41, 0, 255), "tray": (41, 255, 0),
    "ashcan": (173, 0, 255), "fan": (0, 245, 255), "pier": (71, 0, 255), "crt screen": (122, 0, 255),
    "plate": (0, 255, 184), "monitor": (0, 92, 255), "bulletin board": (184, 255, 0), "shower": (0, 133, 255),
    "radiator": (255, 214, 0), "glass": (25, 194, 194), "clock": (102, 255, 0), "flag": (92, 0, 255),
}

PASCAL_VOC = numbered([
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor",
])

# PaddleSeg's 60 classes: the background and the 59 that are scored, sorted by their number among Context's 459 labels.
PASCAL_CONTEXT = numbered([
    "background", "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle",
    "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow", "cup", "curtain",
    "dog", "door", "fence", "floor", "flower", "food", "grass", "ground", "horse", "keyboard", "light", "motorbike",
    "mountain", "mouse", "person", "plate", "platform", "potted plant", "road", "rock", "sheep", "shelves", "sidewalk",
    "sign", "sky", "snow", "sofa", "table", "track", "train", "tree", "truck", "tv monitor", "wall", "water", "window",
    "wood",
])

# The 59 alone, each with the colour that it has there.
PASCAL_CONTEXT_59 = {name: color for name, color in PASCAL_CONTEXT.items() if name != "background"}

# By the name of the dataset class, as a config has it.
PALETTES = {"Cityscapes": CITYSCAPES, "CamVid": CAMVID, "ADE20K": ADE20K, "PascalVOC": PASCAL_VOC,
            "PascalContext": PASCAL_CONTEXT, "PascalContext59": PASCAL_CONTEXT_59}


def color_table(palette: Optional[Palette], custom: Optional[List[int]] = None, size: int = 256) -> NDArray[Any]:
    """uint8 [size, 3], RGB: the colour of each class id, as given, else as the palette has it, else PaddleSeg's.

    The last one, 255, is for pixels without a class: black, or VOC's cream where a class is black. PaddleSeg's colours
    are VOC's of the next number, so that class 0 is not black.

    Args:
        palette: one of PALETTES, or None.
        custom: R, G, B of class 0, of class 1, ...

    Raises:
        ValueError: `custom` is not three numbers from 0 to 255 a class.
    """
    if custom and (len(custom) % 3 or not all(0 <= value <= 255 for value in custom)):
        raise ValueError(f"--custom_color takes R G B from 0 to 255 for each class, got {len(custom)} numbers")
    table = bit_reversed(np.arange(1, size + 1))
    known = 0
    for given in (list((palette or {}).values()), custom or []):
        colors = np.array(given, np.uint8).reshape(-1, 3)[:size]
        table[:len(colors)] = colors
        known = max(known, len(colors))
    if known < size:
        black_class = (table[:known] == 0).all(axis=1).any()
        table[-1] = bit_reversed([255])[0] if black_class else 0
    return table
