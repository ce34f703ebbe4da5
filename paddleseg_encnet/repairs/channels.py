"""Images of other than one or three channels, which PaddleSeg's networks take and its data do not."""

import functools
import os
import tempfile
import types


def dataset_refuses_four_channels() -> bool:
    from paddleseg.datasets import Dataset
    with tempfile.TemporaryDirectory() as root:
        names = os.path.join(root, "names.txt")
        open(names, "w").close()
        try:
            Dataset("train", root, [], 2, img_channels=4, train_path=names)
        except ValueError:
            return True
    return False


def images_of_any_channels():
    """Symptom: `img_channels` should in [1, 3], but got 4.
    Cause: Dataset allows the two that cv2.imread has flags for, and Compose reads with these.
    Detected: a Dataset of four channels raises ValueError.
    """
    from paddleseg.datasets import Dataset
    from paddleseg.transforms import Compose
    init, compose = Dataset.__init__, Compose.__call__

    @functools.wraps(init)
    def init_any(self, mode, dataset_root, transforms, num_classes, img_channels=3, *args, **options):
        known = img_channels in (1, 3)
        init(self, mode, dataset_root, transforms, num_classes, img_channels if known else 3, *args, **options)
        self.img_channels = self.transforms.img_channels = img_channels

    @functools.wraps(compose)
    def read_first(self, data):
        if isinstance(data.get("img"), str) and self.img_channels not in (1, 3):
            from paddleseg_encnet.data.reading import read_image
            data["img"] = read_image(data["img"], self.img_channels).astype("float32")
        return compose(self, data)

    Dataset.__init__ = init_any
    Compose.__call__ = read_first


def padding_fails_for_five_channels() -> bool:
    import cv2
    import numpy as np
    from paddleseg.transforms import Padding
    try:
        Padding([2, 2])({"img": np.zeros([1, 1, 5], "float32"), "trans_info": []})
    except cv2.error:
        return True
    return False


def padding_of_many_channels():
    """Symptom: `Scalar value for argument 'value' is longer than 4` where an image of more than four channels is padded
    or rotated.
    Cause: as many fill values as channels are given, but OpenCV takes four, and repeats them.
    Detected: Padding of an image with five channels raises cv2.error.
    """
    import importlib

    import cv2
    module = importlib.import_module("paddleseg.transforms.transforms")

    def with_four(function, name):
        @functools.wraps(function)
        def filled(*args, **options):
            if isinstance(options.get(name), tuple):
                options[name] = options[name][:4]
            return function(*args, **options)
        return filled

    module.cv2 = types.SimpleNamespace(**{
        **vars(cv2), "copyMakeBorder": with_four(cv2.copyMakeBorder, "value"),
        "warpAffine": with_four(cv2.warpAffine, "borderValue")})
