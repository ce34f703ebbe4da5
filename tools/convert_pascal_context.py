"""Labels of PASCAL-Context as masks:  python tools/convert_pascal_context.py --labels trainval"""

import argparse
from typing import Optional

import paddleseg_encnet  # noqa: F401  before paddle, as in all tools

# isort: split

from paddleseg_encnet.data.context_labels import convert_context_labels
from paddleseg_encnet.flags import bare_parser, run_main
from segrun.progress import Progress


def flags() -> argparse.ArgumentParser:
    flags = bare_parser("Writes the published labels of PASCAL-Context as masks of the 59 classes and background,\n"
                            "and the lists of train and val", "--labels trainval")
    flags.add_argument("--labels", required=True, help="folder of the published .mat files, trainval.tar.gz unpacked")
    flags.add_argument("--dataset_root", default="data/VOCdevkit/VOC2010", help="VOC2010 with JPEGImages and ImageSets")
    return flags


def main(args: argparse.Namespace) -> None:
    progress: Optional[Progress] = None

    def advance(total: int) -> None:
        nonlocal progress
        progress = progress or Progress(total, "labels")
        progress.advance()

    convert_context_labels(args.labels, args.dataset_root, advance)
    total = 0
    if progress is not None:
        progress.close()
        total = progress.total
    print(f"Wrote {total} masks into {args.dataset_root}/Context and their lists into "
          f"{args.dataset_root}/ImageSets/Segmentation")


if __name__ == "__main__":
    run_main(main, flags())
