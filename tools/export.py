"""Exports weights:  python tools/export.py --config CONFIG --model_path WEIGHTS --save_dir output/inference_model"""

import os

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

import paddle
from paddleseg.utils import logger

from paddleseg_encnet import cli
from paddleseg_encnet.data import channels
from paddleseg_encnet.data.datasets import names_of_classes
from paddleseg_encnet.deployment.export import OUTPUT_OPS, export, verify
from paddleseg_encnet.pictures.palettes import PALETTES, color_table, fitting
from paddleseg_encnet.prediction import inputs
from paddleseg_encnet.runtime import cpu
from paddleseg_encnet.weights import checkpoint


def flags():
    flags = cli.bare_parser("Model export", "--config encnet_quick_start --save_dir output/export\n"
                            "--model_path output/best_model/model.pdparams")
    flags.add_argument("--config", required=True, help="YAML file that names model and validation transforms")
    flags.add_argument("--model_path", required=True, help="weights to export")
    flags.add_argument("--save_dir", default="./output/inference_model", help="folder for the export")
    flags.add_argument("--output_op", default="argmax", choices=OUTPUT_OPS,
                       help="what comes out: classes, probabilities or logits")
    flags.add_argument("--input_shape", nargs="+", type=int, metavar="N",
                       help="batch, channels, height, width if they are fixed; -1 is any")
    flags.add_argument("--onnx", action="store_true", help="write an ONNX file too")
    flags.add_argument("--int8", metavar="IMAGES", help="write an ONNX file with 8-bit convolutions too; an image, a "
                       "folder or a list, to calibrate on")
    flags.add_argument("--verify", metavar="IMAGE", help="compare each exported form with the live network on an image")
    flags.add_argument("--opts", nargs="+", metavar="KEY=VALUE", help="set keys of the config")
    return flags


def main(args):
    # On the CPU, so that no layer is made for several GPUs; the files run on any device.
    paddle.set_device("cpu")
    builder = cli.build(args)
    config = builder.config
    cli.leave_out_pretrained(config)
    for path in filter(None, (args.int8, args.verify)):
        if not os.path.exists(path):
            raise FileNotFoundError(f"there is no image {path}")
    calibration = inputs.find_images(args.int8)[0] if args.int8 else None
    if passed_over := inputs.passed_over(args.int8 or ""):
        logger.info(passed_over)
    network = builder.model
    checkpoint.load(network, args.model_path)
    export(network, args.save_dir, described(config), args.output_op, args.input_shape, args.onnx, calibration,
           channels.of(config.dic))
    logger.info(f"The inference model is saved in {args.save_dir}: {', '.join(sorted(os.listdir(args.save_dir)))}")
    if args.verify:
        for form, agreement in verify(network, args.save_dir, args.verify, calibration, cpu.cpu_count()).items():
            logger.info(f"{form}: {agreement}")


def described(config) -> dict:
    """What deploy.yaml says of the data: transforms, class names, colours."""
    dataset = config.val_dataset_cfg
    if not dataset.get("transforms"):
        raise ValueError("the config has no transforms in val_dataset, which say what is done to an image first")
    classes = cli.num_classes(config)
    palette = fitting(PALETTES.get(dataset.get("type")), classes)
    colors = color_table(palette, config.test_config.get("custom_color"), max(classes, 256))
    names = names_of_classes(dataset.get("type"), classes, dataset.get("dataset_root"))
    return {"transforms": dataset["transforms"], "class_names": names, "palette": colors[:classes].tolist()}


if __name__ == "__main__":
    cli.run(main, flags())
