"""Depthwise convolution, forward and backward: ours, Paddle's kernel, PyTorch's.

python benchmarks/depthwise.py

The layers are those of an EfficientNet-Lite0 that reads 4 images of 480 x 360; the last one is dilated, as at output
stride 8.
"""

import os

import measuring
from measuring import Row

# Channels, kernel, dilation, height, width.
LAYERS = ((96, 3, 1, 180, 240), (144, 3, 1, 90, 120), (240, 5, 1, 45, 60), (672, 5, 1, 23, 30), (672, 5, 2, 45, 60))
BATCH = 4


def in_paddle(channels, kernel, dilation, height, width) -> dict:
    import paddleseg_encnet  # noqa: F401  before paddle, whose threads and malloc it sets, for both

    # isort: split
    import paddle

    from paddleseg_encnet.models.depthwise import DepthwiseConv2D
    paddle.set_device("cpu")
    reach = dilation * (kernel // 2)
    layer = DepthwiseConv2D(channels, kernel, 1, (reach, reach), dilation)
    x = paddle.randn([BATCH, channels, height, width])
    x.stop_gradient = False
    grad = paddle.randn(x.shape)

    def both(forward):
        paddle.grad([forward(x)], [x, layer.weight], [grad])
    return measuring.interleaved({"ours": lambda: both(layer), "stock": lambda: both(
        lambda images: paddle.nn.Conv2D.forward(layer, images))}, rounds=3)


def in_torch(channels, kernel, dilation, height, width) -> dict:
    import torch
    torch.set_num_threads(os.cpu_count())
    layer = torch.nn.Conv2d(channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation,
                            groups=channels, bias=False)
    x = torch.randn(BATCH, channels, height, width, requires_grad=True)
    grad = torch.randn(x.shape)
    return measuring.interleaved({"torch": lambda: torch.autograd.grad(layer(x), [x, layer.weight], grad)}, rounds=3)


def measure(which, *sizes) -> dict:
    return {"paddle": in_paddle, "torch": in_torch}[which](*map(int, sizes))


def rows():
    for channels, kernel, dilation, height, width in LAYERS:
        sizes = (channels, kernel, dilation, height, width)
        own = measuring.child("depthwise.py", "paddle", *sizes)
        peer = (measuring.child("depthwise.py", "torch", *sizes) or {}).get("torch")
        note = f"[{BATCH}, {channels}, {height}, {width}]" + (f", dilation {dilation}" if dilation > 1 else "")
        yield Row(f"depthwise {kernel} x {kernel}, forward + backward", "ms", 1000 * own["ours"], 1000 * own["stock"],
                  peer and 1000 * peer, None, note)


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
