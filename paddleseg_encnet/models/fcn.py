"""FCN, the paper's baseline: EncNet without all that encodes context."""

from typing import Optional, Sequence

from paddle import nn

from paddleseg_encnet.models.encnet import ENCNet
from paddleseg_encnet.registry import register


class DilatedFCN(ENCNet):
    """A dilated backbone, a 3x3 head and the auxiliary head on stage 3: what ENCNet adds its module to.

    (PaddleSeg's `FCN` is another network: HRNet's, with a 1x1 head and no auxiliary one.)

    Args: those of ENCNet of the same names.

    Returns from forward, for images [B, 3, H, W]: [logits, auxiliary logits] of [B, num_classes, H, W] while training,
    without the second if use_aux_loss is off; else [logits].
    """

    def __init__(self, num_classes: int, backbone: nn.Layer, backbone_indices: Sequence[int] = (1, 2, 3),
                 mid_channels: int = 512,
                 add_lateral: bool = False, pretrained: Optional[str] = None, align_corners: bool = False,
                 aux_channels: Optional[int] = None, use_aux_loss: bool = True, dropout: float = 0.0,
                 fuse_at: str = "last", use_jpu: bool = False):
        super().__init__(num_classes, backbone, backbone_indices, mid_channels=mid_channels, use_se_loss=False,
                         add_lateral=add_lateral, pretrained=pretrained, align_corners=align_corners,
                         aux_channels=aux_channels, use_aux_loss=use_aux_loss, use_encoding=False, dropout=dropout,
                         fuse_at=fuse_at, use_jpu=use_jpu)


register("MODELS", DilatedFCN)
