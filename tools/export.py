"""Exports weights:  python tools/export.py --config CONFIG --model_path WEIGHTS --save_dir output/inference_model"""

import os

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

import paddle
from paddleseg.cvlibs import Config
from paddleseg.utils import logger

from paddleseg_encnet import cli
from paddleseg_encnet.data import channels
from paddleseg_encnet.deployment import held_out
from paddleseg_encnet.deployment.export import OUTPUT_OPS, export, verify
from paddleseg_encnet.deployment.int8 import CALIBRATION_IMAGES, Limit
from paddleseg_encnet.live import classes_of_config
from paddleseg_encnet.weights import checkpoint
from segrun import cpu, inputs

MAX_DROP = 0.5


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
    flags.add_argument("--half_weights", action="store_true", help="store the ONNX file's weights in half precision, "
                       "half its size; numbers are computed in float32")
    flags.add_argument("--int8", metavar="IMAGES", help="write an ONNX file with 8-bit convolutions too; an image, a "
                       "folder or a list, to calibrate on")
    flags.add_argument("--max_drop", type=float, metavar="POINTS", help="of mIoU, that 8 bits may cost, measured on "
                       f"those images of --int8 that are not calibrated on and have a label in the config's data sets; "
                       f"convolutions that cost more stay in float32 (default: {MAX_DROP})")
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
    if args.half_weights and not args.onnx:
        raise ValueError("--half_weights is for the ONNX file: add --onnx")
    calibration = inputs.find_images(args.int8)[0] if args.int8 else None
    if passed_over := inputs.passed_over(args.int8 or ""):
        logger.info(passed_over)
    limit = accuracy_to_keep(args, builder, calibration)
    network = builder.model
    checkpoint.load(network, args.model_path)
    export(network, args.save_dir, described(config), args.output_op, args.input_shape, args.onnx, calibration,
           channels.of(config.dic), limit, args.half_weights)
    logger.info(f"The inference model is saved in {args.save_dir}: {', '.join(sorted(os.listdir(args.save_dir)))}")
    if args.verify:
        for form, agreement in verify(network, args.save_dir, args.verify, cpu.cpu_count()).items():
            logger.info(f"{form}: {agreement}")


def accuracy_to_keep(args, builder, calibration):
    """What 8 bits may cost, as far as it can be measured."""
    if args.max_drop is not None and not (calibration and args.max_drop >= 0):
        raise ValueError(f"--max_drop is a number of points from 0 on, beside --int8 IMAGES; got {args.max_drop:g}")
    if not calibration:
        return None
    labels, config = held_out.labelled(builder, calibration), builder.config
    if not labels:
        why = f"none of the images of {args.int8}, beside those that int8 is calibrated on, has a label in the " \
              "config's train_dataset or val_dataset"
        if args.max_drop is not None:
            raise ValueError(f"--max_drop can't be kept: {why}; give a folder or list of images of the data set, more "
                             f"than {CALIBRATION_IMAGES}")
        logger.info(f"What int8 costs is not measured: {why}")
        return None
    logger.info(f"What int8 costs is measured on {len(labels)} images that it is not calibrated on")
    return Limit(MAX_DROP if args.max_drop is None else args.max_drop,
                 lambda model, export: held_out.mean_iou(model, export, labels, config), logger.info)


def described(config: Config) -> dict:
    """What deploy.yaml says of the data: transforms, class names, colours."""
    dataset = config.val_dataset_cfg
    if not dataset.get("transforms"):
        raise ValueError("the config has no transforms in val_dataset, which say what is done to an image first")
    classes = classes_of_config(config)
    return {"transforms": dataset["transforms"], "class_names": classes.names,
            "palette": classes.colors[:len(classes.names)].tolist()}


if __name__ == "__main__":
    cli.run(main, flags())
