"""Predicts images and videos:

python tools/predict.py --config CONFIG --model_path WEIGHTS --image_path IMAGE_FOLDER_LIST_VIDEO_OR_WEBCAM
"""

import argparse
import os
from typing import Dict, List, Sequence

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

import numpy as np
from paddleseg.cvlibs import Config
from paddleseg.utils import logger, utils

from paddleseg_encnet.config import building
from paddleseg_encnet.data.label_files import label_of_config, labels_in_dataset
from paddleseg_encnet.flags import add_inference_flags, device_of, inference_of, parser, run_main
from paddleseg_encnet.live import LiveNetwork, classes_of_config
from paddleseg_encnet.runtime.devices import Ranks, select_device
from paddleseg_encnet.weights import checkpoint
from segrun import inputs, outputs
from segrun.image import is_video
from segrun.own_files import check_outputs
from segrun.palettes import PALETTES
from segrun.progress import Progress
from segrun.result import Segmentation
from segrun.segmenter import Segmenter
from segrun.video import camera_below, predict_camera, predict_video, video_below


def flags() -> argparse.ArgumentParser:
    flags = parser("Model prediction", "--config encnet_quick_start --model_path output/best_model/model.pdparams\n"
                       "--image_path data/scenes/leftImg8bit/val")
    flags.add_argument("--model_path", required=True, help="weights to predict with")
    flags.add_argument("--image_path", required=True, help="an image, a folder, a video, a webcam's number, or a list: "
                       "a text file with an image a line, and its label behind it")
    flags.add_argument("--save_dir", default="./output/result", help="folder for the pictures")
    flags.add_argument("--save", nargs="+", choices=list(outputs.FOLDERS), metavar="KIND",
                       help=f"pictures to save: {', '.join(outputs.FOLDERS)} (default: overlay palette)")
    flags.add_argument("--alpha", type=float, default=0.4, help="weight of the colours in overlays, 0 to 1")
    flags.add_argument("--min_conf", type=float, default=0.0, metavar="T",
                       help="classes of a probability below T become 255")
    flags.add_argument("--palette", choices=sorted(PALETTES), metavar="SET", help="names and colours of another "
                       f"data set: {', '.join(sorted(PALETTES))}")
    flags.add_argument("--custom_color", nargs="+", type=int, metavar="V", help="R G B of class 0, of class 1, ...")
    flags.add_argument("--device_id", type=int, default=0, help="which device of that kind")
    flags.add_argument("--max_frames", type=int, default=0, metavar="N", help="of a webcam; else until Ctrl-C")
    add_inference_flags(flags, "aug_pred")
    return flags


def main(args: argparse.Namespace) -> None:
    for name in ("alpha", "min_conf"):
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"--{name} must be from 0 to 1, is {getattr(args, name)}")
    video, camera = is_video(args.image_path), inputs.is_camera(args.image_path)
    if args.max_frames < 0 or (args.max_frames and not camera):
        raise ValueError(f"--max_frames is the number of frames to take from a webcam, at least 1, got "
                         f"{args.max_frames} for {args.image_path}")
    builder = building.read_config(args.config, args.opts, pretrained=False)
    config = builder.config
    tiling = builder.tiling(inference_of(args, "aug_pred"))
    classes = classes_of_config(config, args.palette, args.custom_color)
    if (video or camera) and set(args.save or ["overlay"]) != {"overlay"}:
        raise ValueError("of a video only the overlay is saved; leave --save out")
    kinds = args.save or outputs.DEFAULT
    images, root, labels = ([], None, {}) if video or camera else inputs.find_images(args.image_path)
    images, own = inputs.without_own(images, args.image_path, args.save_dir)
    names = inputs.output_names(images, root)       # before the weights are read: do the names collide?
    if video:
        written = [video_below(args.save_dir, args.image_path)]
    elif camera:
        written = [camera_below(args.save_dir, int(args.image_path))]
    else:
        written = [outputs.path_below(kind, args.save_dir, name) for kind in kinds for name in names.values()]
    check_outputs(written, [args.image_path, args.config, args.model_path, *images, *labels.values()])

    utils.show_env_info()
    utils.show_cfg_info(config)
    select_device(device_of(args))
    ranks = Ranks.join()
    model = builder.model
    checkpoint.fill_layer(model, args.model_path)
    network = LiveNetwork(model, builder.preprocessing, classes)
    segmenter = Segmenter.of(network, tiling, "confidence" in kinds, args.min_conf)
    if video or camera:
        logger.info(f"Loaded {args.model_path}")
        if ranks.first and video:
            predict_video(segmenter, args.image_path, args.save_dir, args.alpha)
        elif ranks.first:
            predict_camera(segmenter, int(args.image_path), args.save_dir, args.alpha, args.max_frames)
        ranks.meet()
        return
    logger.info(f"Loaded {args.model_path}; the number of images: {len(images)}")
    for line in filter(None, (inputs.passed_over(args.image_path), own, inputs.kept_endings(names))):
        logger.info(line)
    labels = {**labels_in_dataset(builder, images), **labels} if "comparison" in kinds else {}
    save_pictures(segmenter, names, labels, config, args.save_dir, kinds, args.alpha)


def save_pictures(segmenter: Segmenter, names: Dict[str, str], labels: Dict[str, str], config: Config, save_dir: str,
                  kinds: Sequence[str] = outputs.DEFAULT, alpha: float = outputs.ALPHA) -> None:
    """Writes, for each image, the pictures that outputs.py has. An image that can't be read is left out, with a warning
    that names it, and the rest is predicted.

    Args:
        names: {image: what its pictures are called}; the ranks share them.
        labels: {image: label} of those that have one.
        kinds: of pictures, by their names in outputs.FOLDERS.

    Raises:
        DataError: at the end, images were left out.
        OSError: a picture can't be written.
    """
    ranks = Ranks.join()
    own = list(names)[ranks.rank::ranks.count]
    progress = Progress(len(own), "images", visible=ranks.first)
    left_out: List[str] = []

    def save(seen: Segmentation) -> None:
        if seen.source in labels:
            seen.label = label_of_config(labels[seen.source], seen.ids.shape, len(seen.names), config)
        for kind in kinds:
            outputs.save_below(kind, seen, save_dir, names[seen.source], alpha)
        progress.advance()

    def leave_out(path: str, error: Exception) -> None:
        left_out.append(inputs.left_out_line(path, error))
        logger.warning(f"left out: {left_out[-1]}")
        progress.advance()

    for _ in segmenter.flow(own, save, threads=int(len(own) > 1), failed=leave_out, show_rows=len(names) == 1):
        pass
    progress.close()
    ranks.meet()
    logger.info("Predicted images are saved in " + ", ".join(os.path.join(save_dir, outputs.FOLDERS[kind])
                                                             for kind in kinds))
    count = int(ranks.sum(np.array([len(left_out)]))[0])
    if count:
        raise inputs.left_out_error(left_out, count, len(names))


if __name__ == "__main__":
    run_main(main, flags())
