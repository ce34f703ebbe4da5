"""The network that is served, an export or a live one, and what is said of an image.

An export needs neither PaddleSeg nor, with ONNX Runtime or OpenVINO, Paddle, as in tools/infer.py.
"""

import base64
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from paddleseg_encnet.deployment.choosing import fastest
from paddleseg_encnet.deployment.deployed import Deployed, Images
from paddleseg_encnet.pictures.reading import PictureError, decode
from paddleseg_encnet.prediction import outputs
from paddleseg_encnet.prediction.outputs import Predicted, Style
from paddleseg_encnet.serving.limits import Limits, Refused, check_header

STEPS = ["decode", "network", "encode"]
USUAL = (480, 640)          # of an image for the first run, height and width, where the export fixes none
WHERE = "in the body"       # what errors call the image: "the image in the body"


class Answered(NamedTuple):
    """Of one image: the bytes of a PNG or what becomes JSON, and the seconds of each of STEPS."""
    content: object
    seconds: Dict[str, float]


class Export:
    """An exported network, with the pixels of tools/infer.py.

    Args:
        deployed: the export in a runtime.
    """

    def __init__(self, deployed: Deployed):
        self.deployed, self.channels = deployed, deployed.channels
        names = [str(name) for name in deployed.deploy.get("class_names") or []]
        self.style = Style(names, np.array(deployed.palette(), np.uint8).reshape(-1, 3))

    def see(self, image: np.ndarray) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """Class ids uint8 [H, W] of an image as pictures/reading.py has it; and no presence, which no export has."""
        try:
            prepared, history = self.deployed.prepare_pixels(image, f"the image {WHERE}")
        except ValueError as error:     # it does not fit a transform, or a size that is fixed
            raise Refused(422, str(error)) from error
        output = self.deployed.run(self.deployed.batch(prepared))[0]
        return self.deployed.finish(output, history), None


class Live:
    """A config's network with weights, with the pixels of tools/predict.py. It needs PaddleSeg and the package's own
    import."""

    def __init__(self, config: str, weights: str, device: str):
        from paddleseg_encnet.prediction.segmenter import Segmenter
        self.network = Segmenter(config, weights, device).network
        self.channels, self.style = self.network.channels, self.network.style

    def see(self, image: np.ndarray) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """Class ids [H, W], and the SE branch's probability of each class, float32 [num_classes], if it has one."""
        found = self.network.predict(image, f"the image {WHERE}")
        return found.ids, found.presence


def load_export(config: str, backend: str, sample: Optional[str] = None, **how) -> Export:
    """An export in a runtime, which has run once: later runs find its memory and its kernels there.

    Args:
        config: path of the deploy.yaml.
        backend: as of Deployed, or "auto", the fastest of those installed.
        sample: path of an image as they will come; a grey one if None.
        how: further arguments of Deployed.

    Raises:
        ValueError, OSError: the export, the runtime or the sample is missing or wrong.
    """
    before = Images(config)
    try:
        size = [side if side > 0 else usual for side, usual in zip(before.input_shape[2:], USUAL)]
        prepared = before.prepare(sample)[0] if sample else \
            before.prepare_pixels(grey(size, before.channels), "a grey image")[0]
    except ValueError as error:
        if sample:
            raise
        raise ValueError(f"{error}; give --sample, an image as they will come") from error
    batch = before.batch(prepared)
    deployed = fastest(config, batch, **how) if backend == "auto" else Deployed(config, backend, **how)
    deployed.run(batch)
    return Export(deployed)


def load_live(config: str, weights: str, device: str) -> Live:
    """A config's network with weights, which has run once; raises what Segmenter does."""
    network = Live(config, weights, device)
    network.see(grey(USUAL, network.channels))
    return network


def grey(size: Sequence[int], channels: int) -> np.ndarray:
    """An image of this height and width as pictures/reading.py has it."""
    return np.full([*size, channels] if channels != 1 else size, 128, np.uint8)


def answer(network, data: bytes, limits: Limits, as_json: bool, picture: bool) -> Answered:
    """What is seen in an image: a palette PNG, whose pixel values are class ids, or its JSON.

    Args:
        network: Export or Live.
        data: the bytes of the image's file.
        picture: have the PNG in the JSON too, in base64.

    Raises:
        Refused: it can't be read, is too large, or does not fit the network.
    """
    start = time.perf_counter()
    check_header(data, limits)
    try:
        image = decode(data, WHERE, network.channels)
    except PictureError as error:
        raise Refused(422, str(error)) from error
    decoded = time.perf_counter()
    ids, presence = network.see(image)
    seen = time.perf_counter()
    found = Predicted(image, ids)
    png = outputs.palette(found, network.style, ".png") if picture or not as_json else b""
    content = png
    if as_json:
        content = {"width": ids.shape[1], "height": ids.shape[0], "classes": classes(ids, network.style),
                   "presence": presences(presence, network.style)}
        if picture:
            content["picture"] = base64.b64encode(png).decode()
    seconds = dict(zip(STEPS, (decoded - start, seen - decoded, time.perf_counter() - seen)))
    if as_json:
        content["milliseconds"] = {step: round(1000 * value, 3) for step, value in seconds.items()}
    return Answered(content, seconds)


def classes(ids: np.ndarray, style: Style) -> List[dict]:
    """Those that are seen, the most frequent first, with their shares of the pixels, 0 to 1, and colours."""
    return [{"id": i, "name": name_of(i, style), "share": round(float(share), 6), "color": style.colors[i].tolist()}
            for i, share in outputs.shares_seen([ids], style).items()]


def presences(presence: Optional[np.ndarray], style: Style) -> Optional[List[dict]]:
    """The probability that the SE branch gives each class to be in the image, in the order of the ids."""
    if presence is None:
        return None
    return [{"id": i, "name": name_of(i, style), "probability": round(float(value), 6)}
            for i, value in enumerate(presence)]


def name_of(i: int, style: Style) -> str:
    return style.names[i] if i < len(style.names) else f"class {i}"     # PaddleSeg's exports name none
