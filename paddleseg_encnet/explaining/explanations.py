"""What an EncNet saw in an image: its codewords' assignment, its attention and the classes that it believes present.

Nothing is worked out a second time. Hooks keep what the layers were given and gave while the network predicted, and the
assignment is Encoding.assign() of the very features that the Encoding layer was given. page.py and charts.py draw it.

Shape letters: K codewords, C channels, h x w the feature map at the output stride, H x W the image.
"""

import contextlib
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np
import paddle
import paddle.nn.functional as F

from paddleseg_encnet.data.reading import read_image
from paddleseg_encnet.live import LiveNetwork
from paddleseg_encnet.models import codebook
from segrun import bands
from segrun.commands import command
from segrun.network import Size
from segrun.preprocess import restore
from segrun.result import sigmoid
from segrun.segmenter import Segmenter

BEST_IMAGES = 3         # kept for each codeword
MAP_WIDTH = 240         # of what is kept of them, in pixels


class Explanation(NamedTuple):
    """What a network did with one image. Without codewords (num_codes: 0) all about them is None, without an SE
    branch `presence` is.

    image: uint8 [H, W, 3], RGB.
    ids: int32 [H, W], the class of each pixel.
    features: float32 [C, h, w], what the Encoding layer was given.
    assignment: float32 [K, h, w], how much of each position each codeword takes; sums to 1 over K.
    codes: float32 [K, C], what each codeword hands on: ReLU(BN(e_k)). The context is their mean or sum.
    scale: float32 [K], the trained factors s_k.
    moved: what share of the image would be assigned otherwise if all codewords were one vector, their mean, 0 to 1.
        What is left is told apart by the factors alone, that is by the distance of a feature from that vector.
    gamma: float32 [C], the attention, in (0, 1). The network multiplies channel c by 1 + gamma_c.
    before, after: float32 [C, h, w], the channels that the attention was applied to, and what came of them.
    presence: float32 [num_classes], the probability that the SE branch gives each class to be in the image.
    network: what saw it. network_size, undo: how on_image() finds the way back from the feature map.
    """
    image: np.ndarray
    ids: np.ndarray
    features: np.ndarray
    assignment: Optional[np.ndarray]
    codes: Optional[np.ndarray]
    scale: Optional[np.ndarray]
    moved: Optional[float]
    gamma: np.ndarray
    before: np.ndarray
    after: np.ndarray
    presence: Optional[np.ndarray]
    network: LiveNetwork
    network_size: Size
    undo: List[Tuple[str, Size]]

    def on_image(self, values: np.ndarray) -> np.ndarray:
        """A map [h, w] as the image's pixels have it, float32 [H, W]: resized as the network resizes its logits."""
        grid = paddle.to_tensor(np.ascontiguousarray(values[np.newaxis, np.newaxis], dtype="float32"))
        whole = F.interpolate(grid, self.network_size, mode="bilinear", align_corners=self.network.model.align_corners)
        return np.asarray(restore(whole, self.undo, self.network.resize))[0, 0]

    def codeword_shares(self) -> np.ndarray:
        """What share of the feature map each codeword takes: [K], sums to 1."""
        assert self.assignment is not None
        return self.assignment.mean(axis=(1, 2))


def check_explainable(model: paddle.nn.Layer, codewords: bool = False) -> None:
    """Raises ValueError where there is nothing to explain: no context encoding, or no codewords where `codewords` asks
    for them."""
    kind = type(model).__name__
    if not hasattr(model, "enc_module"):
        switched_off = " (use_encoding is False)" if hasattr(model, "use_encoding") else ""
        raise ValueError(f"{kind}{switched_off} has no context encoding module, so that there is no codeword and no "
                         f"attention to show; {command('explain')} is for ENCNet")
    if not hasattr(model, "head"):      # PaddleSeg's FastFCN, whose layers have other names
        raise ValueError(f"{command('explain')} is for ENCNet, and this is {kind}")
    if codewords and not has_codewords(model):
        raise ValueError(f"this {kind} has no codewords (num_codes is 0), so that there is nothing that they could "
                         "gather over several images; give one image to see its attention")


def has_codewords(model: paddle.nn.Layer) -> bool:
    return hasattr(model.enc_module, "encoding")


def explain_image(network: LiveNetwork, path: str) -> Explanation:
    """Predicts an image as a whole, without windows, scales and flips, and says what happened inside.

    Args:
        network: of an ENCNet. It is left in evaluation mode.

    Raises:
        DataError: the image can't be read, or the transforms make nothing of it.
        ValueError: the network has no context encoding module.
    """
    model, segmenter = network.model, Segmenter.of(network)
    check_explainable(model)
    pixels = read_image(path, network.channels)
    prepared = network.prepare(pixels, path)
    batch = prepared.image[np.newaxis]                                                      # [1, 3, H', W']
    with network.ready(), watched(model) as seen:
        output = segmenter.infer(batch, prepared.undo)
        ids = np.asarray(output.values.argmax(axis=1))[0]
        assignment = codes = scale = moved = None
        if has_codewords(model):
            layer = model.enc_module.encoding[0]
            assignment = layer.assign(seen["features"])                                     # [1, N, K]
            moved = float((assignment - codebook.assign_to_mean(layer, seen["features"])).abs().sum(axis=2).mean()) / 2
            assignment = assignment.numpy()[0].T.reshape([layer.num_codes, *seen["features"].shape[2:]])
            codes, scale = seen["codes"].numpy()[0], layer.scale.numpy()
    presence = sigmoid(output.presence)
    return Explanation(
        bands.shown(pixels), ids.astype(np.int32), seen["features"].numpy()[0], assignment, codes, scale, moved,
        seen["gamma"].numpy()[0], seen["before"].numpy()[0], seen["after"].numpy()[0],
        presence if presence is None else presence[0], network, (batch.shape[2], batch.shape[3]),
        prepared.undo)


@contextlib.contextmanager
def watched(model: paddle.nn.Layer) -> Iterator[Dict[str, paddle.Tensor]]:
    """Gives a dictionary that each forward pass of an ENCNet fills with what happens in its context encoding module."""
    seen: Dict[str, paddle.Tensor] = {}
    module = model.enc_module

    def keep_module(layer: paddle.nn.Layer, inputs: Any, outputs: Any) -> None:
        seen.update(before=inputs[0], after=outputs[1])

    def keeper(name: str) -> Callable[..., None]:
        def keep(layer: paddle.nn.Layer, inputs: Any, outputs: Any) -> None:
            seen[name] = outputs
        return keep

    hooks = [module.register_forward_post_hook(keep_module),
             module.encoding_project.register_forward_post_hook(keeper("features")),
             module.fc.register_forward_post_hook(keeper("gamma"))]
    if has_codewords(model):
        hooks.append(module.encoding.register_forward_post_hook(keeper("codes")))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def use_of_codewords(explanation: Explanation) -> codebook.CodebookUse:
    """How much of the codebook the image uses."""
    assert explanation.assignment is not None
    statistics = codebook.CodebookStatistics(len(explanation.assignment))
    statistics.add(explanation.assignment.reshape(len(explanation.assignment), -1).T)
    return statistics.use()


def common_pattern(explanation: Explanation) -> float:
    """How much of what the K maps say is one picture that they share, 0 to 1: the first principal component's part of
    their variance over the positions, each map divided by its own deviation. 1 / K would be K unlike maps."""
    assert explanation.assignment is not None
    maps = explanation.assignment.reshape(len(explanation.assignment), -1).astype("float64")
    maps = maps - maps.mean(axis=1, keepdims=True)
    deviations = maps.std(axis=1)
    maps = maps[deviations > 0] / deviations[deviations > 0, None]
    if not len(maps):
        return 1.0
    strengths = np.linalg.svd(maps, compute_uv=False) ** 2
    return float(strengths[0] / strengths.sum())


class BestImage(NamedTuple):
    """An image that a codeword takes much of: its share there, the image's path and the map, MAP_WIDTH wide."""
    share: float
    path: str
    map: np.ndarray


class SetExplanation:
    """Which classes each codeword gathers over a set of images, and what the attention does from image to image.

    mass: float64 [K, num_classes], the assignment to each codeword summed over the pixels predicted as each class.
    pixels: int64 [num_classes], how many those are.
    best: for each codeword the images that it takes the largest share of, largest first.
    paths, gammas: of each image, its path and its gamma [C].
    channels: of the images, as the network takes them.
    statistics: how much of the codebook the set uses, of all positions of the feature maps.
    """

    def __init__(self, num_codes: int, num_classes: int, channels: int = 3):
        self.channels = channels
        self.mass = np.zeros([num_codes, num_classes])
        self.pixels = np.zeros(num_classes, np.int64)
        self.best: List[List[BestImage]] = [[] for _ in range(num_codes)]
        self.paths: List[str] = []
        self.gammas: List[np.ndarray] = []
        self.statistics = codebook.CodebookStatistics(num_codes)

    def add(self, path: str, explanation: Explanation) -> None:
        assert explanation.assignment is not None
        ids, classes = explanation.ids.reshape(-1), len(self.pixels)
        self.paths.append(path)
        self.gammas.append(explanation.gamma)
        self.statistics.add(explanation.assignment.reshape(len(self.mass), -1).T)
        self.pixels += np.bincount(ids, minlength=classes)
        for k, values in enumerate(explanation.assignment):
            values = explanation.on_image(values)               # one at a time: K maps of a large image are gigabytes
            self.mass[k] += np.bincount(ids, weights=values.reshape(-1), minlength=classes)
            share = float(values.mean())
            best = self.best[k]
            if len(best) < BEST_IMAGES or share > best[-1].share:
                height = max(1, round(values.shape[0] * MAP_WIDTH / values.shape[1]))
                small = cv2.resize(values, (MAP_WIDTH, height), interpolation=cv2.INTER_AREA)
                self.best[k] = sorted([*best, BestImage(share, path, small)], key=lambda one: -one.share)[:BEST_IMAGES]

    def codeword_shares(self) -> np.ndarray:
        """What share of all pixels each codeword takes: [K], sums to 1."""
        return self.mass.sum(axis=1) / self.pixels.sum()

    def lift(self) -> np.ndarray:
        """How much more a codeword takes of a class's pixels than of all pixels: [K, num_classes].

        1 is as much as anywhere, so that neither a common class nor a strong codeword stands out by that alone. nan
        for a class that no pixel was predicted as.
        """
        in_class = np.divide(self.mass, self.pixels, out=np.full(self.mass.shape, np.nan),
                             where=np.broadcast_to(self.pixels > 0, self.mass.shape))
        shares = self.codeword_shares()[:, None]
        return np.divide(in_class, shares, out=np.full(self.mass.shape, np.nan),
                         where=np.broadcast_to(shares > 0, self.mass.shape))


TABLE_HEADER = ["codeword", "scale", "share_of_pixels", "class", "class_share_of_pixels", "share_of_class", "lift"]


def codeword_table(over_set: SetExplanation, scale: np.ndarray, names: List[str]) -> List[list]:
    """Rows below TABLE_HEADER: one for each codeword and class; None where no pixel was predicted as the class."""
    shares, lift, of_all = over_set.codeword_shares(), over_set.lift(), over_set.pixels / over_set.pixels.sum()

    def number(value: float) -> Optional[float]:
        return float(f"{value:.6g}") if np.isfinite(value) else None

    return [[k, number(scale[k]), number(shares[k]), name, number(of_all[c]), number(lift[k, c] * shares[k]),
             number(lift[k, c])] for k in range(len(shares)) for c, name in enumerate(names)]
