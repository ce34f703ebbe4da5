"""From a labelling tool's files to masks of ids:  python tools/convert_labels.py labelme photos --save_dir data/own

Writes masks/, train.txt, val.txt, labels.txt and config.yml, and ends with the line that trains.
"""

import argparse
import os
from typing import Any, List

import paddleseg_encnet  # noqa: F401  before paddle, as in all tools

# isort: split

from paddleseg_encnet.config.shipped_configs import configs_folder, find_config
from paddleseg_encnet.flags import run_main
from paddleseg_encnet.labelling import cityscapes, coco, colours, labelme, project_conversion, published
from paddleseg_encnet.labelling.project import Project, Rules, Tally
from segrun.commands import typed
from segrun.progress import Progress

# EncNet on EfficientNet-Lite0 from ImageNet weights, which a few images and a CPU can train.
BASES = ("efficientnet_lite0.yml", "facade.yml", "encnet.yml")


def source(sources: Any, name: str, what: str, annotations: str, example: str) -> argparse.ArgumentParser:
    """The parser of a source, with the flags that all have."""
    flags = sources.add_parser(
        name, help=what, description=f"{what[0].upper()}{what[1:]}.",
        epilog=f"example:\n  {typed('convert_labels')} {name} {example}",
        usage=f"%(prog)s {annotations.split(':')[0]} --save_dir DIR [flags]",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=20, width=80))
    flags.add_argument("annotations", metavar=annotations.split(":")[0], help=annotations.split(": ", 1)[1])
    flags.add_argument("--save_dir", required=True, metavar="DIR", help="folder for masks, lists and config.yml")
    flags.add_argument("--base", metavar="CONFIG", help="config to train with; else EncNet on EfficientNet-Lite0")
    flags.add_argument("--split", type=float, metavar="SHARE", help="share of the images to train on, drawn at random: "
                       "0.8, unless the source has a split of its own")
    flags.add_argument("--group", metavar="PATTERN", help="regular expression: what it finds in names stays together")
    flags.add_argument("--seed", type=int, default=0, metavar="N", help="of that draw")
    flags.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    return flags


def names(flags: argparse.ArgumentParser, images: str, labels: str, required: bool = False) -> None:
    flags.add_argument("--images", required=required, metavar="DIR", help=images)
    flags.add_argument("--labels", metavar="FILE", help=labels)
    flags.add_argument("--ignore", nargs="+", default=[], metavar="LABEL", help="labels that are no class but 255")


def rules(flags: argparse.ArgumentParser, unknown: str, shapes: bool,
          named: bool = False) -> argparse._ArgumentGroup:
    """The flags that decide; the first choice of each is its default."""
    group = flags.add_argument_group("in doubt, counted and named in the end (the first choice, unless you say)")

    def rule(name: str, choices: List[str], text: str) -> None:
        group.add_argument(f"--{name}", default=choices[0], choices=choices, metavar="RULE", help=text)

    rule("unknown", ["stop", "ignore"] + ["leave_out"] * shapes, f"{unknown}: stop, ignore (255)" +
         ", leave_out (not drawn)" * shapes)
    rule("unannotated", ["leave_out", "stop"] + ["keep"] * shapes, "image without annotation: leave_out, stop" +
         ", keep (no shapes)" * shapes)
    rule("missing", ["stop", "leave_out"], "annotation without its image: stop, leave_out")
    rule("exif", ["displayed", "stored"], "image that EXIF turns, where sizes do not tell what was annotated: "
         "displayed, stored")
    if shapes or named:
        rule("similar", ["keep", "join", "stop"], "labels that differ in capitals or spaces: keep, join, stop")
    if shapes:
        rule("rest", ["background", "ignore"], "pixel that no shape covers: background (a class), ignore (255)")
        rule("overlap", ["last", "smallest", "ignore"], "pixel in shapes of two classes: last in the file, smallest "
             "shape, ignore (255)")
    return group


def flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        description="From a labelling tool's files to masks of class ids, with lists that PaddleSeg's\nDataset reads "
                    "and a config to start from. Flags of each source: SOURCE --help",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=20, width=80),
        epilog=f"example:\n  {typed('convert_labels')} labelme photos --save_dir data/own")
    sources = flags.add_subparsers(dest="source", metavar="SOURCE", required=True)

    one = source(sources, "labelme", "labelme's JSON files", "FOLDER: with the .json files",
                 "photos --save_dir data/own --split 0.8")
    names(one, "folder of the images, where imagePath leads nowhere", "names in the order of their ids; else "
          "background and the labels found, sorted")
    rules(one, "label that --labels lacks", shapes=True).add_argument(
        "--foreign", default="stop", choices=["stop", "leave_out"], metavar="RULE", help="JSON that is none of "
        "labelme's: stop, leave_out")

    one = source(sources, "coco", "COCO's JSON: polygons, run lengths, crowds", "FILE: .json",
                 "instances.json --images photos --save_dir data/own")
    names(one, "where file_name begins; else the folder of the .json", "names in the order of their ids; else "
          "background and the categories by their id")
    one.add_argument("--val", metavar="FILE", help="another .json, to evaluate on")
    rules(one, "category that is not listed", shapes=True).add_argument(
        "--crowd", default="class", choices=["class", "ignore"], metavar="RULE", help="crowds: class, ignore (255)")

    one = source(sources, "colours", "masks in colours, named as their images", "FOLDER: with the masks",
                 "SegmentationClass --images photos \\\n      --table labelmap.txt --save_dir data/own")
    names(one, "folder of the images", "names of a palette's first colours", required=True)
    one.add_argument("--table", required=True, metavar="FILE", help="CVAT's labelmap.txt, or lines R G B name; or voc; "
                     "or a PNG with a palette, whose colours --labels names")
    one.add_argument("--mask_suffix", default="", metavar="TEXT", help="what masks have behind the image's name")
    rules(one, "colour of no class", shapes=False, named=True).add_argument(
        "--tolerance", type=int, default=0, metavar="N", help="colour off by at most N in R, G and B, as JPEG leaves "
        "it: the nearest class; 0: none but its own")

    one = source(sources, "cityscapes", "Cityscapes' labels as train ids", "FOLDER: with leftImg8bit and gtFine",
                 "cityscapes --save_dir data/own")
    one.add_argument("--read", default="labelIds", choices=["labelIds", "polygons"], metavar="KIND",
                     help="of gtFine: labelIds, polygons")
    rules(one, "label of no name or number", shapes=False)
    for name, what, folder in (("voc", "PASCAL VOC 2012 as published", "VOC2012"),
                               ("ade20k", "ADE20K as published", "ADEChallengeData2016")):
        rules(source(sources, name, what, f"FOLDER: {folder}", f"{folder} --save_dir data/own"), "number of no class",
              shapes=False)
    return flags


def read_project(args: argparse.Namespace, decided: Rules, tally: Tally) -> Project:
    """The project that the command line names."""
    if args.source == "labelme":
        return labelme.read_labelme(args.annotations, args.images, args.labels, args.ignore, decided, tally)
    if args.source == "coco":
        return coco.read_coco(args.annotations, args.val, args.images, args.labels, args.ignore, decided, tally)
    if args.source == "colours":
        return colours.read_coloured(args.annotations, args.images, args.table, args.labels, args.ignore,
                                     args.mask_suffix, decided, tally)
    if args.source == "cityscapes":
        return cityscapes.read_cityscapes(args.annotations, args.read, decided, tally)
    return {"voc": published.read_voc, "ade20k": published.read_ade20k}[args.source](args.annotations, decided, tally)


def main(args: argparse.Namespace) -> None:
    if args.split is not None and not 0 < args.split < 1:
        raise ValueError(f"--split {args.split:g} must be between 0 and 1: the share of the images to train on")
    decided = Rules(**{name: value for name, value in vars(args).items() if name in Rules._fields})
    if not 0 <= decided.tolerance <= 255:
        raise ValueError(f"--tolerance {decided.tolerance} must be from 0 to 255")
    tally, progress = Tally(), None

    def advance(total: int) -> None:
        nonlocal progress
        progress = progress or Progress(total, "masks")
        progress.advance()

    project = read_project(args, decided, tally)
    own = args.split is None and args.group is None and all(item.split for item in project.items)
    bases = [find_config(args.base)] if args.base else [os.path.join(configs_folder(), "_base_", name)
                                                            for name in BASES]
    try:
        converted = project_conversion.convert_project(project, args.save_dir, bases, decided, tally, args.split,
                                                       args.seed, args.group, advance)
    finally:
        if progress is not None:
            progress.close()
    print("\n".join(project_conversion.project_summary(converted, args.save_dir, tally, args.split, args.seed, own,
                                                         args.group)))


if __name__ == "__main__":
    run_main(main, flags())
