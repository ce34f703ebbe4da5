"""What goes wrong while the files of a config are read, in one line that names the config."""

import contextlib
from typing import Iterator

import yaml

from paddleseg_encnet.config.shipped_configs import find_config
from segrun import commands
from segrun.errors import innermost, joined


@contextlib.contextmanager
def reading(config: str) -> Iterator[str]:
    """Around what reads a config, with the path of its file: names it where it is no YAML, or YAML without keys, where
    what its `_base_` names is not there, or where PaddleSeg stumbles over it."""
    path = find_config(config)
    try:
        with open(path, encoding="utf-8") as file:
            if not isinstance(yaml.safe_load(file), dict):
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


def is_clear(error: BaseException) -> bool:
    """Whether an error says itself what is wrong."""
    if isinstance(error, AssertionError):
        return bool(str(error))
    return isinstance(error, (ValueError, OSError))
