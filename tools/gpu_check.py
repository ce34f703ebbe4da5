"""Checks what holds on this machine's GPU:  python tools/gpu_check.py --save_dir docs/measured

Made for ten minutes on a GPU, where nobody has run it yet. It runs on a CPU too, in two minutes, and says what it could
not check there.
"""

import argparse
import sys

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

from paddleseg_encnet.flags import bare_parser, run_main
from paddleseg_encnet.gpu.check_page import check_gpu
from paddleseg_encnet.gpu.checking import FAILS


def flags() -> argparse.ArgumentParser:
    flags = bare_parser("Checks what holds on this machine's GPU", "--save_dir docs/measured")
    flags.add_argument("--save_dir", default="docs/measured", help="folder for the page, the JSON and the log")
    flags.add_argument("--device", choices=["gpu", "cpu"], help="default: the GPU if there is one")
    flags.add_argument("--only", nargs="+", metavar="WORD", help="the checks with one of these in their names")
    return flags


def main(args: argparse.Namespace) -> None:
    rows = check_gpu(args.save_dir, args.device, args.only)
    if any(row.status == FAILS for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    run_main(main, flags())
