"""Context encoding in a classifier: the paper's 14-layer ResNets for CIFAR-10, plain, with SE and with encoding.

Zhang et al., "Context Encoding for Semantic Segmentation", CVPR 2018, section 4.3 and table 6. An attention module
stands on every residual block, where SENet (Hu et al., CVPR 2018) has its own, and scales the channels of the block's
output before the shortcut is added.

Shape letters: B batch, C channels of a block, K codewords, h x w its feature map.
"""

from typing import Callable, Dict, List, Optional

import paddle
import paddle.nn as nn
import paddle.nn.functional as F

from paddleseg_encnet.models.encoding import Encoding
from paddleseg_encnet.registry import register


class SEAttention(nn.Sequential):
    """Squeeze and excitation with a bottleneck of a sixteenth: [B, C, h, w] -> [B, C] in (0, 1)."""

    def __init__(self, channels: int):
        narrow = max(channels // 16, 1)
        super().__init__(nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(channels, narrow), nn.ReLU(),
                         nn.Linear(narrow, channels), nn.Sigmoid())


class EncodingAttention(nn.Sequential):
    """Attention from an Encoding of features a quarter as wide: [B, C, h, w] -> [B, C] in (0, 1).

    Unlike ENCNet's module it keeps the K vectors apart: the linear layer sees K C / 4 numbers. That is what gives the
    published parameter counts.
    """

    def __init__(self, channels: int, num_codes: int):
        narrow = max(channels // 4, 1)
        super().__init__(
            nn.Conv2D(channels, narrow, 1, bias_attr=False), nn.BatchNorm2D(narrow), nn.ReLU(),
            Encoding(narrow, num_codes), nn.BatchNorm1D(num_codes), nn.ReLU(),     # [B, K, C / 4]
            nn.Flatten(), nn.Linear(num_codes * narrow, channels), nn.Sigmoid())

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        layers = list(self.children())
        for layer in layers[:3]:
            x = layer(x)
        with paddle.amp.auto_cast(enable=False):        # the codes are sums over positions, see ContextEncoder
            for layer in layers[3:6]:
                x = layer(x)
        for layer in layers[6:]:
            x = layer(x)
        return x


class CifarBlock(nn.Layer):
    """Basic residual block: [B, in_channels, h, w] -> [B, channels, h / stride, w / stride]."""

    def __init__(self, in_channels: int, channels: int, stride: int, attention: Optional[nn.Layer] = None):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2D(in_channels, channels, 3, stride, 1, bias_attr=False), nn.BatchNorm2D(channels), nn.ReLU(),
            nn.Conv2D(channels, channels, 3, 1, 1, bias_attr=False), nn.BatchNorm2D(channels))
        self.attention = attention
        self.shortcut = nn.Sequential() if (in_channels, stride) == (channels, 1) else nn.Sequential(
            nn.Conv2D(in_channels, channels, 1, stride, bias_attr=False), nn.BatchNorm2D(channels))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        residual = self.residual(x)
        if self.attention is not None:
            residual = residual * self.attention(residual).unsqueeze([2, 3])
        return F.relu(residual + self.shortcut(x))


class CifarResNet(nn.Layer):
    """ResNet with 14 layers for images of 32 x 32: a stem, three stages of two blocks, average pooling, a classifier.

    Args:
        num_classes: number of classes.
        width: channels of the first stage, doubled in the second and again in the third: 64 and 128 in the paper.
        attention: None, "se" or "encoding".
        num_codes: K, the number of codewords; with attention "encoding" only.
        in_channels: of the images.

    Returns from forward, for images [B, 3, H, W]: [logits] of [B, num_classes, 1, 1], so that to PaddleSeg the class of
    an image is that of a map of one pixel.

    Raises:
        ValueError: there is no such attention.
    """

    output_names = ["classification"]

    def __init__(self, num_classes: int = 10, width: int = 64, attention: Optional[str] = None, num_codes: int = 16,
                 in_channels: int = 3):
        super().__init__()
        kinds: Dict[Optional[str], Callable[[int], Optional[nn.Layer]]] = {
            None: lambda channels: None, "se": SEAttention,
            "encoding": lambda channels: EncodingAttention(channels, num_codes)}
        if attention not in kinds:
            raise ValueError(f'attention is "se", "encoding" or none at all, got {attention!r}')
        self.stem = nn.Sequential(
            nn.Conv2D(in_channels, width, 3, padding=1, bias_attr=False), nn.BatchNorm2D(width), nn.ReLU())
        blocks, channels = [], width
        for wide, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
            for step in (stride, 1):
                blocks.append(CifarBlock(channels, wide, step, kinds[attention](wide)))
                channels = wide
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: paddle.Tensor) -> List[paddle.Tensor]:
        features = self.blocks(self.stem(images))                               # [B, 4 width, H / 4, W / 4]
        return [self.classifier(features.mean(axis=[2, 3])).unsqueeze([2, 3])]


register("MODELS", CifarResNet)
