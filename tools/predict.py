"""Predicts images:  python tools/predict.py --config CONFIG --model_path WEIGHTS --image_path IMAGE_FOLDER_OR_LIST"""

import os

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

from paddleseg.transforms import Compose
from paddleseg.utils import get_image_list, logger, utils

from paddleseg_encnet import checkpoint, cli
from paddleseg_encnet.devices import Ranks, select_device
from paddleseg_encnet.palettes import PALETTES
from paddleseg_encnet.prediction import color_map, predict


def flags():
    flags = cli.parser("Model prediction")
    flags.add_argument("--model_path", required=True, help="weights to predict with")
    flags.add_argument("--image_path", required=True, help="an image, a folder, or a text file with a path a line")
    flags.add_argument("--save_dir", default="./output/result", help="folder for the pictures")
    flags.add_argument("--device_id", type=int, default=0, help="which device of that kind")
    flags.add_argument("--custom_color", nargs="+", type=int, metavar="VALUE", help="R G B of class 0, of class 1, ...")
    cli.add_inference_flags(flags, "aug_pred")
    return flags


def main(args):
    builder = cli.build(args)
    cli.leave_out_pretrained(builder.config)
    config = builder.config
    options = cli.test_options(config, args)
    custom = args.custom_color or options.pop("custom_color", None)
    colors = color_map(PALETTES.get(config.val_dataset_cfg.get("type")), custom)
    if not os.path.exists(args.image_path):
        raise FileNotFoundError(f"there is no image, folder or list {args.image_path}")
    images, root = get_image_list(args.image_path)

    utils.show_env_info()
    utils.show_cfg_info(config)
    select_device(args.device if ":" in args.device or args.device == "cpu" else f"{args.device}:{args.device_id}")
    Ranks.join()
    model = builder.model
    checkpoint.load(model, args.model_path)
    logger.info(f"Loaded {args.model_path}; the number of images: {len(images)}")
    predict(model, Compose(builder.val_transforms), sorted(images), root, args.save_dir, colors, **options)


if __name__ == "__main__":
    cli.run(main, flags())
