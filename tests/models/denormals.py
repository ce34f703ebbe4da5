"""Counts the denormal numbers in all that a network computes.

A denormal number is one so small, below 1.18e-38, that float32 has not all digits of it; a product with one takes an
Intel processor a hundred times as long.
"""

import collections
import contextlib
import sys

import numpy as np
import paddle

from paddleseg_encnet.models import encoding


def denormals(values: np.ndarray) -> int:
    """By their bits: a processor may be told to take them for 0 in comparisons."""
    bits = values.astype(np.float32, copy=False).view(np.uint32) & 0x7FFFFFFF
    return int(((bits > 0) & (bits < 0x00800000)).sum())


class Denormals:
    """`found` {tensor's name: how many}; `seen`, the names of all tensors that were looked at."""

    def __init__(self):
        self.found, self.seen = collections.Counter(), set()

    def look(self, name: str, value):
        """Counts in a tensor, or in those of a list or tuple; anything else is passed over."""
        if isinstance(value, (list, tuple)):
            for i, each in enumerate(value):
                self.look(f"{name}[{i}]", each)
        elif isinstance(value, paddle.Tensor) and value.dtype == paddle.float32:
            self.seen.add(name)
            count = denormals(value.detach().numpy())
            if count:
                self.found[name] += count

    def watch(self, network: paddle.nn.Layer):
        """Looks at what goes into and comes out of each of its layers, and at the gradients of what comes out."""
        def hook(name):
            def after(layer, inputs, outputs):
                self.look(f"{name}: input", inputs)
                self.look(f"{name}: output", outputs)
                self.gradients(name, outputs if isinstance(outputs, (list, tuple)) else [outputs])
            return after
        for name, layer in network.named_sublayers():
            layer.register_forward_post_hook(hook(name))

    def gradients(self, name: str, tensors):
        for tensor in tensors:
            if isinstance(tensor, paddle.Tensor) and not tensor.stop_gradient:
                tensor.register_hook(lambda gradient: self.look(f"{name}: gradient", gradient))

    @contextlib.contextmanager
    def inside_the_encoding(self):
        """Within it, looks at each local tensor of the functions of models/encoding.py when they return."""
        def profile(frame, event, returned):
            if event == "return" and frame.f_code.co_filename == encoding.__file__:
                function = frame.f_code.co_name
                for name, value in list(frame.f_locals.items()):
                    self.look(f"encoding.{function}: {name}", value)
                self.look(f"encoding.{function}: returned", returned)
        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            yield
        finally:
            sys.setprofile(before)
