"""Shows what context encoding does:

python tools/explain.py IMAGE --config CONFIG --model_path WEIGHTS              a page of that image
python tools/explain.py FOLDER_OR_LIST --config CONFIG --model_path WEIGHTS     what each codeword gathers
"""

import argparse
import csv
import os
from typing import List, Tuple

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

import cv2
from paddleseg.cvlibs import SegBuilder
from paddleseg.transforms import Compose
from paddleseg.utils import logger, utils

from paddleseg_encnet import cli
from paddleseg_encnet.data import channels
from paddleseg_encnet.data.label_files import label_of_config, labels_in_dataset
from paddleseg_encnet.explaining import explain
from paddleseg_encnet.explaining import page as explain_page
from paddleseg_encnet.live import LiveNetwork, classes_of_config
from paddleseg_encnet.runtime.devices import select_device
from paddleseg_encnet.weights import checkpoint
from segrun import inputs, writing
from segrun import pages as page
from segrun.commands import command
from segrun.errors import DataError
from segrun.progress import Progress


def flags():
    flags = cli.parser("Explains what an EncNet saw in an image, or what its codewords gather over many", "street.png\n"
                       "--config encnet_quick_start --model_path output/best_model/model.pdparams")
    flags.add_argument("--model_path", required=True, help="weights to explain")
    flags.add_argument("image", nargs="?", help="an image; or a folder, or a text file with an image a line")
    flags.add_argument("--image_path", help="the same, as predict has it")
    flags.add_argument("--save_dir", default="./output/explain", help="folder for the page")
    flags.add_argument("--label", metavar="FILE", help="label of the image; found by itself where the image is one of "
                       "the config's val_dataset")
    flags.add_argument("--device_id", type=int, default=0, help="which device of that kind")
    return flags


def main(args):
    if bool(args.image) == bool(args.image_path):
        raise ValueError(f"give one image, folder or list: {command('explain')} IMAGE, or --image_path IMAGE")
    args.image_path = args.image_path or args.image
    builder = cli.build(args)
    cli.leave_out_pretrained(builder.config)
    config = builder.config
    images, _, labels = inputs.find_images(args.image_path)
    single = os.path.isfile(args.image_path) and inputs.is_image(args.image_path)
    if args.label and not single:
        raise ValueError("--label is the label of one image; --image_path is a folder or a list")
    name = os.path.splitext(os.path.basename(args.image_path))[0] if single else "codewords"
    paths = {ending: os.path.join(args.save_dir, f"{name}.{ending}")
             for ending in ("png", "html", *([] if single else ["csv"]))}
    for path in paths.values():
        writing.check_place(path)
    page.fonts()        # is what draws there, before the network runs?

    utils.show_env_info()
    utils.show_cfg_info(config)
    select_device(args.device if ":" in args.device or args.device == "cpu" else f"{args.device}:{args.device_id}")
    model = builder.model
    explain.check_explainable(model, codewords=not single)
    checkpoint.load(model, args.model_path)
    logger.info(f"Loaded {args.model_path}; the number of images: {len(images)}")
    if passed_over := inputs.passed_over(args.image_path):
        logger.info(passed_over)
    if config.test_config.get("is_slide"):
        logger.info("The image goes through the network whole, not in the windows of test_config: each has a context "
                    "of its own")
    transforms = Compose(builder.val_transforms, img_channels=channels.of(config.dic))
    network, left_out = LiveNetwork(model, transforms, classes_of_config(config)), []
    if single:
        made = page_of_image(builder, network, args)
    else:
        gathered, left_out = gather(network, images)
        names = network.classes.names
        made = explain_page.set_page(gathered, os.path.basename(os.path.abspath(args.image_path)), names)
        rows = explain.table(gathered, model.enc_module.encoding[0].scale.numpy(), names)
        writing.write(paths["csv"], lambda to: write_csv(to, rows))
    writing.write(paths["png"], lambda to: write_png(to, page.as_picture(made)))
    writing.write(paths["html"], lambda to: write_text(to, page.as_html(made)))
    logger.info(f"Written: {', '.join(paths.values())}")
    if left_out:
        raise DataError(f"{len(left_out)} of {len(images)} images left out: {left_out[0]}")


def page_of_image(builder: SegBuilder, network: LiveNetwork, args: argparse.Namespace) -> page.Page:
    explanation, label, classes = explain.explain(network, args.image_path), None, network.classes
    path = args.label or labels_in_dataset(builder, [args.image_path]).get(args.image_path)
    if path:
        logger.info(f"The label is {path}")
        label = label_of_config(path, explanation.ids.shape, len(classes.names), builder.config)
    weights = network.model.head.weight.numpy()[:, :, 0, 0]                                 # [num_classes, C]
    return explain_page.image_page(explanation, os.path.basename(args.image_path), classes.names, classes.colors, label,
                                   weights)


def gather(network: LiveNetwork, images: List[str]) -> Tuple[explain.Gathered, List[str]]:
    """What the codewords gather, and what was wrong with images that can't be read: they are left out, with a warning.
    """
    count = network.model.head.weight.shape[0]
    gathered, left_out = explain.Gathered(network.model.enc_module.num_codes, count, network.channels), []
    progress = Progress(len(images), "images")
    for path in images:
        try:
            gathered.add(path, explain.explain(network, path))
        except DataError as error:
            logger.warning(f"left out: {error}")
            left_out.append(str(error))
        progress.advance()
    progress.close()
    if len(left_out) == len(images):
        raise DataError(f"no image could be read: {left_out[0]}")
    return gathered, left_out


def write_csv(path: str, rows: list):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([explain.TABLE_HEADER, *rows])


def write_text(path: str, text: str):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def write_png(path: str, picture):
    done, data = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not done:
        raise OSError(f"OpenCV can't make a PNG of {picture.shape[1]} x {picture.shape[0]}")
    with open(path, "wb") as file:
        file.write(data.tobytes())


if __name__ == "__main__":
    cli.run(main, flags())
