"""Predictions in a script or a notebook: one object, called with images, and what it says of each."""

import argparse
import os
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
import paddle.nn.functional as F
from paddleseg.transforms import Compose
from PIL import Image

from paddleseg_encnet import cli
from paddleseg_encnet.data import channels
from paddleseg_encnet.data.reading import read_image
from paddleseg_encnet.deployment.deployed import Deployed
from paddleseg_encnet.evaluation.presence import presence_logits, take
from paddleseg_encnet.pictures import bands, drawing
from paddleseg_encnet.pictures.palettes import color_table
from paddleseg_encnet.prediction import outputs
from paddleseg_encnet.prediction.outputs import Predicted, Style
from paddleseg_encnet.prediction.predictor import Predictor, mask_type, probability_of_the_largest, style_of
from paddleseg_encnet.runtime import cpu
from paddleseg_encnet.runtime.devices import on_device
from paddleseg_encnet.runtime.errors import unwrapped
from paddleseg_encnet.weights import checkpoint

ImageLike = Union[str, os.PathLike, np.ndarray, Image.Image]


@dataclass(repr=False, eq=False)
class Segmentation(Predicted):
    """What was seen in an image, in the image's own size. Jupyter shows it as a picture with its classes below.

    image: uint8 [H, W, 3], RGB.
    ids: uint8 [H, W], the class of each pixel; uint16 where there are more than 255 classes.
    confidence: uint8 [H, W], 0 to 255 for 0 to 100 %, the probability of that class; None where an export gives classes
        alone (--output_op argmax).
    presence: float32 [num_classes], the probability that the SE branch gives each class to be in the image; None from
        a network without that branch, and from every export.
    style: names and colours of the classes.
    label: None.
    """
    presence: Optional[np.ndarray] = None
    style: Optional[Style] = None

    @property
    def names(self) -> List[str]:
        """Of class 0, of class 1, ..."""
        return self.style.names

    def overlay(self, alpha: float = Style.alpha) -> np.ndarray:
        """The image under the colours of its classes, uint8 [H, W, 3], RGB; `alpha`, 0 to 1, is their weight."""
        return drawing.overlay(self.image, self.ids, self.style.colors, alpha)

    def _repr_png_(self) -> bytes:
        return outputs.legend(self, self.style, ".png")

    def __repr__(self):
        shares = outputs.shares_seen([self.ids], self.style)
        seen = ", ".join(f"{self.names[i]} {drawing.percent(share)}" for i, share in shares.items())
        return f"<Segmentation of {self.ids.shape[1]} x {self.ids.shape[0]} pixels: {seen}>"


class Segmenter:
    """A trained network that is called with images:

        segmenter = Segmenter("configs/encnet_camvid_480x360.yml", "model.pdparams")
        segmenter("street.png").ids

    Args:
        config: what the network was trained by, as the tools' --config takes it; or the folder of an export by
            tools/export.py, or the deploy.yaml in it.
        weights: a file of weights; not with an export, which has its own.
        device: "cpu", "gpu", "gpu:1", ...; the GPU if there is one when it is None. An export takes "cpu" or "gpu".
            Paddle's own choice of a device stays what it was.
        opts: keys of the config to set, ["KEY=VALUE", ...]; not with an export.
        inference: as the flags of tools/predict.py of these names: is_slide, crop_size, stride, aug_pred, scales,
            flip_horizontal, flip_vertical; not with an export.

    Calling it with an image returns a Segmentation, and with a list of images one for each. Its ids and its confidence
    are those that tools/predict.py writes, pixel by pixel; of an export, those of tools/infer.py. An image is

    - a path, read as the tools read images (docs/predict.md): an EXIF orientation is followed;
    - an array, uint8 [H, W, 3], RGB;
    - a PIL image. Its pixels are taken as they lie, so that what comes out fits np.asarray(image): an EXIF orientation
      is not followed; PIL.ImageOps.exif_transpose(image) follows it. Grey becomes three equal channels, a palette its
      colours, transparency is left out.

    For a network of other than three channels an array is what tools/predict.py reads of a file: uint8 [H, W] for one,
    else [H, W, channels] of any type of number. PIL images are for one and three.

    Raises:
        ValueError, OSError: config or weights are missing or wrong (CheckpointError, ...); when it is called, an image
            can't be read (DataError), or is an array of another shape.
        TypeError: no argument has that name; an image is none of these, or an array of other numbers than uint8.
    """

    @unwrapped
    def __init__(self, config: Union[str, os.PathLike], weights: Optional[Union[str, os.PathLike]] = None,
                 device: Optional[str] = None, opts: Optional[Sequence[str]] = None, **inference):
        config = os.fspath(config)
        export = os.path.join(config, "deploy.yaml") if os.path.isdir(config) else config
        if os.path.basename(export) == "deploy.yaml":
            given = [name for name, value in {"weights": weights, "opts": opts, **inference}.items() if value]
            if given:
                raise ValueError(f"{config} is taken for an export, which has weights of its own and knows no config: "
                                 f"leave {', '.join(given)} out, or give the config's file")
            self.network = Exported(export, device)
        elif weights is None:
            raise ValueError(f"a config needs weights: Segmenter({config!r}, WEIGHTS); alone stands the folder of an "
                             "export")
        else:
            self.network = Live(config, os.fspath(weights), device, opts, inference)

    @property
    def names(self) -> List[str]:
        """Of class 0, of class 1, ..."""
        return self.network.style.names

    def __call__(self, image: Union[ImageLike, Sequence[ImageLike]]) -> Union[Segmentation, List[Segmentation]]:
        if isinstance(image, (list, tuple)):
            return [self.see(single, f"image {i} of the list") for i, single in enumerate(image)]
        return self.see(image, "the image")

    def see(self, image: ImageLike, where: str) -> Segmentation:
        return self.network.predict(pixels(image, where, self.network.channels), where)


class Live:
    """A config's network with weights."""

    def __init__(self, config: str, weights: str, device: Optional[str], opts: Optional[Sequence[str]],
                 inference: dict):
        args = cli.inference_args("aug_pred", inference)
        builder = cli.build(argparse.Namespace(config=config, opts=opts))
        cli.leave_out_pretrained(builder.config)
        options = cli.test_options(builder.config, args)
        self.channels = channels.of(builder.config.dic)
        self.windows = bool(options.get("is_slide"))
        self.style = style_of(builder.config)
        with on_device(device) as self.device:
            self.model = builder.model
            checkpoint.load(self.model, weights)
        transforms = Compose(builder.val_transforms, img_channels=self.channels)
        self.predictor = Predictor(self.model, transforms, confidence=True, **options)

    def predict(self, image: np.ndarray, where: str) -> Segmentation:
        """Of an image as `pixels` makes it."""
        with on_device(self.device), presence_logits(self.model) as seen:
            found = self.predictor.predict(image)
            presence = F.sigmoid(take(seen, self.windows)).numpy()[0] if seen else None
        return Segmentation(found.image, found.ids, found.confidence, presence=presence, style=self.style)


class Exported:
    """An export, run by Paddle Inference."""

    def __init__(self, deploy: str, device: Optional[str]):
        if device is None:
            with on_device() as found:
                device = found.split(":")[0]
        if device not in ("cpu", "gpu"):
            raise ValueError(f'an export runs on device "cpu" or "gpu", got {device!r}')
        self.deployed = Deployed(deploy, device=device, threads=cpu.cpu_count())
        self.channels, said = self.deployed.channels, self.deployed.deploy
        self.output_op = said.get("output_op")
        # An export by PaddleSeg's own tool names no classes.
        names = [str(name) for name in said.get("class_names") or range(255)]
        self.ids_type = mask_type(len(names))
        colors = [value for color in said.get("palette") or [] for value in color]
        self.style = Style(names, color_table(None, colors, size=np.iinfo(self.ids_type).max + 1))

    def predict(self, image: np.ndarray, where: str) -> Segmentation:
        """Of an image as `pixels` makes it."""
        prepared, history = self.deployed.prepare_pixels(image, where)
        output = self.deployed.run(self.deployed.batch(prepared))[0]
        ids, confidence = self.decided(self.deployed.in_own_size(output, history))
        return Segmentation(bands.shown(image), ids.astype(self.ids_type), confidence, style=self.style)

    def decided(self, output: np.ndarray) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """Class ids and confidence, both [H, W], of ids [H, W] or scores [H, W, C]."""
        if output.ndim == 2:
            return output, None
        if self.output_op == "softmax":
            sure = output.max(axis=2)
        else:
            sure = probability_of_the_largest(output.transpose(2, 0, 1))
        return output.argmax(axis=2), np.rint(sure * 255).astype(np.uint8)


# --- what a caller may give ------------------------------------------------------------------------------------------

def pixels(image: ImageLike, where: str, channels: int = 3) -> np.ndarray:
    """An image as `read_image` has it for a network of so many channels. `where` is what an error calls it."""
    if isinstance(image, (str, os.PathLike)):
        path = os.fspath(image)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"there is no image {path}" + (", it is a folder" if os.path.isdir(path) else ""))
        return read_image(path, channels)
    if isinstance(image, Image.Image):
        image = of_pil(image, where, channels)
    elif not isinstance(image, np.ndarray):
        raise TypeError(f"{where} is a {type(image).__name__}; give a path, an array uint8 [H, W, 3] in RGB, a PIL "
                        "image or a list of these")
    if channels != 3:
        check_bands(image, where, channels)
        return np.ascontiguousarray(image)
    check(image, where)
    return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)


def of_pil(image: Image.Image, where: str, channels: int) -> np.ndarray:
    """RGB, or grey for one channel, of a PIL image, which may be grey, of a palette, or transparent."""
    if channels not in (1, 3):
        raise ValueError(f"{where} is a PIL image, the network takes {channels} channels (in_channels): give a path or "
                         f"an array [H, W, {channels}]")
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{where} is a PIL image of mode {image.mode}, whose values go beyond 255: scale them and "
                         "make it one of mode L or RGB")
    return np.asarray(image.convert("RGB" if channels == 3 else "L"))


def check_bands(image: np.ndarray, where: str, channels: int):
    """Raises TypeError or ValueError where an array is no image for a network of so many channels, not three."""
    if image.dtype.kind not in "uif" or (channels == 1 and image.dtype != np.uint8):
        raise TypeError(f"{where} is an array of {image.dtype}: it must be "
                        f"{'uint8, from 0 to 255' if channels == 1 else 'of numbers as the images of the training'}")
    if image.ndim != (2 if channels == 1 else 3) or image.shape[2:] not in ((), (channels,)) or 0 in image.shape:
        raise ValueError(f"{where} is an array of shape {list(image.shape)}: it must be "
                         f"{'[H, W]' if channels == 1 else f'[H, W, {channels}]'}, as the network has in_channels "
                         f"{channels}")


def check(image: np.ndarray, where: str):
    """Raises TypeError or ValueError where an array is no image uint8 [H, W, 3]."""
    if image.dtype != np.uint8:
        advice = "; if its values go from 0 to 1, (255 * image).round().astype('uint8') is one" \
            if image.dtype.kind == "f" else ""
        raise TypeError(f"{where} is an array of {image.dtype}: it must be uint8, RGB from 0 to 255{advice}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"{where} is an array of shape {list(image.shape)}: it must be [H, W, 3], RGB"
                         f"{advice_on(image.shape)}")


def advice_on(shape: Tuple[int, ...]) -> str:
    """What may help where an array's shape is that of something else."""
    if 0 in shape:
        return ", with at least one pixel"
    if len(shape) == 2:
        return "; np.stack([image] * 3, axis=2) makes one of grey values"
    if len(shape) == 4:
        return "; of a batch give a list of its images, list(images)"
    if len(shape) == 3 and shape[2] == 1:
        return "; image.repeat(3, axis=2) makes one of grey values"
    if len(shape) == 3 and shape[2] == 4:
        return "; of RGBA take image[..., :3]"
    if len(shape) == 3 and shape[0] == 3:
        return "; of [3, H, W] take image.transpose(1, 2, 0)"
    return ""
