"""Segmenters of small networks without chance, for tests of what goes through them."""

import os

import numpy as np
import paddle
from paddleseg.transforms import Compose, Normalize

from paddleseg_encnet.live import LiveNetwork
from segrun import Segmenter
from segrun.classes import Classes
from segrun.own_files import RECORD
from segrun.palettes import CAMVID
from segrun.tiling import asked_for

random = np.random.default_rng(0)


class Edges(paddle.nn.Layer):
    """5 classes from one convolution, so that each pixel depends on its neighbours."""

    def __init__(self, classes: int = 5):
        super().__init__()
        weights = np.random.default_rng(1).normal(size=[classes, 3, 3, 3]).astype("float32")
        self.conv = paddle.nn.Conv2D(3, classes, 3, padding=1)
        self.conv.weight.set_value(3 * weights)

    def forward(self, images):
        return [self.conv(images)]


CLASSES = Classes([f"class {i}" for i in range(5)], list(CAMVID.values()))


def small(model: paddle.nn.Layer = None, transforms: Compose = None, classes: Classes = CLASSES,
          confidence: bool = False, min_conf: float = 0.0, **inference) -> Segmenter:
    """A live one of Edges, normalised images and 5 classes. `inference`: flags of tools/predict.py."""
    network = LiveNetwork(model or Edges(), transforms or Compose([Normalize()]), classes)
    return Segmenter.of(network, asked_for(inference), confidence, min_conf)


def scores_of(segmenter: Segmenter, image) -> np.ndarray:
    """[1, C, H, W], in the image's own size."""
    prepared = segmenter.network.prepare(segmenter.read(image, "it"), "it")
    return np.asarray(segmenter.infer(prepared.image[np.newaxis], prepared.undo).values)


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    """Noise, uint8 [H, W, 3]."""
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def files_below(folder) -> dict:
    """{name below the folder: what is in it}, without hidden files."""
    files = sorted(path for path in folder.rglob("[!.]*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def visible(folder) -> list:
    """Names in a folder, sorted, without the record of what the tools have written there."""
    return sorted(name for name in os.listdir(folder) if name != RECORD)
