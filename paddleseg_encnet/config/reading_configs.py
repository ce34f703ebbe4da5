"""What goes wrong while the files of a config are read, in one line that names the config."""

import contextlib
import os
from typing import Any, Dict, Iterator, Tuple

import yaml

from paddleseg_encnet.config.shipped_configs import find_config
from segrun import commands
from segrun.errors import innermost, joined

MERGE = "tag:yaml.org,2002:merge"       # the key <<, of which there may be several


@contextlib.contextmanager
def reading(config: str) -> Iterator[str]:
    """Around what reads a config, with the path of its file: names it where it is no YAML, or YAML without keys, where
    what its `_base_` names is not there, or where PaddleSeg stumbles over it."""
    path = find_config(config)
    try:
        with open(path, encoding="utf-8") as file:
            if not isinstance(read_once(path, file.read()), dict):
                raise ValueError(f"the config {config} has no keys, as model: or train_dataset:; "
                                 f"{commands.command('configs')} encnet_quick_start prints one that has")
        yield path
    except yaml.YAMLError as error:
        raise ValueError(f"the config {config} is no valid YAML: {joined(str(error))}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"the config {config} is no valid YAML: it is no text in UTF-8") from error
    except FileNotFoundError as error:
        if not str(error.filename).endswith((".yml", ".yaml")):
            raise
        raise FileNotFoundError(f"the config {config} needs {error.filename}, which is not there; see _base_"
                                ) from error
    except Exception as error:
        found = innermost(error)
        if is_clear(found):
            raise
        raise ValueError(f"the config {config} can't be read as one: a part of it, or of a file in its _base_, is no "
                         f"mapping of keys to values ({type(found).__name__}: {joined(str(found))})"
                         ) from error


def read_once(path: str, text: str) -> Any:
    """What a YAML file holds; the files in its `_base_` are looked at too.

    Raises:
        ValueError: a key is in a mapping of it, or of its base, twice with two values, of which YAML takes the last
            without a word.
    """
    root = yaml.compose(text, yaml.SafeLoader)
    nodes, seen = [] if root is None else [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:        # an alias, maybe of what it stands in
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            check_keys_once(path, node)
            nodes += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
    content = yaml.safe_load(text)
    bases = content.get("_base_") or [] if isinstance(content, dict) else []
    for base in [bases] if isinstance(bases, str) else bases if isinstance(bases, list) else []:
        place = os.path.join(os.path.dirname(path), str(base))
        if os.path.isfile(place):       # where it is not, PaddleSeg, which reads it, says so
            with open(place, encoding="utf-8") as file:
                base_text = file.read()
            read_once(place, base_text)
    return content


def check_keys_once(path: str, mapping: yaml.MappingNode) -> None:
    """Equal values are let pass: nothing is lost of them, and some of PaddleSeg's own configs repeat a part."""
    seen: Dict[str, Tuple[int, Any]] = {}
    for key, value in mapping.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
            continue
        line = key.start_mark.line + 1
        if key.value in seen and yaml.serialize(seen[key.value][1]) != yaml.serialize(value):
            raise ValueError(f"{path} has the key {key.value} twice in one place, in lines {seen[key.value][0]} and "
                             f"{line}: take one of them out")
        seen[key.value] = line, value


def is_clear(error: BaseException) -> bool:
    """Whether an error says itself what is wrong."""
    if isinstance(error, AssertionError):
        return bool(str(error))
    return isinstance(error, (ValueError, OSError))
