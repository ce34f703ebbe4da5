"""ResNet V1b and V1c: the backbones of the EncNets of PyTorch-Encoding and mmsegmentation.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385; dilated as in
Yu et al., "Dilated Residual Networks", CVPR 2017, https://arxiv.org/abs/1705.09914.

PaddleSeg's ResNet_vd differs in three things, each of which changes what the same weights compute: its shortcuts pool
before they convolve, its stem is always 32-32-64 wide, and the first block of a dilated stage has the stage's whole
dilation. Here a shortcut is a 1x1 convolution with the stride of its block, which stands on the first 3x3 convolution.

    V1b     stem of one 7x7 convolution, as in torchvision
    V1c     stem of three 3x3 convolutions; 32-32-64 wide in mmsegmentation, 64-64-128 in PyTorch-Encoding (its "s")

Parameter names are those of the PyTorch implementations: stem.0, layer1.0.conv1, layer1.0.bn1, layer1.0.downsample.0.
"""

from typing import Any, Callable, List, Optional

import paddle
import paddle.nn as nn
import paddle.nn.functional as F
from paddleseg.models import layers
from paddleseg.utils import utils

from paddleseg_encnet.registry import register

# Depth -> is it made of bottleneck blocks, and blocks in each of the four stages.
DEPTHS = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}
# Output stride -> (stride, dilation) of each stage.
STAGES = {
    8: ((1, 1), (2, 1), (1, 2), (1, 4)),
    16: ((1, 1), (2, 1), (2, 1), (1, 2)),
    32: ((1, 1), (2, 1), (2, 1), (2, 1)),
}
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4       # of a bottleneck block: its output is this much wider than its 3x3 convolution


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2D:
    """A convolution without bias that keeps the size but for its stride."""
    return nn.Conv2D(in_channels, out_channels, kernel, stride=stride, padding=dilation * (kernel // 2),
                     dilation=dilation, bias_attr=False)


class Block(nn.Layer):
    """A residual block: [B, in_channels, H, W] -> [B, out_channels, H / stride, W / stride].

    Bottleneck: 1x1, 3x3, 1x1. Basic: 3x3, 3x3, of which only the first is dilated, as in mmsegmentation.
    """

    def __init__(self, in_channels: int, width: int, bottleneck: bool, stride: int, dilation: int):
        super().__init__()
        out_channels = width * EXPANSION if bottleneck else width
        if bottleneck:
            self.conv1 = conv(in_channels, width, 1)
            self.conv2 = conv(width, width, 3, stride, dilation)
            self.conv3 = conv(width, out_channels, 1)
            self.bn3 = layers.SyncBatchNorm(out_channels)
        else:
            self.conv1 = conv(in_channels, width, 3, stride, dilation)
            self.conv2 = conv(width, width, 3)
        self.bn1 = layers.SyncBatchNorm(width)
        self.bn2 = layers.SyncBatchNorm(width)
        self.bottleneck = bottleneck
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(conv(in_channels, out_channels, 1, stride),
                                            layers.SyncBatchNorm(out_channels))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Layer):
    """ResNet V1b or V1c as a backbone.

    Args:
        depth: 18, 34, 50, 101 or 152.
        deep_stem: three 3x3 convolutions in place of the 7x7 one (V1c).
        stem_width: width of the first two of the three; the stem's output is twice as wide, in V1b too.
        output_stride: 8, 16 or 32.
        first_block_dilation: the dilation of the first block of a dilated stage: "half" of the stage's, as in
            PyTorch-Encoding, mmsegmentation and torchvision, or "full", as in PaddleSeg.
        in_channels: channels of the image.
        pretrained: path or URL of weights of the backbone.

    Returns from forward, for images [B, in_channels, H, W]: the outputs of the four stages, at strides 4, 8, 16 and 32
    where `output_stride` allows; their widths are `feat_channels`.
    """

    def __init__(self, depth: int, deep_stem: bool, stem_width: int = 32, output_stride: int = 8,
                 first_block_dilation: str = "half", in_channels: int = 3, pretrained: Optional[str] = None):
        super().__init__()
        for name, value, allowed in (("depth", depth, DEPTHS), ("output_stride", output_stride, STAGES),
                                     ("first_block_dilation", first_block_dilation, ("half", "full"))):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; is {value}")
        bottleneck, counts = DEPTHS[depth]
        self.stem = self.make_stem(in_channels, stem_width, deep_stem)
        self.maxpool = nn.MaxPool2D(3, stride=2, padding=1)
        self.feat_channels = [width * EXPANSION if bottleneck else width for width in WIDTHS]

        channels = 2 * stem_width
        for i, (width, count, (stride, dilation)) in enumerate(zip(WIDTHS, counts, STAGES[output_stride])):
            first = max(dilation // 2, 1) if first_block_dilation == "half" else dilation
            blocks = [Block(channels, width, bottleneck, stride, first)]
            channels = self.feat_channels[i]
            blocks += [Block(channels, width, bottleneck, 1, dilation) for _ in range(count - 1)]
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))

        if pretrained is not None:
            utils.load_pretrained_model(self, pretrained)

    @staticmethod
    def make_stem(in_channels: int, width: int, deep: bool) -> nn.Sequential:
        """[B, in_channels, H, W] -> [B, 2 * width, H / 2, W / 2]."""
        if not deep:
            return nn.Sequential(conv(in_channels, 2 * width, 7, 2), layers.SyncBatchNorm(2 * width), nn.ReLU())
        return nn.Sequential(
            conv(in_channels, width, 3, 2), layers.SyncBatchNorm(width), nn.ReLU(),
            conv(width, width, 3), layers.SyncBatchNorm(width), nn.ReLU(),
            conv(width, 2 * width, 3), layers.SyncBatchNorm(2 * width), nn.ReLU())

    def forward(self, images: paddle.Tensor) -> List[paddle.Tensor]:
        x = self.maxpool(self.stem(images))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def resnet_variant(depth: int, version: str) -> Callable[..., ResNet]:
    """The function that PaddleSeg's config builder calls for `type: ResNet<depth>_<version>`."""
    def build(**arguments: Any) -> ResNet:
        return ResNet(depth, deep_stem=version == "v1c", **arguments)
    build.__name__ = f"ResNet{depth}_{version}"
    return build


for _depth in DEPTHS:
    for _version in ("v1b", "v1c"):
        register("BACKBONES", resnet_variant(_depth, _version))
