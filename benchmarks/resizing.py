"""Bilinear resizing, forward and backward: ours, Paddle's kernel, PyTorch's.

python benchmarks/resizing.py

The sizes are those of a training step at 512 x 1024: logits of 19 classes, and the two coarse maps of joint pyramid
upsampling.
"""

import os

import measuring
from measuring import Row

# Channels, height and width before, and after.
SIZES = ((19, 64, 128, 512, 1024), (512, 32, 64, 64, 128), (512, 16, 32, 64, 128))


def in_paddle(channels, height, width, *after) -> dict:
    import paddleseg_encnet  # noqa: F401  before paddle, whose threads and malloc it sets, for both

    # isort: split
    import paddle
    import paddle.nn.functional as F

    from paddleseg_encnet.models.resizing import bilinear
    paddle.set_device("cpu")
    x, size = paddle.randn([1, channels, height, width]), paddle.to_tensor(after)
    x.stop_gradient = False
    grad = paddle.randn([1, channels, *after])

    def both(forward):
        paddle.grad([forward(x)], [x], [grad])
    return measuring.interleaved({
        "ours": lambda: both(lambda x: bilinear(x, size, True)),
        "stock": lambda: both(lambda x: F.interpolate(x, size, mode="bilinear", align_corners=True))}, rounds=5)


def in_torch(channels, height, width, *after) -> dict:
    import torch
    import torch.nn.functional as F
    torch.set_num_threads(os.cpu_count())
    x = torch.randn(1, channels, height, width, requires_grad=True)
    grad = torch.randn(1, channels, *after)
    return measuring.interleaved({"torch": lambda: torch.autograd.grad(
        F.interpolate(x, after, mode="bilinear", align_corners=True), x, grad)}, rounds=5)


def measure(which, *sizes) -> dict:
    return {"paddle": in_paddle, "torch": in_torch}[which](*map(int, sizes))


def rows():
    for sizes in SIZES:
        own = measuring.child("resizing.py", "paddle", *sizes)
        peer = (measuring.child("resizing.py", "torch", *sizes) or {}).get("torch")
        channels, height, width, *after = sizes
        yield Row("bilinear resizing, forward + backward", "ms", 1000 * own["ours"], 1000 * own["stock"],
                  peer and 1000 * peer, None, f"[1, {channels}, {height}, {width}] to {after[0]} x {after[1]}")


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
