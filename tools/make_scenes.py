"""Draws street scenes in the layout of Cityscapes:  python tools/make_scenes.py --save_dir data/scenes"""

import argparse

from paddleseg_encnet import cli, scenes
from paddleseg_encnet.runtime.progress import Progress


def flags():
    flags = argparse.ArgumentParser(description="Draws street scenes in the layout of Cityscapes, with its 19 classes")
    flags.add_argument("--save_dir", default="data/scenes", help="folder for the set; absent or empty")
    flags.add_argument("--train", type=int, default=200, help="number of scenes to train on")
    flags.add_argument("--val", type=int, default=50, help="number of scenes to validate on")
    flags.add_argument("--size", nargs=2, type=int, default=[512, 256], metavar=("W", "H"), help="pixels of a scene")
    flags.add_argument("--seed", type=int, default=0, help="the same seed draws the same scenes")
    flags.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    return flags


def main(args):
    progress = Progress(args.train + args.val, "scenes")
    drawn = scenes.generate(args.save_dir, args.train, args.val, tuple(args.size), args.seed,
                            progress=lambda done, total: progress.advance())
    progress.close()
    root = args.save_dir
    print(f"{'Drew' if drawn else 'Found'} {args.train} scenes to train and {args.val} to validate on in {root}; "
          f"use them with --opts train_dataset.dataset_root={root} val_dataset.dataset_root={root}")


if __name__ == "__main__":
    cli.run(main, flags())
