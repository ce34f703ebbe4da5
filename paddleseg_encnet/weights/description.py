"""What a .safetensors file says of the network that its weights are of: config, class names, colours, a card.

They are texts in the format's own `__metadata__`: `config` in YAML, `class_names` and `palette` in JSON, `card` for
people. Like all that a file from elsewhere says they are believed no further than they were looked at: YAML of plain
values alone, without references, which can make a small text endless; no other file is named, to be read or downloaded.
"""

import json
import os
from typing import Any, Dict, List, NamedTuple, Union

import yaml

from paddleseg_encnet.weights import checkpoint
from paddleseg_encnet.weights.arrays import CheckpointError
from segrun.classes import Classes
from segrun.errors import joined

MAX_CONFIG = 64 * 2**10     # characters; shipped ones have 3,000
MAX_DEPTH = 32
MAX_CLASSES = 65535         # what 16 bits number
MAX_NAME = 200


class Description(NamedTuple):
    """config: as a config's file says it, without a `_base_`, and without `pretrained:`."""
    config: Dict[str, Any]
    classes: Classes


class PlainDumper(yaml.SafeDumper):
    """Without references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class Whole(yaml.SafeLoader):
    """Without references, and without brackets that are made to be slow to read: each takes the time of all around it.
    """

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested deeper than {MAX_DEPTH} levels")
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it refers to a part of itself")
        return super().compose_node(parent, index)


def network_metadata(config: Dict[str, Any], classes: Classes, card: str = "") -> Dict[str, str]:
    """As write_safetensors takes it.

    Args:
        config: with what its `_base_` says.
        card: what people should know of the weights.
    """
    count = len(classes.names)
    said = {"config": yaml.dump(config, Dumper=PlainDumper, sort_keys=False, default_flow_style=None, width=120,
                                allow_unicode=True),
            "class_names": json.dumps(classes.names, ensure_ascii=False),
            "palette": json.dumps(classes.colors[:count].tolist())}
    return {**said, "card": card} if card else said


def read_description(path: Union[str, os.PathLike]) -> Description:
    """
    Raises:
        CheckpointError: the file can't be read, describes no network, or in a way that is refused.
    """
    said = checkpoint.read_metadata(path)
    try:
        if "config" not in said:
            raise CheckpointError("has no config in its metadata; give the config that it was trained with too, or "
                                  "write it with halve-weights --config")
        return Description(config_of(said["config"]), described_classes(said))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def config_of(text: str) -> Dict[str, Any]:
    if len(text) > MAX_CONFIG:
        raise CheckpointError(f"has a config of {len(text):,} characters in its metadata, more than {MAX_CONFIG:,}")
    try:
        config = yaml.load(text, Loader=Whole)
    except Exception as error:      # values that are none, as a 13th month, raise what they like
        raise CheckpointError(f"has a config in its metadata that is no valid YAML ({type(error).__name__}: "
                              f"{joined(str(error))[:200]})") from None
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise CheckpointError("has a config in its metadata that has no model")
    if "_base_" in config:
        raise CheckpointError("has a config in its metadata that names another file (_base_)")
    return {**config, "model": without_pretrained(config["model"])}


def without_pretrained(part: Any) -> Any:
    """A part of a config that names no weights, at any depth: the file's own take their place."""
    if isinstance(part, dict):
        return {key: without_pretrained(value) for key, value in part.items() if "pretrained" not in str(key)}
    return [without_pretrained(value) for value in part] if isinstance(part, list) else part


def described_classes(said: Dict[str, str]) -> Classes:
    names, palette = (parsed(said, key) for key in ("class_names", "palette"))
    if not 0 < len(names) <= MAX_CLASSES or not all(
            isinstance(name, str) and name.isprintable() and 0 < len(name) <= MAX_NAME for name in names):
        raise CheckpointError(f"has class names in its metadata that are not texts of at most {MAX_NAME} characters")
    if len(palette) > len(names) or not all(is_color(color) for color in palette):
        raise CheckpointError("has a palette in its metadata that is not three numbers from 0 to 255 a class")
    return Classes(names, palette)


def parsed(said: Dict[str, str], key: str) -> List[Any]:
    """A list in JSON."""
    try:
        found = json.loads(said.get(key, ""))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise CheckpointError(f"has no list of {key} in its metadata")
    return found


def is_color(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(part) is int and 0 <= part <= 255 for part in value)
