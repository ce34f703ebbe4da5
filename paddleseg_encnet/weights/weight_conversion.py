"""Weights of the other EncNets, and of ImageNet ResNets, under the names and in the layouts of this project.

sources.py tells what a file holds; here its tensors are paired with ours. All functions are pure and work on dicts of
NumPy arrays; neither Paddle nor PyTorch is needed.

Every tensor of a file is used or known to be of no use, every shape is checked, and what does not fit is an error with
the whole list: a network with one layer of random numbers in it looks like a working one.
"""

import os
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple, Union

import numpy as np

from paddleseg_encnet.weights import efficientnet_names
from paddleseg_encnet.weights.arrays import CheckpointError
from paddleseg_encnet.weights.codebases import (
    AUXILIARY_CHANNELS,
    DEPTHS,
    EXPANSION,
    FAMILIES,
    HEAD,
    OURS,
    TENSORS,
    WIDTHS,
    Names,
)
from paddleseg_encnet.weights.efficientnet_names import LiteSource
from paddleseg_encnet.weights.sources import Source, imagenet_classifier, recognise, tensors_of


class TensorPair(NamedTuple):
    """One tensor: its name here and there, its shape here."""
    ours: str
    theirs: str
    shape: Tuple[int, ...]
    transposed: bool        # between there and here
    zero_if_missing: bool


def convert_weights(checkpoint: Dict[str, Any],
                    source: Union[Source, LiteSource, None] = None) -> Tuple[Dict[str, np.ndarray], dict]:
    """The tensors of a file as ours, and the `model` section (or `model.backbone`) of the config that they belong to.

    Args:
        checkpoint: what `checkpoint.read_weights` returned.
        source: what it holds, if not as `recognise` says; for instance with another `align_corners`.

    Returns:
        float32 arrays by the names of `ENCNet.state_dict()`, or of the backbone's; and the config section.

    Raises:
        CheckpointError: tensors are missing, left over, or of another shape; the message lists them all.
    """
    source = source or recognise(checkpoint)
    state = tensors_of(checkpoint, source)
    if isinstance(source, LiteSource):
        return efficientnet_names.convert_lite(state, source)
    converted: Dict[str, np.ndarray] = {}
    zeros: List[TensorPair] = []
    missing: List[TensorPair] = []
    wrong: List[str] = []
    left = {name for name in state if not name.endswith(".num_batches_tracked")}
    left -= set(imagenet_classifier(state, source.prefix))
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


def layout(source: Source) -> Iterator[TensorPair]:
    """All tensors that a file must hold for what it was recognised as."""
    ours = "backbone." if source.is_network else ""
    for kind, our_name, their_name, shape in _backbone_layers(source):
        yield from _tensors(source, kind, ours + our_name, source.prefix + their_name, shape)
    if not source.is_network:
        return
    groups = {"head": True, "dilated": not source.use_jpu, "jpu": source.use_jpu, "laterals": source.add_lateral,
              "presence": source.use_se_loss, "auxiliary": source.aux_channels}
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
            "aux_channels": source.aux_channels or AUXILIARY_CHANNELS, "use_jpu": source.use_jpu}


def conversion_summary(source: Union[Source, LiteSource]) -> List[Tuple[str, str, int]]:
    """What goes where: common name there, part of the network here, number of tensors."""
    if isinstance(source, LiteSource):
        return efficientnet_names.lite_summary(source)
    parts: Dict[str, List[str]] = {}
    for tensor in layout(source):
        if not tensor.zero_if_missing or source.in_paddle:
            parts.setdefault(tensor.ours.split(".")[0], []).append(tensor.theirs)
    rows = []
    for part, names in parts.items():
        common = os.path.commonprefix(names).rpartition(".")[0]
        there = [common] if common else dict.fromkeys(name.split(".")[0] for name in names)
        rows.append((", ".join(f"{name}.*" for name in there), part, len(names)))
    return rows


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
            def both(pattern_of: Callable[[Names], str], s: int = s, block: int = block,
                     **numbers: int) -> Tuple[str, str]:
                numbers.update(stage=s + 1, s=s, block=block)
                return (f"{ours.block}{pattern_of(ours)}".format(**numbers),
                        f"{theirs.block}{pattern_of(theirs)}".format(**numbers))

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


def _tensors(source: Source, kind: str, ours: str, theirs: str, shape: Tuple[int, ...]) -> Iterator[TensorPair]:
    for our_name, torch_name, dimensions in TENSORS[kind]:
        their_name = our_name if source.in_paddle else torch_name
        yield TensorPair(f"{ours}.{our_name}", f"{theirs}.{their_name}", shape[dimensions],
                         transposed=kind == "linear" and not source.in_paddle,
                         zero_if_missing=kind == "conv, bias" and our_name == "bias" and not source.in_paddle)


def _sizes(source: Source) -> Dict[str, Any]:
    """Of a network: a backbone alone has no head."""
    expansion = EXPANSION if source.depth >= 50 else 1
    width: Any = source.mid_channels
    return {"C": width, "3C": 3 * width, "4C": 4 * width, "K": source.num_codes, "N": source.num_classes,
            "A": source.aux_channels, "1": 1, "3": 3, **{f"C{i + 1}": w * expansion for i, w in enumerate(WIDTHS)}}


def _shape(words: str, sizes: Dict[str, Any]) -> Tuple[int, ...]:
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
