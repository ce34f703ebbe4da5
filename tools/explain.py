"""Shows what context encoding does:

python tools/explain.py IMAGE --config CONFIG --model_path WEIGHTS              a page of that image
python tools/explain.py FOLDER_OR_LIST --config CONFIG --model_path WEIGHTS     what each codeword gathers
"""

import argparse

import paddleseg_encnet  # noqa: F401  registers EncNet; before paddle, whose speed on a CPU it sets

# isort: split

from paddleseg_encnet.explaining.explaining_of_config import explain
from paddleseg_encnet.flags import device_of, parser, run_main
from segrun.commands import command


def flags() -> argparse.ArgumentParser:
    flags = parser("Explains what an EncNet saw in an image, or what its codewords gather over many", "street.png\n"
                   "--config encnet_quick_start --model_path output/best_model/model.pdparams")
    flags.add_argument("--model_path", required=True, help="weights to explain")
    flags.add_argument("image", nargs="?", help="an image; or a folder, or a text file with an image a line")
    flags.add_argument("--image_path", help="the same, as predict has it")
    flags.add_argument("--save_dir", default="./output/explain", help="folder for the page")
    flags.add_argument("--label", metavar="FILE", help="label of the image; found by itself where the image is one of "
                       "the config's val_dataset")
    flags.add_argument("--device_id", type=int, default=0, help="which device of that kind")
    return flags


def main(args: argparse.Namespace) -> None:
    if bool(args.image) == bool(args.image_path):
        raise ValueError(f"give one image, folder or list: {command('explain')} IMAGE, or --image_path IMAGE")
    explain(args.config, args.model_path, args.image_path or args.image, args.save_dir, label=args.label,
            device=device_of(args), opts=args.opts)


if __name__ == "__main__":
    run_main(main, flags())
