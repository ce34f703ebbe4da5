"""The configs that come with the package, and which file is meant by a name."""

import difflib
import os
from typing import Dict

from segrun import commands


def configs_folder() -> str:
    """Of the shipped configs: in the package where pip installed it, beside it in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inside = os.path.join(package, "configs")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "configs")


def shipped_configs() -> Dict[str, str]:
    """The file of each shipped config, by its name."""
    folder = configs_folder()
    return {name[:-len(".yml")]: os.path.join(folder, name) for name in sorted(os.listdir(folder))
            if name.endswith(".yml")}


def find_config(config: str) -> str:
    """The file that `config` is, or the file of the shipped config that it names.

    Raises:
        FileNotFoundError: it is neither; the nearest name is offered.
    """
    shipped = shipped_configs()
    if os.path.isfile(config):
        return config
    if config in shipped:
        return shipped[config]
    near = difflib.get_close_matches(os.path.splitext(os.path.basename(config))[0].lower(), shipped, n=1)
    raise FileNotFoundError(f"there is no config {config}; " + (
        f"did you mean {near[0]}?" if near else f"{commands.command('configs')} lists those that are shipped"))
