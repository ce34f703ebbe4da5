"""ENCNet: a dilated backbone, a head, and a context encoding module that tells the head which classes to expect.

Zhang et al., "Context Encoding for Semantic Segmentation", CVPR 2018, https://arxiv.org/abs/1803.08904.

Parameter names and defaults are PaddleSeg's, so that its published checkpoints load without a map. What the paper has
and all public code left out is there as options: SE-loss at stage 3 too, the sum over codewords instead of their mean,
global average pooling in place of the Encoding layer (K = 0).

Shape letters: B batch, C = mid_channels, K codewords, h x w the feature map at the output stride.
"""

from typing import List, Optional, Sequence, Tuple

import paddle
import paddle.nn as nn
import paddle.nn.functional as F
from paddleseg.models import layers
from paddleseg.utils import logger, utils

from paddleseg_encnet.models.codebook import FACTOR_RATE, place_at_first_step
from paddleseg_encnet.models.encoding import NOTHING, Encoding, as_float32
from paddleseg_encnet.models.jpu import JPU
from paddleseg_encnet.models.losses import check_losses, losses_by_position, misfits_named
from paddleseg_encnet.models.resizing import bilinear
from paddleseg_encnet.registry import register


class ContextEncoder(nn.Layer):
    """What an image holds as a whole: reduce_k ReLU(BN(e_k)), the e_k being an Encoding of projected features.

    Args:
        in_channels: width of the feature map.
        channels: C, width of the projection and of the context.
        num_codes: K, the number of codewords; with 0 the context is the mean of the projected features.
        reduction: "mean" over the codewords, as in all public code, or "sum", as in the paper.
        random_scale: see Encoding.
        codebook_start: "published", as in all public code, or "features": codewords and factors are placed on the
            features of the first training step, see models/codebook.py.

    Raises:
        ValueError: K is negative or no whole number, or an option has no such value.
    """

    def __init__(self, in_channels: int, channels: int, num_codes: int, reduction: str = "mean",
                 random_scale: bool = False, codebook_start: str = "published"):
        super().__init__()
        if not isinstance(num_codes, int) or num_codes < 0:
            raise ValueError("num_codes is a whole number of codewords, or 0 for global average pooling, got "
                             f"{num_codes!r}")
        if reduction not in ("mean", "sum"):
            raise ValueError(f'reduction over the codewords is "mean" or "sum", got {reduction!r}')
        if codebook_start not in ("published", "features"):
            raise ValueError(f'codebook_start is "published" or "features", got {codebook_start!r}')
        if codebook_start == "features" and random_scale:
            raise ValueError("codebook_start: features places the factors that random_scale draws anew at each step; "
                             "take one of them")
        self.num_codes, self.reduction = num_codes, reduction
        self.encoding_project = layers.ConvBNReLU(in_channels, channels, 1)
        if num_codes != 0:
            placed = codebook_start == "features"
            layer = Encoding(channels, num_codes, random_scale, FACTOR_RATE if placed else 1.0)
            # BatchNorm1D takes [B, K, C] as K channels of length C: one mean and variance for each codeword.
            self.encoding = nn.Sequential(layer, nn.BatchNorm1D(num_codes), nn.ReLU())
            if placed:
                place_at_first_step(layer)
        elif codebook_start == "features":
            logger.info("codebook_start: features has nothing to do: with num_codes 0 there is no codebook")

    def encode(self, x: paddle.Tensor) -> paddle.Tensor:
        """Features [B, in_channels, h, w] -> context [B, C]."""
        return self.context_of(self.encoding_project(x))

    def context_of(self, features: paddle.Tensor) -> paddle.Tensor:
        """Projected features [B, C, h, w] of any float type -> context [B, C], float32; float64 of float64.

        In float32 whatever surrounds it: codes are sums over the positions, which float16 may not hold. It costs
        nothing, they are K vectors an image.
        """
        with paddle.amp.auto_cast(enable=False):
            if self.num_codes == 0:
                wide = features if features.dtype == paddle.float64 else as_float32(features)
                return wide.mean(axis=[2, 3])
            codes = self.encoding(features)                                     # [B, K, C]
            return codes.sum(axis=1) if self.reduction == "sum" else codes.mean(axis=1)


class Attention(nn.Layer):
    """sigmoid(logits), of logits from -40 on. Below, 1 + sigmoid is 1 in float32, and its gradients, 0 here, would be
    denormal numbers, which make a product a hundred times as slow on an Intel processor."""

    def forward(self, logits: paddle.Tensor) -> paddle.Tensor:
        return F.sigmoid(paddle.clip(logits, min=NOTHING))


class EncModule(ContextEncoder):
    """Context encoding: what the image holds as a whole decides how strongly each channel speaks.

        gamma = sigmoid(W context + b)                          channel attention, [B, C]
        Y     = ReLU(X + X * gamma)

    Args:
        in_channels: C, the width of the feature map.
        num_codes, reduction, random_scale, codebook_start: see ContextEncoder.

    Returns from forward, for X [B, C, h, w]: the context [B, C] and Y [B, C, h, w].
    """

    def __init__(self, in_channels: int, num_codes: int, reduction: str = "mean", random_scale: bool = False,
                 codebook_start: str = "published"):
        super().__init__(in_channels, in_channels, num_codes, reduction, random_scale, codebook_start)
        self.fc = nn.Sequential(nn.Linear(in_channels, in_channels), Attention())

    def forward(self, x: paddle.Tensor) -> Tuple[paddle.Tensor, paddle.Tensor]:
        context = self.encode(x)                                                # [B, C]
        gamma = self.fc(context).unsqueeze([2, 3])                              # [B, C, 1, 1]
        # x + x * gamma, written with one product: half the memory traffic of the largest tensors of the head.
        return context, F.relu(x * (1 + gamma))


class PresenceBranch(ContextEncoder):
    """A context encoder of its own that only predicts which classes occur: the paper's SE-loss at stage 3.

    Returns from forward, for features [B, in_channels, h, w]: presence logits [B, num_classes].
    """

    def __init__(self, in_channels: int, channels: int, num_classes: int, num_codes: int, reduction: str = "mean",
                 random_scale: bool = False, codebook_start: str = "published"):
        super().__init__(in_channels, channels, num_codes, reduction, random_scale, codebook_start)
        self.se_layer = nn.Linear(channels, num_classes)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.se_layer(self.encode(x))


class ENCNet(nn.Layer):
    """EncNet on any PaddleSeg backbone.

    Args:
        num_classes: number of classes.
        backbone: layer that maps an image to a list of feature maps and has `feat_channels`.
        backbone_indices: which of the backbone's maps the head reads; the last one is encoded.
        num_codes: K, the number of codewords; 0 puts global average pooling in place of the Encoding layer.
        mid_channels: C, width of the head.
        use_se_loss: predict the presence of each class from the context; one more output while training.
        add_lateral: add 1x1 laterals from the earlier maps and fuse them with the last.
        fuse_at: whose size the fused map has, the "last" of backbone_indices', or the "first": thin things need a fine
            map, and with this one a backbone of stride 32 gives it for less than dilation does.
        pretrained: path or URL of weights of the whole network.
        align_corners: how all bilinear resizing samples; PyTorch-Encoding's networks need True.
        aux_channels: width of the auxiliary head; mid_channels if None, 256 in the PyTorch implementations.
        use_aux_loss: have the auxiliary head on stage 3, an output while training.
        use_se_loss_stage3: predict presence from stage 3 too, by an encoder of its own; the last output while training.
        use_encoding: False leaves the context encoding module out, and with it all that predicts presence.
        reduction: "mean" over the codewords' vectors, or "sum", as in the paper.
        dropout: share of the channels before the classifier that are zeroed while training; 0.1 in the PyTorch
            implementations.
        random_scale: PyTorch-Encoding's EncodingDrop, see Encoding.
        use_jpu: put joint pyramid upsampling (FastFCN), as wide as the head, in place of the backbone's last map, so
            that the backbone need not be dilated: give it output_stride 32. The head then begins with a 1x1
            convolution.
        codebook_start: "published", or "features": see ContextEncoder.

    Returns from forward, for images [B, 3, H, W]: while training what `output_names` says, which is [logits, auxiliary
    logits, presence logits] by default, of shapes [B, num_classes, H, W] twice and [B, num_classes]; else [logits].

    Raises:
        ValueError: an option has no such value, or presence is to be predicted without an encoding.
    """

    def __init__(self, num_classes: int, backbone: nn.Layer, backbone_indices: Sequence[int] = (1, 2, 3),
                 num_codes: int = 32, mid_channels: int = 512, use_se_loss: bool = True, add_lateral: bool = False,
                 pretrained: Optional[str] = None, align_corners: bool = False, aux_channels: Optional[int] = None,
                 use_aux_loss: bool = True, use_se_loss_stage3: bool = False, use_encoding: bool = True,
                 reduction: str = "mean", dropout: float = 0.0, random_scale: bool = False, fuse_at: str = "last",
                 use_jpu: bool = False, codebook_start: str = "published"):
        super().__init__()
        if fuse_at not in ("last", "first"):
            raise ValueError(f'fuse_at is "last" or "first" of the backbone_indices, got {fuse_at!r}')
        if fuse_at == "first" and not add_lateral:
            raise ValueError("fuse_at: first needs laterals to fuse; set add_lateral: True")
        if use_se_loss and not use_encoding:
            raise ValueError("use_se_loss needs the context that use_encoding: False leaves out; set both to False")
        maps = len(backbone.feat_channels)
        beyond = [i for i in backbone_indices if i not in range(-maps, maps)]
        if beyond:
            raise ValueError(f"backbone_indices {list(backbone_indices)}: the backbone has the feature maps 0 to "
                             f"{maps - 1}, not {beyond[0]}")
        if use_jpu and backbone_indices[-1] not in (-1, maps - 1):
            raise ValueError(f"use_jpu replaces the backbone's last map, {maps - 1}, and the head does not read it: "
                             f"backbone_indices {list(backbone_indices)} end with {backbone_indices[-1]}")
        if aux_channels is not None and aux_channels < 1:
            raise ValueError(f"aux_channels is the width of the auxiliary head, at least 1, got {aux_channels}; for "
                             "none set use_aux_loss: False")
        widths = [backbone.feat_channels[i] for i in backbone_indices]
        self.backbone = backbone
        self.backbone_indices = list(backbone_indices)
        self.add_lateral, self.fuse_at = add_lateral, fuse_at
        self.use_aux_loss = use_aux_loss
        self.use_se_loss = use_se_loss
        self.use_se_loss_stage3 = use_se_loss_stage3
        self.use_encoding = use_encoding
        self.align_corners = align_corners
        self.use_jpu = use_jpu

        if use_jpu:
            self.jpu = JPU(backbone.feat_channels, mid_channels)
            self.bottleneck = layers.ConvBNReLU(self.jpu.out_channels, mid_channels, 1)
        else:
            self.bottleneck = layers.ConvBNReLU(widths[-1], mid_channels, 3, padding=1)
        if add_lateral:
            self.lateral_convs = nn.LayerList([layers.ConvBNReLU(width, mid_channels, 1) for width in widths[:-1]])
            self.fusion = layers.ConvBNReLU(len(widths) * mid_channels, mid_channels, 3, padding=1)
        if use_encoding:
            self.enc_module = EncModule(mid_channels, num_codes, reduction, random_scale, codebook_start)
        self.dropout = nn.Dropout2D(dropout)
        self.head = nn.Conv2D(mid_channels, num_classes, 1)
        if use_aux_loss:
            self.fcn_head = layers.AuxLayer(backbone.feat_channels[2], aux_channels or mid_channels, num_classes)
        if use_se_loss:
            self.se_layer = nn.Linear(mid_channels, num_classes)
        if use_se_loss_stage3:
            self.se_stage3 = PresenceBranch(backbone.feat_channels[2], mid_channels, num_classes, num_codes, reduction,
                                            random_scale, codebook_start)

        if pretrained is not None:
            utils.load_entire_model(self, pretrained)

    @property
    def output_names(self) -> list:
        """What forward() returns while training, in order."""
        return ["segmentation"] + [name for name, there in [
            ("auxiliary", self.use_aux_loss), ("SE", self.use_se_loss), ("SE_stage3", self.use_se_loss_stage3)
        ] if there]

    def forward(self, images: paddle.Tensor) -> List[paddle.Tensor]:
        maps = self.backbone(images)
        if self.use_jpu:
            maps = self.jpu(maps)
        features = self.fuse(maps)
        if self.use_encoding:
            context, features = self.enc_module(features)
        size = paddle.shape(images)[2:]
        outputs = [self.resize(self.head(self.dropout(features)), size)]
        if self.training and self.use_aux_loss:
            outputs.append(self.resize(self.fcn_head(maps[2]), size))
        if self.training and self.use_se_loss:
            outputs.append(self.se_layer(context))
        if self.training and self.use_se_loss_stage3:
            outputs.append(self.se_stage3(maps[2]))
        return outputs

    def loss_computation(self, logits_list: list, losses: dict, data: dict) -> list:
        """What PaddleSeg's training loop calls if it is there: its own rule, with a mismatch explained in words."""
        check_losses(self.output_names, losses)
        with misfits_named(self.output_names, losses):
            return losses_by_position(logits_list, data, losses)

    def fuse(self, maps: List[paddle.Tensor]) -> paddle.Tensor:
        """The maps -> one [B, mid_channels, h, w], at the size of the last map, or of the first one read."""
        feature = self.bottleneck(maps[self.backbone_indices[-1]])
        if not self.add_lateral:
            return feature
        if self.fuse_at == "first":
            feature = self.resize(feature, paddle.shape(maps[self.backbone_indices[0]])[2:])
        laterals = [self.resize_like(conv(maps[i]), feature)
                    for conv, i in zip(self.lateral_convs, self.backbone_indices)]
        return self.fusion(paddle.concat([feature, *laterals], axis=1))

    def resize_like(self, x: paddle.Tensor, other: paddle.Tensor) -> paddle.Tensor:
        """x [B, C, h, w] at the size of the other, which it may have already; a graph can't know."""
        if paddle.in_dynamic_mode() and x.shape[2:] == other.shape[2:]:
            return x
        return self.resize(x, paddle.shape(other)[2:])

    def resize(self, x: paddle.Tensor, size: Sequence[int]) -> paddle.Tensor:
        return bilinear(x, size, self.align_corners)


register("MODELS", Encoding)
register("MODELS", ENCNet, replaces=True)
