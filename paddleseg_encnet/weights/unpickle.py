"""Read a pickle of weights without running anything that is in it.

A pickle is a program for a small stack machine, and Python's own machine imports and calls
whatever the program names. This module is another machine for the same programs. It does not use
``pickle``, it imports nothing on a file's behalf and it never calls, subscripts or sets an
attribute of an object the file chose. The few names that weights need (``numpy.dtype``,
``torch._utils._rebuild_tensor_v2``, ...) are keys of the table ``CALLS``; "calling" one makes an
inert record of what the file says, and the classes of ``records`` make one that keeps nothing.
Every other name is an error that says the name.

Threat model: the file is written by an attacker who has read this module. Besides code he wants
the process to hang or to fill the memory. Therefore
  * only opcodes that picklers write for weights are known, the rest are refused;
  * a length in the file is compared with what is left of the file before it is used, byte strings
    are views of the file, and all that is copied is paid for from a ``Budget``;
  * the machine has a flat stack, no recursion, and stops after ``MAX_STEPS`` opcodes;
  * what it returns may still be cyclic or share lists exponentially often: ``files`` bounds
    depth and count when it walks the result.
"""

import pickletools
import struct
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from paddleseg_encnet.weights import records
from paddleseg_encnet.weights.arrays import Budget, CheckpointError
from paddleseg_encnet.weights.pickle_names import CALLS, MAX_NAME, WORDS, Array, DType, Name
from paddleseg_encnet.weights.records import OrderedDict, Record, expect, set_item

# A tensor takes 35 opcodes: this is enough for 7,000, and EncNet with its optimiser has 1,000. The
# limit bounds time, and the memory of the empty containers that opcodes of one byte make.
MAX_STEPS = 250_000

# Modules that pickles write instead of the ones that people know.
_PUBLIC_NAMES = {"posix": "os", "nt": "os", "__builtin__": "builtins"}
_OPCODE_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
_NUMBERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
_CONSTANTS: Dict[bytes, Callable[[], Any]] = {
    b"N": lambda: None, b"\x88": lambda: True, b"\x89": lambda: False,
    b")": tuple, b"]": list, b"}": dict, b"\x8f": lambda: Record("builtins.set")}
# Length field, and the encoding of the text (None: bytes, kept as a view of the file).
_STRINGS = {
    b"X": ("<I", "utf-8"), b"\x8c": ("<B", "utf-8"), b"\x8d": ("<Q", "utf-8"),
    b"T": ("<I", "latin1"), b"U": ("<B", "latin1"),
    b"B": ("<I", None), b"C": ("<B", None), b"\x8e": ("<Q", None),
}
_PUT = {b"q": "<B", b"r": "<I"}
_GET = {b"h": "<B", b"j": "<I"}
_SMALL_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}


class _Machine:
    """The stack machine. One instance reads one pickle."""

    def __init__(self, data: memoryview, start: int, budget: Budget, persistent: Optional[Callable[[Any], Any]]):
        self.data, self.position = data, start
        self.budget, self.persistent = budget, persistent
        self.stack: List[Any] = []
        self.marks: List[int] = []
        self.memo: Dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MAX_STEPS):
            at = self.position
            try:
                code = bytes(self.next_bytes(1))
                if code == b".":
                    result = self.pop()
                    expect(not self.stack, "ends with values left over")
                    return result
                self.step(code)
            except CheckpointError as error:
                name = _OPCODE_NAMES.get(code[0], "unknown") if at < len(self.data) else "missing"
                raise CheckpointError(f"{error} (byte {at:,}, opcode {name})") from None
        raise CheckpointError(f"is a pickle of more than {MAX_STEPS:,} opcodes; weights need fewer")

    def next_bytes(self, count: int) -> memoryview:
        left = len(self.data) - self.position
        if count > left:
            raise CheckpointError(f"is cut short or damaged: {count:,} bytes are needed and {left:,} "
                                  "are left; download it again")
        self.position += count
        return self.data[self.position - count:self.position]

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.next_bytes(struct.calcsize(layout)))[0]

    def line(self) -> str:
        end = bytes(self.data[self.position:self.position + MAX_NAME]).find(b"\n")
        expect(end >= 0, f"has a name longer than {MAX_NAME} bytes")
        return str(self.next_bytes(end + 1)[:-1], "latin1")

    def pop(self) -> Any:
        floor = self.marks[-1] if self.marks else 0
        expect(len(self.stack) > floor, "takes a value from an empty stack")
        return self.stack.pop()

    def top(self, kind: Union[type, Tuple[type, ...]]) -> Any:
        value = self.pop()
        self.stack.append(value)
        expect(isinstance(value, kind), f"adds items to a {type(value).__name__}")
        return value

    def pop_mark(self) -> List[Any]:
        expect(self.marks, "closes a group that was never opened")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def name(self, module: Any, name: Any) -> Name:
        expect(type(module) is str and type(name) is str, "names something without text")
        if (module, name) not in CALLS and (module, name) not in WORDS:
            shown = f"{module[:MAX_NAME]}.{name[:MAX_NAME]}"
            if module in _PUBLIC_NAMES:
                shown = f"{_PUBLIC_NAMES[module]}.{name[:MAX_NAME]} (written {shown})"
            if module.startswith("__torch__") or name[:1].isupper() and self.holds_a_module():
                raise CheckpointError(
                    f"holds a whole model ({shown}), which only code of its author can read; nothing of the file was "
                    "run. Ask for its state_dict: where the model is, torch.save(model.state_dict(), PATH) writes one")
            raise CheckpointError(
                f"asks for {shown}, which weights do not need; it was "
                "refused and nothing of the file was run. Do not open this file with paddle.load or "
                "torch.load; get the weights from a source you trust")
        return Name(module, name)

    def holds_a_module(self) -> bool:
        """Whether a pickled torch.nn.Module is in the file: these are its attributes."""
        data = bytes(self.data)
        return all(word in data for word in (b"_parameters", b"_buffers", b"_modules"))

    def text(self, layout: str, encoding: Optional[str]) -> Union[str, memoryview]:
        raw = self.next_bytes(self.number(layout))
        try:
            return raw if encoding is None else str(raw, encoding, "surrogatepass")
        except UnicodeDecodeError:
            raise CheckpointError("has text that is not UTF-8") from None

    def call(self, target: Any, args: Any) -> Any:
        if type(target) is Name and target.key in records.CLASSES | records.MAPPINGS and type(args) is tuple:
            return records.made(target.key, args, self.budget)
        call = CALLS.get((target.module, target.name)) if type(target) is Name else None
        if call is None or type(args) is not tuple:
            raise CheckpointError("calls something that is not a known function")
        return call(args, self.budget)

    def new_object(self, target: Any, args: Any) -> Any:
        known = type(target) is Name and target.key in records.CLASSES | records.MAPPINGS
        expect(known and type(args) is tuple, "makes an instance of something that is not a known record")
        return records.made(target.key, args, self.budget)

    def build(self, target: Any, state: Any) -> None:
        if type(target) is Record:
            return
        expect(isinstance(target, (OrderedDict, DType, Array)), f"sets attributes of a {type(target).__name__}")
        target.set_state(state, self.budget)

    def step(self, code: bytes) -> None:
        """Does what one opcode says."""
        push = self.stack.append
        if code in _STRINGS:
            push(self.text(*_STRINGS[code]))
        elif code in _NUMBERS:
            push(self.number(_NUMBERS[code]))
        elif code in _CONSTANTS:
            push(_CONSTANTS[code]())
        elif code in _PUT:
            self.memo[self.number(_PUT[code])] = self.top(object)
        elif code == b"\x94":  # MEMOIZE
            self.memo[len(self.memo)] = self.top(object)
        elif code in _GET:
            key = self.number(_GET[code])
            expect(key in self.memo, f"refers to value {key}, which it never stored")
            push(self.memo[key])
        elif code == b"\x8a":  # LONG1
            size = self.number("<B")
            expect(size <= 16, f"has an integer of {size} bytes")
            push(int.from_bytes(self.next_bytes(size), "little", signed=True))
        elif code == b"(":
            self.marks.append(len(self.stack))
        elif code == b"t":
            push(tuple(self.pop_mark()))
        elif code in _SMALL_TUPLES:
            push(tuple([self.pop() for _ in range(_SMALL_TUPLES[code])][::-1]))
        elif code in b"ae":  # APPEND, APPENDS
            items = [self.pop()] if code == b"a" else self.pop_mark()
            target = self.top((list, Record))
            if type(target) is not Record:
                target.extend(items)
        elif code in b"su":  # SETITEM, SETITEMS
            items = [self.pop(), self.pop()][::-1] if code == b"s" else self.pop_mark()
            expect(len(items) % 2 == 0, "has a dict key without a value")
            target = self.top((dict, Record))
            for key, value in zip(items[::2], items[1::2]):
                if type(target) is not Record:
                    set_item(target, key, value)
        elif code == b"\x80":
            version = self.number("<B")
            expect(version <= 5, f"is a pickle of the unknown protocol {version}")
        elif code == b"\x95":  # FRAME: a hint for reading ahead
            size = self.number("<Q")
            expect(size <= len(self.data) - self.position, "is cut short: its frame is longer "
                   "than the file; download it again")
        else:
            self.object_step(code)

    def object_step(self, code: bytes) -> None:
        """Does what an opcode says that names or makes an object."""
        push = self.stack.append
        if code in b"ci":  # GLOBAL, and INST only for the sake of the message
            push(self.name(self.line(), self.line()))
            expect(code == b"c", "makes an instance of a class")
        elif code == b"\x93":  # STACK_GLOBAL
            name, module = self.pop(), self.pop()
            push(self.name(module, name))
        elif code == b"R":
            args, target = self.pop(), self.pop()
            push(self.call(target, args))
        elif code in b"\x81\x92":  # NEWOBJ, NEWOBJ_EX, which has keywords too
            if code == b"\x92":
                self.pop()
            args, target = self.pop(), self.pop()
            push(self.new_object(target, args))
        elif code == b"\x90":  # ADDITEMS
            self.pop_mark()
            self.top(Record)
        elif code == b"\x91":  # FROZENSET
            self.pop_mark()
            push(Record("builtins.frozenset"))
        elif code == b"b":  # BUILD
            state, target = self.pop(), self.top(object)
            self.build(target, state)
        elif code == b"Q":  # BINPERSID
            if self.persistent is None:
                raise CheckpointError("refers to data outside of the file")
            push(self.persistent(self.pop()))
        else:
            raise CheckpointError("uses a pickle opcode that files of weights do not contain")


def unpickle(data: memoryview, budget: Budget, start: int = 0,
             persistent: Optional[Callable[[Any], Any]] = None) -> Tuple[Any, int]:
    """Read the pickle that begins at ``start``.

    Args:
        data (memoryview): The whole file, or the whole archive entry.
        budget (Budget): What pays for copies.
        start (int): Offset of the first opcode.
        persistent (callable, optional): Makes a value of a persistent id (torch's way to refer to
            a storage). Without it such ids are refused.

    Returns:
        tuple: The value, made of None, bool, int, float, str, memoryview, tuple, list, dict and the
        records of this module; and the offset behind the pickle.

    Raises:
        CheckpointError: What was met, with byte offset and opcode.
    """
    machine = _Machine(data, start, budget, persistent)
    return machine.run(), machine.position
