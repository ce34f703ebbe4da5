"""Trains what a config names:  python tools/train.py --config configs/encnet_camvid_480x360.yml --do_eval --use_vdl"""

import argparse

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

from paddleseg_encnet.flags import add_cache_flag, add_training_flags, keywords, parser, run_main
from paddleseg_encnet.training.training_of_config import train


def flags() -> argparse.ArgumentParser:
    flags = parser("Model training", "--config encnet_quick_start --do_eval --use_vdl --device cpu")
    add_training_flags(flags, "./output", save_interval=1000, log_iters=10, keep_checkpoint_max=5)
    flags.add_argument("--do_eval", action="store_true", help="evaluate at each save")
    flags.add_argument("--use_ema", action="store_true", help="keep a moving average of the weights too")
    flags.add_argument("--allow_partial", action="store_true", help="fine-tuning: take what fits of `pretrained:`")
    flags.add_argument("--early_stop_intervals", type=int, help="evaluations without a better mIoU before stopping")
    flags.add_argument("--amp_level", default="O1", choices=["O1", "O2"], help="level of mixed precision")
    flags.add_argument("--data_format", default="NCHW", choices=["NCHW", "NHWC"], help="NHWC: DeepLabV3P only")
    add_cache_flag(flags)
    flags.add_argument("--repeats", type=int, default=1, help="times that an epoch goes through the data")
    flags.add_argument("--to_static_training", action="store_true", help="train the model as a static graph")
    flags.add_argument("--no_data_check", action="store_true", help="start without a quick look at the data")
    flags.add_argument("--profiler_options", metavar="TEXT", help="see paddleseg/utils/train_profiler.py")
    return flags


def main(args: argparse.Namespace) -> None:
    train(**keywords(args))


if __name__ == "__main__":
    run_main(main, flags())
