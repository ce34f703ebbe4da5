"""What checkpoints hold beside the weights: flags, logs, paths, times, devices, as records that do nothing.

``CLASSES`` and ``MAPPINGS`` are the complete lists of their names. Nothing of the name is ever made or called: a
``Record`` keeps the name alone, and what the file says of the object is read and forgotten. Of a ``Mapping`` the items
stay, as there are state dicts among them.
"""

from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Iterator, List, Tuple

from paddleseg_encnet.weights.arrays import Budget, CheckpointError

# Generous memory of one item of a dict: three opcodes can ask for a copy of a long list again.
ITEM_BYTES = 128

_PATHS = ("PurePath", "PurePosixPath", "PureWindowsPath", "Path", "PosixPath", "WindowsPath")
_BUILTINS = ("set", "frozenset", "complex", "range", "xrange", "slice")
_DTYPES = ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
           "uint64", "bool", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2")


def _names(table: Dict[str, Tuple[str, ...]]) -> FrozenSet[Tuple[str, str]]:
    return frozenset((module, name) for module, names in table.items() for name in names)


CLASSES = _names({
    "argparse": ("Namespace",), "types": ("SimpleNamespace",), "collections": ("deque",),
    "builtins": _BUILTINS, "__builtin__": _BUILTINS,        # the latter is Python 2's name, which protocol 2 writes
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",), "fractions": ("Fraction",), "uuid": ("UUID",),
    "pathlib": _PATHS, "pathlib._local": _PATHS,            # Python 3.13's
    "mmengine.logging.history_buffer": ("HistoryBuffer",),
    "torch": ("device",)})
MAPPINGS = _names({
    "collections": ("Counter", "defaultdict"), "addict.addict": ("Dict",), "easydict": ("EasyDict",),
    "mmengine.config.config": ("ConfigDict",), "mmcv.utils.config": ("ConfigDict",), "yacs.config": ("CfgNode",),
    "lightning_fabric.utilities.data": ("AttributeDict",), "lightning.fabric.utilities.data": ("AttributeDict",),
    "pytorch_lightning.utilities.parsing": ("AttributeDict",)})
# Never called: values, and what a defaultdict is to make.
CONSTANTS = _names({
    # mmengine's history names its own methods, protocols before 4 by getattr.
    "mmengine.logging.history_buffer": tuple(f"HistoryBuffer.{name}" for name in ("min", "max", "current", "mean")),
    "torch": _DTYPES, "builtins": ("dict", "list", "int", "float", "str"),
    "__builtin__": ("dict", "list", "int", "float", "str", "unicode")})
KNOWN = CLASSES | MAPPINGS | CONSTANTS


@dataclass(frozen=True)
class Record:
    """Stands for an object that was not made: ``argparse.Namespace``."""

    name: str

    def __str__(self) -> str:
        return f"<{self.name}>"


class OrderedDict(dict):
    """What ``collections.OrderedDict`` becomes. Its attributes (torch's ``_metadata``) are dropped."""

    def set_state(self, state: Any, budget: Budget) -> None:
        expect(type(state) is dict, "gives an OrderedDict a state that is not a dict")


class Mapping(OrderedDict):
    """What a class of MAPPINGS becomes: its items, and no attributes."""

    def set_state(self, state: Any, budget: Budget) -> None:
        """They are dropped, whatever they are."""


def expect(condition: object, complaint: str) -> None:
    if not condition:
        raise CheckpointError(complaint)


def set_item(target: Dict[Any, Any], key: Any, value: Any) -> None:
    # Larger integers hash alike by the thousand, which makes a dict of them take quadratic time.
    expect(type(key) is str or type(key) is int and abs(key) < 2**60,
           f"has a dict key that is neither text nor a short integer but {type(key).__name__}")
    target[key] = value


def made(name: Tuple[str, str], args: Any, budget: Budget) -> Any:
    """What stands for an object of this class that is made with these arguments.

    Args:
        name: module and name, one of CLASSES or MAPPINGS.
        args: a tuple; of a Mapping its items are in the dict, or in the list of pairs, among them.
    """
    if name in CLASSES:
        return Record(".".join(name))
    result = Mapping()
    for each in args:
        if isinstance(each, (dict, list)):
            budget.reserve(ITEM_BYTES * len(each))
            for key, value in _pairs(each):
                set_item(result, key, value)
    return result


def _pairs(items: Any) -> Iterator[Tuple[Any, Any]]:
    pairs: List[Any] = list(items.items()) if isinstance(items, dict) else items
    for pair in pairs:
        expect(type(pair) in (list, tuple) and len(pair) == 2, "has a malformed dict")
        yield pair[0], pair[1]
