"""SIGTERM and SIGINT end a run after its step and its save; a second one ends it at once.

Schedulers announce the end of a job with SIGTERM, a person with Ctrl-C (SIGINT). What is left of the time they grant is
enough for a step and a save, but not for an evaluation, which happens after the save and is therefore cut short.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Iterator, NoReturn, Optional

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG = 1        # from linux/prctl.h
END = b"\0"         # no signal has this number


class Stopped(KeyboardInterrupt):
    """A signal ended the run. `signum` is the signal; the text says how to go on."""

    def __init__(self, signum: int, saved: Optional[str]):
        go_on = f"go on with --resume_model {saved}" if saved else "nothing was saved yet"
        super().__init__(f"stopped by {signal.Signals(signum).name}; {go_on}")
        self.signum = signum


class Stop:
    """Takes the two signals while it is entered. `signum` is the first one that came, None before.

    Python runs its own handlers only between two operations, and a backward pass or a wait for other ranks is one. So
    the interpreter's C handler also writes each signal into a socket, and a thread that reads it ends the process at
    the second one. Outside the main thread, where Python takes no signals, entering does nothing.

    Args:
        first: what the first signal leads to, for a line to the user.
    """

    def __init__(self, first: str = "ending after this step and its save"):
        self.first = first
        self.signum: Optional[int] = None
        self.saved: Optional[str] = None
        self.nothing_to_lose = False
        # paddle.distributed.launch repeats its SIGTERM up to three times within 0.6 s; timeout(1) sends two at once.
        self.grace = 1.0 if "PADDLE_TRAINER_ID" in os.environ else 0.1

    def __enter__(self) -> "Stop":
        self.active = threading.current_thread() is threading.main_thread()
        if self.active:
            self.reader, self.writer = socket.socketpair()
            self.writer.setblocking(False)
            self.old_wakeup = signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)
            self.old_handlers = {signum: signal.signal(signum, self._handle) for signum in SIGNALS}
            self.thread = threading.Thread(target=self._watch, daemon=True)
            self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.active:
            signal.set_wakeup_fd(self.old_wakeup)
            for signum, handler in self.old_handlers.items():
                signal.signal(signum, handler)
            self.writer.send(END)
            self.thread.join()
            self.writer.close()
            self.reader.close()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it everything is saved: the first signal already ends the run, with Stopped."""
        self.nothing_to_lose = True
        try:
            if self.signum is not None:
                self.end()
            yield
        finally:
            self.nothing_to_lose = False

    def end(self) -> NoReturn:
        """Raises Stopped, also on a rank where the signal itself has not come."""
        raise Stopped(self.signum or signal.SIGTERM, self.saved)

    def _handle(self, signum: int, frame: Optional[FrameType]) -> None:
        """In the main thread, between two operations."""
        self.signum = self.signum or signum
        if self.nothing_to_lose:
            self.end()

    def _watch(self) -> None:
        """In its own thread, as soon as a signal arrives."""
        first = None
        while True:
            received = self.reader.recv(1)
            if received == END:
                return
            signum = received[0]
            if signum not in SIGNALS:       # every signal comes here that Python handles
                continue
            if first is None:
                first = time.monotonic()
                self.signum = signum
                if not self.nothing_to_lose:
                    write_to_stderr(f"{signal.Signals(signum).name}: {self.first}; a second one: at once")
            elif time.monotonic() - first > self.grace:
                write_to_stderr(f"a second {signal.Signals(signum).name}: ended at once")
                os._exit(128 + signum)


def write_to_stderr(line: str) -> None:
    """Writes to stderr past Python's buffers, which the main thread may be holding."""
    os.write(2, f"{line}\n".encode())


def protect_reader(worker_id: int = 0) -> None:
    """For a process that reads data: it takes no part in signals, and ends with the process that trains.

    Ctrl-C and launchers signal a whole process group, and the step that is to be finished may need its data. Paddle
    ends it with a SIGTERM when training ends, but leaves it waiting for ever when its parent was killed.
    """
    signal.set_wakeup_fd(-1)                # inherited, and the training process reads it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
