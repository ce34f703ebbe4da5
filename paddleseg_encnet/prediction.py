"""Predicts images and writes pictures of what was seen."""

import os
from typing import Dict, List, Optional

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
        images: paths; of those below `root`, if that is given, the folders are kept. The ranks share them.
        colors: R, G, B of class 0, of class 1, ...; 256 of them.
        aug_eval, inference: as in evaluation.evaluate.

    Raises:
        ValueError: an image can't be read, or two would write the same pictures.
    """
    infer_image = infer.aug_inference if aug_eval else infer.inference
    ranks = Ranks.join()
    names = output_names(images, root)
    own = list(names)[ranks.rank::ranks.count]
    progress = Progress(len(own), "images", visible=ranks.first)
    model.eval()
    with paddle.no_grad():
        for path in own:
            data = transforms({"img": path})
            image = paddle.to_tensor(data["img"][np.newaxis])                       # [1, 3, H, W]
            ids, _ = infer_image(model, image, trans_info=data["trans_info"], **inference)
            ids = ids.numpy().reshape(ids.shape[-2:]).astype("uint8")               # [H, W]
            name = names[path]
            overlay = visualize.visualize(path, ids, colors, weight=0.6)
            write(os.path.join(save_dir, "added_prediction", name), lambda to: write_image(to, overlay))
            mask = visualize.get_pseudo_color_map(ids, colors)
            write(os.path.join(save_dir, "pseudo_color_prediction", f"{os.path.splitext(name)[0]}.png"), mask.save)
            progress.advance()
    progress.close()
    ranks.meet()
    logger.info(f"Predicted images are saved in {save_dir}/added_prediction and {save_dir}/pseudo_color_prediction")


def output_names(images: List[str], root: Optional[str]) -> Dict[str, str]:
    """Each image's path -> the name of its pictures: the path below `root`, or the file's name if it is not below.

    Raises:
        ValueError: two images would write the same pictures.
    """
    names, owners = {}, {}
    for path in images:
        name = os.path.basename(path) if root is None else os.path.relpath(path, root)
        if name.split(os.sep)[0] == os.pardir:
            name = os.path.basename(path)
        names[path] = name
        owner = owners.setdefault(os.path.splitext(name)[0], path)
        if owner != path:
            raise ValueError(f"{owner} and {path} would be written to the same pictures; give the folder that holds "
                             "both, or call twice with another --save_dir")
    return names


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
