"""The Encoding layer and its module on a device: values, gradients by hand, memory, and the largest sums in half."""

from typing import List, Tuple

import numpy as np
import paddle

from paddleseg_encnet.gpu.checking import Found, Place, within
from paddleseg_encnet.models.encnet import EncModule
from paddleseg_encnet.models.encoding import Encoding

MEBIBYTE = 2 ** 20
MOST_MEMORY = 300       # MiB at [2, 512, 64, 128]; residuals in full take over 1000
LARGEST_HALF = 65504


def close(place: Place) -> float:
    """How far sums of float32 may be from each other, relative to the largest."""
    return 1e-2 if place.tensor_floats else 1e-4


def layer_of(channels: int, codes: int) -> Encoding:
    """With an assignment that is neither even nor one-sided for features of spread 1."""
    paddle.seed(1)
    layer = Encoding(channels, codes)
    layer.codewords.set_value(paddle.randn([codes, channels]))
    layer.scale.set_value(paddle.uniform([codes], min=-1.0, max=0.0) / channels)
    return layer


def difference(a: paddle.Tensor, b: paddle.Tensor) -> float:
    """Largest, relative to the largest value of b."""
    first, second = (each.astype("float32").numpy().astype(np.float64) for each in (a, b))
    return float(np.abs(first - second).max() / np.abs(second).max())


def gradients(layer: Encoding, values: paddle.Tensor, grad: paddle.Tensor, by_hand: bool) -> List[paddle.Tensor]:
    """Codes, and gradients of features, codewords and factors."""
    layer.training = by_hand
    x = values.detach()
    x.stop_gradient = False
    codes = layer(x)
    codes.backward(grad)
    found = [codes.detach(), x.grad, layer.codewords.grad.clone(), layer.scale.grad.clone()]
    layer.clear_gradients()
    return found


def formula(place: Place) -> Found:
    """Values, against the formula with residuals in full, in float64."""
    layer = layer_of(32, 8)
    x = paddle.randn([2, 32, 60])
    features, codewords, scale = (each.numpy().astype(np.float64) for each in (x, layer.codewords, layer.scale))
    residuals = features.transpose(0, 2, 1)[:, :, None] - codewords                         # [B, N, K, C]
    logits = scale * (residuals ** 2).sum(3)
    shares = np.exp(logits - logits.max(2, keepdims=True))
    shares /= shares.sum(2, keepdims=True)
    expected = (shares[..., None] * residuals).sum(1)                                       # [B, K, C]
    error = float(np.abs(layer(x).numpy() - expected).max() / np.abs(expected).max())
    return within([("codes", error, close(place))])


def by_hand(place: Place) -> Found:
    """The backward pass that is written out, against Paddle's of the same equations; features in float32 and half."""
    shape = [2, 64, 16, 32] if place.small else [2, 512, 64, 128]
    layer, x = layer_of(shape[1], 32), paddle.randn(shape)
    grad = paddle.randn([2, 32, shape[1]])
    bounds: List[Tuple[str, float, float]] = []
    for kind in ("float32", "float16"):
        values = x.astype(kind)
        with paddle.amp.auto_cast(enable=kind == "float16" and not place.small):
            own, theirs = (gradients(layer, values, grad, hand) for hand in (True, False))
        # The gradient of half features is rounded to half, 11 bits.
        errors = [difference(a, b) for a, b in zip(own, theirs)]
        bounds += [(f"{name}, {kind}", error, max(close(place), 1e-3) if (name, kind) == ("features", "float16")
                    else close(place)) for name, error in zip(("codes", "features", "codewords", "factors"), errors)]
    return within(bounds)


def memory(place: Place) -> Found:
    """Of forward and backward pass, beyond what was there. Runs first of all, as Paddle tells the most so far."""
    layer = layer_of(512, 32)
    x = paddle.randn([2, 512, 64, 128])
    x.stop_gradient = False
    before = paddle.device.cuda.memory_allocated()
    layer(x).sum().backward()
    used = (paddle.device.cuda.max_memory_allocated() - before) / MEBIBYTE
    return within([("MiB", used, MOST_MEMORY)])


def largest_sums(place: Place) -> Found:
    """The attention of an image of 2048 x 1024 at stride 8, in mixed precision, where one codeword takes all. On a CPU,
    which has no convolutions in half precision, from half features to the context."""
    paddle.seed(1)
    module = EncModule(512, 32)
    module.eval()
    layer = module.encoding[0]
    layer.codewords.set_value(paddle.zeros_like(layer.codewords))
    layer.scale.set_value(paddle.to_tensor([-1e-4] + 31 * [-1.0]))
    features = paddle.rand([1, 512, 128, 256]) + 2.5
    bounds = []
    with paddle.no_grad():
        largest = float(layer(features).max())
        exact = module.context_of(features)
        bounds.append(("context of half features", difference(module.context_of(features.astype("float16")), exact),
                       1e-2))
        if not place.small:
            whole = module(features)[1]
            for level in ("O1", "O2"):
                with paddle.amp.auto_cast(level=level):
                    bounds.append((f"features after it, {level}", difference(module(features)[1], whole), 3e-2))
    found = within(bounds)
    return Found(found.holds and largest > LARGEST_HALF, f"{found.said}; largest code {largest:.0f}, which half "
                 f"precision ({LARGEST_HALF}) would not hold", {**found.numbers, "largest code": largest})
