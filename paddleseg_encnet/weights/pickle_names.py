"""The few names that pickles of weights contain, and the inert records they stand for.

A pickle builds an object by naming a function and calling it. ``CALLS`` is the complete list of
functions that files of weights name. None of them is the function of that name: each one checks its
arguments and makes a record of what the file says (``Array``, ``Tensor``, ...). The records hold
views of the file; ``files`` makes arrays of them in the end. What files hold beside weights is in ``records``.
"""

from dataclasses import dataclass
from typing import Any, Optional, Tuple, Union

from paddleseg_encnet.weights import records
from paddleseg_encnet.weights.arrays import Budget, CheckpointError, to_array
from paddleseg_encnet.weights.records import ITEM_BYTES, OrderedDict, Record, expect, set_item

MAX_NAME = 200  # characters of a name that are read, and shown in a message

_NUMPY_CODES = {
    "f8": "float64", "f4": "float32", "f2": "float16", "i8": "int64", "i4": "int32",
    "i2": "int16", "i1": "int8", "u8": "uint64", "u4": "uint32", "u2": "uint16", "u1": "uint8",
    "b1": "bool",
}
_TORCH_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
}


@dataclass(eq=False)
class Name:
    """``module.name`` as the file wrote it; stands for nothing else."""

    module: str
    name: str

    @property
    def key(self) -> Tuple[str, str]:
        return self.module, self.name

    @property
    def storage_kind(self) -> Optional[str]:
        """Element type if this is the name of a torch storage class, else None."""
        return _TORCH_STORAGES.get(self.name) if self.module == "torch" else None


@dataclass(eq=False)
class DType:
    """A plain NumPy element type."""

    kind: str

    def set_state(self, state: Any, budget: Budget) -> None:
        # (version, byte order, sub-array, names, fields, item size, alignment, flags)
        expect(type(state) is tuple and len(state) >= 5 and state[1] in ("<", "|")
               and state[2:5] == (None, None, None),
               "uses a NumPy type that is structured or not little-endian")


@dataclass(eq=False)
class Array:
    """A NumPy array: what its pickle says, not yet checked against the data."""

    kind: str = ""
    shape: tuple = ()
    fortran: bool = False
    data: Optional[memoryview] = None

    def set_state(self, state: Any, budget: Budget) -> None:
        expect(self.data is None and type(state) is tuple and len(state) == 5
               and type(state[2]) is DType and type(state[3]) is bool,
               "has a NumPy array with a malformed state")
        self.data = _bytes(state[4], budget)
        self.kind, self.shape, self.fortran = state[2].kind, state[1], state[3]


@dataclass(eq=False)
class PickledTensor:
    """A torch tensor: a view of ``storage``, which is what ``persistent`` made of its id."""

    storage: Any
    offset: int
    shape: tuple
    strides: tuple


def _bytes(value: Any, budget: Budget) -> memoryview:
    """Bytes of an array: a view of the file, or a ``str`` of Latin-1 (Python 2 had no bytes)."""
    if type(value) is str:
        budget.reserve(len(value))
        try:
            return memoryview(value.encode("latin1"))
        except UnicodeEncodeError:
            raise CheckpointError("has bytes written as text that is not Latin-1") from None
    expect(type(value) is memoryview, "has an array whose data are objects, not bytes")
    return value


# What REDUCE does for each name: functions of (args, budget) that only build records.

def _ordered_dict(args: Any, budget: Budget) -> OrderedDict:
    expect(args == () or len(args) == 1 and type(args[0]) is list, "has a malformed OrderedDict")
    pairs = args[0] if args else ()  # Python 2 wrote the items as a list of pairs
    budget.reserve(ITEM_BYTES * len(pairs))
    result = OrderedDict()
    for pair in pairs:
        expect(type(pair) in (list, tuple) and len(pair) == 2, "has a malformed OrderedDict")
        set_item(result, *pair)
    return result


def _dtype(args: Any, budget: Budget) -> DType:
    expect(args and type(args[0]) is str, "has a malformed NumPy type")
    expect(args[0] in _NUMPY_CODES, f"has a NumPy array of type {args[0][:MAX_NAME]!r}; "
           "only plain numbers are read (object arrays hold pickles of their own)")
    return DType(_NUMPY_CODES[args[0]])


def _empty_array(args: Any, budget: Budget) -> Array:
    expect(len(args) == 3 and type(args[0]) is Name
           and (args[0].module, args[0].name) == ("numpy", "ndarray"),
           "rebuilds something that is not a plain numpy.ndarray")
    return Array()


def _numpy_scalar(args: Any, budget: Budget) -> Union[bool, int, float]:
    expect(len(args) == 2 and type(args[0]) is DType, "has a malformed NumPy scalar")
    return to_array(_bytes(args[1], budget), args[0].kind, (), budget).item()


def _encoded_bytes(args: Any, budget: Budget) -> memoryview:
    # Protocol 2 has no bytes; Python 3 writes them as text and asks for its encoding.
    expect(len(args) == 2 and type(args[0]) is str and args[1] in ("latin1", "latin-1"),
           "calls _codecs.encode with other than text and 'latin1'")
    return _bytes(args[0], budget)


def _empty_bytes(args: Any, budget: Budget) -> memoryview:
    expect(args == (), "calls bytes with arguments")
    return memoryview(b"")


def _attribute(args: Any, budget: Budget) -> Record:
    expect(len(args) == 2 and type(args[0]) is Name and type(args[1]) is str, "has a malformed getattr")
    name = f"{args[0].name}.{args[1][:MAX_NAME]}"
    expect((args[0].module, name) in records.CONSTANTS, f"asks for builtins.getattr of {args[0].module}.{name}")
    return Record(f"{args[0].module}.{name}")


def _tuple(args: Any, budget: Budget) -> tuple:
    expect(len(args) == 1 and type(args[0]) in (tuple, list), "has a malformed tuple")
    budget.reserve(ITEM_BYTES * len(args[0]))
    return tuple(args[0])


def _tensor(args: Any, budget: Budget) -> PickledTensor:
    expect(len(args) >= 4, "has a malformed tensor")
    return PickledTensor(*args[:4])


def _parameter(args: Any, budget: Budget) -> PickledTensor:
    expect(args and type(args[0]) is PickledTensor, "has a malformed parameter")
    return args[0]


CALLS = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("_codecs", "encode"): _encoded_bytes,
    ("__builtin__", "bytes"): _empty_bytes,
    ("builtins", "bytes"): _empty_bytes,
    ("__builtin__", "getattr"): _attribute,
    ("builtins", "getattr"): _attribute,
    ("__builtin__", "tuple"): _tuple,  # paddle.save writes a tensor as tuple((name, array))
    ("builtins", "tuple"): _tuple,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.multiarray", "scalar"): _numpy_scalar,
    ("numpy._core.multiarray", "scalar"): _numpy_scalar,
    ("torch", "Size"): _tuple,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
# Names that are only ever arguments: never called.
WORDS = {("numpy", "ndarray"), *(("torch", name) for name in _TORCH_STORAGES), *records.KNOWN}
