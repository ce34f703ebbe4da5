"""What the service says of an image, by a Segmenter."""

import base64
import time
from typing import Any, Dict, NamedTuple, Optional, Union

from segrun import outputs
from segrun.exports import Export
from segrun.image import PictureError, decode_image
from segrun.loading import USUAL, exported, grey, usual
from segrun.segmenter import Segmenter
from segrun.service.limits import Limits, Refused, check_header

STEPS = ["decode", "network", "encode"]
WHERE = "the image in the body"       # what errors call it


class Answered(NamedTuple):
    """Of one image: the bytes of a PNG or what becomes JSON, and the seconds of each of STEPS."""
    content: Union[bytes, Dict[str, Any]]
    seconds: Dict[str, float]


def load_export(config: str, sample: Optional[str] = None, **how: Any) -> Segmenter:
    """An export in a runtime, which has run once: later runs find its memory and its kernels there.

    Args:
        config: path of the deploy.yaml.
        sample: path of an image as they will come; a grey one if None.
        how: arguments of loading.exported.

    Raises:
        ValueError, OSError: the export, the runtime or the sample is missing or wrong.
    """
    export = Export(config)
    try:
        batch = export.batch_of(sample) if sample else usual(export)
    except ValueError as error:
        if sample:
            raise
        raise ValueError(f"{error}; give --sample, an image as they will come") from error
    network = exported(export, sample=batch, **how)
    network.run(batch)
    return Segmenter.of(network, confidence=False)


def load_live(config: str, weights: str, device: str) -> Segmenter:
    """A config's network with weights, which has run once; raises what Segmenter does."""
    segmenter = Segmenter(config, weights, device=device, confidence=False)
    segmenter.segment(grey(*USUAL, segmenter.network.channels))
    return segmenter


def answer(segmenter: Segmenter, data: bytes, limits: Limits, as_json: bool, picture: bool) -> Answered:
    """What is seen in an image: a palette PNG, whose pixel values are class ids, or its JSON.

    Args:
        data: the bytes of the image's file.
        picture: have the PNG in the JSON too, in base64.

    Raises:
        Refused: it can't be read, is too large, or does not fit the network.
    """
    start = time.perf_counter()
    check_header(data, limits)
    try:
        pixels = decode_image(data, "in the body", segmenter.network.channels)
    except PictureError as error:
        raise Refused(422, str(error)) from error
    decoded = time.perf_counter()
    try:
        found = segmenter.segment(pixels, WHERE)
    except ValueError as error:     # it does not fit a transform, or a size that is fixed
        raise Refused(422, str(error)) from error
    seen = time.perf_counter()
    png = outputs.palette(found, outputs.ALPHA, ".png") if picture or not as_json else b""
    content: Union[bytes, Dict[str, Any]] = png
    if as_json:
        content = found.to_dict()
        if picture:
            content["picture"] = base64.b64encode(png).decode()
    seconds = dict(zip(STEPS, (decoded - start, seen - decoded, time.perf_counter() - seen)))
    if isinstance(content, dict):
        content["milliseconds"] = {step: round(1000 * value, 3) for step, value in seconds.items()}
    return Answered(content, seconds)
