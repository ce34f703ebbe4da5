"""Exports for tests, the forms that can be had here, and what tools write."""

import importlib.util
import os
from typing import Dict, List

import numpy as np
import paddle
import pytest
from PIL import Image

from paddleseg_encnet.deployment import exporting
from segrun.backends.exported import Exported
from segrun.exports import Export


def converter_loads() -> bool:
    try:
        import onnxruntime  # noqa: F401
        import paddle2onnx  # noqa: F401
    except (ImportError, ValueError):       # ValueError: paddle2onnx 2 with Paddle 2.6
        return False
    return True


ONNX = converter_loads()
OPENVINO = ONNX and importlib.util.find_spec("openvino") is not None
needs_onnx = pytest.mark.skipif(not ONNX, reason="needs onnxruntime and a paddle2onnx that loads with this Paddle")
needs_openvino = pytest.mark.skipif(not OPENVINO, reason="needs openvino, onnxruntime and paddle2onnx")
# (backend, precision) of the forms that an export can have here.
HERE = [("paddle", "fp32"), *([("onnx", "fp32"), ("onnx", "int8")] * ONNX),
        *([("openvino", "fp32"), ("openvino", "int8")] * OPENVINO)]
each_form = pytest.mark.parametrize("backend, precision", HERE, ids=["-".join(form) for form in HERE])
NORMALIZE = [{"type": "Normalize"}]


def written(network, folder, output_op: str, calibration=None, transforms=NORMALIZE, **described) -> str:
    """An export in every form that can be had here, int8 if there is an image to calibrate on; returns its folder."""
    exporting.export_network(network, str(folder), {"transforms": transforms, **described}, output_op, onnx=ONNX,
                             calibration=[str(calibration)] if ONNX and calibration else None)
    return str(folder)


def exported(folder, backend: str = "paddle", precision: str = "fp32", **how) -> Exported:
    """An export in a runtime, on the CPU."""
    return Exported(Export(str(folder)), backend, precision, "cpu", **{"threads": 1, **how})


def live_logits(network, images: np.ndarray) -> np.ndarray:
    with paddle.no_grad():
        return network(paddle.to_tensor(images))[0].numpy()


def random_images(*shape) -> np.ndarray:
    return np.random.RandomState(1).uniform(-1, 1, shape).astype("float32")


def masks(folder) -> Dict[str, np.ndarray]:
    """The pictures below a folder, by their names."""
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.rglob("*.png"))}


def flags_of(backend: str, precision: str) -> List[str]:
    return ["--backend", backend, "--precision", precision]


def environment_of(*folders) -> Dict[str, str]:
    """For a process that looks for packages into these first."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])}
