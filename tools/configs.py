"""Lists the shipped configs, or prints one:  python tools/configs.py encnet_quick_start"""

import argparse

import paddleseg_encnet  # noqa: F401  before paddle, as in all tools

# isort: split

import re

import yaml
from paddleseg.cvlibs.config import parse_from_yaml
from paddleseg.utils.utils import NoAliasDumper

from paddleseg_encnet.config.reading_configs import reading
from paddleseg_encnet.config.shipped_configs import shipped_configs
from paddleseg_encnet.flags import bare_parser, run_main


def flags() -> argparse.ArgumentParser:
    flags = bare_parser("Lists the shipped configs, or prints one with what its _base_ says, as a file to change",
                            "encnet_quick_start > my.yml")
    flags.add_argument("config", nargs="?", help="name of a shipped config, or a YAML file")
    return flags


def main(args: argparse.Namespace) -> None:
    if args.config is None:
        configs = shipped_configs()
        width = max(map(len, configs))
        for name, path in configs.items():
            print(f"{name:{width}}  {first_sentence(comment(path))}")
        return
    with reading(args.config) as path:
        config = parse_from_yaml(path)
    print("".join(f"# {line}\n" for line in comment(path)), end="")
    print(yaml.dump(config, Dumper=NoAliasDumper, sort_keys=False, default_flow_style=None, width=120), end="")


def comment(path: str) -> list:
    """The lines of the comment that a config begins with."""
    with open(path, encoding="utf-8") as file:
        found = re.match(r"(#.*\n)*", file.read())
    return found[0].replace("# ", "").splitlines() if found else []


def first_sentence(lines: list) -> str:
    return re.split(r"[.:](?:\s|$)", " ".join(lines))[0]


if __name__ == "__main__":
    run_main(main, flags())
