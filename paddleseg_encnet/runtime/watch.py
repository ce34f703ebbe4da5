"""Ranks that notice when one of them does not come, or is gone.

Paddle's launcher ends the ranks of its own machine when one of them dies, without saying which one died first; ranks on
other machines wait for ever in the next collective, and so does everybody for a rank that never started or is stopped.
So beside each rank a small process watches the others (sentinel.py). When one is gone every rank ends, with a line that
names it. This module is what a rank has of that: it starts the process, meets the others through it, and ends.

Paddle's TCPStore has a connection for each rank too, but can't do this: a question to a store whose process is stopped
is never answered and has no limit, and nobody is told of a rank that dies until it is missed.
"""

import atexit
import contextlib
import ctypes
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from typing import Iterator, List, Optional

from segrun.errors import joined

PACKAGE = pathlib.Path(__file__).resolve().parent.parent
# Paddle stays out: the package's own __init__ is not run.
SENTINEL = f"import sys; sys.path.append({str(PACKAGE)!r}); from runtime.star import main; main()"
# Seconds that a process lives on after an exception that nothing can catch, for what caused it to be told first.
TERMINATE = 1.0


class Watch:
    """This rank among the others.

    Args:
        rank: this one's number.
        endpoints: "host:port" of each rank. The port of the second one must be free while the run starts.
        timeout: seconds to wait for ranks that have not started.
    """

    def __init__(self, rank: int, endpoints: List[str], timeout: float):
        self.connection, theirs = socket.socketpair()
        self.news = threading.Condition()
        self.meetings = self.met = 0        # that this rank has come to; that took place
        self.left = False
        # In a session of its own it gets none of the signals that end a group of processes, and can tell of them.
        self.sentinel = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", SENTINEL, str(rank), ",".join(endpoints), str(timeout)],
            stdin=theirs.fileno(), stdout=subprocess.DEVNULL, start_new_session=True)
        theirs.close()
        os.register_at_fork(after_in_child=self.close)
        threading.Thread(target=self.listen, daemon=True, name="watch").start()

    def close(self) -> None:
        """In a DataLoader worker, which would keep the connection open when this process has ended."""
        fd = self.connection.detach()       # close() leaves it open while listen() has it as a file
        if fd >= 0:
            os.close(fd)

    def tell(self, line: str) -> None:
        try:
            self.connection.sendall(joined(line).encode() + b"\n")
        except OSError:     # listen() ends this process
            return

    def listen(self) -> None:
        for line in self.lines():
            self.heard(*line.decode(errors="replace").strip().partition(" ")[::2])
        if not self.left:
            self.end("the process that watched the other ranks for this one is gone")

    def lines(self) -> Iterator[bytes]:
        try:
            yield from self.connection.makefile("rb")
        except OSError:     # the sentinel is gone and had something unread
            return

    def heard(self, word: str, text: str) -> None:
        if word == "met":
            with self.news:
                self.met += 1
                self.news.notify_all()
        elif word == "end" and not self.left:
            self.end(text)

    def end(self, text: str) -> None:
        """Says why and ends the process: the main thread may stand in a collective that never returns."""
        sys.stdout.flush()
        print(f"error: {text}", file=sys.stderr, flush=True)
        self.tell("said")
        os._exit(1)

    def meet(self) -> None:
        """Waits until every rank is here, for as long as they live. Gloo's collectives give up after 30 seconds."""
        with self.news:
            self.meetings += 1
            self.tell("here")
            self.news.wait_for(lambda: self.met >= self.meetings)

    def leave(self) -> None:
        """Says goodbye: the work of this rank is done."""
        self.left = True
        self.tell("bye")

    def fail(self, reason: str) -> None:
        """Ends this rank and with it the others for an error, or for what the error only follows from: the absence of
        another."""
        self.tell(f"failed {reason}")
        threading.Event().wait()        # for listen()


# One for the process, as the rank is the process's: exit, errors and waiting, which nobody hands a watch to, go to it.
_watch: Optional[Watch] = None
# Called by std::terminate; must stay alive.
_before_terminate = None


def delay_terminate() -> None:
    """Paddle 2.6 lets gloo's exception about a lost connection out of C++ code that no exception may leave, so that
    the process aborts before anything is said. This lets the watch speak first; else all goes on as without it."""
    global _before_terminate
    try:
        set_terminate = ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE
    except (OSError, AttributeError):       # Paddle stands on another C++ library
        return
    handler = set_terminate.restype = ctypes.CFUNCTYPE(None)

    def wait_and_go_on() -> None:
        time.sleep(TERMINATE)
        previous()

    _before_terminate = handler(wait_and_go_on)
    previous = set_terminate(_before_terminate)


def start(rank: int, endpoints: List[str], timeout: float) -> None:
    """Waits for all ranks, then watches them for the rest of the process. Ends the process where one is missing.

    Raises:
        OSError: the system is Windows.
    """
    global _watch
    if not hasattr(os, "register_at_fork"):
        raise OSError("training in several processes needs Linux or macOS, which can fork: on Windows train in one, "
                      "without paddle.distributed.launch")
    delay_terminate()
    _watch = Watch(rank, endpoints, timeout)
    _watch.meet()
    atexit.register(at_exit)


def at_exit() -> None:
    # An error that nobody caught is no goodbye: the end of this process tells the others.
    if _watch is not None and getattr(sys, "last_value", None) is None:
        _watch.leave()


def meet() -> None:
    """Waits for the other ranks, if there are any."""
    if _watch is not None:
        _watch.meet()


@contextlib.contextmanager
def limit(seconds: float, reason: str) -> Iterator[None]:
    """What is done within it fails with the reason after so many seconds, even where it lets no other thread run."""
    assert _watch is not None, "start() comes first"
    _watch.tell(f"limit {seconds} {reason}")
    try:
        yield
    finally:
        _watch.tell("limit")


def fail(reason: str) -> None:
    """To be called before this process ends for an error: where there are other ranks, tells them and ends it."""
    if _watch is not None:
        _watch.fail(reason)
