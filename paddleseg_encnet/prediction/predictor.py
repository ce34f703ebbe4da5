"""Predicts images and writes pictures of what was seen; outputs.py has the pictures, video.py does the same for videos.
"""

import os
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np
import paddle
from paddleseg.core import infer
from paddleseg.cvlibs import Config
from paddleseg.transforms import Compose, Normalize
from paddleseg.utils import logger

from paddleseg_encnet import cli
from paddleseg_encnet.data.datasets import names_of_classes
from paddleseg_encnet.data.reading import DataError, check_mask, read_image, read_label
from paddleseg_encnet.data.transforms import prepared
from paddleseg_encnet.evaluation import sliding
from paddleseg_encnet.pictures import bands
from paddleseg_encnet.pictures.palettes import PALETTES, color_table, fitting
from paddleseg_encnet.prediction import outputs
from paddleseg_encnet.prediction.inputs import output_names
from paddleseg_encnet.prediction.outputs import Predicted, Style
from paddleseg_encnet.prediction.pipeline import Stages
from paddleseg_encnet.runtime.devices import Ranks
from paddleseg_encnet.runtime.errors import one_line
from paddleseg_encnet.runtime.progress import Progress

# What a label file has for class 0 in the data sets where that is not 0, and 0 for pixels without a class.
VALUE_OF_CLASS_0 = {"ADE20K": 1, "PascalContext59": 1}


class Predictor:
    """Says of each pixel of an image what it is, and how sure that is.

    Args:
        model: its first output is logits [B, C, H, W].
        transforms: what PaddleSeg applies to a validation image.
        confidence: whether it is wanted; it takes time.
        min_conf: pixels whose confidence is below become "unknown", the largest number of the mask's type.
        aug_eval, inference: as in evaluation.evaluate.

    Confidence is the softmax probability of the chosen class, with scales and flips that of the averaged logits, which
    is what PaddleSeg chooses by.

    Windows that slide over an image whose transforms work on each pixel alone need memory for one row of windows,
    however high the image is (evaluation/sliding.py). With `aug_eval` or a Resize the logits of the whole image are
    kept.
    """
    requests = 1        # threads that may call `predict` at a time

    def __init__(self, model: paddle.nn.Layer, transforms: Compose, confidence: bool = False, min_conf: float = 0.0,
                 aug_eval: bool = False, **inference):
        self.model, self.transforms, self.inference = model, transforms, inference
        self.judges, self.min_conf = confidence or min_conf > 0, min_conf
        self.infer = infer.aug_inference if aug_eval else infer.inference
        self.in_strips = bool(inference.get("is_slide")) and not aug_eval and \
            all(type(transform) is Normalize for transform in transforms.transforms)

    @property
    def channels(self) -> int:
        return self.transforms.img_channels

    def read(self, path: str) -> np.ndarray:
        """The image as the transforms take it, see read_image: uint8 [H, W, 3] in BGR, uint8 [H, W] for a network of
        one channel, [H, W, C] of any type for others."""
        return read_image(path, self.transforms.img_channels)

    def predict(self, image: np.ndarray, show_windows: bool = False) -> Predicted:
        """Prediction for an image as `read` returns it; `show_windows`: with a line on how far its windows have come.
        """
        self.model.eval()
        with paddle.no_grad():
            ids, confidence = self.by_strips(image, show_windows) if self.in_strips else self.at_once(image)
        return Predicted(bands.shown(image), ids, confidence)

    def at_once(self, image: np.ndarray):
        data = self.transformed(image)
        ids, logits = self.infer(self.model, paddle.to_tensor(data["img"][np.newaxis]), trans_info=data["trans_info"],
                                 **self.inference)
        ids = ids.numpy().reshape(ids.shape[-2:]).astype(mask_type(logits.shape[1]))
        return ids, self.judge(ids, logits[0].numpy()) if self.judges else None

    def by_strips(self, image: np.ndarray, show_windows: bool):
        size, crop_size, stride = image.shape[:2], self.inference["crop_size"], self.inference["stride"]

        def logits_of(top, bottom, left, right):
            data = self.transformed(image[top:bottom, left:right])
            return self.model(paddle.to_tensor(data["img"][np.newaxis]))[0][0].numpy()

        progress = Progress(len(sliding.windows(size[0], crop_size[1], stride[1])), "rows of windows", show_windows)
        ids, confidence = None, np.empty(size, np.uint8) if self.judges else None
        for first, logits in sliding.strips(logits_of, size, crop_size, stride):
            if ids is None:
                ids = np.empty(size, mask_type(len(logits)))
            strip = slice(first, first + logits.shape[1])
            ids[strip] = logits.argmax(axis=0)
            if self.judges:
                confidence[strip] = self.judge(ids[strip], logits)
            progress.advance()
        progress.close()
        return ids, confidence

    def transformed(self, image: np.ndarray) -> dict:
        return prepared(self.transforms, image)

    def judge(self, ids: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Makes uncertain pixels of `ids` unknown, in place, and returns the confidence of all as uint8."""
        sure = probability_of_the_largest(logits)
        ids[sure < self.min_conf] = np.iinfo(ids.dtype).max
        return np.rint(sure * 255).astype(np.uint8)


def mask_type(num_classes: int) -> type:
    """The smallest type of number that holds the class ids and one more, for what is unknown."""
    return np.uint8 if num_classes <= 255 else np.uint16


def style_of(config: Config, palette: Optional[str] = None, custom_color: Optional[List[int]] = None,
             alpha: float = Style.alpha) -> Style:
    """Names and colours of a config's classes.

    Args:
        palette: name of the data set, in PALETTES, whose names and colours they have in place of the config's.
        custom_color: R, G, B of class 0, of class 1, ...; the config's if None.

    Raises:
        ValueError: the palette is for another number of classes, or the colours are none.
    """
    dataset = config.val_dataset_cfg
    classes = cli.num_classes(config)
    found = fitting(PALETTES.get(palette or dataset.get("type")), classes)
    if palette and found is None:
        raise ValueError(f"--palette {palette} has {len(PALETTES[palette])} classes, the network {classes}")
    colors = color_table(found, custom_color or config.test_config.get("custom_color"),
                         size=np.iinfo(mask_type(classes)).max + 1)
    names = list(found) if palette else names_of_classes(dataset.get("type"), classes, dataset.get("dataset_root"))
    return Style(names, colors, alpha)


def probability_of_the_largest(logits: np.ndarray) -> np.ndarray:
    """Softmax over [C, H, W], the largest of each pixel: float [H, W]; needs the memory of a few of these."""
    largest = logits.max(axis=0)
    total = np.zeros_like(largest)
    for logit in logits:
        total += np.exp(logit - largest)
    return 1 / total


def predict(predictor: Predictor, images: List[str], root: Optional[str], save_dir: str, style: Style,
            kinds: Sequence[str] = outputs.DEFAULT, labels: Optional[Dict[str, str]] = None,
            first_value: int = 0, ignore_index: int = 255):
    """Writes, for each image, the pictures that outputs.py has. An image that can't be read is left out, with a warning
    that names it, and the rest is predicted.

    Args:
        images: paths; of those below `root`, if that is given, the folders are kept. The ranks share them.
        kinds: of pictures, by their names in outputs.FOLDERS.
        labels: {image: label} of those that have one.
        first_value, ignore_index: what label files have for class 0, and for pixels that don't count.

    Raises:
        ValueError: two images would write the same pictures.
        DataError: at the end, images were left out.
        OSError: a picture can't be written.
    """
    ranks = Ranks.join()
    names = output_names(images, root)
    own = list(names)[ranks.rank::ranks.count]
    progress = Progress(len(own), "images", visible=ranks.first)
    left_out = []

    def read(path):
        return path, attempt(predictor.read, path)

    def see(path, image):
        seen = predictor.predict(image, show_windows=len(names) == 1)
        if "comparison" in kinds and (labels or {}).get(path):
            seen.label = label_of(labels[path], seen.ids.shape, len(style.names), first_value, ignore_index)
        return seen

    def save(path, seen):
        if isinstance(seen, ValueError):
            message = str(seen) if path in str(seen) else f"{path}: {seen}"
            logger.warning(f"left out: {message}")
            left_out.append(message)
        else:
            for kind in kinds:
                outputs.save(kind, seen, style, save_dir, names[path])
        progress.advance()
    in_stages(own, read, see, save)
    progress.close()
    ranks.meet()
    logger.info("Predicted images are saved in " + ", ".join(os.path.join(save_dir, outputs.FOLDERS[kind])
                                                             for kind in kinds))
    count = int(ranks.sum(np.array([len(left_out)]))[0])
    if count:
        first = left_out[0] if left_out else "another rank says which"
        raise DataError(f"{count} of {len(names)} images left out: {first}"
                        f"{'; the others stand in the warnings above' if len(left_out) > 1 else ''}")


def in_stages(images: Sequence[str], read: Callable, see: Callable, save: Callable):
    """save(path, see(path, image)) of each (path, image) that `read` makes of a path, in order; an image, and what was
    seen, may be a ValueError.

    The next image is read and the last one saved while the network computes, which it does in this thread: Paddle has
    settings of its own for each.
    """
    def seen(item):
        path, image = item
        return path, image if isinstance(image, ValueError) else attempt(see, path, image)
    threads = int(len(images) > 1)
    with Stages() as stages:
        looked_at = stages.ahead(seen, stages.ahead(read, images, threads), 0)
        for _ in stages.ahead(lambda item: save(*item), looked_at, threads):
            pass


def attempt(function: Callable, *args):
    """What the function returns, or the ValueError that it raises."""
    try:
        return function(*args)
    except ValueError as error:
        return error


def labels_in_dataset(builder, images: List[str], splits: Sequence[str] = ("val_dataset",)) -> Dict[str, str]:
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


def label_of(path: str, size, num_classes: int, first_value: int, ignore_index: int) -> np.ndarray:
    """A label file as class ids [H, W] uint8, 255 for what is no class."""
    label = read_label(path)
    check_mask(label, size, path)
    ids = label.astype(np.int64) - first_value
    return np.where((label == ignore_index) | (ids < 0) | (ids >= num_classes), 255, ids).astype(np.uint8)
