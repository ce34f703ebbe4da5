"""Read and write safetensors files: a length, a JSON header, and the bytes of the tensors.

The format holds no code. What is left to defend against is a header that lies: about its own
length, about the place of a tensor, about shapes, or a header made to be slow to parse.

The package `safetensors` (0.8.0) was tried in its place: it reads headers that name a tensor twice, have fields that
the format does not know, or are up to 100 MB long (one of 93 MiB took 3 GiB); it does not keep the file's order; and
it gives NumPy no bfloat16 without a further package. Its writer was weighed for itself: the checks of names and sizes
and the file that is whole or absent would stay, some 30 of the 45 lines here.
"""

import json
import os
import struct
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

from paddleseg_encnet.weights.arrays import Budget, CheckpointError, element_count, to_array

# The header of a network of 10,000 tensors has 1 MB. JSON grows by some 20 times when it is parsed.
MAX_HEADER = 8 * 2**20

METADATA = "__metadata__"   # the format's name for them

_KINDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
          "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
          "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool"}
_CODES = {kind: code for code, kind in _KINDS.items() if kind != "bfloat16"}


def looks_like(data: Union[bytes, memoryview]) -> bool:
    """Whether ``data`` (bytes) begins as a safetensors file does."""
    return data[8:9] == b"{" and struct.unpack("<Q", data[:8])[0] <= max(len(data), MAX_HEADER)


def decode_safetensors(data: memoryview) -> Dict[str, np.ndarray]:
    """Read a safetensors file.

    Args:
        data (memoryview): The file.

    Returns:
        dict[str, np.ndarray]: In the order of the file's header; bfloat16 as float32. The free text
        under ``__metadata__`` is left out.

    Raises:
        CheckpointError: The header does not describe the file.
    """
    header, body = _header(data)
    header.pop(METADATA, None)
    budget = Budget(len(data))
    spans, result = [], {}
    for name, entry in header.items():
        try:
            begin, end = _span(entry, len(body))
            kind = entry["dtype"]
            if kind not in _KINDS:
                raise CheckpointError(f"has the element type {kind[:20]}, which is not supported")
            result[name] = to_array(body[begin:end], _KINDS[kind], entry["shape"], budget)
        except CheckpointError as error:
            raise CheckpointError(f"tensor {name[:200]} {error}") from None
        spans.append((begin, end))
    # The format leaves no gaps; bytes that no tensor owns, or that two own, are a sign of damage.
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            raise CheckpointError(f"has tensors that overlap or leave a gap at byte {begin:,} of its data")
        reached = end
    if reached != len(body):
        raise CheckpointError(f"has {len(body) - reached:,} bytes of data that no tensor owns")
    return result


def header_metadata(data: memoryview) -> Dict[str, str]:
    """The texts by name that a safetensors file holds beside its tensors.

    Args:
        data (memoryview): The file.

    Returns:
        dict[str, str]: Empty if there are none.

    Raises:
        CheckpointError: It is no such file, or what stands there are no texts.
    """
    if len(data) < 9 or not looks_like(data):
        raise CheckpointError("is no safetensors file, which alone holds a config beside its weights")
    found = _header(data)[0].get(METADATA, {})
    if type(found) is not dict or not all(type(value) is str for value in found.values()):
        raise CheckpointError("has metadata that are not texts by name")
    return found


def _header(data: memoryview) -> Tuple[Dict[str, Any], memoryview]:
    """(header as JSON has it, the bytes behind it)"""
    size = struct.unpack("<Q", data[:8])[0]
    if size > min(len(data) - 8, MAX_HEADER):
        raise CheckpointError(f"is cut short or damaged: its header should have {size:,} bytes; download it again")
    return _parse(bytes(data[8:8 + size])), data[8 + size:]


def _parse(text: Any) -> Dict[str, Any]:
    def short_int(digits: str) -> int:
        if len(digits) > 20:  # int() of a long string takes quadratic time
            raise CheckpointError(f"has a number of {len(digits):,} digits in its header")
        return int(digits)

    def unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise CheckpointError("has the same name twice in its header")
        return dict(pairs)

    try:
        header = json.loads(text.decode("utf-8"), parse_int=short_int, object_pairs_hook=unique)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"has a header that is not JSON ({error})") from None
    if type(header) is not dict:
        raise CheckpointError("has a header that is not a JSON object")
    return header


def _span(entry: Any, available: int) -> Tuple[int, int]:
    fields = ("dtype", "shape", "data_offsets")
    if type(entry) is not dict or sorted(entry) != sorted(fields) or type(entry["dtype"]) is not str:
        raise CheckpointError(f"is not described by {', '.join(fields)}")
    offsets = entry["data_offsets"]
    if type(offsets) is not list or len(offsets) != 2 or any(type(n) is not int for n in offsets) \
            or not 0 <= offsets[0] <= offsets[1] <= available:
        raise CheckpointError(f"lies outside of the {available:,} bytes of data; if the file is cut short, "
                              "download it again")
    return offsets[0], offsets[1]


def write_safetensors(state: Dict[str, np.ndarray], path: Union[str, os.PathLike],
                      metadata: Optional[Dict[str, str]] = None) -> None:
    """Write arrays as a safetensors file, whole or not at all.

    Args:
        state: Tensors by name. float16/32/64, integers and bool.
        path: The file; replaced if it exists.
        metadata: Texts by name to stand beside them.

    Raises:
        CheckpointError: A name or value that the format cannot hold. Nothing is written.
        OSError: The file cannot be written. What was there before is left as it was.
    """
    path = Path(path)
    for name, array in state.items():
        if type(name) is not str or name == METADATA:
            raise CheckpointError(f"{path}: {name!r} cannot be the name of a tensor in a safetensors file")
        if not isinstance(array, np.ndarray) or array.dtype.name not in _CODES:
            what = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise CheckpointError(f"{path}: {name} is {what}; a safetensors file holds arrays of numbers")
        element_count(array.shape)
    # Wide types first: then every tensor is aligned to its own element size.
    names = sorted(state, key=lambda name: (-state[name].dtype.itemsize, name))
    header: Dict[str, Any] = {METADATA: metadata} if metadata else {}
    end = 0
    for name in names:
        begin, end = end, end + state[name].nbytes
        header[name] = {"dtype": _CODES[state[name].dtype.name], "shape": list(state[name].shape),
                        "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise CheckpointError(f"{path}: {len(names):,} tensors, or what is said of them, are too many for one "
                              "safetensors file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name in names:
                array = state[name]
                file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # only there if something went wrong
