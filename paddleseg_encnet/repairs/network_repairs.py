"""Networks that take far more time and memory than their mathematics asks for."""

import importlib
from typing import Any


def fastfcn_builds_residuals() -> bool:
    import numpy as np
    import paddle
    module: Any = importlib.import_module("paddleseg.models.fastfcn")
    channels, codes, positions = 3, 5, 7
    sizes = []

    def ones(*shape: int) -> paddle.Tensor:       # on the CPU, and no random number is drawn
        tensor = paddle.to_tensor(np.ones(shape, "float32"), place=paddle.CPUPlace())
        tensor.stop_gradient = False
        return tensor

    def keep(tensor: paddle.Tensor) -> paddle.Tensor:
        sizes.append(tensor.size)
        return tensor

    encoding: Any = module.Encoding

    class EncodingOfOnes(encoding):
        def create_parameter(self, shape: list, *args: Any, **options: Any) -> paddle.Tensor:
            return ones(*shape)

    layer = EncodingOfOnes(channels, codes)
    with paddle.autograd.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(ones(1, channels, 1, positions))
    return max(sizes, default=0) >= positions * codes * channels


def fastfcn_without_residuals() -> None:
    """Symptom: FastFCN, made to be fast, is slow and runs out of memory: with its own config, of 4 crops of 480 x 480,
    each of several tensors of its Encoding layer takes 0.9 GB.
    Cause: the layer, a second copy of ENCNet's, builds the residuals of all positions to all codewords.
    Detected: for its backward pass the layer keeps a tensor of N x K x C numbers.
    """
    from paddleseg_encnet.models.encoding import Encoding
    fastfcn: Any = importlib.import_module("paddleseg.models.fastfcn")
    fastfcn.Encoding = Encoding
