"""Exports weights:  python tools/export.py --config CONFIG --model_path WEIGHTS --save_dir output/inference_model"""

import argparse

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

from paddleseg_encnet.deployment.export_of_config import MAX_DROP, export
from paddleseg_encnet.deployment.exporting import OUTPUT_OPS
from paddleseg_encnet.flags import bare_parser, keywords, run_main


def flags() -> argparse.ArgumentParser:
    flags = bare_parser("Model export", "--config encnet_quick_start --save_dir output/export\n"
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


def main(args: argparse.Namespace) -> None:
    export(**keywords(args))


if __name__ == "__main__":
    run_main(main, flags())
