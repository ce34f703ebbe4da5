"""Predicts images and writes pictures of what was seen."""

import os
from typing import List, Optional

import cv2
import numpy as np
import paddle
from paddleseg.core import infer
from paddleseg.transforms import Compose
from paddleseg.utils import logger, visualize

from paddleseg_encnet.devices import Ranks
from paddleseg_encnet.progress import Progress


def predict(model: paddle.nn.Layer, transforms: Compose, images: List[str], root: Optional[str], save_dir: str,
            colors: List[int], aug_eval: bool = False, **inference):
    """Writes, for each image, the two pictures that PaddleSeg writes:

        save_dir/added_prediction/          the image with the classes' colours laid over it
        save_dir/pseudo_color_prediction/   the classes as a palette image: pixel values are class ids

    Args:
        transforms: what PaddleSeg applies to a validation image.
        images: paths; below `root`, if that is given, their folders are kept.
        colors: R, G, B of class 0, of class 1, ...; 256 of them.
        aug_eval, inference: as in evaluation.evaluate.

    Raises:
        ValueError: an image can't be read.
    """
    infer_image = infer.aug_inference if aug_eval else infer.inference
    ranks = Ranks.join()
    own = images[ranks.rank::ranks.count]
    progress = Progress(len(own), "images", visible=ranks.first)
    model.eval()
    with paddle.no_grad():
        for path in own:
            data = transforms({"img": path})
            image = paddle.to_tensor(data["img"][np.newaxis])                       # [1, 3, H, W]
            ids, _ = infer_image(model, image, trans_info=data["trans_info"], **inference)
            ids = ids.numpy().reshape(ids.shape[-2:]).astype("uint8")               # [H, W]
            name = os.path.relpath(path, root) if root else os.path.basename(path)
            overlay = visualize.visualize(path, ids, colors, weight=0.6)
            write(os.path.join(save_dir, "added_prediction", name), lambda to: write_image(to, overlay))
            mask = visualize.get_pseudo_color_map(ids, colors)
            write(os.path.join(save_dir, "pseudo_color_prediction", f"{os.path.splitext(name)[0]}.png"), mask.save)
            progress.advance()
    progress.close()
    logger.info(f"Predicted images are saved in {save_dir}/added_prediction and {save_dir}/pseudo_color_prediction")


def write(path: str, save):
    """Calls save(path) with the folder in place."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save(path)


def write_image(path: str, image: np.ndarray):
    if not cv2.imwrite(path, image):
        raise OSError(f"cannot write {path}: is there room, and the right to write?")


def color_map(palette: Optional[dict], custom: Optional[List[int]]) -> List[int]:
    """768 numbers: R, G, B of the classes as given, then as the data set has them, then PaddleSeg's.

    Raises:
        ValueError: `custom` is not three numbers from 0 to 255 a class.
    """
    if custom and (len(custom) % 3 or not all(0 <= value <= 255 for value in custom)):
        raise ValueError(f"--custom_color takes R G B from 0 to 255 for each class, got {len(custom)} numbers")
    own = [value for color in (palette or {}).values() for value in color]
    return visualize.get_color_map_list(256, custom_color=list(custom or own))
