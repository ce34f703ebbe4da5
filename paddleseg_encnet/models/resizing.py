"""Bilinear resizing that a CPU can train: Paddle adds up the gradient pixel by pixel.

Bilinear resizing is a product with one matrix for the rows and one for the columns, Y = R X C', so that the gradient of
X is R' dY C: two products, which a CPU's libraries do at full speed. Everywhere else (on a GPU, in other types than
float32, in a static graph or an export) it is Paddle's. Ratios: benchmarks/resizing.py.
"""

import contextlib
import threading
from typing import Callable, Iterator, Sequence

import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer, PyLayerContext
from paddle.jit.sot.psdb import in_sot

interpolate = F.interpolate     # Paddle's own, whatever resizing_by() has put in its place
_exchanging = threading.Lock()


@contextlib.contextmanager
def resizing_by(function: Callable) -> Iterator[None]:
    """Within it whatever network is run resizes by this function, which takes what F.interpolate takes.

    For the time of a trace. It takes the place of F.interpolate in Paddle's module, as that is what PaddleSeg's
    networks and Paddle's own layers call by name: none of them could be given a function. It is so for every thread,
    so that the function has to give the same numbers; a second one waits until the first is done.
    """
    with _exchanging:
        before = F.interpolate
        F.interpolate = function
        try:
            yield
        finally:
            F.interpolate = before


def bilinear(x: paddle.Tensor, size: paddle.Tensor, align_corners: bool) -> paddle.Tensor:
    """F.interpolate(x, size, mode="bilinear"): x [B, C, h, w], size [H, W] as a tensor -> [B, C, H, W]."""
    if is_ours(x):
        return Bilinear.apply(x, size.tolist(), align_corners)
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def is_ours(x: paddle.Tensor) -> bool:
    """Whether x needs a gradient that Bilinear computes, rather than Paddle."""
    if not paddle.in_dynamic_mode() or in_sot():        # the second: Paddle's tracer of bytecode is reading this
        return False
    return x.place.is_cpu_place() and x.dtype == paddle.float32 and not x.stop_gradient and paddle.is_grad_enabled()


class Bilinear(PyLayer):
    """x [B, C, h, w] -> [B, C, H, W] for size = [H, W]. Nothing of x is kept."""

    @staticmethod
    def forward(ctx: PyLayerContext, x: paddle.Tensor, size: Sequence[int], align_corners: bool) -> paddle.Tensor:
        ctx.matrices = [weights(before, after, align_corners) for before, after in zip(x.shape[2:], size)]
        return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)

    @staticmethod
    def backward(ctx: PyLayerContext, dy: paddle.Tensor) -> paddle.Tensor:
        rows, columns = ctx.matrices
        return paddle.matmul(rows, paddle.matmul(dy, columns, transpose_y=True))


def weights(before: int, after: int, align_corners: bool) -> paddle.Tensor:
    """[before, after]: what each of `before` pixels in a line gives to each of `after`: Paddle's own resizing of each
    unit vector, so that its rule need not be written again."""
    units = paddle.eye(before).reshape([1, before, before, 1])
    resized = F.interpolate(units, [after, 1], mode="bilinear", align_corners=align_corners)
    return resized.reshape([before, after])
