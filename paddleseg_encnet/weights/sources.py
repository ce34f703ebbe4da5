"""What a weights file holds: whose network, of which size, told from the names and shapes of its tensors.

Three codebases published EncNets; what their networks compute is the same but for what a config can say (the stem's
width, the dilation of first blocks, how images are resized). codebases.py has the tables of their names,
weight_conversion.py brings the tensors under ours.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from paddleseg_encnet.weights import binary, efficientnet_names, unwrapping
from paddleseg_encnet.weights.arrays import CheckpointError
from paddleseg_encnet.weights.codebases import (
    CLASSIFIERS,
    DEPTHS,
    ENCODING,
    FAMILIES,
    HEAD,
    PADDLE,
    PADDLESEG,
    PYTORCH,
    THEIRS,
    VD_DEPTHS,
    Names,
)
from paddleseg_encnet.weights.efficientnet_names import LiteSource

MMSEGMENTATION_THRESHOLD = 0.3      # of a head with one channel, where its config says none


@dataclass(frozen=True)
class Source:
    """What a file holds, told from its names and shapes. `num_classes` is None for a backbone alone."""
    family: str                         # whose EncNet; of a backbone, PADDLE or PYTORCH
    names: Names
    prefix: str                         # of the backbone's tensors
    version: str                        # "v1b", "v1c" or "vd"
    depth: int
    stem_width: int = 32                # of the first convolutions of a deep stem, half of its output
    in_channels: int = 3
    num_classes: Optional[int] = None
    num_codes: Optional[int] = None
    mid_channels: Optional[int] = None
    aux_channels: Optional[int] = None  # None: there is no auxiliary head
    add_lateral: bool = False
    use_se_loss: bool = False
    use_jpu: bool = False               # FastFCN's joint pyramid upsampling, on a backbone of stride 32
    align_corners: bool = False
    output_stride: int = 8
    first_block_dilation: str = "half"
    classifier: bool = False            # there is an ImageNet classifier too, which is left out
    threshold: Optional[float] = None   # of the sigmoid of a head with one channel, which two classes are made of
    assumed: Tuple[str, ...] = ()       # settings that names and shapes cannot tell and the file does not say
    left_out: Tuple[str, ...] = ()      # tensors of the file, in words

    @property
    def is_network(self) -> bool:
        return self.num_classes is not None

    @property
    def in_paddle(self) -> bool:
        """Its tensors have Paddle's names and layouts."""
        return self.family in (PADDLESEG, PADDLE)

    @property
    def backbone(self) -> str:
        return f"ResNet{self.depth}_{self.version}"

    def __str__(self) -> str:
        if not self.is_network:
            w = self.stem_width
            stem = f"{w}-{w}-{2 * w}" if self.version != "v1b" else f"{2 * w} (7x7)"
            return f"backbone {self.backbone} from {self.family}, stem {stem}"
        having = [what for what, has in (("joint pyramid upsampling", self.use_jpu), ("laterals", self.add_lateral),
                                         ("presence layer", self.use_se_loss),
                                         ("auxiliary head", self.aux_channels)) if has]
        return (f"EncNet of {self.family} on {self.backbone}, {self.num_classes} classes, {self.num_codes} codewords, "
                f"{self.mid_channels} channels; {', '.join(having) or 'nothing that only training needs'}")

    def notes(self) -> List[str]:
        """What a user should know of the conversion, in words."""
        notes = [*self.assumed, *self.left_out]
        if self.threshold is not None:
            notes.append(f"the head has one channel: class 1 is where its sigmoid is above {self.threshold:g} "
                         "(--threshold), class 0 elsewhere; a presence layer of one class is left out")
        if self.classifier:
            notes.append("the ImageNet classifier is left out")
        if self.is_network and not self.use_se_loss:
            notes.append("the file has no presence layer: use_se_loss is False, and the config has no SELoss")
        if self.is_network and self.aux_channels is None:
            notes.append("the file has no auxiliary head: a freshly initialised one, from seed 0, takes its place; "
                         "only training reads it")
        return notes


def recognise(checkpoint: Dict[str, Any]) -> Union[Source, LiteSource]:
    """Tells what a file holds, as `checkpoint.read_weights` returns it.

    Raises:
        CheckpointError: it is none of what this module knows; says what was looked for.
    """
    state, _, left_out = unwrapping.unwrap(checkpoint, is_known)
    lite = efficientnet_names.recognise_lite(state)
    if lite is not None:
        return dataclasses.replace(lite, left_out=left_out)
    return dataclasses.replace(_recognised(state, checkpoint), left_out=left_out)


def _recognised(state: Dict[str, np.ndarray], checkpoint: Dict[str, Any]) -> Source:
    names, version, prefix = _backbone_names(state)
    counts, bottleneck = _blocks(state, names, prefix)
    if (bottleneck, counts) not in DEPTHS:
        raise CheckpointError(f"a ResNet with {'-'.join(map(str, counts))} {'bottleneck' if bottleneck else 'basic'} "
                              f"blocks in its stages is none of {', '.join(map(str, DEPTHS.values()))}")
    stem = state[f"{prefix}{names.stem[0]}.weight"].shape
    found: Dict[str, Any] = dict(names=names, prefix=prefix, version=version, depth=DEPTHS[bottleneck, counts],
                 stem_width=stem[0] if version != "v1b" else stem[0] // 2, in_channels=stem[1],
                 classifier=bool(imagenet_classifier(state, prefix)))
    column = _family(state)
    if column is None:
        in_paddle = any(name.endswith("._mean") for name in state)
        return _checked(Source(PADDLE if in_paddle else PYTORCH, **found))
    name = {row[2]: row[column] for row in HEAD}        # by PaddleSeg's name
    settings, assumed = _settings(FAMILIES[column - 2], checkpoint)
    if _shape_of(state, name["head"] + ".weight", 4)[0] == 1:
        settings.setdefault("threshold", binary.USUAL)
        state = with_two_classes(state, settings["threshold"])
    else:
        settings.pop("threshold", None)
    present = {row[0] for row in HEAD if f"{row[column]}.weight" in state}
    num_classes, mid_channels, _, _ = _shape_of(state, name["head"] + ".weight", 4)
    num_codes, _ = _shape_of(state, name["enc_module.encoding.0"] + ".codewords", 2)
    auxiliary = name["fcn_head.conv_bn_relu._conv"] + ".weight"
    if any(key.startswith("jpu.jum_") for key in state):
        raise CheckpointError("an EncNet with FastFCN's later upsampling, JPU_X: this project has JPU, of the paper")
    if use_jpu := f"{name['jpu.conv5._conv']}.weight" in state:
        settings["output_stride"] = 32
    return _checked(Source(
        FAMILIES[column - 2], num_classes=num_classes, mid_channels=mid_channels, num_codes=num_codes,
        aux_channels=_shape_of(state, auxiliary, 4)[0] if auxiliary in state else None,
        add_lateral="laterals" in present, use_se_loss="presence" in present, use_jpu=use_jpu, assumed=assumed,
        **settings, **found))


def take_averaged(checkpoint: Dict[str, Any]) -> Tuple[Dict[str, Any], str]:
    """The file as if it held the averaged weights alone, and what that means, in words.

    Raises:
        CheckpointError: there are none.
    """
    return unwrapping.take_averaged(checkpoint, is_known)


def tensors_of(checkpoint: Dict[str, Any], source: Union[Source, LiteSource]) -> Dict[str, np.ndarray]:
    """The arrays by name, without the dicts and prefixes around them; of a head with one channel, with two."""
    state = unwrapping.unwrap(checkpoint, is_known).tensors
    threshold = source.threshold if isinstance(source, Source) else None
    return state if threshold is None else with_two_classes(state, threshold)


def with_two_classes(state: Dict[str, np.ndarray], threshold: float) -> Dict[str, np.ndarray]:
    """Of a network whose head has one channel."""
    column = _family(state)
    if column is None:
        return state
    names = {row[2]: row[column] for row in HEAD}
    return binary.two_classes(state, [names["head"], names["fcn_head.conv"]], names["se_layer"], threshold)


def is_known(state: Dict[str, np.ndarray]) -> bool:
    """Whether these are the names of a network, or a backbone, that is recognised here."""
    return "_conv_stem.weight" in state or _found_backbone(state) is not None


def _shape_of(state: Dict[str, np.ndarray], name: str, rank: int) -> Tuple[int, ...]:
    if state[name].ndim != rank:
        raise CheckpointError(f"{name} has shape {state[name].shape}; {rank} dimensions were expected")
    return state[name].shape


def imagenet_classifier(state: Dict[str, np.ndarray], prefix: str) -> List[str]:
    """Names of the classifier that a backbone was trained with."""
    alone = CLASSIFIERS if _family(state) is None else ()
    return [name for name in state if name.startswith((prefix + "fc.", *alone))]


def _family(state: Dict[str, np.ndarray]) -> Optional[int]:
    """Which column of HEAD has the names of this file's head; None if there is no EncNet head."""
    encoding = next(row for row in HEAD if row[1] == "encoding")
    classifier = next(row for row in HEAD if row[2] == "head")
    for column in range(2, 2 + len(FAMILIES)):
        if f"{encoding[column]}.codewords" in state and f"{classifier[column]}.weight" in state:
            return column
    return None


def _backbone_names(state: Dict[str, np.ndarray]) -> Tuple[Names, str, str]:
    """The names that a file's backbone has, which of ours it is, and the prefix of its tensors."""
    found = _found_backbone(state)
    if found is None:
        raise CheckpointError("no ResNet and no EfficientNet-Lite was found in this file: known are the names of "
                              "torchvision, timm, mmcv, efficientnet-lite-pytorch, "
                              f"PyTorch-Encoding and PaddleSeg; its first tensors are {', '.join(list(state)[:5])}")
    return found


def _found_backbone(state: Dict[str, np.ndarray]) -> Optional[Tuple[Names, str, str]]:
    def is_conv(name: str) -> bool:
        return f"{name}.weight" in state and state[f"{name}.weight"].ndim == 4

    for prefix in ("pretrained.", "backbone.", ""):
        for names, version in THEIRS:
            block = prefix + names.block.format(stage=2, s=1, block=0)
            if all(is_conv(prefix + name) for name in names.stem[::2]) and is_conv(block + names.shortcut[0]):
                return names, version, prefix
    return None


def _blocks(state: Dict[str, np.ndarray], names: Names, prefix: str) -> Tuple[Tuple[int, int, int, int], bool]:
    """Number of blocks of each stage, and whether they are bottleneck blocks."""
    def has(stage: int, block: int, conv: int) -> bool:
        name = names.block + names.conv
        return f"{prefix}{name.format(stage=stage, s=stage - 1, block=block, conv=conv, c=conv - 1)}.weight" in state

    counts = []
    for stage in (1, 2, 3, 4):
        counts.append(0)
        while has(stage, counts[-1], 1):
            counts[-1] += 1
    return (counts[0], counts[1], counts[2], counts[3]), has(1, 0, 3)


def _settings(family: str, checkpoint: Dict[str, Any]) -> Tuple[Dict[str, Any], Tuple[str, ...]]:
    """What no tensor tells: from the config text that mmsegmentation saves along, else as the family has it."""
    if family == PADDLESEG:
        return {"first_block_dilation": "full"}, ()
    if family == ENCODING:
        return {"align_corners": True}, ()
    meta = checkpoint.get("meta")
    text = (meta.get("config") or meta.get("cfg")) if isinstance(meta, dict) else None
    text = text if isinstance(text, str) else ""
    head = text[max(text.find("decode_head"), 0):]
    said = re.search(r"\bthreshold ?= ?(0?\.\d{1,9})", head)
    threshold = float(said.group(1)) if said else MMSEGMENTATION_THRESHOLD
    corners = re.search(r"align_corners ?= ?(True|False)", head)
    if corners is None:
        return {"threshold": threshold}, (
            "the file does not say how its network resizes: align_corners is False, as in mmsegmentation's configs but "
            "those for crops of 769 x 769",)
    strides = {"1,1,2,4": 8, "1,1,1,2": 16, "1,1,1,1": 32}
    said = re.search(r"dilations ?= ?[(\[]([\d,\s]{1,99})[)\]]", text)
    dilations = "1,1,2,4" if said is None else re.sub(r"\s", "", said.group(1)).strip(",")
    if dilations not in strides or re.search(r"style ?= ?['\"]caffe['\"]", text):
        raise CheckpointError("the backbone's config has dilations or a style (caffe) that this project's does not")
    contracted = re.search(r"contract_dilation ?= ?True", text)
    return {"align_corners": corners.group(1) == "True", "output_stride": strides[dilations],
            "first_block_dilation": "half" if contracted else "full", "threshold": threshold}, ()


def _checked(source: Source) -> Source:
    """The same, or an error if no network of this project computes what it does."""
    if source.version == "vd" and not source.in_paddle and source.is_network:
        raise CheckpointError("an EncNet on a ResNet with average-pool shortcuts (V1d) dilates first blocks otherwise "
                              "than PaddleSeg's ResNet_vd: it cannot be imported")
    if source.version == "vd" and not source.in_paddle and (source.depth not in VD_DEPTHS or source.stem_width != 32):
        raise CheckpointError(f"a ResNet-{source.depth} with average-pool shortcuts (V1d) and a stem of width "
                              f"{source.stem_width}: PaddleSeg has ResNet50_vd and ResNet101_vd, of width 32, only")
    if source.version != "vd" and source.in_paddle and source.is_network:
        raise CheckpointError("this EncNet has this project's names already: use it with the config that was written "
                              "when it was imported or trained")
    return source
