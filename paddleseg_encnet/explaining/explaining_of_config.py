"""Explains what the network of a config saw: what tools/explain.py does, in one function."""

import csv
import os
from typing import Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from paddleseg.utils import logger, utils

from paddleseg_encnet.config import building
from paddleseg_encnet.config.building import Builder
from paddleseg_encnet.data.label_files import label_of_config, labels_in_dataset
from paddleseg_encnet.explaining import explanations
from paddleseg_encnet.explaining.page import image_page, set_page
from paddleseg_encnet.live import LiveNetwork, classes_of_config
from paddleseg_encnet.runtime.devices import select_device
from paddleseg_encnet.weights import checkpoint
from segrun import inputs, pages
from segrun.errors import DataError, unwrapped
from segrun.own_files import check_outputs, write_own
from segrun.progress import Progress

Path = Union[str, "os.PathLike[str]"]


@unwrapped
def explain(config: Path, model_path: Path, image_path: Path, save_dir: Path = "./output/explain", *,
            label: Optional[Path] = None, device: Optional[str] = None,
            opts: Optional[Sequence[str]] = None) -> Dict[str, str]:
    """Writes a page on what an EncNet saw in an image, or on what its codewords gather over many, and logs what
    tools/explain.py logs.

    Args:
        config: a YAML file, or the name of a shipped config.
        model_path: file of weights.
        image_path: an image; or a folder, or a text file with an image a line.
        label: of the one image; found by itself where the image is one of the config's val_dataset.
        device: "cpu", "gpu", ..., which becomes Paddle's; the GPU if there is one when it is None.
        opts: keys of the config to set, ["KEY=VALUE", ...].

    Returns:
        The files written, by "png", "html" and, of many images, "csv".

    Raises:
        ValueError, OSError: config, weights or images are missing or wrong (CheckpointError, DataError, ...), the
            network has no context encoding, or a file can't be written.
        DataError: at the end, images were left out.
    """
    model_path, image_path, save_dir = os.fspath(model_path), os.fspath(image_path), os.fspath(save_dir)
    builder = building.read_config(config, opts, pretrained=False)
    images, own = inputs.without_own(inputs.find_images(image_path)[0], image_path, save_dir)
    single = os.path.isfile(image_path) and inputs.is_image(image_path)
    if label and not single:
        raise ValueError("--label is the label of one image; --image_path is a folder or a list")
    name = os.path.splitext(os.path.basename(image_path))[0] if single else "codewords"
    paths = {ending: os.path.join(save_dir, f"{name}.{ending}")
             for ending in ("png", "html", *([] if single else ["csv"]))}
    read = [image_path, model_path, *images, *(os.fspath(path) for path in (config, label) if path)]
    check_outputs(paths.values(), read)
    pages.font_folder()       # is what draws there, before the network runs?

    utils.show_env_info()
    utils.show_cfg_info(builder.config)
    select_device(device)
    model = builder.model
    explanations.check_explainable(model, codewords=not single)
    checkpoint.fill_layer(model, model_path)
    logger.info(f"Loaded {model_path}; the number of images: {len(images)}")
    for line in filter(None, (inputs.passed_over(image_path), own)):
        logger.info(line)
    if builder.config.test_config.get("is_slide"):
        logger.info("The image goes through the network whole, not in the windows of test_config: each has a context "
                    "of its own")
    network = LiveNetwork(model, builder.preprocessing, classes_of_config(builder.config))
    left_out: List[str] = []
    if single:
        made = page_of_image(builder, network, image_path, os.fspath(label) if label else None)
    else:
        over_set, left_out = gather(network, images)
        names = network.classes.names
        made = set_page(over_set, os.path.basename(os.path.abspath(image_path)), names)
        rows = explanations.codeword_table(over_set, model.enc_module.encoding[0].scale.numpy(), names)
        write_own(paths["csv"], lambda to: write_codeword_csv(to, rows))
    write_own(paths["png"], lambda to: write_png(to, pages.as_picture(made)))
    write_own(paths["html"], lambda to: write_text(to, pages.as_html(made)))
    logger.info(f"Written: {', '.join(paths.values())}")
    if left_out:
        raise DataError(f"{len(left_out)} of {len(images)} images left out: {left_out[0]}")
    return paths


def page_of_image(builder: Builder, network: LiveNetwork, image_path: str, label_path: Optional[str]) -> pages.Page:
    explanation, label, classes = explanations.explain_image(network, image_path), None, network.classes
    path = label_path or labels_in_dataset(builder, [image_path]).get(image_path)
    if path:
        logger.info(f"The label is {path}")
        label = label_of_config(path, explanation.ids.shape, len(classes.names), builder.config)
    weights = network.model.head.weight.numpy()[:, :, 0, 0]         # [num_classes, C]
    return image_page(explanation, os.path.basename(image_path), classes.names, classes.colors, label, weights)


def gather(network: LiveNetwork, images: List[str]) -> Tuple[explanations.SetExplanation, List[str]]:
    """What the codewords gather, and what was wrong with images that can't be read: they are left out, with a warning.
    """
    count = network.model.head.weight.shape[0]
    over_set = explanations.SetExplanation(network.model.enc_module.num_codes, count, network.channels)
    left_out: List[str] = []
    progress = Progress(len(images), "images")
    for path in images:
        try:
            over_set.add(path, explanations.explain_image(network, path))
        except DataError as error:
            logger.warning(f"left out: {error}")
            left_out.append(str(error))
        progress.advance()
    progress.close()
    if len(left_out) == len(images):
        raise DataError(f"no image could be read: {left_out[0]}")
    return over_set, left_out


def write_codeword_csv(path: str, rows: list) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([explanations.TABLE_HEADER, *rows])


def write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def write_png(path: str, picture: np.ndarray) -> None:
    done, data = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not done:
        raise OSError(f"OpenCV can't make a PNG of {picture.shape[1]} x {picture.shape[0]}")
    with open(path, "wb") as file:
        file.write(data.tobytes())
