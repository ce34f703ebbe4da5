"""The command paddleseg-encnet: each file beside this one is a subcommand.

It imports nothing of the package before the tool does, as a tool may do without Paddle.
"""

import ast
import difflib
import importlib
import os
import sys
from typing import Dict, List, Optional

NAME = "paddleseg-encnet"
FOLDER = os.path.dirname(os.path.abspath(__file__))


def subcommands() -> Dict[str, str]:
    """The name of each tool's module, by that of the subcommand."""
    modules = [os.path.splitext(file)[0] for file in sorted(os.listdir(FOLDER)) if file.endswith(".py")]
    return {module.replace("_", "-"): module for module in modules if module not in ("__init__", "command")}


def overview() -> str:
    known = subcommands()
    width = max(map(len, known))
    lines = [f"  {name:{width}}  {purpose(module)}" for name, module in known.items()]
    return "\n".join([f"usage: {NAME} COMMAND [flags]", f"       {NAME} --version", "",
                      "EncNet for PaddleSeg", "", "commands:", *lines, "",
                      "example:", f"  {NAME} make-scenes", f"  {NAME} train --config encnet_quick_start --do_eval",
                      f"  {NAME} train --help"])


def purpose(module: str) -> str:
    """The first words of the tool's docstring, which a colon ends."""
    with open(os.path.join(FOLDER, f"{module}.py"), encoding="utf-8") as file:
        return (ast.get_docstring(ast.parse(file.read())) or "").split(":")[0]


def main(arguments: Optional[List[str]] = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return
    if arguments[0] in ("-V", "--version"):
        from segrun.commands import version
        print(version())
        return
    given, known = arguments[0], subcommands()
    name = given.replace("_", "-")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        sys.exit(f"error: there is no command {given}; " + (f"did you mean {near[0]}?" if near else
                                                            f"{NAME} --help lists them"))
    try:
        tool = importlib.import_module(f"{__package__}.{known[name]}" if __package__ else known[name])
    except ImportError as error:
        if "--debug" in arguments:
            raise
        sys.exit(f"error: {NAME} {name} does not start: {error}")
    if "paddleseg_encnet" in sys.modules:       # the tool has imported it, its own way
        from paddleseg_encnet.flags import run_main
    else:
        from segrun.command_line import run_main
    sys.argv[0] = f"{NAME} {name}"          # what parsers, and the messages that name a command, take for the program
    run_main(tool.main, tool.flags(), arguments[1:])


if __name__ == "__main__":
    main()
