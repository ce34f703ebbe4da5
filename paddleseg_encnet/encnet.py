"""ENCNet: a dilated backbone, a head, and a context encoding module that tells the head which classes to expect.

Zhang et al., "Context Encoding for Semantic Segmentation", CVPR 2018, https://arxiv.org/abs/1803.08904.

Parameter names and defaults are PaddleSeg's, so that its published checkpoints load without a map. As in all public
code, and unlike the paper, the codewords' vectors are averaged instead of summed, and there is no SE-loss at stage 3.

Shape letters: B batch, C = mid_channels, K codewords, h x w the feature map at the output stride.
"""

import paddle
import paddle.nn as nn
import paddle.nn.functional as F
from paddleseg.models import layers
from paddleseg.utils import utils

from paddleseg_encnet.encoding import Encoding
from paddleseg_encnet.registry import register


class EncModule(nn.Layer):
    """Context encoding: what the image holds as a whole decides how strongly each channel speaks.

        gamma = sigmoid(W mean_k ReLU(BN(e_k)) + b)             channel attention, [B, C]
        Y     = ReLU(X + X * gamma)

    Args:
        in_channels: C, the width of the feature map.
        num_codes: K, the number of codewords.

    Returns from forward, for X [B, C, h, w]: the encoded context [B, C] and Y [B, C, h, w].
    """

    def __init__(self, in_channels: int, num_codes: int):
        super().__init__()
        self.encoding_project = layers.ConvBNReLU(in_channels, in_channels, 1)
        # BatchNorm1D takes [B, K, C] as K channels of length C: one mean and variance for each codeword.
        self.encoding = nn.Sequential(Encoding(in_channels, num_codes), nn.BatchNorm1D(num_codes), nn.ReLU())
        self.fc = nn.Sequential(nn.Linear(in_channels, in_channels), nn.Sigmoid())

    def forward(self, x: paddle.Tensor):
        context = self.encoding(self.encoding_project(x)).mean(axis=1)          # [B, K, C] -> [B, C]
        gamma = self.fc(context).unsqueeze([2, 3])                              # [B, C, 1, 1]
        # x + x * gamma, written with one product: half the memory traffic of the largest tensors of the head.
        return context, F.relu(x * (1 + gamma))


class ENCNet(nn.Layer):
    """EncNet on any PaddleSeg backbone.

    Args:
        num_classes: number of classes.
        backbone: layer that maps an image to a list of feature maps and has `feat_channels`.
        backbone_indices: which of the backbone's maps the head reads; the last one is encoded.
        num_codes: K, the number of codewords.
        mid_channels: C, width of the head.
        use_se_loss: predict the presence of each class from the context; one more output while training.
        add_lateral: add 1x1 laterals from the earlier maps and fuse them with the last.
        pretrained: path or URL of weights of the whole network.
        align_corners: how all bilinear resizing samples; PyTorch-Encoding's networks need True.
        aux_channels: width of the auxiliary head; mid_channels if None, 256 in the PyTorch implementations.

    Returns from forward, for images [B, 3, H, W]: while training [logits, auxiliary logits, presence logits], of
    shapes [B, num_classes, H, W] twice and [B, num_classes] (the last only with use_se_loss); else [logits].
    """

    # What the outputs are while training, in order; names loss terms in logs.
    OUTPUTS = ("segmentation", "auxiliary", "SE")

    def __init__(self, num_classes: int, backbone: nn.Layer, backbone_indices=(1, 2, 3), num_codes: int = 32,
                 mid_channels: int = 512, use_se_loss: bool = True, add_lateral: bool = False, pretrained: str = None,
                 align_corners: bool = False, aux_channels: int = None):
        super().__init__()
        widths = [backbone.feat_channels[i] for i in backbone_indices]
        self.backbone = backbone
        self.backbone_indices = list(backbone_indices)
        self.add_lateral = add_lateral
        self.use_se_loss = use_se_loss
        self.align_corners = align_corners

        self.bottleneck = layers.ConvBNReLU(widths[-1], mid_channels, 3, padding=1)
        if add_lateral:
            self.lateral_convs = nn.LayerList([layers.ConvBNReLU(width, mid_channels, 1) for width in widths[:-1]])
            self.fusion = layers.ConvBNReLU(len(widths) * mid_channels, mid_channels, 3, padding=1)
        self.enc_module = EncModule(mid_channels, num_codes)
        self.head = nn.Conv2D(mid_channels, num_classes, 1)
        self.fcn_head = layers.AuxLayer(backbone.feat_channels[2], aux_channels or mid_channels, num_classes)
        if use_se_loss:
            self.se_layer = nn.Linear(mid_channels, num_classes)

        if pretrained is not None:
            utils.load_entire_model(self, pretrained)

    def forward(self, images: paddle.Tensor):
        maps = self.backbone(images)
        context, features = self.enc_module(self.fuse(maps))
        size = paddle.shape(images)[2:]
        logits = [self.resize(self.head(features), size)]
        if self.training:
            logits.append(self.resize(self.fcn_head(maps[2]), size))
            if self.use_se_loss:
                logits.append(self.se_layer(context))
        return logits

    def fuse(self, maps):
        """The backbone's maps -> one [B, mid_channels, h, w], at the last map's size."""
        *earlier, last = [maps[i] for i in self.backbone_indices]
        feature = self.bottleneck(last)
        if not self.add_lateral:
            return feature
        size = paddle.shape(feature)[2:]
        laterals = [self.resize(conv(x), size) for conv, x in zip(self.lateral_convs, earlier)]
        return self.fusion(paddle.concat([feature, *laterals], axis=1))

    def resize(self, x: paddle.Tensor, size) -> paddle.Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=self.align_corners)


register("MODELS", Encoding)
register("MODELS", ENCNet, replaces=True)
