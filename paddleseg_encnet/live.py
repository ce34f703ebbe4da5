"""A live network, PaddleSeg's transforms before it, as one more backend of segrun's Segmenter."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Sequence as SequenceType
from typing import Any, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import paddle
import paddle.nn.functional as F
import yaml
from paddleseg.cvlibs import Config
from paddleseg.transforms import Compose, Normalize

from paddleseg_encnet.config import building
from paddleseg_encnet.data.class_names import classes_of, fitting
from paddleseg_encnet.data.transforms import prepared
from paddleseg_encnet.models.presence import least_side, with_presence
from paddleseg_encnet.runtime.devices import Precision, select_device
from paddleseg_encnet.weights import checkpoint, description
from paddleseg_encnet.weights.arrays import CheckpointError
from segrun.classes import Classes
from segrun.errors import one_line, unwrapped
from segrun.network import LOGITS, Output, Prepared, Size
from segrun.palettes import PALETTES
from segrun.tiling import Tiling

Tensor = Union[np.ndarray, paddle.Tensor]
# Paddle has one device for a process, and a network is in one mode: one thread computes at a time.
computing = threading.RLock()


class LiveNetwork:
    """A network.Network made of a model.

    Args:
        model: its first output is logits [B, C, H, W].
        transforms: what PaddleSeg applies to a validation image; None where images come prepared.
        classes: names and colours.
        device: as Paddle calls it; Paddle's own if None.
        precision: float32 if None.
    """
    requests = 1
    batch_size: Optional[int] = None
    meaning = LOGITS

    def __init__(self, model: paddle.nn.Layer, transforms: Optional[Compose], classes: Classes,
                 device: Optional[str] = None, precision: Optional[Precision] = None):
        self.model, self.transforms, self.classes = model, transforms, classes
        self.channels = transforms.img_channels if transforms else 3
        self.pixelwise = transforms is not None and all(type(each) is Normalize for each in transforms.transforms)
        self.least_side = least_side(model)
        self.device, self.precision = device or paddle.get_device(), precision or Precision()

    def prepare(self, pixels: np.ndarray, where: str) -> Prepared:
        data = prepared(self.transforms, pixels, where)
        return Prepared(data["img"], undo_of(data["trans_info"]))

    def run(self, batch: Tensor) -> Output:
        """As Network.run; arrays or tensors come in, logits come out as a tensor. The model is left in evaluation mode.
        """
        with self.ready():
            images = as_tensor(batch)
            last = getattr(self.model, "data_format", "NCHW") == "NHWC"
            outputs, presence = with_presence(self.model, images.transpose([0, 2, 3, 1]) if last else images)
            if not isinstance(outputs, SequenceType):
                raise TypeError(f"{type(self.model).__name__} returns {type(outputs).__name__}; a network of PaddleSeg "
                                "returns a list of its outputs, of which the first are the logits")
            values = outputs[0].transpose([0, 3, 1, 2]) if last else outputs[0]
            return Output(values, None if presence is None else presence.astype("float32").numpy())

    def resize(self, values: Tensor, size: Size) -> Tensor:
        """As Network.resize, by Paddle, as PaddleSeg does it."""
        if tuple(values.shape[-2:]) == tuple(size):
            return values
        with self.ready():
            return F.interpolate(as_tensor(values), list(size), mode="bilinear")

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Within it this thread alone computes, on the network's device; Paddle's own is then what it was before."""
        with computing, contextlib.ExitStack() as stack:
            before = paddle.get_device()
            if before != self.device:
                paddle.set_device(self.device)
                stack.callback(paddle.set_device, before)
            if self.model.training:
                self.model.eval()
            stack.enter_context(paddle.no_grad())
            stack.enter_context(self.precision.context())
            yield


def as_tensor(values: Tensor) -> paddle.Tensor:
    return values if isinstance(values, paddle.Tensor) else paddle.to_tensor(values)


def undo_of(trans_info: Sequence[Tuple[Any, Any]]) -> List[Tuple[str, Size]]:
    """Prepared.undo of what PaddleSeg's transforms note, also as a DataLoader makes batches of it."""
    return [(step if isinstance(step, str) else step[0], (int(height), int(width)))
            for step, (height, width) in trans_info]


def classes_of_config(config: Config, palette: Optional[str] = None,
                      custom_color: Optional[Sequence[int]] = None) -> Classes:
    """Names and colours of a config's classes.

    Args:
        palette: name of the data set, in PALETTES, whose names and colours they have in place of the config's.
        custom_color: R, G, B of class 0, of class 1, ...; the config's if None.

    Raises:
        ValueError: the palette is for another number of classes, or the colours are none.
    """
    dataset, count = config.val_dataset_cfg, building.num_classes(config)
    if palette and not fitting(PALETTES[palette], count):
        raise ValueError(f"--palette {palette} has {len(PALETTES[palette])} classes, the network {count}")
    return classes_of(palette or dataset.get("type"), count, dataset.get("dataset_root"),
                      custom_color or config.test_config.get("custom_color"))


@unwrapped
def load(source: str, weights: Optional[str], inference: dict, opts: Optional[Sequence[str]] = None,
         device: Optional[str] = None) -> Tuple[LiveNetwork, Tiling]:
    """A config's network with weights, and how images go through it: for the arguments of segrun's Segmenter.

    Args:
        source: the config; a .safetensors file with its own, where `weights` is None.

    Raises:
        ValueError, OSError: config or weights are missing or wrong (CheckpointError, ...).
        TypeError: `inference` has an argument that there is not.
    """
    described = description.read_description(source) if weights is None else None
    builder = own_config(source, described, opts) if described else building.read_config(source, opts, pretrained=False)
    tiling = builder.tiling(inference)
    classes = described.classes if described else classes_of_config(builder.config)
    before = paddle.get_device()
    with computing:
        try:
            device = select_device(device)
            with blaming(source) if described else contextlib.nullcontext():
                model, transforms = builder.model, builder.preprocessing
            checkpoint.fill_layer(model, weights or source)
        finally:
            paddle.set_device(before)
    count = building.num_classes(builder.config)
    if described and len(classes.names) != count:
        raise CheckpointError(f"{source}: names {len(classes.names)} classes in its metadata, but is of a network of "
                              f"{count}")
    return LiveNetwork(model, transforms, classes, device), tiling


def own_config(source: str, described: description.Description, opts: Optional[Sequence[str]]) -> building.Builder:
    """The builder of the config that a file of weights holds, which PaddleSeg wants in a file of its own."""
    with tempfile.TemporaryDirectory() as folder, blaming(source):
        path = os.path.join(folder, "config.yml")
        with open(path, "w", encoding="utf-8") as file:
            yaml.dump(described.config, file, description.PlainDumper, allow_unicode=True)
        return building.read_config(path, opts, pretrained=False)


@contextlib.contextmanager
def blaming(source: str) -> Iterator[None]:
    """Around what is made of a file's own config: what goes wrong there, the file is told to be the cause of."""
    try:
        yield
    except Exception as error:
        raise CheckpointError(f"{source}: no network can be made of the config in its metadata: {one_line(error)}"
                              ) from error
