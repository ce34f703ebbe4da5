"""Predicts images and videos:

python tools/predict.py --config CONFIG --model_path WEIGHTS --image_path IMAGE_FOLDER_LIST_OR_VIDEO
"""

import os

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

import numpy as np
from paddleseg.transforms import Compose
from paddleseg.utils import logger, utils

from paddleseg_encnet import cli
from paddleseg_encnet.data import channels
from paddleseg_encnet.data.datasets import names_of_classes
from paddleseg_encnet.pictures.palettes import PALETTES, color_table, fitting
from paddleseg_encnet.prediction import inputs, outputs, predictor
from paddleseg_encnet.prediction.video import predict_video
from paddleseg_encnet.runtime.devices import Ranks, select_device
from paddleseg_encnet.weights import checkpoint


def flags():
    flags = cli.parser("Model prediction")
    flags.add_argument("--model_path", required=True, help="weights to predict with")
    flags.add_argument("--image_path", required=True, help="an image, a folder, a video, or a text file with an image "
                       "a line, and its label behind it if there is one")
    flags.add_argument("--save_dir", default="./output/result", help="folder for the pictures")
    flags.add_argument("--save", nargs="+", choices=list(outputs.FOLDERS), help="pictures to save, each kind in a "
                       "folder of its own (default: overlay palette, as PaddleSeg)")
    flags.add_argument("--alpha", type=float, default=0.4, help="weight of the colours in overlays, 0 to 1")
    flags.add_argument("--min_conf", type=float, default=0.0, metavar="T",
                       help="pixels whose class has a probability below T become 255, unknown")
    flags.add_argument("--palette", choices=sorted(PALETTES), help="names and colours of this data set's classes "
                       "(default: those of the config's)")
    flags.add_argument("--custom_color", nargs="+", type=int, metavar="VALUE", help="R G B of class 0, of class 1, ...")
    flags.add_argument("--device_id", type=int, default=0, help="which device of that kind")
    cli.add_inference_flags(flags, "aug_pred")
    return flags


def main(args):
    for name in ("alpha", "min_conf"):
        if not 0 <= getattr(args, name) <= 1:
            raise ValueError(f"--{name} must be from 0 to 1, is {getattr(args, name)}")
    builder = cli.build(args)
    cli.leave_out_pretrained(builder.config)
    config = builder.config
    options = cli.test_options(config, args)
    style = style_of(config, args, config.test_config.get("custom_color"))
    video = os.path.isfile(args.image_path) and inputs.is_video(args.image_path)
    if video and set(args.save or ["overlay"]) != {"overlay"}:
        raise ValueError("of a video only the overlay is saved; leave --save out")
    kinds = args.save or outputs.DEFAULT
    images, root, labels = ([], None, {}) if video else inputs.find_images(args.image_path)
    predictor.output_names(images, root)       # before the weights are read: do the names collide?
    outputs.check_writable(args.save_dir, ["overlay"] if video else kinds)

    utils.show_env_info()
    utils.show_cfg_info(config)
    select_device(args.device if ":" in args.device or args.device == "cpu" else f"{args.device}:{args.device_id}")
    ranks = Ranks.join()
    model = builder.model
    checkpoint.load(model, args.model_path)
    transforms = Compose(builder.val_transforms, img_channels=channels.of(config.dic))
    network = predictor.Predictor(model, transforms, "confidence" in kinds, args.min_conf, **options)
    if video:
        logger.info(f"Loaded {args.model_path}")
        if ranks.first:
            predict_video(network, args.image_path, args.save_dir, style)
        ranks.meet()
        return
    logger.info(f"Loaded {args.model_path}; the number of images: {len(images)}")
    if "comparison" in kinds:
        labels = {**predictor.labels_in_dataset(builder, images), **labels}
    dataset = config.val_dataset_cfg
    predictor.predict(network, images, root, args.save_dir, style, kinds, labels,
                      predictor.VALUE_OF_CLASS_0.get(dataset.get("type"), 0), dataset.get("ignore_index", 255))


def style_of(config, args, custom_color) -> outputs.Style:
    """Names and colours of the classes, from the flags, else the config."""
    dataset = config.val_dataset_cfg
    classes = config.dic["model"].get("num_classes") or dataset["num_classes"]
    palette = fitting(PALETTES.get(args.palette or dataset.get("type")), classes)
    if args.palette and palette is None:
        raise ValueError(f"--palette {args.palette} has {len(PALETTES[args.palette])} classes, the network {classes}")
    ids = np.iinfo(predictor.mask_type(classes))
    colors = color_table(palette, args.custom_color or custom_color, size=ids.max + 1)
    names = list(palette) if args.palette else names_of_classes(dataset.get("type"), classes,
                                                                dataset.get("dataset_root"))
    return outputs.Style(names, colors, args.alpha)


if __name__ == "__main__":
    cli.run(main, flags())
