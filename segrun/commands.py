"""How a user calls a tool, and the help that a tool gives."""

import argparse
import importlib.metadata
import os
import shlex
import sys
from typing import Any, Dict, Iterable, Optional

COMMAND, DISTRIBUTION = "paddleseg-encnet", "paddleseg_encnet"
# Of a checkout; where pip installed a wheel there is none.
TOOLS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tools")
HELP_COLUMN = 29


def command(tool: str) -> str:
    """What calls a tool from here, of which the name of its file is given: tools/check_data.py in a checkout,
    paddleseg-encnet check-data for who started that command, or installed a wheel."""
    if sys.argv[0].startswith(f"{COMMAND} ") or not os.path.isfile(os.path.join(TOOLS, f"{tool}.py")):
        return f"{COMMAND} {tool.replace('_', '-')}"
    return f"tools/{tool}.py"


def typed(tool: str) -> str:
    """The same as one types it from here: python tools/train.py, with the whole path outside the checkout."""
    called = command(tool)
    if called.startswith(COMMAND):
        return called
    path = os.path.join(TOOLS, f"{tool}.py")
    inside = os.path.relpath(path)
    return f"python {shlex.quote(path if inside.startswith(os.pardir) else inside)}"


def version() -> str:
    """The command and its version, as pip has installed it; a line and the end where it has not."""
    try:
        return f"{COMMAND} {importlib.metadata.version(DISTRIBUTION)}"
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"error: {DISTRIBUTION} is not installed here, so that there is no version; pip install -e . in its "
                 "checkout")


class Help(argparse.RawDescriptionHelpFormatter):
    """Help that fits a screen: only what must be given is in the line of usage, and a flag is a line, with a short word
    for its value: --iters N, --learning_rate X, --save_dir DIR."""

    def __init__(self, prog: str, **options: Any):
        super().__init__(prog, **{"max_help_position": HELP_COLUMN, **options})

    def add_usage(self, usage: Optional[str], actions: Iterable[argparse.Action], groups: Iterable[Any],
                  prefix: Optional[str] = None) -> None:
        needed = [action for action in actions if action.required or not action.option_strings]
        super().add_usage(" ".join(["%(prog)s", *map(self.call, needed), "[flags]"]), actions, groups, prefix)

    def call(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return f"[{action.dest}]" if action.nargs == "?" else action.dest
        word = action.metavar or self._get_default_metavar_for_optional(action)
        return f"{action.option_strings[0]} {word}"

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        words: Dict[object, str] = {int: "N", float: "X"}
        return words.get(action.type) or action.dest.split("_")[-1].upper()
