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
from paddleseg_encnet.data.scene_pictures import draw_shared_scenes
from paddleseg_encnet.flags import parser, run_main
from segrun.errors import DataError
from segrun.own_files import check_outputs, write_own


def flags() -> argparse.ArgumentParser:
    flags = parser("Looks at every image and label that a config names; exit code 1 if something is wrong",
                       "--config encnet_quick_start --num_workers 2")
    flags.add_argument("--save_dir", default="output/data", help="folder for class_histogram.png and "
                       "shared_scenes.png")
    return flags


def main(args: argparse.Namespace) -> None:
    histogram, beside = (os.path.join(args.save_dir, name) for name in ("class_histogram.png", "shared_scenes.png"))
    check_outputs([histogram, beside])
    builder = building.read_config(args.config, args.opts)
    splits = check_data(builder, args.num_workers)
    for split in splits:
        print("\n".join(split.lines()))
    scenes = [scene for split in splits for scene in split.shared]
    if scenes:
        write_own(beside, lambda temporary: draw_shared_scenes(scenes, temporary, builder.in_channels))
        print(f"Images of val beside their like in train: {beside}")
    readable = [split for split in splits if split.dataset is not None and class_pixels(split).any()]
    if readable:
        first = readable[0]
        absent = [name for name, pixels in zip(class_names(first.dataset), class_pixels(first)) if pixels == 0]
        if absent:
            print(f"{first.name} has no pixel of: {', '.join(absent)}")
        write_own(histogram, lambda temporary: draw_histogram(readable, temporary))
        print(f"Class histogram: {histogram}")
        if not first.findings:
            print(f"Class weights of {first.name}, for CrossEntropyLoss in the config:\nweight: {class_weights(first)}")
    if any(split.findings for split in splits):
        raise DataError(f"the data have {kinds(splits)}; see above")
    print("Nothing wrong was found.")


if __name__ == "__main__":
    run_main(main, flags())
