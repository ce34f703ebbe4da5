"""Writes weights in half precision, for sharing:  python tools/halve_weights.py WEIGHTS --output FILE.safetensors

Whatever takes weights takes the file too, and computes in float32. It is half as large.
"""

import argparse
import os

import paddleseg_encnet  # noqa: F401  before paddle, whose speed on a CPU it sets

# isort: split

import numpy as np

from paddleseg_encnet.flags import bare_parser, run
from paddleseg_encnet.weights import checkpoint


def flags() -> argparse.ArgumentParser:
    flags = bare_parser("Write weights in half precision, for sharing",
                            "output/best_model/model.pdparams --output model.safetensors")
    flags.add_argument("weights", help="weights file of Paddle, PyTorch or safetensors")
    flags.add_argument("--output", required=True, help="safetensors file to write")
    return flags


def half(value: np.ndarray) -> np.ndarray:
    """As float16, unless it holds integers or a number that is too large for it."""
    if value.dtype.kind != "f":
        return value
    with np.errstate(over="ignore"):
        halved = value.astype("float16")
    return halved if np.array_equal(np.isfinite(halved), np.isfinite(value)) else value


def main(args: argparse.Namespace) -> None:
    state = checkpoint.read(args.weights)
    not_arrays = [name for name, value in state.items() if not isinstance(value, np.ndarray)]
    if not_arrays:
        raise ValueError(f"{args.weights}: {not_arrays[0]} is no tensor but a {type(state[not_arrays[0]]).__name__}; "
                         "give a file that holds tensors by name, as model.pdparams does")
    halved = {name: half(value) for name, value in state.items()}
    checkpoint.write_safetensors(halved, args.output)
    print(f"wrote {args.output}: {len(halved)} tensors, {os.path.getsize(args.output) / 1e6:.1f} MB")
    large = [name for name, value in halved.items() if value.dtype.kind == "f" and value.dtype != "float16"]
    if large:
        print(f"{len(large)} keep their type, as half precision has no numbers so large: {', '.join(large[:3])}")


if __name__ == "__main__":
    run(main, flags())
