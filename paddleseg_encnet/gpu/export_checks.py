"""The shipped network, exported and run on a device, against the live one on the CPU."""

import importlib.util
import os
from typing import Any, Dict

import cv2
import numpy as np

from paddleseg_encnet.deployment.export_of_config import export
from paddleseg_encnet.deployment.exporting import ExportError
from paddleseg_encnet.gpu.checking import Found, Place
from segrun import STREET, Segmenter
from segrun.loading import shipped_files

NETWORK, CONFIG = "encnet_lite0_camvid", "encnet_lite0_camvid_480x360"
ENOUGH = 0.99       # of the pixels of the same class as live, on the CPU, in float32
LARGEST = (2048, 1024)


def exported(place: Place) -> str:
    """Folder of an export, with an ONNX file where there is a converter for this Paddle."""
    folder, shipped = place.path("export"), shipped_files(NETWORK)
    if shipped is None:
        raise FileNotFoundError(f"the shipped network {NETWORK} is not there")
    if not os.path.isdir(folder):
        try:
            export(CONFIG, shipped.weights, folder, onnx=True)
        except ExportError as error:
            print(f"without ONNX: {error}")
            export(CONFIG, shipped.weights, folder)
    return folder


def agreement(place: Place, image: Any, forms: Dict[str, dict]) -> Found:
    """The share of pixels that each form sees as the live network on the CPU does."""
    shipped, folder = shipped_files(NETWORK), exported(place)
    live = Segmenter(CONFIG, shipped and shipped.weights, device="cpu")(image).ids
    said, shares = [], {}
    for name, how in forms.items():
        seen = Segmenter(folder, device=place.device, **how)(image).ids
        shares[name] = float((seen == live).mean())
        said.append(f"{name} {shares[name]:.2%}")
    return Found(min(shares.values()) >= ENOUGH, f"pixels as live on the CPU: {', '.join(said)}", shares)


def forms(place: Place) -> Found:
    """Each form that this machine can run on the device: Paddle Inference in float32 and, on a GPU, in half; ONNX."""
    can: Dict[str, dict] = {"Paddle Inference": dict(backend="paddle")}
    if not place.small:
        can["Paddle Inference, fp16"] = dict(backend="paddle", precision="fp16")
    if os.path.isfile(os.path.join(exported(place), "model.onnx")) and onnx_runs(place):
        can["ONNX Runtime"] = dict(backend="onnx")
    found = agreement(place, STREET, can)
    left_out = "" if "ONNX Runtime" in can else "; no ONNX: it takes paddle2onnx and an onnxruntime for this device"
    return found._replace(said=found.said + left_out)


def onnx_runs(place: Place) -> bool:
    """Whether an ONNX Runtime for this device is installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return False
    import onnxruntime
    return place.small or "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def largest_image(place: Place) -> Found:
    """Of 2048 x 1024, where the codes leave half precision's range: Paddle Inference with fp16."""
    street = np.ascontiguousarray(cv2.imread(os.fspath(STREET))[..., ::-1])      # RGB
    image = cv2.resize(street, LARGEST, interpolation=cv2.INTER_CUBIC)
    return agreement(place, image, {"Paddle Inference, fp16": dict(backend="paddle", precision="fp16")})
