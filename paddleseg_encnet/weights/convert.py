"""Weights of the other EncNets, and of ImageNet ResNets, under the names and in the layouts of this project.

Three codebases published EncNets; what their networks compute is the same but for what a config can say (the stem's
width, the dilation of first blocks, how images are resized). The tables below pair their names. All functions are pure
and work on dicts of NumPy arrays; neither Paddle nor PyTorch is needed.

Every tensor of a file is used or known to be of no use, every shape is checked, and what does not fit is an error with
the whole list: a network with one layer of random numbers in it looks like a working one.
"""

import os
import re
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from paddleseg_encnet.weights.arrays import CheckpointError
from paddleseg_encnet.weights.codebases import (
    AUXILIARY_CHANNELS,
    CLASSIFIERS,
    DEPTHS,
    ENCODING,
    EXPANSION,
    FAMILIES,
    HEAD,
    OURS,
    PADDLE,
    PADDLESEG,
    PREFIXES,
    PYTORCH,
    TENSORS,
    THEIRS,
    VD_DEPTHS,
    WIDTHS,
    WRAPPERS,
    Names,
)


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
    align_corners: bool = False
    output_stride: int = 8
    first_block_dilation: str = "half"
    classifier: bool = False            # there is an ImageNet classifier too, which is left out
    assumed: Tuple[str, ...] = ()       # settings that names and shapes cannot tell and the file does not say

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
        having = [what for what, has in (("laterals", self.add_lateral), ("presence layer", self.use_se_loss),
                                         ("auxiliary head", self.aux_channels)) if has]
        return (f"EncNet of {self.family} on {self.backbone}, {self.num_classes} classes, {self.num_codes} codewords, "
                f"{self.mid_channels} channels; {', '.join(having) or 'nothing that only training needs'}")

    def notes(self) -> List[str]:
        """What a user should know of the conversion, in words."""
        notes = list(self.assumed)
        if self.classifier:
            notes.append("the ImageNet classifier is left out")
        if self.is_network and not self.use_se_loss:
            notes.append("the file has no presence layer: use_se_loss is False, and the config has no SELoss")
        if self.is_network and self.aux_channels is None:
            notes.append("the file has no auxiliary head: a freshly initialised one, from seed 0, takes its place; "
                         "only training reads it")
        return notes


class Tensor(NamedTuple):
    """One tensor: its name here and there, its shape here."""
    ours: str
    theirs: str
    shape: Tuple[int, ...]
    transposed: bool        # between there and here
    zero_if_missing: bool


def recognise(checkpoint: Dict[str, Any]) -> Source:
    """Tells what a file holds, as `checkpoint.read` returns it.

    Raises:
        CheckpointError: it is none of what this module knows; says what was looked for.
    """
    state = tensors_of(checkpoint)
    names, version, prefix = _backbone_names(state)
    counts, bottleneck = _blocks(state, names, prefix)
    if (bottleneck, counts) not in DEPTHS:
        raise CheckpointError(f"a ResNet with {'-'.join(map(str, counts))} {'bottleneck' if bottleneck else 'basic'} "
                              f"blocks in its stages is none of {', '.join(map(str, DEPTHS.values()))}")
    stem = state[f"{prefix}{names.stem[0]}.weight"].shape
    found = dict(names=names, prefix=prefix, version=version, depth=DEPTHS[bottleneck, counts],
                 stem_width=stem[0] if version != "v1b" else stem[0] // 2, in_channels=stem[1],
                 classifier=bool(_imagenet_classifier(state, prefix)))
    column = _family(state)
    if column is None:
        in_paddle = any(name.endswith("._mean") for name in state)
        return _checked(Source(PADDLE if in_paddle else PYTORCH, **found))
    name = {row[2]: row[column] for row in HEAD}        # by PaddleSeg's name
    present = {row[0] for row in HEAD if f"{row[column]}.weight" in state}
    num_classes, mid_channels, _, _ = _shape_of(state, name["head"] + ".weight", 4)
    num_codes, _ = _shape_of(state, name["enc_module.encoding.0"] + ".codewords", 2)
    auxiliary = name["fcn_head.conv_bn_relu._conv"] + ".weight"
    settings, assumed = _settings(FAMILIES[column - 2], checkpoint)
    return _checked(Source(
        FAMILIES[column - 2], num_classes=num_classes, mid_channels=mid_channels, num_codes=num_codes,
        aux_channels=_shape_of(state, auxiliary, 4)[0] if auxiliary in state else None,
        add_lateral="laterals" in present, use_se_loss="presence" in present, assumed=assumed, **settings, **found))


def convert(checkpoint: Dict[str, Any], source: Optional[Source] = None) -> Tuple[Dict[str, np.ndarray], dict]:
    """The tensors of a file as ours, and the `model` section (or `model.backbone`) of the config that they belong to.

    Args:
        checkpoint: what `checkpoint.read` returned.
        source: what it holds, if not as `recognise` says; for instance with another `align_corners`.

    Returns:
        float32 arrays by the names of `ENCNet.state_dict()`, or of the backbone's; and the config section.

    Raises:
        CheckpointError: tensors are missing, left over, or of another shape; the message lists them all.
    """
    source = source or recognise(checkpoint)
    state = tensors_of(checkpoint)
    converted, zeros, missing, wrong = {}, [], [], []
    left = {name for name in state if not name.endswith(".num_batches_tracked")}
    left -= set(_imagenet_classifier(state, source.prefix))
    for tensor in layout(source):
        if tensor.theirs not in state:
            (zeros if tensor.zero_if_missing else missing).append(tensor)
            continue
        left.discard(tensor.theirs)
        value = state[tensor.theirs].T if tensor.transposed else state[tensor.theirs]
        if value.shape != tensor.shape or value.dtype.kind != "f":
            expected = tensor.shape[::-1] if tensor.transposed else tensor.shape
            wrong.append(f"{tensor.theirs} {value.dtype} {state[tensor.theirs].shape} instead of {expected}")
        else:
            converted[tensor.ours] = np.ascontiguousarray(value, dtype="float32")
    problems = [f"{what} ({len(names)}): {', '.join(names)}" for what, names in (
        ("missing", [tensor.theirs for tensor in missing]), ("not used", sorted(left)), ("wrong", wrong)) if names]
    if problems:
        raise CheckpointError(f"taken for a {source}, the file does not fit; {'; '.join(problems)}")
    converted.update({tensor.ours: np.zeros(tensor.shape, "float32") for tensor in zeros})
    if source.is_network and source.aux_channels is None:
        converted.update(_fresh_auxiliary_head(source))
    return converted, model_config(source)


def layout(source: Source) -> Iterator[Tensor]:
    """All tensors that a file must hold for what it was recognised as."""
    ours = "backbone." if source.is_network else ""
    for kind, our_name, their_name, shape in _backbone_layers(source):
        yield from _tensors(source, kind, ours + our_name, source.prefix + their_name, shape)
    if not source.is_network:
        return
    groups = {"head": True, "laterals": source.add_lateral, "presence": source.use_se_loss,
              "auxiliary": source.aux_channels}
    column = 2 + FAMILIES.index(source.family)
    sizes = _sizes(source)
    for row in HEAD:
        if groups[row[0]]:
            yield from _tensors(source, row[1], row[2], row[column], _shape(row[5], sizes))


def model_config(source: Source) -> dict:
    """The `model` section of a config for this network; of a backbone, what stands under `model.backbone`."""
    backbone = {"type": source.backbone, "output_stride": source.output_stride, "in_channels": source.in_channels}
    if source.version != "vd":
        backbone.update(stem_width=source.stem_width, first_block_dilation=source.first_block_dilation)
    if not source.is_network:
        return backbone
    return {"type": "ENCNet", "num_classes": source.num_classes, "backbone": backbone, "backbone_indices": [1, 2, 3],
            "num_codes": source.num_codes, "mid_channels": source.mid_channels, "use_se_loss": source.use_se_loss,
            "add_lateral": source.add_lateral, "align_corners": source.align_corners,
            "aux_channels": source.aux_channels or AUXILIARY_CHANNELS}


def summary(source: Source) -> List[Tuple[str, str, int]]:
    """What goes where: common name there, part of the network here, number of tensors."""
    parts = {}
    for tensor in layout(source):
        if not tensor.zero_if_missing or source.in_paddle:
            parts.setdefault(tensor.ours.split(".")[0], []).append(tensor.theirs)
    rows = []
    for part, names in parts.items():
        common = os.path.commonprefix(names).rpartition(".")[0]
        there = [common] if common else dict.fromkeys(name.split(".")[0] for name in names)
        rows.append((", ".join(f"{name}.*" for name in there), part, len(names)))
    return rows


def tensors_of(checkpoint: Dict[str, Any]) -> Dict[str, np.ndarray]:
    """The arrays by name, without the dicts and prefixes around them."""
    state = checkpoint if isinstance(checkpoint, dict) else {}
    for _ in WRAPPERS:      # one in another, each once: a file can be made to hold itself
        state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), state)
    state = {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, np.ndarray)}
    if not state:
        raise CheckpointError("there are no tensors in this file")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name[len(prefix):]: value for name, value in state.items()}
    return state


def _shape_of(state, name: str, rank: int) -> Tuple[int, ...]:
    if state[name].ndim != rank:
        raise CheckpointError(f"{name} has shape {state[name].shape}; {rank} dimensions were expected")
    return state[name].shape


def _imagenet_classifier(state, prefix: str) -> List[str]:
    """Names of the classifier that a backbone was trained with."""
    alone = CLASSIFIERS if _family(state) is None else ()
    return [name for name in state if name.startswith((prefix + "fc.", *alone))]


def _family(state) -> Optional[int]:
    """Which column of HEAD has the names of this file's head; None if there is no EncNet head."""
    encoding = next(row for row in HEAD if row[1] == "encoding")
    classifier = next(row for row in HEAD if row[2] == "head")
    for column in range(2, 2 + len(FAMILIES)):
        if f"{encoding[column]}.codewords" in state and f"{classifier[column]}.weight" in state:
            return column
    return None


def _backbone_names(state) -> Tuple[Names, str, str]:
    """The names that a file's backbone has, which of ours it is, and the prefix of its tensors."""
    def is_conv(name):
        return f"{name}.weight" in state and state[f"{name}.weight"].ndim == 4

    for prefix in ("pretrained.", "backbone.", ""):
        for names, version in THEIRS:
            block = prefix + names.block.format(stage=2, s=1, block=0)
            if all(is_conv(prefix + name) for name in names.stem[::2]) and is_conv(block + names.shortcut[0]):
                return names, version, prefix
    raise CheckpointError("no ResNet was found in this file: known are the names of torchvision, timm, mmcv, "
                          f"PyTorch-Encoding and PaddleSeg; its first tensors are {', '.join(list(state)[:5])}")


def _blocks(state, names: Names, prefix: str) -> Tuple[Tuple[int, ...], bool]:
    """Number of blocks of each stage, and whether they are bottleneck blocks."""
    def has(stage, block, conv):
        name = names.block + names.conv
        return f"{prefix}{name.format(stage=stage, s=stage - 1, block=block, conv=conv, c=conv - 1)}.weight" in state

    counts = []
    for stage in (1, 2, 3, 4):
        counts.append(0)
        while has(stage, counts[-1], 1):
            counts[-1] += 1
    return tuple(counts), has(1, 0, 3)


def _settings(family: str, checkpoint) -> Tuple[dict, Tuple[str, ...]]:
    """What no tensor tells: from the config text that mmsegmentation saves along, else as the family has it."""
    if family == PADDLESEG:
        return {"first_block_dilation": "full"}, ()
    if family == ENCODING:
        return {"align_corners": True}, ()
    meta = checkpoint.get("meta")
    text = (meta.get("config") or meta.get("cfg")) if isinstance(meta, dict) else None
    text = text if isinstance(text, str) else ""
    corners = re.search(r"align_corners ?= ?(True|False)", text[max(text.find("decode_head"), 0):])
    if corners is None:
        return {}, ("the file does not say how its network resizes: align_corners is False, as in mmsegmentation's "
                    "configs but those for crops of 769 x 769",)
    strides = {"1,1,2,4": 8, "1,1,1,2": 16, "1,1,1,1": 32}
    dilations = re.search(r"dilations ?= ?[(\[]([\d,\s]{1,99})[)\]]", text)
    dilations = "1,1,2,4" if dilations is None else re.sub(r"\s", "", dilations.group(1)).strip(",")
    if dilations not in strides or re.search(r"style ?= ?['\"]caffe['\"]", text):
        raise CheckpointError("the backbone's config has dilations or a style (caffe) that this project's does not")
    contracted = re.search(r"contract_dilation ?= ?True", text)
    return {"align_corners": corners.group(1) == "True", "output_stride": strides[dilations],
            "first_block_dilation": "half" if contracted else "full"}, ()


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


def _backbone_layers(source: Source) -> Iterator[Tuple[str, str, str, Tuple[int, ...]]]:
    """Kind, our name, their name and shape of each layer."""
    ours, theirs, width = OURS[source.version], source.names, source.stem_width
    bottleneck, counts = next(key for key, depth in DEPTHS.items() if depth == source.depth)
    deep = [(width, source.in_channels, 3, 3), (width,), (width, width, 3, 3), (width,), (2 * width, width, 3, 3),
            (2 * width,)]
    shapes = deep if source.version != "v1b" else [(2 * width, source.in_channels, 7, 7), (2 * width,)]
    for our_name, their_name, shape in zip(ours.stem, theirs.stem, shapes):
        yield "conv" if len(shape) == 4 else "norm", our_name, their_name, shape

    channels = 2 * width
    for s, (width, count) in enumerate(zip(WIDTHS, counts)):
        out = width * EXPANSION if bottleneck else width
        for block in range(count):
            def both(pattern_of, **numbers):
                numbers.update(stage=s + 1, s=s, block=block)
                return [(names.block + pattern_of(names)).format(**numbers) for names in (ours, theirs)]

            convs = [(width, channels, 1, 1), (width, width, 3, 3), (out, width, 1, 1)] if bottleneck else \
                [(width, channels, 3, 3), (width, width, 3, 3)]
            for c, shape in enumerate(convs):
                yield ("conv", *both(lambda names: names.conv, conv=c + 1, c=c), shape)
                yield ("norm", *both(lambda names: names.norm, conv=c + 1, c=c), shape[:1])
            # PaddleSeg's ResNet_vd has a shortcut in the first block of every stage, others where shapes change.
            if block == 0 and (channels != out or s > 0 or source.version == "vd"):
                yield ("conv", *both(lambda names: names.shortcut[0]), (out, channels, 1, 1))
                yield ("norm", *both(lambda names: names.shortcut[1]), (out,))
            channels = out


def _tensors(source: Source, kind: str, ours: str, theirs: str, shape: Tuple[int, ...]) -> Iterator[Tensor]:
    for our_name, torch_name, dimensions in TENSORS[kind]:
        their_name = our_name if source.in_paddle else torch_name
        yield Tensor(f"{ours}.{our_name}", f"{theirs}.{their_name}", shape[dimensions],
                     transposed=kind == "linear" and not source.in_paddle,
                     zero_if_missing=kind == "conv, bias" and our_name == "bias" and not source.in_paddle)


def _sizes(source: Source) -> Dict[str, int]:
    expansion = EXPANSION if source.depth >= 50 else 1
    return {"C": source.mid_channels, "3C": 3 * source.mid_channels, "K": source.num_codes, "N": source.num_classes,
            "A": source.aux_channels, "1": 1, "3": 3, **{f"C{i + 1}": w * expansion for i, w in enumerate(WIDTHS)}}


def _shape(words: str, sizes: Dict[str, int]) -> Tuple[int, ...]:
    """"C C4 3" -> (512, 2048, 3, 3): a third word is the size of a square kernel."""
    numbers = tuple(sizes[word] for word in words.split())
    return numbers if len(numbers) < 3 else (*numbers, numbers[2])


def _fresh_auxiliary_head(source: Source) -> Dict[str, np.ndarray]:
    """He-initialised convolutions and an identity batch norm; the same numbers at each call."""
    random = np.random.RandomState(0)
    sizes = {**_sizes(source), "A": AUXILIARY_CHANNELS}
    fresh = {}
    for group, kind, ours, _, _, words in HEAD:
        for name, _, dimensions in TENSORS[kind] if group == "auxiliary" else ():
            shape = _shape(words, sizes)[dimensions]
            if len(shape) == 4:
                value = random.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
            else:
                value = np.full(shape, float(kind == "norm" and name in ("weight", "_variance")))
            fresh[f"{ours}.{name}"] = value.astype("float32")
    return fresh
