"""What the layers of EncNets and ResNets are called here and in PaddleSeg, mmsegmentation, PyTorch-Encoding,
torchvision and timm. Tables only; sources.py and weight_conversion.py read them.
"""

from typing import Iterator, NamedTuple, Tuple

PADDLESEG, MMSEGMENTATION, ENCODING = FAMILIES = ("PaddleSeg", "mmsegmentation", "PyTorch-Encoding")
PADDLE, PYTORCH = "Paddle", "PyTorch"       # which a backbone alone was made with
NONE = "-"      # no name: the codebase has no such layer


def _jpu() -> Iterator[Tuple[str, ...]]:
    """Joint pyramid upsampling and the convolution behind it, which is 1x1; the last names are FastFCN's."""
    yield "jpu", "conv, bias", "bottleneck._conv", NONE, "head.conv5.0", "C 4C 1"
    for i in (5, 4, 3):
        name = f"jpu.conv{i}"
        yield "jpu", "conv", f"{name}._conv", NONE, f"{name}.0", f"C C{i - 1} 3"
        yield "jpu", "norm", f"{name}._batch_norm", NONE, f"{name}.1", "C"
    for i in (1, 2, 3, 4):
        name = f"jpu.dilation{i}"
        yield "jpu", "conv", f"{name}.depthwise_conv._conv", NONE, f"{name}.0.conv1", "3C 1 3"
        yield "jpu", "norm", f"{name}.depthwise_conv._batch_norm", NONE, f"{name}.0.bn", "3C"
        yield "jpu", "conv", f"{name}.piontwise_conv._conv", NONE, f"{name}.0.pointwise", "C 3C 1"
        yield "jpu", "norm", f"{name}.piontwise_conv._batch_norm", NONE, f"{name}.1", "C"


# The head: group, kind of layer, its name in each family, and its shape. Only "head" is always there, and either
# "dilated", on a dilated backbone, or "jpu".
# C width of the head, C2 C3 C4 widths of the stages, K codewords, N classes, A width of the auxiliary head.
HEAD = (
    *_jpu(),
    ("dilated", "conv, bias", "bottleneck._conv", "decode_head.bottleneck.conv", "head.conv5.0", "C C4 3"),
    ("head", "norm", "bottleneck._batch_norm", "decode_head.bottleneck.bn", "head.conv5.1", "C"),
    ("laterals", "conv, bias", "lateral_convs.0._conv", "decode_head.lateral_convs.0.conv", "head.connect.0.0",
     "C C2 1"),
    ("laterals", "norm", "lateral_convs.0._batch_norm", "decode_head.lateral_convs.0.bn", "head.connect.0.1", "C"),
    ("laterals", "conv, bias", "lateral_convs.1._conv", "decode_head.lateral_convs.1.conv", "head.connect.1.0",
     "C C3 1"),
    ("laterals", "norm", "lateral_convs.1._batch_norm", "decode_head.lateral_convs.1.bn", "head.connect.1.1", "C"),
    ("laterals", "conv, bias", "fusion._conv", "decode_head.fusion.conv", "head.fusion.0", "C 3C 3"),
    ("laterals", "norm", "fusion._batch_norm", "decode_head.fusion.bn", "head.fusion.1", "C"),
    ("head", "conv, bias", "enc_module.encoding_project._conv", "decode_head.enc_module.encoding_project.conv",
     "head.encmodule.encoding.0", "C C 1"),
    ("head", "norm", "enc_module.encoding_project._batch_norm", "decode_head.enc_module.encoding_project.bn",
     "head.encmodule.encoding.1", "C"),
    ("head", "encoding", "enc_module.encoding.0", "decode_head.enc_module.encoding.0", "head.encmodule.encoding.3",
     "K C"),
    ("head", "norm", "enc_module.encoding.1", "decode_head.enc_module.encoding.1", "head.encmodule.encoding.4", "K"),
    ("head", "linear", "enc_module.fc.0", "decode_head.enc_module.fc.0", "head.encmodule.fc.0", "C C"),
    ("head", "classifier", "head", "decode_head.conv_seg", "head.conv6.1", "N C 1"),
    ("presence", "linear", "se_layer", "decode_head.se_layer", "head.encmodule.selayer", "C N"),
    ("auxiliary", "conv, bias", "fcn_head.conv_bn_relu._conv", "auxiliary_head.convs.0.conv", "auxlayer.conv5.0",
     "A C3 3"),
    ("auxiliary", "norm", "fcn_head.conv_bn_relu._batch_norm", "auxiliary_head.convs.0.bn", "auxlayer.conv5.1", "A"),
    ("auxiliary", "classifier", "fcn_head.conv", "auxiliary_head.conv_seg", "auxlayer.conv5.4", "N A 1"),
)
# Kind of layer -> its tensors: our name, PyTorch's, and which dimensions of the layer's shape it has.
ALL, FIRST = slice(None), slice(1)
TENSORS = {
    "conv": (("weight", "weight", ALL),),
    "conv, bias": (("weight", "weight", ALL), ("bias", "bias", FIRST)),     # Paddle's ConvBNReLU; others have no bias
    "classifier": (("weight", "weight", ALL), ("bias", "bias", FIRST)),
    "linear": (("weight", "weight", ALL), ("bias", "bias", slice(1, 2))),   # [in, out] here, [out, in] in PyTorch
    "norm": (("weight", "weight", ALL), ("bias", "bias", ALL), ("_mean", "running_mean", ALL),
             ("_variance", "running_var", ALL)),
    "encoding": (("codewords", "codewords", ALL), ("scale", "scale", FIRST)),
}


class Names(NamedTuple):
    """How a codebase calls the layers of a ResNet. In the formats stages and convolutions count from 1, blocks from 0,
    and {s} and {c} are the stage's and the convolution's number counted from 0."""
    stem: Tuple[str, ...]           # convolution, batch norm, convolution, batch norm, ...
    shortcut: Tuple[str, str]       # convolution, batch norm
    conv: str = "conv{conv}"
    norm: str = "bn{conv}"
    block: str = "layer{stage}.{block}."


_DEEP = ("stem.0", "stem.1", "stem.3", "stem.4", "stem.6", "stem.7")
_DEEP_IN_CONV1 = ("conv1.0", "conv1.1", "conv1.3", "conv1.4", "conv1.6", "bn1")
_STRIDED, _POOLED = ("downsample.0", "downsample.1"), ("downsample.1", "downsample.2")
OURS = {
    "v1b": Names(("stem.0", "stem.1"), _STRIDED),
    "v1c": Names(_DEEP, _STRIDED),
    "vd": Names(tuple(f"conv1_{i}.{part}" for i in (1, 2, 3) for part in ("_conv", "_batch_norm")),
                ("short._conv", "short._batch_norm"), "conv{c}._conv", "conv{c}._batch_norm", "bb_{s}_{block}."),
}
# What a backbone may be called elsewhere, and which of ours computes the same.
THEIRS = (
    (Names(_DEEP_IN_CONV1, _STRIDED), "v1c"),           # PyTorch-Encoding's and timm's "s"
    (Names(_DEEP, _STRIDED), "v1c"),                    # mmcv's V1c, and ours
    (Names(("conv1", "bn1"), _STRIDED), "v1b"),         # torchvision, mmcv, timm
    (Names(("stem.0", "stem.1"), _STRIDED), "v1b"),     # ours
    (Names(_DEEP_IN_CONV1, _POOLED), "vd"),             # timm's "d"
    (Names(_DEEP, _POOLED), "vd"),                      # mmcv's V1d
    (OURS["vd"], "vd"),                                 # PaddleSeg's
)
DEPTHS = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}
VD_DEPTHS = (50, 101)           # what PaddleSeg registers, less ResNet18_vd: it has one shortcut more than others' 18d
WIDTHS, EXPANSION = (64, 128, 256, 512), 4
CLASSIFIERS = ("fc.", "head.fc.", "out.")               # of ImageNet, and no part of a backbone
AUXILIARY_CHANNELS = 256        # of both PyTorch implementations
