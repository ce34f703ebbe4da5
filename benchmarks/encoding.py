"""The Encoding layer: ours, PaddleSeg's, one in PyTorch, and the floor of its matrix products.

python benchmarks/encoding.py

The floor is what paddle.matmul needs in the same run for the products that cannot be avoided, each of 2 N K C flops:
two forward (K x C by C x N, K x N by N x C), four more backward (the first again, the second again, C x K by K x N
twice). Memory is what the process grows by beyond the input and its gradient.
"""

import sys

import measuring
from measuring import Row

# [channels, codewords, height, width]: 1024 x 512 at stride 8, and what it is varied by for the plots.
BASE = (512, 32, 64, 128)


def ours(channels, codes, height, width) -> dict:
    import paddleseg_encnet  # before paddle, whose threads and malloc it sets, for the floor too

    # isort: split
    import paddle
    paddle.set_device("cpu")
    layer = paddleseg_encnet.Encoding(channels, codes)
    forward, both, x = paddle_work(layer, channels, codes, height, width)
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
            "floor forward": two, "floor both": 2 * (two + seconds["CK.KN"])}


def stock(channels, codes, height, width) -> dict:
    import paddleseg_encnet  # noqa: F401  before paddle, whose threads and malloc it sets, for both

    # isort: split
    import paddle
    from paddleseg.models.encnet import Encoding
    paddle.set_device("cpu")
    forward, both, x = paddle_work(Encoding(channels, codes), channels, codes, height, width)
    memory = growth(both, x)
    return {**measuring.interleaved({"forward": forward, "both": both}, rounds=1, in_a_row=1), "memory": memory}


def paddle_work(layer, channels, codes, height, width):
    """Forward, forward and backward, and the input that they use."""
    import paddle
    x = paddle.randn([1, channels, height, width])
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


def in_torch(channels, codes, height, width) -> dict:
    import os

    import torch
    sys.path.insert(0, os.path.join(os.path.dirname(measuring.HERE), "tests"))
    from torch_encnet import Encoding
    torch.set_num_threads(os.cpu_count())
    layer = Encoding(channels, codes)
    x = torch.randn(1, channels, height, width, requires_grad=True)
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
    return {**measuring.interleaved({"forward": forward, "both": both}, rounds=1, in_a_row=1), "memory": memory}


def measure(which, *sizes) -> dict:
    return {"ours": ours, "stock": stock, "torch": in_torch}[which](*map(int, sizes))


def rows():
    results = {which: measuring.child("encoding.py", which, *BASE) or {} for which in ("ours", "stock", "torch")}
    own, theirs, peer = results["ours"], results["stock"], results["torch"]

    def row(piece, unit, key, factor=1.0, floor=None):
        other = [None if each.get(key) is None else factor * each[key] for each in (theirs, peer)]
        return Row(piece, unit, factor * own[key], *other, None if floor is None else factor * own[floor],
                   "[1, 512, 64, 128], K = 32")
    yield row("Encoding forward", "ms", "forward", 1000, "floor forward")
    yield row("Encoding forward + backward", "ms", "both", 1000, "floor both")
    yield row("Encoding memory beyond input and gradient", "inputs", "memory")


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
