"""Draws street scenes in the layout of Cityscapes:  python tools/make_scenes.py --save_dir data/scenes"""

import argparse
import os
import shlex

from paddleseg_encnet import scenes
from paddleseg_encnet.flags import bare_parser, run_main
from segrun.commands import typed
from segrun.progress import Progress

DEFAULT = "data/scenes"     # where the config encnet_quick_start looks


def flags() -> argparse.ArgumentParser:
    flags = bare_parser("Draws street scenes in the layout of Cityscapes, with its 19 classes",
                            "--train 20 --val 5 --save_dir data/scenes")
    flags.add_argument("--save_dir", default=DEFAULT, help="folder for the set; absent or empty")
    flags.add_argument("--train", type=int, default=200, help="number of scenes to train on")
    flags.add_argument("--val", type=int, default=50, help="number of scenes to validate on")
    flags.add_argument("--size", nargs=2, type=int, default=[512, 256], metavar=("W", "H"), help="pixels of a scene")
    flags.add_argument("--seed", type=int, default=0, help="the same seed draws the same scenes")
    return flags


def main(args: argparse.Namespace) -> None:
    progress = Progress(args.train + args.val, "scenes")
    drawn = scenes.generate(args.save_dir, args.train, args.val, tuple(args.size), args.seed,
                            progress=lambda done, total: progress.advance())
    progress.close()
    root, config = args.save_dir, "--config encnet_quick_start --do_eval"
    if os.path.normpath(root) != os.path.normpath(DEFAULT):
        quoted = shlex.quote(root)
        config += f" --opts train_dataset.dataset_root={quoted} val_dataset.dataset_root={quoted}"
    print(f"{'Drew' if drawn else 'Found'} {args.train} scenes to train and {args.val} to validate on in {root}; "
          f"train on them: {typed('train')} {config}")


if __name__ == "__main__":
    run_main(main, flags())
