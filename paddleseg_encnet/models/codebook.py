"""Where an Encoding's codebook starts, and how much of it is used.

The published start puts K codewords of length 1/sqrt(3) around zero, and features are many times longer: to them all
codewords are one point, and the codeword whose factor is nearest to zero takes every position. Here the codebook starts
where the features are, as NetVLAD's (Arandjelovic et al. 2016, https://arxiv.org/abs/1511.07247) and the codebooks of
vector quantisation do (Zeghidour et al. 2021, https://arxiv.org/abs/2107.03312, section III-C): codewords are the
centres of a k-means of one batch, and one factor for all makes the assignment as sharp as is asked.

Shape letters: K codewords, C channels, N positions, M positions of a sample.
"""

import math
from typing import NamedTuple, Optional, Tuple

import numpy as np
import paddle

from paddleseg_encnet.models import encoding
from paddleseg_encnet.models.encoding import Encoding
from paddleseg_encnet.runtime.devices import Ranks

ALIKE = 3.0             # codewords that a position is left to by the placed factor, see CodebookUse.alike
# Of the learning rate, for the factors: they are held. A factor's gradient is a sum of squared distances, and its
# sharpness was chosen on purpose.
FACTOR_RATE = 0.0
SAMPLE = 4096           # positions that k-means sees
ROUNDS = 20             # of k-means at most


class CodebookUse(NamedTuple):
    """How much of a codebook is used, over the positions i of a set of images.

    information: I(position; codeword) = H(mean_i a_i) - mean_i H(a_i) in nats, 0 to ln K: what the codeword tells of
        where one is. 0 where all positions have one mixture, however many codewords that holds.
    used: exp(H(mean_i a_i)), 1 to K: as many codewords, used evenly, would be as uncertain a choice.
    alike: exp(mean_i H(a_i)), 1 to K: the same for the codewords of one position.
    moved: 0 to 1: what share of the positions would be assigned otherwise if all codewords were one vector, their mean.
        0 where the factors alone decide. nan where that was not gathered.
    """
    information: float
    used: float
    alike: float
    moved: float = math.nan


class CodebookStatistics:
    """Sums of assignments, of which use() makes a CodebookUse. `sums` [K + 3], float64, can be added over processes."""

    def __init__(self, num_codes: int):
        self.sums = np.zeros(num_codes + 3)

    def add(self, assignment: np.ndarray, of_one_vector: Optional[np.ndarray] = None) -> None:
        """Takes a_ik, of shape [..., K], summing to 1 over K, and what they were if all codewords were their mean."""
        rows = assignment.reshape(-1, assignment.shape[-1]).astype(np.float64)
        moved = math.nan if of_one_vector is None else np.abs(assignment - of_one_vector).sum() / 2
        self.sums += [*rows.sum(axis=0), entropy(rows).sum(), moved, len(rows)]

    def use(self) -> CodebookUse:
        *mass, entropies, moved, count = self.sums
        whole, each = float(entropy(np.array(mass) / count)), entropies / count
        return CodebookUse(max(whole - each, 0.0), math.exp(whole), math.exp(each), float(moved / count))


def assign_to_mean(layer: Encoding, features: paddle.Tensor) -> paddle.Tensor:
    """The layer's assignment [B, N, K] of [B, C, h, w] if all its codewords were one vector, their mean."""
    with paddle.amp.auto_cast(enable=False):
        codewords, scale = encoding.as_float32(layer.codewords), encoding.as_float32(layer.scale)
        offsets = layer.flatten(features) - codewords.mean(axis=0).unsqueeze([0, 2])
        return encoding.assign(offsets, encoding.powers(offsets), paddle.zeros_like(codewords), scale)


def entropy(shares: np.ndarray) -> np.ndarray:
    """-sum_k a_k ln a_k over the last axis, in nats; 0 ln 0 is 0."""
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=-1)


def place_at_first_step(layer: Encoding) -> None:
    """Has the codebook placed on the features of the layer's first forward pass in training.

    Only if the codewords then still are what they are now: weights that are loaded before it are left alone, and a
    resumed training places nothing a second time. All ranks take what the first one finds. While a static graph is
    built there are no features to place it on.
    """
    start = layer.codewords.numpy()

    def before(layer: paddle.nn.Layer, inputs: Tuple[paddle.Tensor, ...]) -> None:
        if not (layer.training and paddle.in_dynamic_mode()):
            return
        hook.remove()
        ranks = Ranks.join()
        as_now = paddle.to_tensor(start).astype(layer.codewords.dtype)     # to be cast is no change
        untouched = np.array_equal(*(each.astype("float32").numpy() for each in (layer.codewords, as_now)))
        if 0 in ranks.where(untouched)[0]:      # the first rank's weights are those of all
            if ranks.first:
                place_codebook(layer, sample(layer.flatten(inputs[0])))
            ranks.broadcast_weights(layer)

    hook = layer.register_forward_pre_hook(before)


def sample(features: paddle.Tensor) -> np.ndarray:
    """[B, C, N] -> float64 [M, C], at most SAMPLE positions, evenly spread over the batch."""
    values = features.numpy().transpose(0, 2, 1).reshape(-1, features.shape[1])
    chosen = np.linspace(0, len(values) - 1, min(SAMPLE, len(values))).round().astype(int)
    return values[chosen].astype(np.float64)


def place_codebook(layer: Encoding, positions: np.ndarray) -> None:
    """Puts the layer's codewords on the centres of positions [M, C], and its factors at what leaves a position to
    ALIKE of them."""
    centres = k_means(positions, layer.num_codes, np.random.default_rng(0))
    factors = np.full(layer.num_codes, factor_for(squared_distances(positions, centres)))
    for parameter, values in ((layer.codewords, centres), (layer.scale, factors)):
        parameter.set_value(paddle.to_tensor(values.astype(np.float32)).astype(parameter.dtype))


def k_means(positions: np.ndarray, count: int, draw: np.random.Generator) -> np.ndarray:
    """Lloyd's algorithm from k-means++'s start: [M, C] -> [count, C]. A centre without positions moves to the
    position that is farthest from its own centre."""
    centres = positions[[draw.integers(len(positions))]]
    while len(centres) < count:
        far = squared_distances(positions, centres).min(axis=1)
        shares = far / far.sum() if far.sum() > 0 else None
        centres = np.concatenate([centres, positions[[draw.choice(len(positions), p=shares)]]])
    for _ in range(ROUNDS):
        distances = squared_distances(positions, centres)
        nearest = distances.argmin(axis=1)
        members = np.bincount(nearest, minlength=count)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, positions)
        moved = sums / np.maximum(members, 1)[:, None]
        empty = members == 0
        moved[empty] = positions[np.argsort(-distances.min(axis=1), kind="stable")[:empty.sum()]]
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def squared_distances(positions: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """[M, C] and [K, C] -> [M, K]."""
    squares = (positions ** 2).sum(1)[:, None] + (centres ** 2).sum(1) - 2 * positions @ centres.T
    return np.maximum(squares, 0)


def factor_for(distances: np.ndarray, alike: float = ALIKE) -> float:
    """The factor s < 0 with which softmax_k(s d_ik) leaves a position to `alike` codewords, exp of its mean entropy.

    Args:
        distances: squared distances [M, K].
    """
    distances = distances - distances.min(axis=1, keepdims=True)
    alike = min(alike, (1 + distances.shape[1]) / 2)
    low, high = -60.0, 60.0            # of ln -s
    for _ in range(60):
        middle = (low + high) / 2
        weights = np.exp(-np.exp(middle) * distances)
        blurred = math.exp(entropy(weights / weights.sum(axis=1, keepdims=True)).mean()) > alike
        low, high = (middle, high) if blurred else (low, middle)
    return -math.exp(high)
