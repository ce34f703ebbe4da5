"""How VisualDL is fed: the file of a run's records, which goes on after a resume.

A log is one file, `vdlrecords.TIME.log`: for each record its length, 8 bytes with the lowest first, and a message of
VisualDL's protocol buffer. VisualDL makes the messages; the file is written here, because its LogWriter writes in a
thread of its own: a kill loses what waits there, and on a full disk half a record stays in the middle of the file,
behind which nothing can be read. It shows of each folder the file whose name comes last.
"""

import os
import re
import struct
import time
from typing import Any, Iterator, List, Optional, Tuple

from paddleseg_encnet.training.saving import State


class Log:
    """A file of VisualDL's records, opened at its end."""

    def __init__(self, path: str):
        self.path, self.file = path, open(path, "ab", buffering=0)

    @classmethod
    def new(cls, folder: str) -> "Log":
        """A log whose name comes after those of the others in the folder, also where a clock was set back."""
        os.makedirs(folder, exist_ok=True)
        taken = [int(number) for number in re.findall(r"vdlrecords\.(\d{10})\.log", " ".join(logs_in(folder)))]
        number = max([int(time.time()), *(other + 1 for other in taken)])
        return cls(os.path.join(folder, f"vdlrecords.{number:010d}.log"))

    @classmethod
    def resume(cls, folder: str, state: State) -> Optional["Log"]:
        """The folder's last log, cut to what the run up to `state` has written; None if there is no log.

        Steps never go back in a log, so that this is its beginning, and one call of the system cuts it: whenever the
        process is killed, the log is as before or as after.
        """
        names = logs_in(folder)
        if not names:
            return None
        log = cls(os.path.join(folder, max(names)))
        end = 0
        for place, value in whole_records(log.path):
            if comes_after(value, state):
                break
            end = place
        log.file.truncate(end)
        return log

    def is_empty(self) -> bool:
        return os.fstat(self.file.fileno()).st_size == 0

    def append(self, records: list) -> None:
        """All of them or, if that fails, none."""
        size = os.fstat(self.file.fileno()).st_size
        messages = [record.SerializeToString() for record in records]
        data = memoryview(b"".join(struct.pack("<Q", len(message)) + message for message in messages))
        try:
            while data:
                data = data[self.file.write(data):]
        except BaseException:       # a signal may come here, too
            self.file.truncate(size)
            raise


def logs_in(folder: str) -> List[str]:
    return [name for name in os.listdir(folder) if "vdlrecords" in name]


def whole_records(path: str) -> Iterator[Tuple[int, object]]:
    """Where each record of a log ends and its value, up to the first one that is not whole."""
    from google.protobuf.message import DecodeError
    from visualdl.proto.record_pb2 import Record
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        while len(header := file.read(8)) == 8:
            length = struct.unpack("<Q", header)[0]
            if not 0 < length <= size - file.tell():
                return
            try:
                record = Record.FromString(file.read(length))
            except DecodeError:
                return
            if not record.values:
                return
            yield file.tell(), record.values[0]


def comes_after(value: Any, state: State) -> bool:
    """Whether a record was written after the checkpoint with this state; its evaluation may still be due."""
    if value.WhichOneof("one_value") in ("meta_data", "hparam"):
        return False
    of_evaluation = not value.tag.startswith("Train/")
    return value.id > state.step or value.id == state.step and of_evaluation and not state.evaluated
