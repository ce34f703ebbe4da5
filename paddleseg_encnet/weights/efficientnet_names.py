"""ImageNet weights of EfficientNet-Lite, from PyTorch's names to Paddle's: weight_conversion.py's part for this family.

The names of layers are the same here and there (models/efficientnet_lite.py), so that only statistics are renamed, and
what is no part of a backbone is left out.
"""

import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Optional, Tuple

import numpy as np

from paddleseg_encnet.weights.arrays import CheckpointError
from paddleseg_encnet.weights.codebases import TENSORS

# (blocks, width of the last block's output) -> variant.
VARIANTS = {(16, 320): 0, (21, 320): 1, (21, 352): 2}
CLASSIFIER = ("_conv_head.", "_bn1.", "_fc.")       # at the root; inside a block _bn1 is another one
PARTS = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")


@dataclass(frozen=True)
class LiteSource:
    """A file of EfficientNet-Lite's weights, as sources.Source is one of a ResNet's."""
    variant: int
    blocks: int
    in_channels: int
    classifier: bool
    is_network: bool = False
    left_out: Tuple[str, ...] = ()      # tensors of the file, in words

    def __str__(self) -> str:
        return f"backbone EfficientNetLite{self.variant} from PyTorch, {self.blocks} blocks"

    def notes(self) -> List[str]:
        return [*self.left_out, *(["the ImageNet classifier is left out"] if self.classifier else [])]


def recognise_lite(state: Dict[str, np.ndarray]) -> Optional[LiteSource]:
    """What the file holds; None if nothing in it has this family's names.

    Raises:
        CheckpointError: the names are those of an EfficientNet, and the sizes are of none of the Lites.
    """
    stem = state.get("_conv_stem.weight")
    if stem is None or stem.ndim != 4:
        return None
    numbers = {int(found[1]) for found in (re.match(r"_blocks\.(\d{1,4})\.", name) for name in state) if found}
    blocks = len(numbers)
    last = state.get(f"_blocks.{blocks - 1}._project_conv.weight", stem)
    if any("._se_" in name for name in state):
        raise CheckpointError("an EfficientNet with squeeze-and-excitation: this project has EfficientNet-Lite 0, 1 "
                              "and 2, which have none")
    if (blocks, last.shape[0]) not in VARIANTS:
        raise CheckpointError(f"an EfficientNet-Lite of {blocks} blocks, the last one {last.shape[0]} wide: this "
                              "project has Lite 0, 1 and 2, of 16, 21 and 21 blocks, 320, 320 and 352 wide")
    return LiteSource(VARIANTS[blocks, last.shape[0]], blocks, stem.shape[1], "_fc.weight" in state)


def lite_layout(source: LiteSource) -> Iterator[Tuple[str, str]]:
    """Our name and PyTorch's of each tensor of the backbone."""
    names = ["_conv_stem", "_bn0"]
    names += [f"_blocks.{i}.{part}" for i in range(source.blocks) for part in (PARTS if i else PARTS[2:])]
    for name in names:
        for ours, theirs, _ in TENSORS["conv" if name.endswith(("conv", "stem")) else "norm"]:
            yield f"{name}.{ours}", f"{name}.{theirs}"


def convert_lite(state: Dict[str, np.ndarray], source: LiteSource) -> Tuple[Dict[str, np.ndarray], dict]:
    """The tensors as ours, and what stands under `model.backbone` of a config.

    Raises:
        CheckpointError: tensors are missing or left over; the message lists them all.
    """
    names = dict(lite_layout(source))
    missing = [theirs for theirs in names.values() if theirs not in state]
    left = sorted(name for name in set(state) - set(names.values())
                  if not name.endswith(".num_batches_tracked") and not name.startswith(CLASSIFIER))
    problems = [f"{what} ({len(found)}): {', '.join(found)}"
                for what, found in (("missing", missing), ("not used", left)) if found]
    if problems:
        raise CheckpointError(f"taken for a {source}, the file does not fit; {'; '.join(problems)}")
    tensors = {ours: np.ascontiguousarray(state[theirs], dtype="float32") for ours, theirs in names.items()}
    return tensors, {"type": f"EfficientNetLite{source.variant}", "output_stride": 32,
                     "in_channels": source.in_channels}


def lite_summary(source: LiteSource) -> List[Tuple[str, str, int]]:
    """What goes where, as weight_conversion.conversion_summary gives it."""
    parts: Dict[str, int] = {}
    for name, _ in lite_layout(source):
        parts[name.split(".")[0]] = parts.get(name.split(".")[0], 0) + 1
    return [(f"{part}.*", part, count) for part, count in parts.items()]
