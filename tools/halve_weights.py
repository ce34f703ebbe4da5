"""Writes weights in half precision, for sharing:  python tools/halve_weights.py WEIGHTS --output FILE.safetensors

Whatever takes weights takes the file too, and computes in float32. It is half as large. With --config it also says how
it is run: Segmenter("FILE.safetensors") needs nothing else.
"""

import argparse
import os
from typing import Dict

import paddleseg_encnet  # noqa: F401  before paddle, whose speed on a CPU it sets

# isort: split

import numpy as np
import paddle
from paddleseg.cvlibs.config import parse_from_yaml

from paddleseg_encnet.config import building
from paddleseg_encnet.config.reading_configs import reading
from paddleseg_encnet.flags import bare_parser, run_main
from paddleseg_encnet.live import classes_of_config
from paddleseg_encnet.weights import checkpoint, description
from paddleseg_encnet.weights.halves import half
from segrun.own_files import check_outputs, write_own
from segrun.raw_files import read_text


def flags() -> argparse.ArgumentParser:
    flags = bare_parser("Write weights in half precision, for sharing",
                        "output/best_model/model.pdparams --output model.safetensors\n"
                        "--config encnet_quick_start")
    flags.add_argument("weights", help="weights file of Paddle, PyTorch or safetensors")
    flags.add_argument("--output", required=True, help="safetensors file to write")
    flags.add_argument("--config", help="of these weights; the file then holds it too, with names and colours of the "
                       "classes, and runs alone")
    flags.add_argument("--card", metavar="FILE", help="text for people, to be kept in the file, beside --config")
    return flags


def described(args: argparse.Namespace, state: Dict[str, np.ndarray]) -> Dict[str, str]:
    """What the file says of its network, which the weights fill."""
    paddle.set_device("cpu")
    builder = building.read_config(args.config, pretrained=False)
    checkpoint.fill_layer(builder.model, state, where=args.weights)
    with reading(args.config) as path:
        config = parse_from_yaml(path)
    card = ""
    if args.card:
        card = read_text(args.card, "text")
    return description.network_metadata(config, classes_of_config(builder.config), card)


def main(args: argparse.Namespace) -> None:
    if args.card and not args.config:
        raise ValueError("--card needs --config")
    check_outputs([args.output], filter(None, [args.weights, args.config, args.card]))
    state = checkpoint.read_weights(args.weights)
    not_arrays = [name for name, value in state.items() if not isinstance(value, np.ndarray)]
    if not_arrays:
        raise ValueError(f"{args.weights}: {not_arrays[0]} is no tensor but a {type(state[not_arrays[0]]).__name__}; "
                         "give a file that holds tensors by name, as model.pdparams does")
    halved = {name: half(value) for name, value in state.items()}
    said = described(args, halved) if args.config else None
    write_own(args.output, lambda temporary: checkpoint.write_safetensors(halved, temporary, said))
    print(f"wrote {args.output}: {len(halved)} tensors, {os.path.getsize(args.output) / 1e6:.1f} MB")
    large = [name for name, value in halved.items() if value.dtype.kind == "f" and value.dtype != "float16"]
    if large:
        print(f"{len(large)} keep their type, as half precision has no numbers so large: {', '.join(large[:3])}")


if __name__ == "__main__":
    run_main(main, flags())
