"""Evaluates weights:  python tools/val.py --config CONFIG --model_path output/best_model/model.pdparams"""

import argparse

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

from paddleseg_encnet.evaluation.scores_of_config import score
from paddleseg_encnet.flags import add_cache_flag, add_inference_flags, keywords, parser, run_main


def flags() -> argparse.ArgumentParser:
    flags = parser("Model evaluation",
                       "--config encnet_quick_start --model_path output/best_model/model.pdparams")
    flags.add_argument("--model_path", required=True, help="weights to evaluate")
    flags.add_argument("--data_format", default="NCHW", choices=["NCHW", "NHWC"], help="NHWC: DeepLabV3P only")
    flags.add_argument("--precision", default="fp32", choices=["fp32", "fp16"], help="fp16 is mixed precision, O1")
    add_cache_flag(flags)
    flags.add_argument("--save_json", metavar="FILE", help="write all scores and the confusion matrix")
    flags.add_argument("--save_csv", metavar="FILE", help="write the scores of each class")
    flags.add_argument("--save_confusion", metavar="FILE.png", help="draw the confusion matrix")
    add_inference_flags(flags, "aug_eval")
    return flags


def main(args: argparse.Namespace) -> None:
    score(**keywords(args))


if __name__ == "__main__":
    run_main(main, flags())
