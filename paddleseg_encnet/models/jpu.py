"""Joint pyramid upsampling: the fine map that a dilated backbone would give, from the maps of one that is not dilated.

Wu et al., "FastFCN: Rethinking Dilated Convolution in the Backbone for Semantic Segmentation", 2019,
https://arxiv.org/abs/1903.11816, section 3.3. Maps M3, M4 and M5 at strides 8, 16 and 32:

    P = [up(conv5(M5)), up(conv4(M4)), conv3(M3)]           3 x 3 convolutions to the width, resized to M3's size
    Y = [S1(P), S2(P), S4(P), S8(P)]                        separable convolutions of dilation 1, 2, 4 and 8

Parameter names are those of PaddleSeg's JPU, `piontwise_conv` included, so that its weights load without a map. Here a
CPU trains the depthwise convolutions by models/depthwise.py, and computes them twice rather than keep what is in a
branch: two maps of 3 * width channels each.
"""

import contextlib
from typing import Iterator, List, Sequence, Tuple

import paddle
import paddle.nn as nn
import paddle.nn.functional as F
from paddle.autograd import PyLayer, PyLayerContext
from paddleseg.models import layers

from paddleseg_encnet.models.depthwise import DepthwiseConv2D
from paddleseg_encnet.models.resizing import bilinear

DILATIONS = (1, 2, 4, 8)


class Recomputed(PyLayer):
    """layer.compute(x), a tensor, of which nothing but x is kept: the backward pass computes it again.

    `parameters` are those of the layer's that learn; they are arguments so that gradients go to them.
    """

    @staticmethod
    def forward(ctx: PyLayerContext, layer: nn.Layer, x: paddle.Tensor, *parameters: paddle.Tensor) -> paddle.Tensor:
        ctx.layer = layer
        ctx.save_for_backward(x, *parameters)
        return layer.compute(x)         # within a PyLayer Paddle records nothing

    @staticmethod
    def backward(ctx: PyLayerContext, gradient: paddle.Tensor) -> Tuple[paddle.Tensor, ...]:
        x, *parameters = kept = ctx.saved_tensor()
        copies = [tensor.detach() for tensor in kept]       # of one memory
        for tensor in copies:
            tensor.stop_gradient = False
        with paddle.enable_grad(), standing_in(ctx.layer, parameters, copies[1:]):
            output = ctx.layer.compute(copies[0])
        # Unlike paddle.grad, this frees what each step has kept as soon as it was used.
        paddle.autograd.backward(output, gradient)
        return tuple(tensor.grad for tensor in copies)


@contextlib.contextmanager
def standing_in(layer: nn.Layer, parameters: List[paddle.Tensor], copies: List[paddle.Tensor]) -> Iterator[None]:
    """Within it the layer has copies in the place of its parameters, for gradients of their own, and of what else it
    has, such as running statistics, which the first pass has moved already."""
    copy_of = {parameter.name: copy for parameter, copy in zip(parameters, copies)}
    places = [(part._parameters, key, own) for part in layer.sublayers(include_self=True)
              for key, own in part._parameters.items() if own is not None]
    try:
        for place, key, own in places:
            place[key] = copy_of[own.name] if own.name in copy_of else own.clone()
        yield
    finally:
        for place, key, own in places:
            place[key] = own


class Separable(layers.SeparableConvBNReLU):
    """Depthwise 3 x 3, norm, 1 x 1, norm, ReLU. There is no activation between the two, as in both implementations."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int):
        super().__init__(in_channels, out_channels, 3, padding=dilation, dilation=dilation, pointwise_bias=False,
                         bias_attr=False)
        self.depthwise_conv._conv = DepthwiseConv2D(in_channels, 3, 1, (dilation, dilation), dilation)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.relu(self.before_relu(x))

    def before_relu(self, x: paddle.Tensor) -> paddle.Tensor:
        """What forward() computes but for the ReLU. A CPU that trains keeps nothing of it for the backward pass."""
        ours = self.depthwise_conv._conv.is_ours(x)
        if ours and self.training and not x.stop_gradient and paddle.is_grad_enabled():
            return Recomputed.apply(self, x, *(each for each in self.parameters() if not each.stop_gradient))
        return self.compute(x)

    def compute(self, x: paddle.Tensor) -> paddle.Tensor:
        point = self.piontwise_conv
        return point._batch_norm(point._conv(self.depthwise_conv(x)))


class JPU(nn.Layer):
    """Joint pyramid upsampling.

    Args:
        in_channels: widths of the backbone's maps, of which the last three are read.
        width: of each of the four branches; 512 in the paper.

    Attribute `out_channels`: 4 * width.

    Returns from forward, for a list of maps that ends with [B, C3, h, w], [B, C4, h/2, w/2], [B, C5, h/4, w/4]: the
    list with [B, 4 * width, h, w] in place of its last. Resizing is bilinear with aligned corners, as the published
    implementations have it whatever the rest of the network does.

    Raises:
        ValueError: there are fewer than three maps.
    """

    def __init__(self, in_channels: Sequence[int], width: int = 512):
        super().__init__()
        if len(in_channels) < 3:
            raise ValueError(f"joint pyramid upsampling reads the backbone's last three maps, and it has "
                             f"{len(in_channels)}")
        self.out_channels = len(DILATIONS) * width
        self.conv5, self.conv4, self.conv3 = (
            layers.ConvBNReLU(channels, width, 3, padding=1, bias_attr=False) for channels in in_channels[:-4:-1])
        self.dilation1, self.dilation2, self.dilation3, self.dilation4 = (
            Separable(3 * width, width, dilation) for dilation in DILATIONS)

    def forward(self, maps: List[paddle.Tensor]) -> List[paddle.Tensor]:
        fine = self.conv3(maps[-3])                                                         # [B, width, h, w]
        size = paddle.shape(fine)[2:]
        coarse = [bilinear(conv(x), size, align_corners=True)
                  for conv, x in ((self.conv5, maps[-1]), (self.conv4, maps[-2]))]
        pyramid = paddle.concat([*coarse, fine], axis=1)                                    # [B, 3 width, h, w]
        branches = (self.dilation1, self.dilation2, self.dilation3, self.dilation4)
        if self.training:       # one ReLU for all keeps one map for the backward pass, where four keep theirs and it
            return [*maps[:-1], F.relu(paddle.concat([branch.before_relu(pyramid) for branch in branches], axis=1))]
        return [*maps[:-1], paddle.concat([branch(pyramid) for branch in branches], axis=1)]
