"""Files made to run code, to fill the memory or never to end, and files that are just broken.

Every case must end in CheckpointError, quickly and without effect. The first test shows that the
code in the files is real: Python's own unpickler runs it.
"""

import contextlib
import copyreg
import functools
import io
import json
import os
import pickle
import random
import re
import runpy
import struct
import subprocess
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from limited_memory import MIB, limited_memory

from paddleseg_encnet.weights import checkpoint
from paddleseg_encnet.weights.checkpoint import CheckpointError

FIXTURES = Path(__file__).parent / "fixtures"


def refusal(path, data=None):
    """The one-line message with which ``path`` is refused."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read_weights(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and message.isprintable()
    return message


def test_the_memory_limit_works():
    with pytest.raises(AssertionError, match="80.0 MiB"), limited_memory(64 * MIB):
        np.empty(80 * MIB, "uint8")


class Call:
    """Pickles as a call of ``function(*args)``."""

    def __init__(self, function, *args, state=None):
        self.call = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.call


class Setter:
    """Has a ``__setstate__`` that acts when the pickle is read."""

    def __init__(self, command):
        self.command = command

    def __setstate__(self, state):
        os.system(state["command"])


class Reducer(OrderedDict):
    pass


def text_pickle(command):
    return b"cos\nsystem\n(S'" + command.encode() + b"'\ntR."


def instance_pickle(command):
    return b"\x80\x02(X" + struct.pack("<I", len(command)) + command.encode() + b"ios\nsystem\n."


# name in the message, function of (shell command, Python statement, folder) that makes what is pickled
CODE = {
    "os.system": ("os.system (written", lambda sh, py, folder: Call(os.system, sh)),
    "eval": ("builtins.eval", lambda sh, py, folder: Call(eval, "exec(" + repr(py) + ")")),
    "exec": ("builtins.exec", lambda sh, py, folder: Call(exec, py)),
    "subprocess": ("subprocess", lambda sh, py, folder: Call(subprocess.call, ["sh", "-c", sh])),
    "getattr chain": ("builtins.__import__", lambda sh, py, folder: [
        Call(getattr, Call(getattr, Call(__import__, "os"), "path"), "join"), Call(os.system, sh)]),
    "import": ("builtins.__import__", lambda sh, py, folder: [Call(__import__, "os"), Call(exec, py)]),
    "pickle.loads": ("pickle.loads", lambda sh, py, folder: Call(pickle.loads, pickle.dumps(Call(os.system, sh)))),
    "python pickle.loads": ("pickle._loads",
                            lambda sh, py, folder: Call(pickle._loads, pickle.dumps(Call(os.system, sh)))),
    "object array": ("object arrays", lambda sh, py, folder: np.array([Call(os.system, sh)], dtype=object)),
    "numpy load": ("numpy", lambda sh, py, folder: Call(np.load, nested_npy(sh, folder), None, True)),
    "setstate": ("Setter", lambda sh, py, folder: Setter(sh)),
    "copyreg": ("copyreg", lambda sh, py, folder: [Call(copyreg._reconstructor, list, list, []), Call(os.system, sh)]),
    "state of a call": ("os.system (written",
                        lambda sh, py, folder: Call(OrderedDict, state={"_metadata": Call(os.system, sh)})),
    "subclass": ("Reducer", lambda sh, py, folder: [Reducer(), Call(os.system, sh)]),
    "partial": ("functools.partial", lambda sh, py, folder: Call(functools.partial(os.system, sh))),
    "run_path": ("runpy", lambda sh, py, folder: Call(runpy.run_path, script(py, folder))),
    "dict key": ("os.system (written", lambda sh, py, folder: {1: {(Call(os.system, sh),): 2}}),
}
OLD_NAMES = {"subprocess": "commands", "copyreg": "copy_reg"}  # protocol 2 writes the names of Python 2


def nested_npy(command, folder):
    name = str(folder / "objects.npy")
    np.save(name, np.array([Call(os.system, command)], dtype=object), allow_pickle=True)
    return name


def script(text, folder):
    (folder / "script.py").write_text(text)
    return str(folder / "script.py")


def hostile(kind, folder, protocol):
    """(pickle, sentinel file that it creates when it is run)"""
    sentinel = folder / "sentinel"
    value = CODE[kind][1](f"touch {sentinel}", f"open({str(sentinel)!r}, 'w').close()", folder)
    return pickle.dumps({"weight": np.zeros(3, "float32"), "bad": value}, protocol), sentinel


@pytest.mark.parametrize("kind", CODE)
def test_the_code_in_these_files_is_real(kind, tmp_path):
    data, sentinel = hostile(kind, tmp_path, 4)
    assert not sentinel.exists()
    pickle.loads(data)
    assert sentinel.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", CODE)
def test_code_is_refused_by_name_and_not_run(kind, protocol, tmp_path):
    data, sentinel = hostile(kind, tmp_path, protocol)
    message = refusal(tmp_path / "bad.pdparams", data)
    wanted = CODE[kind][0]
    assert wanted in message or protocol == 2 and OLD_NAMES.get(wanted, wanted) in message
    assert re.search(r"\(byte [\d,]+, opcode [A-Z_]+\)$", message)
    assert not sentinel.exists()


@pytest.mark.parametrize("make", [text_pickle, instance_pickle])
def test_old_opcodes_are_refused_by_name(make, tmp_path):
    sentinel = tmp_path / "sentinel"
    data = make(f"touch {sentinel}")
    assert "os.system" in refusal(tmp_path / "bad.pdparams", data)
    assert not sentinel.exists()
    pickle.loads(data)
    assert sentinel.exists()


def torch_zip(pickled, storages=None, method=zipfile.ZIP_STORED, byteorder="little"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", byteorder)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return buffer.getvalue()


NO_KEYS = pickle.dumps([], 2)
LITTLE_ENDIAN = pickle.dumps({"little_endian": True}, 2)


def torch_stream(value, keys=NO_KEYS, storages=b"", system=LITTLE_ENDIAN):
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    return magic + pickle.dumps(1001, 2) + system + value + keys + storages


@pytest.mark.parametrize("kind", CODE)
def test_code_in_torch_files_is_refused(kind, tmp_path):
    data, sentinel = hostile(kind, tmp_path, 2)
    path = tmp_path / "bad.pth"
    good = pickle.dumps({}, 2)
    files = [torch_zip(data), torch_stream(data), torch_stream(good, keys=data), torch_stream(good, system=data)]
    for bad in files:
        refusal(path, bad)
    assert not sentinel.exists()
    path.write_bytes(torch_zip(good))
    assert checkpoint.read_weights(path) == {}
    path.write_bytes(torch_stream(good))
    assert checkpoint.read_weights(path) == {}


def named(module, name):
    return f"c{module}\n{name}\n".encode()


@pytest.mark.parametrize("module, name", [
    ("torch.hub", "load"), ("torch", "load"), ("torch.serialization", "load"), ("torch.jit", "load"),
    ("torch.storage", "_load_from_bytes"), ("numpy", "load"), ("numpy.core.multiarray", "fromfile"),
    ("numpy", "dtype.__class__"), ("collections", "OrderedDict.fromkeys"), ("_codecs", "decode"),
    ("paddle", "load"), ("__builtin__", "eval"), ("builtins", "bytearray"), ("builtins", "type"),
    ("argparse", "ArgumentParser"), ("datetime", "datetime.now"), ("pathlib", "os"), ("torch", "device.__class__"),
    ("paddleseg_encnet.weights.checkpoint", "read"), ("torch", "FloatStorage.from_file"),
    ("torch._utils", "__loader__"),
])
def test_only_exact_names_are_known(module, name, tmp_path):
    message = refusal(tmp_path / "bad.pdparams", b"\x80\x02" + named(module, name) + b")R.")
    assert "asks for " in message and f"{module}.{name}" in message and "(byte 2, opcode GLOBAL)" in message


def test_a_name_cannot_forge_the_message(tmp_path):
    name = "x\nall is well\x1b[2J"
    data = b"\x80\x04" + short("os") + short(name) + b"\x93."
    assert "os.x\\nall is well\\x1b[2J" in refusal(tmp_path / "bad.pdparams", data)


def short(text):
    return b"\x8c" + bytes([len(text)]) + text.encode()


DTYPE = named("numpy", "dtype") + b"(X\x02\x00\x00\x00f4\x89\x88tR(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xff" \
    b"J\xff\xff\xff\xffK\x00tb"
EMPTY_ARRAY = named("numpy.core.multiarray", "_reconstruct") + b"(" + named("numpy", "ndarray") + b"K\x00\x85C\x01btR"


def array(shape, data, tail=b""):
    """The opcodes of a float32 array; ``shape`` and ``data`` are opcodes too."""
    return EMPTY_ARRAY + b"(K\x01" + shape + DTYPE + b"\x89" + data + b"tb" + tail


def in_dict(opcodes):
    return b"\x80\x04}" + short("w") + opcodes + b"s."


def tensor(storage_count, offset, shape, strides, stored=b"\0" * 16, kind="FloatStorage", view=None,
           rebuild="_rebuild_tensor_v2"):
    """A PyTorch zip archive with one tensor, of a part of its storage if ``view`` is (first, count)."""
    def number(value):
        return pickle.dumps(value, 2)[2:-1]
    reference = b"(X\x07\x00\x00\x00storage" + named("torch", kind) + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu" \
        + number(storage_count) + (number(("v", *view)) if view else b"") + b"tQ"
    opcodes = named("torch._utils", rebuild) + b"(" + reference + number(offset) \
        + tuple_of(number, shape) + tuple_of(number, strides) + (b"\x89}tR" if rebuild.endswith("v2") else b"tR")
    return torch_zip(b"\x80\x02}X\x01\x00\x00\x00w" + opcodes + b"s.", {"0": stored})


def tuple_of(number, values):
    return b"(" + b"".join(number(value) for value in values) + b"t"


def laughs():
    """28 lists, each of which holds the one before ten times: 10**28 values in 1 kB."""
    body = b"]"
    for level in range(28):
        body += b"q" + bytes([level]) + b"](" + (b"h" + bytes([level])) * 10 + b"e"
    # The unused inner lists stay on the stack; a tuple takes them all up.
    return b"\x80\x04}" + short("w") + b"(" + body + b"ts."


def safetensors(header, body=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + body


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def lying_bomb():
    """A deflated pickle of 64 MiB whose stated size is 100 bytes."""
    data = torch_zip(b"\x80\x04" + b"}" * (64 * MIB), method=zipfile.ZIP_DEFLATED)
    return data.replace(struct.pack("<I", 64 * MIB + 2), struct.pack("<I", 100))


def fixture(name):
    return (FIXTURES / name).read_bytes()


def with_wrong_crc():
    data = fixture("torch_zip.pth")
    value = np.arange(12, dtype="float32").tobytes()
    assert data.count(value) == 1
    return data.replace(value, np.arange(1, 13, dtype="float32").tobytes())


def pieces(info):
    return pickle.dumps({"p": np.zeros(2, "float32"), "UnpackBigParamInfor@@": info}, 4)


def stream(keys=("0",), stored_count=4, tail=b"", system=None, version=1001, extra=b""):
    """PyTorch's older stream with one tensor of four values, right unless told otherwise."""
    with zipfile.ZipFile(io.BytesIO(tensor(4, 0, (4,), (1,)))) as archive:
        value = archive.read("archive/data.pkl")[:-1] + extra + b"."
    return torch_stream(value, pickle.dumps(list(keys), 2), struct.pack("<q", stored_count) + b"\0" * 16 + tail,
                        pickle.dumps(system or {"little_endian": True}, 2)) \
        .replace(pickle.dumps(1001, 2), pickle.dumps(version, 2), 1)


SECOND = b"X\x01\x00\x00\x00v(X\x07\x00\x00\x00storage" + named("torch", "ByteStorage") \
    + b"X\x01\x00\x00\x000NK\x10tQs"


def in_directory(field, value):
    """An archive with a wrong number at byte ``field`` of its last directory entry, that of the storage."""
    data = bytearray(tensor(4, 0, (4,), (1,)))
    at = data.rindex(b"PK\x01\x02") + field
    data[at:at + len(value)] = value
    return bytes(data)


def renamed(data, old, new):
    assert len(old) == len(new) and old in data
    return data.replace(old, new)


huge = struct.pack("<Q", 2**60)
RESOURCES = {
    # lengths
    "BINBYTES8": (in_dict(b"\x8e" + huge + b"x"), "cut short or damaged: 1,152,921,504,606,846,976 bytes"),
    "BINUNICODE8": (in_dict(b"\x8d" + huge + b"x"), "cut short or damaged"),
    "BINBYTES": (in_dict(b"B\xff\xff\xff\xffx"), "cut short or damaged: 4,294,967,295 bytes"),
    "BYTEARRAY8": (in_dict(b"\x96" + huge + b"x"), "opcode BYTEARRAY8"),
    "FRAME": (b"\x80\x04\x95" + huge + b"}.", "frame is longer"),
    "LONG4": (in_dict(b"\x8b\xff\xff\xff\x7f"), "opcode LONG4"),
    "LONG1": (in_dict(b"\x8a\xff" + b"\x7f" * 255), "integer of 255 bytes"),
    # endless and deep
    "DUP": (b"\x80\x04]" + b"2" * 10**6 + b".", "opcode DUP"),
    "POP": (b"\x80\x04" + b"]0" * 10**6 + b".", "opcode POP"),
    "many dicts": (b"\x80\x04" + b"}" * 10**7, "more than 250,000 opcodes"),
    "many marks": (b"\x80\x04" + b"(" * 10**7, "more than 250,000 opcodes"),
    "memo": (b"\x80\x04}" + b"\x94" * 10**7, "more than 250,000 opcodes"),
    "no end": (b"\x80\x04}", "cut short"),
    "deep lists": (in_dict(b"(" + b"]" * 10**4 + b"a" * (10**4 - 1) + b"t"), "deeper than 32"),
    "deep tuples": (in_dict(b")" + b"\x85" * 10**4), "deeper than 32"),
    "cycle": (in_dict(b"]q\x00h\x00a"), "deeper than 32"),
    "cyclic dict": (b"\x80\x04}q\x00" + short("w") + b"h\x00s.", "deeper than 32"),
    "laughs of lists": (laughs(), "more than 100,000 values"),
    "laughs of tuples": (in_dict(b")" + b"q\x00h\x00h\x00\x87" * 20), "more than 100,000 values"),
    # copies of what is in the file once
    "encode": (in_dict(b"(X" + struct.pack("<I", MIB) + b"a" * MIB + b"q\x00" + (named("_codecs", "encode")
                       + b"h\x00X\x06\x00\x00\x00latin1\x86R") * 100 + b"t"), "bytes of memory"),
    "array": (in_dict(b"(C\x00B" + struct.pack("<I", MIB) + b"a" * MIB + b"q\x00"
                      + array(b"J" + struct.pack("<i", MIB // 4) + b"\x85", b"h\x00") * 100 + b"t"),
              "bytes of memory"),
    "tuple": (in_dict(b"(](" + b"K\x00" * 10**5 + b"eq\x00" + (named("builtins", "tuple") + b"h\x00\x85R") * 1000
                      + b"t"), "bytes of memory"),
    "OrderedDict": (in_dict(b"(](" + b"".join(b"J" + struct.pack("<i", n) + b"N\x86" for n in range(10**4))
                            + b"eq\x00" + (named("collections", "OrderedDict") + b"h\x00\x85R") * 100 + b"t"),
                    "bytes of memory"),
    # arrays that are not what they say
    "shape too large": (in_dict(array(b"K\x05\x85", b"C\x04aaaa")), "not 4 bytes"),
    "shape too small": (in_dict(array(b"K\x01\x85", b"C\x08aaaaaaaa")), "not 8 bytes"),
    "absurd shape": (in_dict(array(b"\x8a\x10" + b"\xff" * 15 + b"\x7f\x85", b"C\x00")), "absurd shape"),
    "absurd empty shape": (in_dict(array(b"K\x00\x8a\x08" + b"\xff" * 7 + b"\x7f\x86", b"C\x00")), "absurd shape"),
    "negative shape": (in_dict(array(b"J\xff\xff\xff\xff\x85", b"C\x00")), "shape that is not"),
    "many dimensions": (in_dict(array(b"(" + b"K\x01" * 33 + b"t", b"C\x04aaaa")), "shape that is not"),
    "list as data": (in_dict(array(b"K\x01\x85", b"](K\x01e")), "data are objects"),
    "state twice": (in_dict(array(b"K\x01\x85", b"C\x04aaaa", b"Nb")), "malformed state"),
    "array without state": (in_dict(EMPTY_ARRAY), "without data"),
    "object dtype": (in_dict(named("numpy", "dtype") + b"X\x02\x00\x00\x00O8\x85R"), "'O8'"),
    "state of a dict": (in_dict(b"}}b"), "sets attributes of a dict"),
    "state of a name": (in_dict(named("numpy", "ndarray") + b"}b"), "sets attributes of a Name"),
    "bare name": (in_dict(named("numpy", "ndarray")), "numpy.ndarray as a value"),
    "OrderedDict state": (in_dict(named("collections", "OrderedDict") + b")RNb"), "state that is not a dict"),
    "OrderedDict items": (in_dict(named("collections", "OrderedDict") + b"(](K\x01et" + b"R"), "malformed OrderedDict"),
    "OrderedDict of a number": (in_dict(named("collections", "OrderedDict") + b"K\x01\x85R"), "malformed OrderedDict"),
    "dtype of nothing": (in_dict(named("numpy", "dtype") + b")R"), "malformed NumPy type"),
    "tuple of a number": (in_dict(named("builtins", "tuple") + b"K\x01\x85R"), "malformed tuple"),
    "scalar of nothing": (in_dict(named("numpy.core.multiarray", "scalar") + b")R"), "malformed NumPy scalar"),
    "parameter of nothing": (in_dict(named("torch._utils", "_rebuild_parameter") + b")R"), "malformed parameter"),
    "tensor of nothing": (in_dict(named("torch._utils", "_rebuild_tensor_v2") + b")R"), "malformed tensor"),
    "tensor of no storage": (in_dict(named("torch._utils", "_rebuild_tensor_v2") + b"(NK\x00))tR"),
                             "without a storage"),
    "instance": (in_dict(b"(icollections\nOrderedDict\n"), "makes an instance"),
    "name of numbers": (in_dict(b"K\x01K\x02\x93"), "without text"),
    "long name": (in_dict(b"c" + b"a" * 10**6 + b"\n"), "longer than 200"),
    "append to a dict": (b"\x80\x04}Na.", "adds items to a dict"),
    "set item of a list": (b"\x80\x04]NNs.", "adds items to a list"),
    "no mark": (in_dict(b"t"), "never opened"),
    "memo miss": (in_dict(b"h\x07"), "never stored"),
    "protocol": (b"\x80\x09}.", "unknown protocol 9"),
    "big-endian": (in_dict(array(b"K\x01\x85", b"C\x04aaaa").replace(b"<", b">")), "not little-endian"),
    "structured": (in_dict(array(b"K\x01\x85", b"C\x04aaaa").replace(b"<NNN", b"<N)N")), "structured"),
    "subarray": (in_dict(array(b"K\x01\x85", b"C\x04aaaa").replace(b"ndarray", b"dtype")), "plain numpy.ndarray"),
    "call of a dict's class": (in_dict(named("builtins", "dict") + b")R"), "not a known function"),
    "call of a record": (in_dict(named("argparse", "Namespace") + b")R)R"), "not a known function"),
    "method of a record": (in_dict(named("builtins", "getattr") + b"(" + named("argparse", "Namespace")
                                   + short("__init__") + b"tR"), "builtins.getattr of argparse.Namespace.__init__"),
    "call of a record's method": (in_dict(named("builtins", "getattr")
                                          + b"(" + named("mmengine.logging.history_buffer", "HistoryBuffer")
                                          + short("min") + b"tR)R"), "not a known function"),
    "getattr of a call": (in_dict(named("builtins", "getattr") + b"(" + named("argparse", "Namespace") + b")R"
                                  + short("min") + b"tR"), "malformed getattr"),
    "attribute of a module": (in_dict(named("builtins", "getattr") + b"(" + named("numpy", "ndarray") + short("tofile")
                                      + b"tR"), "builtins.getattr of numpy.ndarray.tofile"),
    "new object of a function": (in_dict(named("_codecs", "encode") + b")\x81"), "opcode NEWOBJ"),
    "new object of a word": (in_dict(named("torch", "float32") + b")}\x92"), "opcode NEWOBJ_EX"),
    "items of a list": (in_dict(b"](N\x90"), "adds items to a list"),
    "key of a Counter": (in_dict(named("collections", "Counter") + b"]]N\x86a\x85R"), "short integer but list"),
    "pairs of a Counter": (in_dict(named("collections", "Counter") + b"]Na\x85R"), "malformed dict"),
    "Counter": (in_dict(b"(](" + b"".join(b"J" + struct.pack("<i", n) + b"N\x86" for n in range(10**4))
                        + b"eq\x00" + (named("collections", "Counter") + b"h\x00\x85R") * 100 + b"t"),
                "bytes of memory"),
    "call of a class": (in_dict(named("numpy", "ndarray") + b")R"), "not a known function"),
    "call of a dict": (in_dict(b"})R"), "not a known function"),
    "new object": (in_dict(named("collections", "OrderedDict") + b")\x81"), "opcode NEWOBJ"),
    "other encoding": (in_dict(named("_codecs", "encode") + b"X\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86R"),
                       "_codecs.encode"),
    "bytes(n)": (in_dict(named("builtins", "bytes") + b"J\xff\xff\xff\x7f\x85R"), "bytes with arguments"),
    "extension": (in_dict(b"\x82\x01"), "opcode EXT1"),
    "persistent id": (in_dict(b")Q"), "outside of the file"),
    "tuple as key": (b"\x80\x04})Ns.", "short integer but tuple"),
    "list as key": (b"\x80\x04}]Ns.", "short integer but list"),
    "keys of one hash": (b"\x80\x04}(" + b"".join(b"\x8a\x0c" + (n * (2**61 - 1)).to_bytes(12, "little") + b"N"
                                                for n in range(1000)) + b"u.", "short integer but int"),
    "pop across a mark": (b"\x80\x04}(s.", "empty stack"),
    "behind the end": (b"\x80\x04}.}.", "2 bytes behind its end"),
    "left over": (b"\x80\x04}}.", "values left over"),
    "not a dict": (b"\x80\x04].", "holds a list"),
    "pieces missing": (pieces({"w": {"OriginShape": (2,), "slices": ["p", "p"]}}), "missing or malformed"),
    "pieces of another size": (pieces({"w": {"OriginShape": (3,), "slices": ["p"]}}), "do not give its shape"),
    "pieces without a name": (pieces({3: {"OriginShape": (2,), "slices": ["p"]}}), "malformed UnpackBigParamInfor@@"),
    "pieces in a list": (pieces([]), "malformed UnpackBigParamInfor@@"),
    # torch tensors
    "storage too large": (tensor(10**15, 0, (4,), (1,)), "16 bytes for it"),
    "storage too small": (tensor(2, 0, (2,), (1,)), "16 bytes for it"),
    "negative storage": (tensor(-1, 0, (2,), (1,)), "not a tensor's storage"),
    "offset outside": (tensor(4, 1, (4,), (1,)), "outside its storage"),
    "negative offset": (tensor(4, -1, (4,), (1,)), "do not describe"),
    "stride outside": (tensor(4, 0, (2, 2), (3, 1)), "outside its storage"),
    "huge stride": (tensor(4, 0, (2,), (2**70,)), "outside its storage"),
    "negative stride": (tensor(4, 3, (4,), (-1,)), "do not describe"),
    "strides missing": (tensor(4, 0, (4,), ()), "do not describe"),
    "expanded": (tensor(4, 0, (10**9,), (0,)), "bytes of memory"),
    "odd bytes": (tensor(4, 0, (4,), (1,), b"\0" * 15), "15 bytes for it"),
    "unknown storage": (tensor(4, 0, (4,), (1,), kind="UntypedStorage"), "torch.UntypedStorage"),
    "view outside": (tensor(4, 0, (2,), (1,), view=(3, 2)), "outside another one"),
    "tensor outside its view": (tensor(4, 0, (3,), (1,), view=(1, 2)), "outside its storage"),
    "absurd stream storage": (torch_stream(
        b"\x80\x02" + zipfile.ZipFile(io.BytesIO(tensor(2**60, 0, (1,), (1,)))).read("archive/data.pkl")[2:],
        pickle.dumps(["0"], 2), struct.pack("<q", 2**60)), "cut short in storage 0"),
    "stream of another protocol": (stream(version=1002), "not known"),
    "big-endian stream": (stream(system={"little_endian": False}), "not written on a little-endian"),
    "stream without its key": (stream(keys=()), "list of storages"),
    "stream with a key twice": (stream(keys=("0", "0")), "list of storages"),
    "stream with another count": (stream(stored_count=5), "two sizes differ"),
    "stream with a tail": (stream(tail=b"x"), "1 bytes behind its end"),
    "stream storage twice": (stream(extra=SECOND), "in two ways"),
    # zip archives
    "storage missing": (renamed(tensor(4, 0, (4,), (1,)), b"archive/data/0", b"archive/data/1"), "lacks the archive"),
    "big-endian archive": (torch_zip(in_dict(b"N"), byteorder="big"), "not written on a little-endian"),
    "many entries": (torch_zip(in_dict(b"N"), {"0": b"PK\x01\x02" * 60_000}), "more than 50,000 entries"),
    "one name twice": (renamed(torch_zip(in_dict(b"N"), {"0": b"", "1": b""}), b"data/1", b"data/0"), "of one name"),
    "entry cut": (in_directory(20, struct.pack("<II", 10**6, 10**6)), "cut short in archive entry"),
    "entry elsewhere": (in_directory(42, struct.pack("<I", 5)), "no archive entry"),
    "behind the pickle": (torch_zip(in_dict(b"N") + b"x"), "1 bytes behind the end of its pickle"),
    "zip bomb": (torch_zip(b"\x80\x04" + b"}" * (64 * MIB), method=zipfile.ZIP_DEFLATED), "bytes of memory"),
    "lying zip bomb": (lying_bomb(), "stated size"),
    "wrong check sum": (with_wrong_crc(), "wrong check sum"),
    "lzma": (torch_zip(in_dict(b"N"), method=zipfile.ZIP_LZMA), "unusual compression"),
    "no pickle": (torch_zip(b"").replace(b"data.pkl", b"code.txt"), "without the data.pkl"),
    "cut zip": (fixture("torch_zip.pth")[:-30], "damaged or cut zip"),
    # safetensors
    "header length": (safetensors({}, size=2**20), "should have 1,048,576 bytes"),
    "deep header": (safetensors(b'{"a":' + b"[" * 10**6), "not JSON"),
    "long number": (safetensors(b'{"a":' + b"9" * 10**6 + b"}"), "1,000,000 digits"),
    "outside": (safetensors({"w": entry(offsets=(0, 8))}, b"\0" * 4), "lies outside"),
    "backwards": (safetensors({"w": entry(offsets=(4, 0))}, b"\0" * 4), "lies outside"),
    "wrong size": (safetensors({"w": entry(shape=(2,))}, b"\0" * 4), "4 bytes of data"),
    "not whole": (safetensors({"w": entry(offsets=(0, 5))}, b"\0" * 5), "not a whole number"),
    "overlap": (safetensors({"v": entry(), "w": entry()}, b"\0" * 4), "overlap"),
    "gap": (safetensors({"w": entry(offsets=(4, 8))}, b"\0" * 8), "gap"),
    "unowned": (safetensors({"w": entry()}, b"\0" * 8), "no tensor owns"),
    "twice": (safetensors(b'{"w":1,"w":2}'), "same name twice"),
    "sound but twice": (safetensors(b'{"w":%b,"w":%b}' % ((json.dumps(entry()).encode(),) * 2), b"\0" * 4),
                        "same name twice"),
    "unknown field": (safetensors({"w": {**entry(), "strides": [1]}}, b"\0" * 4), "not described"),
    "long header": (safetensors(json.dumps({"w": entry()}).encode() + b" " * (8 * MIB), b"\0" * 4),
                    "should have 8,388,"),
    "type": (safetensors({"w": entry("F8_E4M3", (4,))}, b"\0" * 4), "F8_E4M3"),
    "fields": (safetensors({"w": {"dtype": "F32"}}), "not described"),
    "boolean shape": (safetensors({"w": entry(shape=(True,))}, b"\0" * 4), "shape that is not"),
    "absurd safetensors shape": (safetensors({"w": entry(shape=(2**62, 2**62), offsets=(0, 4))}, b"\0" * 4),
                                 "absurd shape"),
}


@pytest.mark.parametrize("kind", RESOURCES)
def test_absurd_files_are_refused_quickly_and_in_little_memory(kind, tmp_path):
    data, words = RESOURCES[kind]
    path = tmp_path / "bad"
    path.write_bytes(data)
    begin = time.process_time()
    with limited_memory(5 * len(data) + 48 * MIB):
        assert words in refusal(path)
    assert time.process_time() - begin < 30  # tracing makes it many times as long as it is


def test_what_older_versions_wrote_is_read(tmp_path):
    """Python 2 had no bytes and listed the items of an OrderedDict; old torch had views of storages."""
    path = tmp_path / "old"
    values = np.array([1, 200], "float32")
    text = b"U\x08" + values.tobytes()
    path.write_bytes(b"\x80\x02" + named("collections", "OrderedDict") + b"(](](U\x01w" + array(b"K\x02\x85", text)
                     + b"eetR.")
    read = checkpoint.read_weights(path)
    assert list(read) == ["w"] and np.array_equal(read["w"], values)
    stored = np.arange(4, dtype="float32").tobytes()
    path.write_bytes(tensor(4, 1, (2,), (1,), stored, view=(1, 3), rebuild="_rebuild_tensor"))
    assert checkpoint.read_weights(path)["w"].tolist() == [2, 3]


WRONG = {
    b"": "is empty",
    b"<!DOCTYPE html><html>404": "a web page",
    b"\n <html>": "a web page",
    b"\x89PNG\r\n\x1a\n" + b"\0" * 50: "an image",
    b"version https://git-lfs.github.com/spec/v1\n": "Git LFS",
    b"\x1f\x8b\x08\0": "compressed",
    b"epoch,loss\n1,2\n": "not a Paddle, PyTorch or safetensors file",
    b"\0" * 100: "not a Paddle, PyTorch or safetensors file",
    b'{"error": "not found"}': "not a Paddle, PyTorch or safetensors file",
}


@pytest.mark.parametrize("data", WRONG)
def test_files_of_another_type_are_named(data, tmp_path):
    assert WRONG[data] in refusal(tmp_path / "file.pdparams", data)


def test_missing_files_folders_and_pipes(tmp_path):
    assert "does not exist" in refusal(tmp_path / "missing.pdparams")
    assert "is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")


NAMES = sorted(path.name for path in FIXTURES.iterdir() if path.suffix in (".pth", ".pdparams", ".pdopt",
                                                                          ".safetensors"))


@pytest.mark.parametrize("name", ["paddle331_p2.pdparams", "paddle331_p4.pdopt", "torch_zip.pth", "torch_legacy.pth",
                                  "torch.safetensors"])
def test_every_truncation_is_refused(name, tmp_path):
    data = fixture(name)
    for size in range(0, len(data), 7):
        refusal(tmp_path / name, data[:size])
    refusal(tmp_path / name, data[:-1])


def test_the_place_in_the_file_is_told(tmp_path):
    data = fixture("paddle331_p4.pdparams")
    broken = data.replace(b"f4", b"O8", 1)
    assert re.search(r"'O8'.*\(byte \d+, opcode REDUCE\)", refusal(tmp_path / "a", broken))
    assert "[w] " in refusal(tmp_path / "b", RESOURCES["offset outside"][0])
    assert "tensor w " in refusal(tmp_path / "c", RESOURCES["outside"][0])


FIELDS = (b"\xff", b"\x7f", b"\0", b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0" * 4, b"\xff" * 8, b"\xff" * 7 + b"\x7f",
          b"\0\0\0\0\x01\0\0\0", b"\0" * 8)


def mutated(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(data))
        what = rng.randrange(6)
        if what == 0:
            data[at] = rng.randrange(256)
        elif what == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif what == 2:
            field = rng.choice(FIELDS)
            data[at:at + len(field)] = field
        elif what == 3:
            del data[at:at + rng.choice((1, 2, 8, 64))]
        elif what == 4:
            other = rng.randrange(len(data))
            data[at:at] = data[other:other + rng.choice((1, 4, 32, 200))]
        else:
            del data[max(at, 1):]
        if not data:
            break
    return bytes(data)


def test_mutated_files_give_a_dict_or_an_error():
    """3000 files; also of the pickle inside of the archive, which the check sum would hide."""
    rng = random.Random(0)
    seeds = [fixture(name) for name in NAMES]
    with zipfile.ZipFile(FIXTURES / "torch_zip.pth") as archive:
        inside = archive.read("torch_zip/data.pkl")
        storages = {name.split("/")[-1]: archive.read(name) for name in archive.namelist() if "/data/" in name}
    outcomes = {"read": 0, "refused": 0}
    for number in range(3000):
        if number % 3 == 0:
            data = torch_zip(mutated(inside, rng), storages)
        else:
            data = mutated(rng.choice(seeds), rng)
        # Measuring takes longer than reading, so not all are measured. The limit is the constant of
        # the budget and a little for a file of some kB.
        with limited_memory(17 * MIB) if number % 5 == 0 else contextlib.nullcontext():
            try:
                # What read_weights() calls; no file spares half a minute.
                assert type(checkpoint.decode_weights(data)) is dict
                outcomes["read"] += 1
            except CheckpointError as error:
                assert str(error).isprintable()
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 100, outcomes  # both ways are tried
