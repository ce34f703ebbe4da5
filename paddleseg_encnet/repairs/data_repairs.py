"""Data that is read, paired or cut wrongly, without a word."""

import functools
import importlib
import os
import tempfile
from typing import IO, Any, Callable, Optional

from .exchanging import exchanged  # a test has this folder alone


def unreadable_image_has_no_name() -> bool:
    from paddleseg.transforms import Compose
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "broken.png")
        open(path, "w", encoding="utf-8").close()
        try:
            Compose([])({"img": path})
        except Exception as error:
            return "broken.png" not in str(error)
    return True


def one_reader() -> None:
    """Symptom: `AttributeError: 'NoneType' object has no attribute 'astype'` for a missing or broken image; fractions
    are read as black, a GIF is broken, labels of 16 bits become 0.
    Cause: Compose calls a method on what cv2.imread returned, which is None for such a file, and looks at no type of
    pixels; labels are what Pillow makes of them.
    Detected: the error for an empty file does not name it.
    """
    compose_reads_with_our_reader()


def compose_reads_with_our_reader() -> None:
    """Has PaddleSeg's Compose read image and label with reader_of(itself), images of any number of channels. Several
    repairs need it; it is done once."""
    from paddleseg.transforms import Compose
    compose = Compose.__call__
    if getattr(compose, "reads_with_our_reader", False):
        return

    @functools.wraps(compose)
    def read_first(self: Any, data: dict) -> dict:
        from paddleseg_encnet.data.reading import check_mask, reader_of
        reader = reader_of(self)
        if isinstance(data.get("img"), str):
            image = reader.image(data["img"], self.img_channels)
            if isinstance(data.get("label"), str):
                path = data["label"]
                data["label"] = reader.label(path)
                if data["label"].ndim == 2:         # PSSLDataset's have three channels
                    check_mask(data["label"], image.shape[:2], path)
            data["img"] = image.astype("float32")
        return compose(self, data)

    repaired: Any = read_first
    repaired.reads_with_our_reader = True
    Compose.__call__ = repaired


def cityscapes_pairs_by_position() -> bool:
    from paddleseg.datasets import Cityscapes
    with tempfile.TemporaryDirectory() as root:
        for name in ("leftImg8bit/train/x/a_leftImg8bit.png", "leftImg8bit/train/x/b_leftImg8bit.png",
                     "gtFine/train/x/b_gtFine_labelTrainIds.png"):
            path = os.path.join(root, *name.split("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w", encoding="utf-8").close()
        try:
            pairs = Cityscapes([], root).file_list
        except (OSError, ValueError):
            return False
    return any("a_leftImg8bit" in image and "b_gtFine" in label for image, label in pairs)


def cityscapes_pairs_by_name() -> None:
    """Symptom: with one file missing, every later image trains on its neighbour's label, and nothing is said; a wrong
    dataset_root is answered without naming it.
    Cause: images and labels are two sorted lists, zipped.
    Detected: of two images and the second one's label, the first image is paired with that label.
    """
    from paddleseg.datasets import Cityscapes

    from paddleseg_encnet.data.datasets import cityscapes_pairs
    init = Cityscapes.__init__

    @functools.wraps(init)
    def pair_by_name(self: Any, transforms: list, dataset_root: str, mode: str = "train", edge: bool = False, *,
                     pair: Any = None) -> None:
        pairs = cityscapes_pairs(dataset_root, mode, pair)
        init(self, transforms, dataset_root, mode, edge)
        self.file_list = pairs

    Cityscapes.__init__ = pair_by_name


def ade20k_lists_any_file() -> bool:
    from paddleseg.datasets import ADE20K
    with tempfile.TemporaryDirectory() as root:
        for name in ("images/training/a.jpg", "images/training/notes.txt", "annotations/training/a.png"):
            path = os.path.join(root, *name.split("/"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w", encoding="utf-8").close()
        try:
            return len(ADE20K([], root).file_list) > 1
        except (OSError, ValueError):
            return False


def ade20k_pairs_by_name() -> None:
    """Symptom: the order of the images differs from machine to machine, so that a seed, and ranks on several machines,
    mean different images; a stray file counts as an image; a mistyped dataset_root starts a download of a gigabyte;
    labels are read in another way than those of other data sets.
    Cause: the list is os.listdir's, in the order of the file system; where there is no folder, one is downloaded; what
    Pillow makes of a label is taken for its ids.
    Detected: a text file between the images is listed.
    """
    import numpy as np
    from paddleseg.datasets import ADE20K
    from paddleseg.transforms import functional

    from paddleseg_encnet.data.datasets import ade20k_pairs
    init = ADE20K.__init__

    @functools.wraps(init)
    def pair_by_name(self: Any, transforms: list, dataset_root: Optional[str] = None, mode: str = "train",
                     edge: bool = False, *, pair: Any = None) -> None:
        split = mode.lower()
        # Without a root PaddleSeg downloads, as it says; another mode it refuses.
        pairs = ade20k_pairs(dataset_root, split, pair) if dataset_root and split in ("train", "val") else None
        init(self, transforms, dataset_root, mode, edge)
        self.file_list = pairs or sorted(self.file_list)

    @functools.wraps(ADE20K.__getitem__)
    def read_sample(self: Any, index: int) -> dict:
        from paddleseg_encnet.data.reading import reader_of
        image, label = self.file_list[index]
        ids = reader_of(self.transforms).label(label) - 1         # of 8 bits: 0, which is no class, becomes 255
        data = {"img": image, "label": ids, "trans_info": [], "gt_fields": [] if self.mode == "val" else ["label"]}
        data = self.transforms(data)
        if self.mode == "val":
            data["label"] = ids[np.newaxis]
        elif self.edge:
            data["edge"] = functional.mask_to_binary_edge(data["label"], radius=2, num_classes=self.num_classes)
        return data

    ADE20K.__init__, ADE20K.__getitem__ = pair_by_name, read_sample


def missing_voc_is_downloaded() -> bool:
    module = importlib.import_module("paddleseg.datasets.voc")
    asked = []

    def download(**options: Any) -> None:
        asked.append(options)
        raise ValueError

    with tempfile.TemporaryDirectory() as root, \
            exchanged(module, "download_file_and_uncompress", download):
        try:
            module.PascalVOC([], os.path.join(root, "nowhere"))
        except (OSError, ValueError):
            pass
    return bool(asked)


def missing_pascal_data_is_named() -> None:
    """Symptom: a mistyped dataset_root of PascalVOC starts a download of two gigabytes; with a list missing, PascalVOC
    and PascalContext say that a script was not run, which the second calls by a name that no script has, and not which
    file was looked for.
    Cause: where there is no folder, one is downloaded; the messages are fixed.
    Detected: PascalVOC of a folder that does not exist calls the downloader.
    """
    from paddleseg.datasets import PascalContext, PascalVOC

    from paddleseg_encnet.data.pascal import need_lists_of_context, need_lists_of_voc

    def look_first(dataset_class: Any, need_lists: Callable[[str, str], None]) -> None:
        init = dataset_class.__init__

        @functools.wraps(init)
        def init_with_lists(self: Any, transforms: Optional[list] = None, dataset_root: Optional[str] = None,
                            mode: str = "train", edge: bool = False) -> None:
            if dataset_root is not None:
                need_lists(dataset_root, mode.lower())
            init(self, transforms, dataset_root, mode, edge)

        dataset_class.__init__ = init_with_lists

    look_first(PascalVOC, need_lists_of_voc)
    look_first(PascalContext, need_lists_of_context)


def crop_replaces_the_image() -> bool:
    import numpy as np
    from paddleseg.transforms import RandomPaddingCrop
    # Every crop of two rows has both classes, half of each.
    data = {"img": np.zeros([2, 2, 3], "float32"), "label": np.array([[0, 0], [1, 1]], "uint8"), "gt_fields": ["label"]}
    state = np.random.get_state()
    cropped = RandomPaddingCrop(crop_size=[1, 2], category_max_ratio=0.9)(data)
    np.random.set_state(state)
    return cropped["img"].shape != (2, 1, 3)


def crop_by_category_ratio() -> None:
    """Symptom: with `category_max_ratio` below 1, RandomPaddingCrop trains on label pictures, or on images uncropped.
    Cause: where a crop is good it stores the label's crop as the image; where none is, it leaves the image whole.
    Detected: the crop of an image with three channels has not three channels.
    """
    import numpy as np
    from paddleseg.transforms import RandomPaddingCrop, functional
    transform = RandomPaddingCrop.__call__

    @functools.wraps(transform)
    def crop_image_and_label(self: Any, data: dict) -> dict:
        if self.category_max_ratio >= 1 or data["img"].shape[:2] == self.crop_size:
            return transform(self, data)
        data = self._padding(data)
        size = data["img"].shape[:2]
        for _ in range(self.loop_times):
            window = self._get_crop_coordinates(size)
            classes, counts = np.unique(functional.crop(data["label"], window), return_counts=True)
            counts = counts[classes != self.ignore_index]
            if len(counts) > 1 and counts.max() < self.category_max_ratio * counts.sum():
                break
        for key in ("img", *data.get("gt_fields", [])):
            data[key] = functional.crop(data[key], window)
        return data

    RandomPaddingCrop.__call__ = crop_image_and_label


def padded_label_has_new_ids() -> bool:
    import numpy as np
    from paddleseg.transforms import ScalePadding
    label = np.array([[0, 200, 0, 200]], "uint8")
    data = {"img": np.zeros([1, 4, 3], "float32"), "label": label, "gt_fields": ["label"]}
    return not set(np.unique(ScalePadding([7, 7])(data)["label"])) <= {0, 200, 255}


def padded_labels_keep_their_ids() -> None:
    """Symptom: ScalePadding trains on class ids that are in no label; a prediction ends with KeyError: 'gt_fields'.
    Cause: the label is resized with cubic interpolation; where there is no label the key is not there either.
    Detected: a label of 0 and 200 has other values than these and 255 afterwards.
    """
    import cv2
    import numpy as np
    from paddleseg.transforms import ScalePadding, functional
    transform = ScalePadding.__call__

    @functools.wraps(transform)
    def pad_label_apart(self: Any, data: dict) -> dict:
        fields = data.get("gt_fields", [])
        data = transform(self, {**data, "gt_fields": []})
        if "label" in fields:
            height, width = data["label"].shape
            side = max(height, width)
            top, left = (side - height) // 2, (side - width) // 2
            square = np.full([side, side], self.label_padding_value, data["label"].dtype)
            square[top:top + height, left:left + width] = data["label"]
            data["label"] = functional.resize(square, self.target_size, interp=cv2.INTER_NEAREST)
        return {**data, "gt_fields": fields}

    ScalePadding.__call__ = pad_label_apart


def list_with_a_mark_names_no_file() -> bool:
    from paddleseg.datasets import Dataset
    with tempfile.TemporaryDirectory() as root:
        path = os.path.join(root, "list.txt")
        with open(path, "w", encoding="utf-8-sig") as file:
            file.write("a.png b.png\n")
        try:
            return Dataset("train", root, [], 2, train_path=path).file_list[0][0] != os.path.join(root, "a.png")
        except UnicodeDecodeError:      # the system's encoding, ASCII or cp932, has no such mark
            return True


def lists_are_utf_8() -> None:
    """Symptom: the first image of a list that an editor on Windows saved is never found; names with other letters than
    English ones are found on one system and not on another; `'utf-8' codec can't decode byte`, without a file's name.
    Cause: Dataset opens the list in the encoding of the system, and takes the mark at its beginning for a letter.
    Detected: of a list that begins with that mark the first name is another one.
    """
    import io
    module: Any = importlib.import_module("paddleseg.datasets.dataset")

    def open_list(path: str, mode: str = "r") -> IO[str]:
        from segrun.raw_files import read_lines
        return io.StringIO("".join(f"{line}\n" for line in read_lines(path)))

    module.open = open_list         # which Dataset.__init__ finds before the built-in one
