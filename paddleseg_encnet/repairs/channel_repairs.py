"""Images of other than one or three channels, which PaddleSeg's networks take and its data do not."""

import functools
import os
import random
import tempfile
from typing import Any, Callable

from .data_repairs import compose_reads_with_our_reader  # a test has this folder alone


def dataset_refuses_four_channels() -> bool:
    from paddleseg.datasets import Dataset
    with tempfile.TemporaryDirectory() as root:
        names = os.path.join(root, "names.txt")
        open(names, "w", encoding="utf-8").close()
        try:
            Dataset("train", root, [], 2, img_channels=4, train_path=names)
        except ValueError:
            return True
    return False


def images_of_any_channels() -> None:
    """Symptom: `img_channels` should in [1, 3], but got 4.
    Cause: Dataset allows the two that cv2.imread has flags for, and Compose reads with these.
    Detected: a Dataset of four channels raises ValueError.
    """
    from paddleseg.datasets import Dataset
    init = Dataset.__init__

    @functools.wraps(init)
    def init_any(self: Any, mode: str, dataset_root: str, transforms: list, num_classes: int, img_channels: int = 3,
                 *args: Any, **options: Any) -> None:
        known = img_channels in (1, 3)
        init(self, mode, dataset_root, transforms, num_classes, img_channels if known else 3, *args, **options)
        self.img_channels = self.transforms.img_channels = img_channels

    Dataset.__init__ = init_any
    compose_reads_with_our_reader()


def padding_fails_for_five_channels() -> bool:
    import cv2
    import numpy as np
    from paddleseg.transforms import Padding
    try:
        Padding([2, 2])({"img": np.zeros([1, 1, 5], "float32"), "trans_info": []})
    except cv2.error:
        return True
    return False


def padding_of_many_channels() -> None:
    """Symptom: `Scalar value for argument 'value' is longer than 4` where an image of more than four channels is padded
    or rotated.
    Cause: as many fill values as channels are given, but OpenCV takes four, and repeats them.
    Detected: Padding of an image with five channels raises cv2.error.
    """
    from paddleseg.transforms import Padding, RandomAffine, RandomPaddingCrop, RandomRotation
    # CropFirst (data/transforms.py) calls RandomPaddingCrop's padding alone.
    for transform, name in ((Padding, "__call__"), (RandomPaddingCrop, "_padding"), (RandomRotation, "__call__"),
                            (RandomAffine, "__call__")):
        setattr(transform, name, four_at_a_time(getattr(transform, name)))


def four_at_a_time(transform: Callable) -> Callable:
    """A transform's method as one that, of an image with more than four channels, is given four at a time, with the
    same random numbers each time."""
    import numpy as np

    @functools.wraps(transform)
    def transformed(self: Any, data: dict) -> dict:
        image = data["img"]
        if image.ndim == 2 or image.shape[2] <= 4:
            return transform(self, data)
        states = random.getstate(), np.random.get_state()
        parts = []
        for start in range(0, image.shape[2], 4):
            random.setstate(states[0])
            np.random.set_state(states[1])
            given = {**data, "img": np.ascontiguousarray(image[..., start:start + 4])}
            if "trans_info" in data:        # which the transform may add to
                given["trans_info"] = list(data["trans_info"])
            made = transform(self, given)
            parts.append(made["img"].reshape(*made["img"].shape[:2], -1))       # OpenCV drops an axis of one channel
        data.update(made, img=np.concatenate(parts, axis=2))
        return data

    return transformed
