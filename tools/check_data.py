"""Looks for mistakes in the data of a config:  python tools/check_data.py --config CONFIG --num_workers 2"""

import argparse

import paddleseg_encnet  # noqa: F401  registers CamVid; before paddle, whose speed on a CPU it sets

# isort: split

import os

from paddleseg_encnet.config import building
from paddleseg_encnet.data.checks import check_data
from paddleseg_encnet.data.class_names import class_names
from paddleseg_encnet.data.class_shares import class_pixels, class_weights, draw_histogram
from paddleseg_encnet.data.findings import kinds
from paddleseg_encnet.flags import parser, run_main
from segrun.errors import DataError
from segrun.own_files import check_outputs, write_own


def flags() -> argparse.ArgumentParser:
    flags = parser("Looks at every image and label that a config names; exit code 1 if something is wrong",
                       "--config encnet_quick_start --num_workers 2")
    flags.add_argument("--save_dir", default="output/data", help="folder for class_histogram.png")
    return flags


def main(args: argparse.Namespace) -> None:
    picture = os.path.join(args.save_dir, "class_histogram.png")
    check_outputs([picture])
    splits = check_data(building.read_config(args.config, args.opts), args.num_workers)
    for split in splits:
        print("\n".join(split.lines()))
    readable = [split for split in splits if split.dataset is not None and class_pixels(split).any()]
    if readable:
        first = readable[0]
        absent = [name for name, pixels in zip(class_names(first.dataset), class_pixels(first)) if pixels == 0]
        if absent:
            print(f"{first.name} has no pixel of: {', '.join(absent)}")
        write_own(picture, lambda temporary: draw_histogram(readable, temporary))
        print(f"Class histogram: {picture}")
        if not first.findings:
            print(f"Class weights of {first.name}, for CrossEntropyLoss in the config:\nweight: {class_weights(first)}")
    if any(split.findings for split in splits):
        raise DataError(f"the data have {kinds(splits)}; see above")
    print("Nothing wrong was found.")


if __name__ == "__main__":
    run_main(main, flags())
