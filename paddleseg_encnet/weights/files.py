"""The layouts of weights files: which one a file has, and how its parts become arrays.

Three kinds are read: Paddle's pickle; PyTorch's zip archive (a pickle ``data.pkl`` plus one entry
for each storage) and its older stream (five pickles, then the storages); and safetensors. A file is
recognised by its first bytes, because names of downloads say little. ``unpickle`` reads the
pickles; this module gives its records their bytes and walks the result, which a hostile file can
make cyclic, or small in memory and exponentially large to walk.
"""

import io
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, Optional

import numpy as np

from paddleseg_encnet.weights import records, safetensors_file
from paddleseg_encnet.weights.arrays import (
    KINDS,
    Budget,
    CheckpointError,
    Data,
    contiguous_strides,
    element_count,
    to_array,
)
from paddleseg_encnet.weights.pickle_names import Array, DType, Name, PickledTensor
from paddleseg_encnet.weights.records import Mapping, OrderedDict, Record, expect
from paddleseg_encnet.weights.unpickle import unpickle

_MAX_DEPTH = 32
_MAX_VALUES = 100_000
_MAX_ENTRIES = 50_000  # of a zip archive; Python keeps half a kilobyte for each
# The pickle of PyTorch's magic number 0x1950a86a20f9469cfc6c.
_LEGACY_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
_LEGACY_PROTOCOL = 1001
# Paddle cuts parameters that are too large for pickle protocol 2 and lists the pieces here.
_PADDLE_PIECES = "UnpackBigParamInfor@@"
PADDLE_NAMES = "StructuredToParameterName@@"

_OTHER_FILES = (
    (rb"\s*<", "a web page, not a checkpoint: the download got an error page or a form; download the file itself"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8", "an image, not a checkpoint"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file it stands for; fetch it with git lfs pull"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "a compressed archive; unpack it and give the file inside"),
    (rb"(?s).{257}ustar", "a tar archive; unpack it and give the file inside"),
    (rb"\x89HDF", "an HDF5 file, which is not a format of Paddle or PyTorch"),
)


def decode_weights(data: bytes, keep_names: bool = False) -> Dict[str, Any]:
    """Read a weights file of any of the known layouts.

    Args:
        data (bytes): The file.
        keep_names (bool): Leave Paddle's table of parameter names in, under ``PADDLE_NAMES``.

    Returns:
        dict: What was saved. Tensors are C-contiguous arrays that own their memory.

    Raises:
        CheckpointError: What is wrong, without the name of the file.
    """
    expect(data, "is empty; download it again")
    for pattern, what in _OTHER_FILES:
        expect(not re.match(pattern, data), f"is {what}")
    view, budget = memoryview(data), Budget(len(data))
    if safetensors_file.looks_like(data):
        return safetensors_file.decode_safetensors(view)
    if data.startswith(b"PK\x03\x04"):
        value = _torch_zip(data, budget)
    elif data.startswith(_LEGACY_MAGIC):
        value = _torch_stream(view, budget)
    # Pickles begin with 0x80 since 2003; an older one is read as far as the name it asks for.
    elif data[0] == 0x80 or re.match(rb"c[\w.]+\n[\w.]+\n", data):
        value = _paddle(view, budget, keep_names)
    else:
        raise CheckpointError(f"is not a Paddle, PyTorch or safetensors file: it begins with {data[:8]!r}")
    expect(type(value) is dict, f"holds a {type(value).__name__}, not a dict of tensors")
    return value


class _Walk:
    """Makes plain values and arrays of what ``unpickle`` returned."""

    def __init__(self, budget: Budget, storage_bytes: Optional[Callable[["_Storage"], Data]] = None,
                 paddle: bool = False):
        self.budget, self.storage_bytes, self.paddle = budget, storage_bytes, paddle
        self.arrays: Dict[int, np.ndarray] = {}  # by id of the record, so that a tensor used twice stays one array
        self.steps = 0

    def value(self, item: Any, depth: int = 0) -> Any:
        self.steps += 1
        expect(depth <= _MAX_DEPTH, f"holds values nested deeper than {_MAX_DEPTH} levels")
        expect(self.steps <= _MAX_VALUES, f"holds more than {_MAX_VALUES:,} values")
        kind = type(item)
        if kind in (type(None), bool, int, float, str):
            return item
        if kind is memoryview:
            self.budget.reserve(len(item))
            return bytes(item)
        if kind in (dict, OrderedDict, Mapping):
            return {key: self.entry(key, value, depth) for key, value in item.items()}
        if kind is list:
            return [self.value(value, depth + 1) for value in item]
        if kind is tuple:
            values = tuple([self.value(value, depth + 1) for value in item])
            # Paddle writes a tensor that is not in a flat state dict as (name, array).
            is_tensor = self.paddle and len(values) == 2 and type(values[0]) is str
            return values[1] if is_tensor and isinstance(values[1], np.ndarray) else values
        if kind in (Array, PickledTensor):
            if id(item) not in self.arrays:
                self.arrays[id(item)] = self.array(item) if kind is Array else self.tensor(item)
            return self.arrays[id(item)]
        if kind is Record:
            return item
        if kind is DType or kind is Name and item.key in records.KNOWN:
            return Record("numpy.dtype" if kind is DType else f"{item.module}.{item.name}")
        raise CheckpointError(f"holds a {f'{item.module}.{item.name}' if kind is Name else kind.__name__} as a value")

    def entry(self, key: Any, value: Any, depth: int) -> Any:
        try:
            return self.value(value, depth + 1)
        except CheckpointError as error:
            raise CheckpointError(f"[{str(key)[:200]}] {error}") from None

    def array(self, item: Array) -> np.ndarray:
        if item.data is None:
            raise CheckpointError("has a NumPy array without data")
        # Paddle has no uint16 tensors: it hands its bfloat16 ones to NumPy under that type.
        kind = "bfloat16" if self.paddle and item.kind == "uint16" else item.kind
        element_count(item.shape)
        item_size = np.dtype(KINDS[kind][0]).itemsize
        expect(element_count(item.shape) * item_size == len(item.data),
               f"has shape {tuple(item.shape)} of {kind}, which is not {len(item.data):,} bytes")
        strides = contiguous_strides(item.shape, item.fortran)
        return to_array(item.data, kind, item.shape, self.budget, strides)

    def tensor(self, item: PickledTensor) -> np.ndarray:
        storage = item.storage
        if type(storage) is not _Storage or self.storage_bytes is None:
            raise CheckpointError("has a tensor without a storage")
        return to_array(self.storage_bytes(storage), storage.kind, item.shape, self.budget, item.strides, item.offset)


def _paddle(data: memoryview, budget: Budget, keep_names: bool) -> Any:
    value, end = unpickle(data, budget)
    expect(end == len(data), f"has {len(data) - end:,} bytes behind its end")
    value = _Walk(budget, paddle=True).value(value)
    if type(value) is dict:
        if not keep_names:
            value.pop(PADDLE_NAMES, None)  # the names Paddle gave the tensors in the process that saved them
        _join_pieces(value)
    return value


def _join_pieces(state: Dict[Any, Any]) -> None:
    """Put large parameters together again; each piece can be used once, so this copies the file at most once."""
    cut = state.pop(_PADDLE_PIECES, {})
    expect(type(cut) is dict, f"has a malformed {_PADDLE_PIECES}")
    for name, info in cut.items():
        pieces: Any = info.get("slices") if type(info) is dict else None
        shape: Any = info.get("OriginShape") if type(info) is dict else None
        expect(type(name) is str and name not in state and type(pieces) is list and pieces
               and all(type(piece) is str for piece in pieces), f"has a malformed {_PADDLE_PIECES}")
        arrays = [state.pop(piece, None) for piece in pieces]
        expect(all(isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype == arrays[0].dtype
                   for array in arrays), f"[{name}] is cut in pieces that are missing or malformed")
        expect(sum(array.size for array in arrays) == element_count(shape),
               f"[{name}] is cut in pieces that do not give its shape back")
        state[name] = np.empty(shape, arrays[0].dtype)
        np.concatenate(arrays, out=state[name].reshape(-1))


@dataclass(frozen=True)
class _Storage:
    """A run of values that tensors are views of: ``count`` of them from ``start`` of ``key``."""

    key: str
    kind: str
    total: int
    start: int
    count: int

    @property
    def item_size(self) -> int:
        return np.dtype(KINDS[self.kind][0]).itemsize


def _storage(reference: Any) -> _Storage:
    """Make a storage of a persistent id: ('storage', class, key, device, count[, view])."""
    expect(type(reference) is tuple and len(reference) in (5, 6) and reference[0] == "storage"
           and type(reference[1]) is Name and reference[1].storage_kind
           and type(reference[2]) is str and type(reference[4]) is int and reference[4] >= 0,
           "refers to something that is not a tensor's storage")
    key, total = reference[2], reference[4]
    start, count = 0, total
    if len(reference) == 6 and reference[5] is not None:
        view = reference[5]  # (key of the view, first value, number of values)
        expect(type(view) is tuple and len(view) == 3 and type(view[1]) is int and type(view[2]) is int
               and 0 <= view[1] and 0 <= view[2] and view[1] + view[2] <= total,
               "has a storage that reaches outside another one")
        start, count = view[1:]
    return _Storage(key, reference[1].storage_kind, total, start, count)


def _storage_reader(entry: Callable[[_Storage], Data]) -> Callable[[_Storage], Data]:
    """Bytes of a storage, where ``entry(storage)`` gives the bytes that were saved under its key."""
    def read(storage: _Storage) -> Data:
        raw = entry(storage)
        expect(len(raw) == storage.total * storage.item_size,
               f"has a storage of {storage.total:,} {storage.kind} values but {len(raw):,} bytes for it")
        return raw[storage.start * storage.item_size:][:storage.count * storage.item_size]
    return read


def _torch_stream(data: memoryview, budget: Budget) -> Any:
    """PyTorch's format before 1.6: magic, version, system, object, storage keys; then the storages."""
    version, end = unpickle(data, budget, len(_LEGACY_MAGIC))
    expect(version == _LEGACY_PROTOCOL and type(version) is int, "is of a PyTorch format that is not known")
    system, end = unpickle(data, budget, end)
    expect(type(system) is dict and system.get("little_endian") is True, "was not written on a little-endian machine")
    seen: Dict[str, _Storage] = {}

    def persistent(reference: Any) -> _Storage:
        storage = _storage(reference)
        first = seen.setdefault(storage.key, storage)
        expect((first.kind, first.total) == (storage.kind, storage.total), "describes one storage in two ways")
        return storage

    value, end = unpickle(data, budget, end, persistent)
    keys, end = unpickle(data, budget, end)
    expect(type(keys) is list and all(type(key) is str for key in keys) and sorted(keys) == sorted(seen),
           "has a list of storages that is not the one its tensors use")
    stored: Dict[str, memoryview] = {}
    for key in keys:
        size = 8 + seen[key].total * seen[key].item_size
        expect(size <= len(data) - end, f"is cut short in storage {key[:200]}; download it again")
        expect(struct.unpack("<q", data[end:end + 8])[0] == seen[key].total,
               f"has a storage {key[:200]} whose two sizes differ")
        stored[key] = data[end + 8:end + size]
        end += size
    expect(end == len(data), f"has {len(data) - end:,} bytes behind its end")
    return _Walk(budget, _storage_reader(lambda storage: stored[storage.key])).value(value)


def _torch_zip(data: bytes, budget: Budget) -> Any:
    entries = _zip_entries(data)
    pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    expect(len(pickles) == 1, "is a zip archive without the data.pkl of a PyTorch checkpoint; if it was packed "
           "for the download, unpack it and give the file inside")
    root = pickles[0][:-len("data.pkl")]
    opened: Dict[str, memoryview] = {}

    def read(name: str) -> memoryview:
        if name not in opened:
            expect(name in entries, f"lacks the archive entry {name[:200]}; download it again")
            opened[name] = _zip_read(data, entries[name], budget)
        return opened[name]

    if root + "byteorder" in entries:
        expect(bytes(read(root + "byteorder")) == b"little", "was not written on a little-endian machine")
    pickle = read(pickles[0])
    value, end = unpickle(pickle, budget, persistent=_storage)
    expect(end == len(pickle), f"has {len(pickle) - end:,} bytes behind the end of its pickle")
    return _Walk(budget, _storage_reader(lambda storage: read(f"{root}data/{storage.key}"))).value(value)


def _zip_entries(data: bytes) -> Dict[str, zipfile.ZipInfo]:
    # zipfile reads as many directory entries as there are; each costs ten times its own size.
    expect(data.count(b"PK\x01\x02") <= _MAX_ENTRIES, f"is a zip archive of more than {_MAX_ENTRIES:,} entries")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OSError) as error:
        raise CheckpointError(f"is a damaged or cut zip archive ({error}); download it again") from None
    entries = {info.filename: info for info in infos}
    expect(len(entries) == len(infos), "is a zip archive with two entries of one name")
    return entries


def _zip_read(data: bytes, info: zipfile.ZipInfo, budget: Budget) -> memoryview:
    """Bytes of one entry: a view of the file if stored, as PyTorch does it; else decompressed."""
    name = info.filename[:200]
    # zipfile would decompress first and compare with the stated size afterwards; here it is a bound.
    begin = info.header_offset
    header = data[begin:begin + 30] if begin >= 0 else b""
    expect(len(header) == 30 and header[:4] == b"PK\x03\x04", f"has no archive entry {name} where it should be")
    begin += 30 + sum(struct.unpack("<HH", header[26:30]))
    raw = memoryview(data)[begin:begin + info.compress_size]
    expect(len(raw) == info.compress_size, f"is cut short in archive entry {name}; download it again")
    if info.compress_type == zipfile.ZIP_DEFLATED:
        budget.reserve(info.file_size)
        try:
            raw = memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, info.file_size + 1))
        except zlib.error as error:
            raise CheckpointError(f"has a damaged archive entry {name} ({error}); download it again") from None
    else:
        expect(info.compress_type == zipfile.ZIP_STORED, f"has an archive entry {name} of an unusual compression")
    expect(len(raw) == info.file_size, f"has an archive entry {name} that is not of the stated size")
    expect(zlib.crc32(raw) == info.CRC, f"has a damaged archive entry {name} (wrong check sum); download it again")
    return raw
