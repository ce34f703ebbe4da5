"""The Encoding layer: ours, PaddleSeg's, one in PyTorch, and the floor of its matrix products.

python benchmarks/encoding.py

The floor is what paddle.matmul needs in the same run for the products that cannot be avoided, each of 2 N K C flops:
two forward (K x C by C x N, K x N by N x C), four more backward (the first again, the second again, C x K by K x N
twice). Memory is what the process grows by beyond the input and its gradient.

The input is as a network gives it, after BatchNorm and ReLU, with three codebooks: "collapsed", as published code has
it at first, where one codeword takes nearly all; "used", placed on the features; "trained", some rounds from there
with sharper factors. The note says how many denormal numbers each contestant's assignment has.
"""

import sys

import measuring
from measuring import Row

# [channels, codewords, height, width]: 1024 x 512 at stride 8, and what it is varied by for the plots.
BASE = (512, 32, 64, 128)
KINDS = ("collapsed", "used", "trained")


def ours(channels, codes, height, width, kind) -> dict:
    import paddleseg_encnet  # before paddle, whose threads and malloc it sets, for the floor too

    # isort: split
    import paddle
    paddle.set_device("cpu")
    layer = paddleseg_encnet.Encoding(channels, codes)
    values = features_of(channels, height, width)
    fill(layer, *codebook(kind, values, codes))
    forward, both, x = paddle_work(layer, channels, codes, values)
    memory = growth(both, x)
    features, rows = x.detach().flatten(2), layer.codewords.detach()
    weights = paddle.rand([1, codes, height * width])
    products = {
        "KC.CN": lambda: paddle.matmul(rows, features),
        "KN.NC": lambda: paddle.matmul(weights, features, transpose_y=True),
        "CK.KN": lambda: paddle.matmul(rows, weights, transpose_x=True)}
    seconds = measuring.interleaved({**products, "forward": forward, "both": both}, rounds=10)
    two = seconds["KC.CN"] + seconds["KN.NC"]
    return {"forward": seconds["forward"], "both": seconds["both"], "memory": memory,
            "denormals": denormals(layer.assign(x).numpy()),
            "floor forward": two, "floor both": 2 * (two + seconds["CK.KN"])}


def stock(channels, codes, height, width, kind) -> dict:
    import paddleseg_encnet  # noqa: F401  before paddle, whose threads and malloc it sets, for both

    # isort: split
    import paddle
    from paddleseg.models.encnet import Encoding
    paddle.set_device("cpu")
    layer, values = Encoding(channels, codes), features_of(channels, height, width)
    fill(layer, *codebook(kind, values, codes))
    forward, both, x = paddle_work(layer, channels, codes, values)
    memory = growth(both, x)
    with paddle.no_grad():
        rows = x.flatten(2).transpose([0, 2, 1])
        assignment = paddle.nn.functional.softmax(layer.scaled_l2(rows, layer.codewords, layer.scale), axis=2).numpy()
    return {**measuring.interleaved({"forward": forward, "both": both}, rounds=1, in_a_row=1), "memory": memory,
            "denormals": denormals(assignment)}


def features_of(channels, height, width):
    """[1, C, H, W] float32 as after BatchNorm and ReLU: patches of eight kinds, with noise on them."""
    import numpy as np
    draw = np.random.default_rng(0)
    kinds = draw.normal(size=(8, channels))
    where = np.kron(draw.integers(0, 8, (height // 8, width // 8)), np.ones((8, 8), int))
    values = (kinds[where] + draw.normal(size=(height, width, channels))) / 2 ** 0.5
    return np.maximum(values, 0).transpose(2, 0, 1)[None].astype("float32")


def codebook(kind, values, codes):
    """Codewords [K, C] and factors [K] of that kind for these features."""
    import numpy as np
    import paddle

    import paddleseg_encnet
    from paddleseg_encnet.models.codebook import place_codebook, sample
    paddle.seed(0)
    layer = paddleseg_encnet.Encoding(values.shape[1], codes)
    features = paddle.to_tensor(values)
    if kind != "collapsed":
        place_codebook(layer, sample(layer.flatten(features)))
    if kind == "trained":       # codewords follow the positions that they take; factors grow, as in the shipped network
        layer.scale.set_value(layer.scale * 8)
        for _ in range(5):
            assignment = layer.assign(features)[0].numpy().astype(np.float64)
            mass = assignment.sum(0)[:, None]
            centres = assignment.T @ values[0].reshape(values.shape[1], -1).T / np.maximum(mass, 1e-12)
            layer.codewords.set_value(paddle.to_tensor(np.where(mass > 1, centres, layer.codewords.numpy())
                                                       .astype("float32")))
    return layer.codewords.numpy(), layer.scale.numpy()


def fill(layer, codewords, scale):
    import paddle
    layer.codewords.set_value(paddle.to_tensor(codewords))
    layer.scale.set_value(paddle.to_tensor(scale))


def denormals(assignment) -> int:
    import numpy as np
    bits = np.ascontiguousarray(assignment).view(np.uint32)
    return int(((bits > 0) & (bits < 0x00800000)).sum())


def paddle_work(layer, channels, codes, values):
    """Forward, forward and backward, and the input that they use."""
    import paddle
    x = paddle.to_tensor(values)
    x.stop_gradient = False
    grad = paddle.randn([1, codes, channels])

    def forward():
        with paddle.no_grad():
            layer(x)

    def both():
        layer(x).backward(grad)
        x.clear_gradient(False)
        layer.clear_gradients()

    small = paddle.randn([1, channels, 4, 4])
    layer(small).backward(grad)         # workspaces of the libraries
    return forward, both, x


def growth(work, x) -> float:
    """Peak of the memory beyond the input and its gradient, in sizes of the input."""
    size = 4 * x.shape[1] * x.shape[2] * x.shape[3]
    before = measuring.resident()
    work()
    return max(measuring.peak() - before, size) / size - 1


def in_torch(channels, codes, height, width, kind) -> dict:
    import os

    import torch
    sys.path.insert(0, os.path.join(os.path.dirname(measuring.HERE), "tests"))
    from torch_encnet import Encoding
    torch.set_num_threads(os.cpu_count())
    layer = Encoding(channels, codes)
    values = features_of(channels, height, width)
    codewords, scale = map(torch.from_numpy, codebook(kind, values, codes))
    layer.load_state_dict({"codewords": codewords, "scale": scale})
    x = torch.from_numpy(values).requires_grad_()
    grad = torch.randn(1, codes, channels)

    def forward():
        with torch.no_grad():
            layer(x)

    def both():
        layer(x).backward(grad)
        x.grad = None
        layer.zero_grad()

    layer(torch.randn(1, channels, 4, 4)).backward(grad)
    memory = growth(both, x)
    with torch.no_grad():
        squares = torch.stack([((x.flatten(2) - each[None, :, None]) ** 2).sum(1) for each in codewords], 2)
        assignment = torch.softmax(squares * scale, dim=2).numpy()
    return {**measuring.interleaved({"forward": forward, "both": both}, rounds=1, in_a_row=1), "memory": memory,
            "denormals": denormals(assignment)}


def measure(which, kind, *sizes) -> dict:
    return {"ours": ours, "stock": stock, "torch": in_torch}[which](*map(int, sizes), kind)


def rows():
    for kind in KINDS:
        results = {which: measuring.child("encoding.py", which, kind, *BASE) or {}
                   for which in ("ours", "stock", "torch")}
        own, theirs, peer = results["ours"], results["stock"], results["torch"]
        counts = ", ".join(f"{which} {each['denormals']}" for which, each in results.items() if each)
        note = f"[1, 512, 64, 128], K = 32; denormal numbers in the assignment: {counts}"
        for piece, unit, key, factor, floor in (
                ("forward", "ms", "forward", 1000, "floor forward"),
                ("forward + backward", "ms", "both", 1000, "floor both"),
                ("memory beyond input and gradient", "inputs", "memory", 1, None)):
            other = [None if each.get(key) is None else factor * each[key] for each in (theirs, peer)]
            yield Row(f"Encoding {piece}, {kind} codebook", unit, factor * own[key], *other,
                      None if floor is None else factor * own[floor], note)


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
