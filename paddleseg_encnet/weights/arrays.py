"""Turn bytes of an untrusted file into NumPy arrays without believing what the file says of them.

Every weights format says "here are bytes, they are a tensor of this type, shape and strides". Any
of the four can lie. ``to_array`` is the one place where that sentence becomes an array: it checks
it with Python's unbounded integers first, takes the memory from a ``Budget`` that is a small
multiple of the file's size, and copies, so that the result never points into the file.
"""

import math
from typing import List, Optional, Sequence, Union

import numpy as np

# Name of the element type -> (NumPy type of the bytes in the file, type of the array made of it).
# NumPy has no bfloat16; float32 holds all of its values. A bool is read as a byte, because only
# 0 and 1 are valid NumPy booleans.
KINDS = {
    "float64": ("<f8", "float64"),
    "float32": ("<f4", "float32"),
    "float16": ("<f2", "float16"),
    "bfloat16": ("<u2", "float32"),
    "int64": ("<i8", "int64"),
    "int32": ("<i4", "int32"),
    "int16": ("<i2", "int16"),
    "int8": ("|i1", "int8"),
    "uint64": ("<u8", "uint64"),
    "uint32": ("<u4", "uint32"),
    "uint16": ("<u2", "uint16"),
    "uint8": ("|u1", "uint8"),
    "bool": ("|u1", "bool"),
}
Data = Union[bytes, memoryview]
_MAX_DIMENSIONS = 32  # NumPy 1's own limit
_MAX_ELEMENTS = 2**48  # far above any network, far below what overflows in NumPy


class CheckpointError(ValueError):
    """A weights file or state that is refused. The message is one printable line."""

    def __init__(self, message: str):
        # Names come from the file: a line feed or a terminal escape in one must not reach a log.
        super().__init__("".join(
            char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
            for char in str(message)))


class Budget:
    """Bytes that reading one file may still allocate for its values.

    The constant part lets small files be as wasteful as they like; the factor is what a valid
    file needs: at most one encoded copy and one float32 array for each bfloat16 one.
    """

    def __init__(self, file_size: int):
        self._left = 4 * file_size + 2**24

    def reserve(self, count: int) -> None:
        """Reserve ``count`` bytes. Raises CheckpointError if the file has asked for too much."""
        if count > self._left:
            raise CheckpointError(
                f"asks for {count:,} bytes of memory, far more than a file of its size can fill; "
                "it is damaged or made to exhaust the memory")
        self._left -= count


def element_count(shape: Sequence[int]) -> int:
    """Number of elements of ``shape``, a sequence of ints. Raises CheckpointError if invalid."""
    if not isinstance(shape, (tuple, list)) or len(shape) > _MAX_DIMENSIONS \
            or any(type(n) is not int or n < 0 for n in shape):
        raise CheckpointError("has a shape that is not a short list of sizes")
    # Zeros are left out: NumPy refuses (0, 2**62, 2**62) too.
    if math.prod(n for n in shape if n) > _MAX_ELEMENTS:
        raise CheckpointError(f"has an absurd shape of more than {_MAX_ELEMENTS:,} elements")
    return math.prod(shape)


def contiguous_strides(shape: Sequence[int], fortran: bool = False) -> List[int]:
    """Strides, in elements, of a dense array of ``shape`` in C or Fortran order."""
    strides, step = [], 1
    for size in shape if fortran else reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return strides if fortran else strides[::-1]


def to_array(data: Data, kind: str, shape: Sequence[int], budget: Budget, strides: Optional[Sequence[int]] = None,
             offset: int = 0) -> np.ndarray:
    """Copy a tensor out of ``data``.

    Args:
        data: Bytes-like object. It must hold whole elements; without ``strides`` it must hold
            exactly the elements of ``shape``.
        kind (str): A key of ``KINDS``.
        shape (sequence of int): Shape of the result.
        budget (Budget): What pays for the copy.
        strides (sequence of int, optional): Steps in elements, one per dimension, not negative.
        offset (int): First element of the tensor within ``data``.

    Returns:
        np.ndarray: C-contiguous, writable, owning its memory.

    Raises:
        CheckpointError: The description does not fit the bytes.
    """
    in_file, wanted = KINDS[kind]
    stored = np.dtype(in_file)
    count = element_count(shape)
    available = len(data) // stored.itemsize
    if len(data) % stored.itemsize:
        raise CheckpointError(f"has {len(data):,} bytes, not a whole number of {kind} values")
    if strides is None:
        if count != available:
            raise CheckpointError(
                f"has shape {tuple(shape)} of {kind}, which is {count * stored.itemsize:,} bytes, "
                f"but {len(data):,} bytes of data")
        strides = contiguous_strides(shape)
    if not isinstance(strides, (tuple, list)) or len(strides) != len(shape) \
            or any(type(n) is not int or n < 0 for n in (*strides, offset)):
        raise CheckpointError("has strides or an offset that do not describe its shape")
    budget.reserve(count * np.dtype(wanted).itemsize)
    result = np.empty(tuple(shape), wanted)
    if count == 0:
        return result
    if offset + sum((n - 1) * step for n, step in zip(shape, strides)) >= available:
        raise CheckpointError(
            f"reaches outside its storage of {available:,} values (shape {tuple(shape)})")
    # A dimension of size 1 is never stepped along, so its stride may be any number.
    steps = [step * stored.itemsize if n > 1 else 0 for n, step in zip(shape, strides)]
    view: np.ndarray = np.ndarray(tuple(shape), stored, data, offset * stored.itemsize, steps)
    if kind == "bfloat16":
        bits = result.view(np.uint32)  # bfloat16 is the upper half of a float32
        bits[...] = view
        bits <<= np.uint32(16)
    else:
        result[...] = view
    return result
