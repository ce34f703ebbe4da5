"""Exports the network of a config: what tools/export.py does, in one function."""

import os
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple, Union

import paddle
from paddleseg.cvlibs import Config
from paddleseg.utils import logger

from paddleseg_encnet.config import building
from paddleseg_encnet.config.building import Builder
from paddleseg_encnet.deployment import exporting, held_out
from paddleseg_encnet.deployment.int8 import CALIBRATION_IMAGES, Limit, calibrating
from paddleseg_encnet.live import classes_of_config
from paddleseg_encnet.weights import checkpoint
from segrun import cpu, inputs
from segrun.errors import DataError, unwrapped
from segrun.image import read_file
from segrun.own_files import check_outputs

Path = Union[str, "os.PathLike[str]"]
MAX_DROP = 0.5      # points of mIoU


@unwrapped
def export(config: Path, model_path: Path, save_dir: Path = "./output/inference_model", *, output_op: str = "argmax",
           input_shape: Optional[Sequence[int]] = None, onnx: bool = False, int8: Optional[Path] = None,
           max_drop: Optional[float] = None, verify: Optional[Path] = None, half_weights: bool = False,
           opts: Optional[Sequence[str]] = None) -> Dict[str, exporting.Agreement]:
    """Writes a trained network as files that run without its code, and logs what tools/export.py logs. Paddle's device
    is then the CPU; the files run on any.

    Args:
        config: a YAML file, or the name of a shipped config.
        model_path: file of weights.
        output_op: what comes out: "argmax" classes, "softmax" probabilities or "none" logits.
        input_shape: [batch, channels, height, width], -1 where any goes; any batch and size if None.
        onnx: write an ONNX file too.
        int8: an image, a folder or a list, to calibrate on; writes an ONNX file with 8-bit convolutions.
        max_drop: points of mIoU that 8 bits may cost, measured on those images of `int8` that are not calibrated on and
            have a label in the config's data sets; 0.5 if None, where there are such images.
        verify: an image to compare each exported form with the live network on.
        half_weights: store the ONNX file's weights in half precision; it is computed in float32.
        opts: keys of the config to set, ["KEY=VALUE", ...].

    Returns:
        How near each form is to the live network on the image of `verify`, by the form's name; {} without one.

    Raises:
        ValueError, OSError: config, weights or images are missing or wrong (CheckpointError, ...), or the network can't
            be converted (ExportError).
        DataError: at the end, images of `int8` were left out.
    """
    paddle.set_device("cpu")        # so that no layer is made for several GPUs
    if half_weights and not onnx:
        raise ValueError("--half_weights is for the ONNX file: add --onnx")
    builder = building.read_config(config, opts, pretrained=False)
    model_path, save_dir = os.fspath(model_path), os.fspath(save_dir)
    int8 = os.fspath(int8) if int8 else None
    verify = os.fspath(verify) if verify else None
    for path in (int8, verify):
        if path and not os.path.exists(path):
            raise FileNotFoundError(f"there is no image {path}")
    calibration = inputs.find_images(int8)[0] if int8 else None
    check_outputs([os.path.join(save_dir, name) for name in exporting.FILES],
                  filter(None, [model_path, os.fspath(config), verify, int8, *(calibration or [])]))
    if passed_over := inputs.passed_over(int8 or ""):
        logger.info(passed_over)
    calibration, left_out = readable(calibration, builder.in_channels)
    limit = accuracy_to_keep(builder, int8, calibration, max_drop)
    deploy = described(builder.config)
    network = builder.model
    checkpoint.fill_layer(network, model_path)
    shape = list(input_shape) if input_shape else None
    exporting.export_network(network, save_dir, deploy, output_op, shape, onnx, calibration,
                             builder.in_channels, limit, half_weights)
    logger.info(f"The inference model is saved in {save_dir}: {', '.join(written_in(save_dir))}")
    agreements = exporting.verify_export(network, save_dir, verify, cpu.cpu_count()) if verify else {}
    for form, agreement in agreements.items():
        logger.info(f"{form}: {agreement}")
    if left_out:
        raise inputs.left_out_error(left_out, len(left_out), len(left_out) + len(calibration or []))
    return agreements


def readable(images: Optional[List[str]], channels: int) -> Tuple[Optional[List[str]], List[str]]:
    """The images without those that int8 would be calibrated on and that can't be read; and a line on each of these,
    which is logged. DataError: none can be read."""
    left_out: List[str] = []
    good: Set[str] = set()
    while images and (new := [path for path in calibrating(images) if path not in good]):
        for path in new:
            try:
                read_file(path, channels)
                good.add(path)
            except DataError as error:
                left_out.append(inputs.left_out_line(path, error))
                logger.warning(f"left out: {left_out[-1]}")
                images = [other for other in images if other != path]
    if left_out and not images:
        raise inputs.left_out_error(left_out, len(left_out), len(left_out))
    return images, left_out


def written_in(save_dir: str) -> List[str]:
    return sorted(name for name in os.listdir(save_dir) if not name.startswith("."))


def accuracy_to_keep(builder: Builder, int8: Optional[str], calibration: Optional[List[str]],
                     max_drop: Optional[float]) -> Optional[Limit]:
    """What 8 bits may cost, as far as it can be measured on images that are not calibrated on."""
    if max_drop is not None and not (calibration and max_drop >= 0):
        raise ValueError(f"--max_drop is a number of points from 0 on, beside --int8 IMAGES; got {max_drop:g}")
    if not calibration:
        return None
    labels, config = held_out.labelled_images(builder, calibration), builder.config
    if not labels:
        why = f"none of the images of {int8}, beside those that int8 is calibrated on, has a label in the config's " \
              "train_dataset or val_dataset"
        if max_drop is not None:
            raise ValueError(f"--max_drop can't be kept: {why}; give a folder or list of images of the data set, more "
                             f"than {CALIBRATION_IMAGES}")
        logger.info(f"What int8 costs is not measured: {why}")
        return None
    logger.info(f"What int8 costs is measured on {len(labels)} images that it is not calibrated on")
    return Limit(MAX_DROP if max_drop is None else max_drop,
                 lambda model, export: held_out.mean_iou(model, export, labels, config), logger.info)


def described(config: Config) -> Dict[str, Any]:
    """What deploy.yaml says of the data: transforms, class names, colours."""
    dataset = config.val_dataset_cfg
    if not dataset.get("transforms"):
        raise ValueError("the config has no transforms in val_dataset, which say what is done to an image first")
    classes = classes_of_config(config)
    return {"transforms": dataset["transforms"], "class_names": classes.names,
            "palette": classes.colors[:len(classes.names)].tolist()}
