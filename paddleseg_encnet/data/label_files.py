"""Which image of a user's has a label among the config's data sets, and what is in it."""

import os
from typing import Dict, List, Sequence, Tuple

import numpy as np
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.utils import logger

from paddleseg_encnet.data.known_sets import known
from paddleseg_encnet.data.reading import check_mask, read_label
from segrun.errors import one_line


def labels_in_dataset(builder: SegBuilder, images: List[str],
                      splits: Sequence[str] = ("val_dataset",)) -> Dict[str, str]:
    """{image: label} of those images that the config's data sets have with a label; none if their files are not there.

    Args:
        builder: PaddleSeg's, of the config.
        splits: which of `train_dataset` and `val_dataset`.
    """
    label_of = {}
    for split in splits:
        try:
            pairs = getattr(builder, split).file_list
        except (ValueError, OSError, RuntimeError, AttributeError) as error:     # what PaddleSeg's data sets raise
            logger.info(f"No label was looked for in {split}: {one_line(error)}")
            continue
        label_of.update({os.path.realpath(pair[0]): pair[1] for pair in pairs if len(pair) > 1 and pair[1]})
    found = {image: label_of.get(os.path.realpath(image)) for image in images}
    return {image: label for image, label in found.items() if label}


def label_of(path: str, size: Tuple[int, ...], num_classes: int, first_value: int, ignore_index: int) -> np.ndarray:
    """A label file as class ids [H, W] uint8, 255 for what is no class."""
    label = read_label(path)
    check_mask(label, size, path)
    ids = label.astype(np.int64) - first_value
    return np.where((label == ignore_index) | (ids < 0) | (ids >= num_classes), 255, ids).astype(np.uint8)


def label_of_config(path: str, size: Tuple[int, ...], num_classes: int, config: Config) -> np.ndarray:
    """label_of() with the values that the files of a config's validation set have."""
    dataset = config.val_dataset_cfg
    return label_of(path, size, num_classes, known(dataset.get("type", "")).value_of_class_0,
                    dataset.get("ignore_index", 255))
