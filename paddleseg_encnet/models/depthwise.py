"""Depthwise convolution that a CPU can train: Paddle's kernel takes most of an EfficientNet-Lite's step there.

Paddle unfolds the image for each channel and multiplies by one vector; for the gradients it does so again. Here a
channel of the whole batch is one tall picture, the images below each other with zeros between them, so that

    the output                  is OpenCV's filter2D with the channel's kernel,
    the gradient of the input   is filter2D of the output's gradient with the kernel turned by 180 degrees,
    the gradient of a weight    is the dot product of the output's gradient with the picture, moved by its place.

Everywhere else (on a GPU, in other types than float32, in a static graph or an export) it is Paddle's convolution.
Ratios: benchmarks/depthwise.py.
"""

import ctypes
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Optional, Sequence, Tuple

import cv2
import numpy as np
import paddle
import paddle.nn as nn
from paddle.autograd import PyLayer, PyLayerContext
from paddle.jit.sot.psdb import in_sot

from segrun.cpu import cpu_count

# From a kernel of about 11 x 11 on, OpenCV multiplies Fourier transforms, which takes several times as long as the few
# weights of a dilated kernel, and rounds more: such a kernel is applied to every dilation-th row, or row by row.
FOURIER = 11 * 11


@functools.lru_cache(maxsize=None)
def pool() -> ThreadPoolExecutor:
    """The process's threads, made when they are first needed. All layers share them, as they share the cores."""
    return ThreadPoolExecutor(cpu_count())


def each(work: Callable[[int], None], count: int) -> None:
    """work(i) for each i < count, on as many threads as Paddle has cores; both libraries release Python's lock."""
    step = -(-count // cpu_count())

    def stretch(start: int) -> None:
        for i in range(start, min(start + step, count)):
            work(i)
    list(pool().map(stretch, range(0, count, step)))        # the list raises what a thread has raised


def shared_memory_array(tensor: paddle.Tensor) -> np.ndarray:
    """float32 of the tensor's own memory, which it must outlive; .numpy() would be a copy."""
    memory = (ctypes.c_float * tensor.size).from_address(tensor.data_ptr())
    return np.frombuffer(memory, np.float32).reshape(tensor.shape)


def empty(shape: Sequence[int]) -> paddle.Tensor:
    """float32 on the CPU, whatever the default device is, to be written by way of shared_memory_array(): no copy is
    made."""
    tensor = paddle.empty(shape, "float32")
    return tensor if tensor.place.is_cpu_place() else tensor.cpu()


def tall(images: np.ndarray, before: int, height: int, width: int, stride: int = 1) -> np.ndarray:
    """One channel [B, H, W] as a picture [B * height, width]: each image `before` from its corner, every `stride`-th
    pixel, zeros elsewhere."""
    picture = np.zeros((len(images), height, width), images.dtype)
    rows, columns = before + stride * images.shape[1], before + stride * images.shape[2]
    picture[:, before:rows:stride, before:columns:stride] = images
    return picture.reshape(-1, width)


def dilated_kernels(kernels: np.ndarray, dilation: int) -> np.ndarray:
    """[C, k, k] with dilation - 1 zeros between the weights. OpenCV skips them."""
    size = dilation * (kernels.shape[1] - 1) + 1
    wide = np.zeros((len(kernels), size, size), kernels.dtype)
    wide[:, ::dilation, ::dilation] = kernels
    return wide


def correlate(picture: np.ndarray, kernel: np.ndarray, dilation: int) -> np.ndarray:
    """At y, x the sum over i, j of kernel[i, j] picture[y + i, x + j], of the picture's size; where that reaches below
    the picture, anything."""
    def filtered(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
        return cv2.filter2D(picture, -1, kernel, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)

    if kernel.size < FOURIER:
        return filtered(picture, kernel)
    # Every dilation-th row, those from each of the first on below each other, needs a kernel of fewer rows.
    (height, width), rows = picture.shape, kernel[::dilation]
    count = -(-height // dilation)
    whole = np.zeros((count, dilation, width), picture.dtype)
    whole.reshape(-1, width)[:height] = picture
    below = np.ascontiguousarray(whole.swapaxes(0, 1)).reshape(-1, width)
    if rows.size < FOURIER:
        result = filtered(below, rows)
    else:
        result = np.zeros_like(below)
        for i, row in enumerate(rows):
            result[:len(below) - i] += filtered(below[i:], row[np.newaxis])
    return result.reshape(dilation, count, width).swapaxes(0, 1).reshape(-1, width)[:height]


def moments(picture: np.ndarray, gradient: np.ndarray, size: int, dilation: int) -> np.ndarray:
    """[k, k]: for each place of a kernel the dot product of the picture, moved by it, with the gradient.

    Rows are moved into the next ones and images into the next, where the gradient is 0: the zeros around an image are
    as wide as the kernel reaches."""
    places, width = range(0, size, dilation), picture.shape[1]
    picture, gradient = picture.reshape(-1), gradient.reshape(-1)
    length = picture.size - (size - 1) * (width + 1)
    return np.array([[picture[begin:begin + length].dot(gradient[:length])
                      for begin in range(row * width, row * width + size, dilation)] for row in places])


class Depthwise(PyLayer):
    """x [B, C, H, W], weight [C, 1, k, k] -> [B, C, H', W'] with C groups; padding is before and after, both ways."""

    @staticmethod
    def forward(ctx: PyLayerContext, x: paddle.Tensor, weight: paddle.Tensor, stride: int, padding: Sequence[int],
                dilation: int) -> paddle.Tensor:
        ctx.fixed = x.stop_gradient, weight.stop_gradient
        ctx.save_for_backward(x)            # not its copy: several layers may read one tensor
        tensor = x.contiguous()
        x = shared_memory_array(tensor)
        kernels = dilated_kernels(weight.numpy()[:, 0], dilation)
        size = kernels.shape[1]
        batch, channels, height, width = x.shape[0], x.shape[1], x.shape[2] + sum(padding), x.shape[3] + sum(padding)
        rows, columns = height - size + 1, width - size + 1
        result = empty([batch, channels, -(-rows // stride), -(-columns // stride)])
        y = shared_memory_array(result)

        def work(c: int) -> None:
            if batch == 1 and y.shape == x.shape and kernels[c].size < FOURIER:     # without a picture beside x
                cv2.filter2D(x[0, c], -1, kernels[c], y[0, c], (padding[0], padding[0]), 0, cv2.BORDER_CONSTANT)
                return
            picture = tall(x[:, c], padding[0], height, width)
            filtered = correlate(picture, kernels[c], dilation).reshape(batch, height, width)
            y[:, c] = filtered[:, :rows:stride, :columns:stride]
        each(work, channels)
        ctx.kept = kernels, stride, padding, dilation
        return result

    @staticmethod
    def backward(ctx: PyLayerContext, dy: paddle.Tensor) -> Tuple[Optional[paddle.Tensor], ...]:
        kernels, stride, padding, dilation = ctx.kept
        input_is_fixed, weight_is_fixed = ctx.fixed
        tensors = ctx.saved_tensor()[0].contiguous(), dy.contiguous()
        x, dy = map(shared_memory_array, tensors)
        size = kernels.shape[1]
        batch, channels, height, width = x.shape[0], x.shape[1], x.shape[2] + sum(padding), x.shape[3] + sum(padding)
        gradients = empty(x.shape), empty([channels, 1, *kernels[0, ::dilation, ::dilation].shape])
        d_x, d_weight = map(shared_memory_array, gradients)
        # The input's gradient is at the padded pixel y the sum over i of kernel[i] dy[y - i], which is the correlation
        # of dy, size - 1 further down, with the kernel turned by 180 degrees.
        turned = np.ascontiguousarray(kernels[:, ::-1, ::-1])
        further = size - 1

        def work(c: int) -> None:
            gradient = tall(dy[:, c], further, height + further, width + further, stride)
            if not weight_is_fixed:
                picture = tall(x[:, c], further + padding[0], height + further, width + further)
                d_weight[c, 0] = moments(picture, gradient, size, dilation)
            if not input_is_fixed:
                result = correlate(gradient, turned[c], dilation).reshape(batch, height + further, width + further)
                d_x[:, c] = result[:, padding[0]:padding[0] + x.shape[2], padding[0]:padding[0] + x.shape[3]]
        each(work, channels)
        return tuple(None if fixed else gradient for fixed, gradient in zip(ctx.fixed, gradients))


class DepthwiseConv2D(nn.Conv2D):
    """nn.Conv2D with a group for each channel and no bias; same parameter, same values.

    Args:
        channels: C.
        kernel, stride, dilation: the same both ways.
        padding: zeros before and after, both ways.
    """

    def __init__(self, channels: int, kernel: int, stride: int, padding: Tuple[int, int], dilation: int = 1):
        super().__init__(channels, channels, kernel, stride=stride, padding=[*padding, *padding], dilation=dilation,
                         groups=channels, bias_attr=False)
        self.geometry = stride, tuple(padding), dilation

    def is_ours(self, x: paddle.Tensor) -> bool:
        """Whether Depthwise computes it, rather than Paddle."""
        if not paddle.in_dynamic_mode() or in_sot():        # the second: Paddle's tracer of bytecode is reading this
            return False
        return x.place.is_cpu_place() and x.dtype == self.weight.dtype == paddle.float32

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if self.is_ours(x):
            return Depthwise.apply(x, self.weight, *self.geometry)
        return nn.Conv2D.forward(self, x)       # super() without arguments fails where Paddle 2.6 transforms this
