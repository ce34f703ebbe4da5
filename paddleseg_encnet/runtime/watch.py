"""Ranks that notice when one of them does not come, or is gone.

Paddle's launcher ends the ranks of its own machine when one of them dies, without saying which one died first; ranks on
other machines wait for ever in the next collective, and so does everybody for a rank that never started. So each rank
keeps a connection to each other one. The kernel closes it when a process dies, however it dies, and after half a minute
without an answer from a machine; then every rank ends, with a line that names the one that is gone.

Standard library only. Messages are words, one a line; what follows the word is text for people.

    here    is at the next meeting      bye    ends, its work is done      gone TEXT    ends, because of what TEXT says
"""

import atexit
import ctypes
import os
import select
import socket
import sys
import threading
import time
from typing import Callable, Dict, List, Optional

# Seconds until a machine that does not answer counts as gone.
SILENCE = 30
# Seconds that the line about a rank that is gone gets, before the error that its absence caused is told instead.
REACTION = 1.0
LONGEST_LINE = 4096


def end_process(text: str):
    """Says why and ends the process: the main thread may stand in a collective that never returns."""
    sys.stdout.flush()
    # At once, for a launcher that saw the loss too ends this process in a moment.
    print(f"error: {text}", file=sys.stderr, flush=True)
    # A process that ends with something unread takes with it what it said last: the other ranks get time to read.
    time.sleep(REACTION / 2)
    os._exit(1)


class Watch:
    """This rank's connections to all others.

    Args:
        rank: this one's number.
        endpoints: "host:port" of each rank, where it waits for those before it to call. Nobody calls the first one: its
            port may be Paddle's own.
        timeout: seconds to wait for ranks that have not started.
        end: what is called with the reason when a rank does not come or is gone.
    """

    def __init__(self, rank: int, endpoints: List[str], timeout: float, end: Callable[[str], None] = end_process):
        self.rank, self.endpoints, self.end = rank, endpoints, end
        self.names = {other: f"rank {other} ({endpoint})" for other, endpoint in enumerate(endpoints)}
        self.peers: Dict[int, socket.socket] = {}
        self.unread: Dict[int, bytes] = {}
        self.news = threading.Condition()
        self.arrived = {other: 0 for other in range(len(endpoints)) if other != rank}   # meetings each has come to
        self.meetings = 0
        self.left = set()       # ranks that have said goodbye
        self.leaving = False

        deadline = time.monotonic() + timeout
        missing = self.wait_for_calls(deadline) or self.call(deadline)
        os.register_at_fork(after_in_child=self.close)      # a DataLoader worker would keep the connections open
        threading.Thread(target=self.listen, daemon=True, name="watch").start()
        if missing:
            self.gone(f"{missing} did not start within {timeout:g} s; is there an error in its log (workerlog.*), and "
                      "can the machines reach each other? FLAGS_stop_check_timeout=SECONDS in the environment waits "
                      "longer")
        else:
            self.meet()

    # --- start

    def wait_for_calls(self, deadline: float) -> Optional[str]:
        """Waits for the calls of the ranks before this one; returns the name of the first that did not call."""
        missing = set(range(self.rank))
        if not missing:
            return None
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind(("", int(self.endpoints[self.rank].rsplit(":", 1)[1])))
            except OSError as error:
                raise OSError(f"{self.names[self.rank]} cannot listen on its port: {error}; launch again, or name free "
                              "ports with --start_port") from error
            server.listen(len(self.endpoints))
            while missing and time.monotonic() < deadline:
                server.settimeout(max(0.1, deadline - time.monotonic()))
                try:
                    connection, _ = server.accept()
                    connection.settimeout(2)
                    said = connection.makefile("rb", buffering=0).readline(LONGEST_LINE)
                    other = next((other for other in missing if said == self.greeting(other)), None)
                    if other is not None:
                        connection.sendall(self.greeting(self.rank))
                except OSError:     # nobody yet, or somebody who says nothing
                    continue
                if other is None:
                    connection.close()
                else:
                    self.keep(other, connection)
                    missing.remove(other)
        # A rank calls when it was called itself, so those after the first missing one may only be waiting for it.
        return self.names[min(missing)] if missing else None

    def call(self, deadline: float) -> Optional[str]:
        """Calls the ranks after this one; returns the names of those that did not answer."""
        missing = set(range(self.rank + 1, len(self.endpoints)))
        while missing and time.monotonic() < deadline:
            for other in sorted(missing):
                host, port = self.endpoints[other].rsplit(":", 1)
                try:
                    connection = socket.create_connection((host, int(port)), timeout=2)
                    connection.settimeout(SILENCE)
                    connection.sendall(self.greeting(self.rank))
                    answer = connection.makefile("rb", buffering=0).readline(LONGEST_LINE)
                except OSError:     # it does not listen yet
                    continue
                if answer == self.greeting(other):
                    self.keep(other, connection)
                    missing.remove(other)
            if missing:
                time.sleep(0.1)
        return ", ".join(self.names[other] for other in sorted(missing)) or None

    def greeting(self, rank: int) -> bytes:
        """What a rank of this run says first; anybody else who comes to the port says something else."""
        return f"rank {rank} of {','.join(self.endpoints)}"[:LONGEST_LINE - 1].encode() + b"\n"

    def keep(self, other: int, connection: socket.socket):
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", SILENCE // 3), ("TCP_KEEPINTVL", SILENCE // 6), ("TCP_KEEPCNT", 4),
                              ("TCP_USER_TIMEOUT", SILENCE * 1000)):
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self.peers[other], self.unread[other] = connection, b""

    # --- while the run goes on

    def meet(self):
        """Waits until every rank is here, for as long as they live. Gloo's collectives give up after 30 seconds."""
        with self.news:
            self.meetings += 1
            self.tell("here")
            self.nobody_left_early()
            self.news.wait_for(lambda: min(self.arrived.values()) >= self.meetings)

    def tell(self, message: str):
        """To everybody that this rank is connected with. One that can't be told is noticed by listen()."""
        line = " ".join(message.split()).encode()[:LONGEST_LINE - 1] + b"\n"
        for connection in list(self.peers.values()):
            try:
                connection.sendall(line)
            except OSError:
                continue

    def listen(self):
        """Reads what the others say until nobody is left."""
        while self.peers:
            others = {connection: other for other, connection in self.peers.items()}
            lost = []
            for connection in select.select(list(others), [], [])[0]:
                other = others[connection]
                try:
                    received = connection.recv(LONGEST_LINE)
                except OSError:
                    received = b""
                if received:
                    *lines, self.unread[other] = (self.unread[other] + received).split(b"\n")
                    for line in lines:
                        self.heard(other, line.decode(errors="replace"))
                else:
                    self.peers.pop(other).close()
                    if other not in self.left:
                        lost.append(other)
            if lost:
                names = ", ".join(self.names[other] for other in lost)
                self.gone(f"{names} is gone: it was killed, ran out of memory, failed (its workerlog says more), or "
                          "its machine is down")

    def heard(self, other: int, message: str):
        word, _, text = message.partition(" ")
        if word == "gone":
            self.gone(text)
        with self.news:
            if word == "here":
                self.arrived[other] += 1
            elif word == "bye":
                self.left.add(other)
                self.nobody_left_early()
            self.news.notify_all()

    def nobody_left_early(self):
        """A meeting that somebody who left has not come to never takes place."""
        for other in self.left:
            if self.arrived[other] < self.meetings:
                self.gone(f"{self.names[other]} ended before the others were done")

    def gone(self, text: str):
        if self.leaving:
            return
        self.leaving = True
        self.tell(f"gone {text}")
        self.end(f"{text}. Rank {self.rank} ends too")

    # --- the end

    def leave(self):
        """Says goodbye: the work of this rank is done."""
        if not self.leaving:
            self.leaving = True
            self.tell("bye")

    def fail(self, reason: str):
        """Ends this rank and with it the others for an error; not if the error only follows from another's absence."""
        time.sleep(REACTION)
        if not self.leaving:
            self.leaving = True
            self.tell(f"gone {self.names[self.rank]} ended: {reason}")
        self.end(reason)

    def close(self):
        for connection in self.peers.values():
            connection.close()


_watch: Optional[Watch] = None
# Called by std::terminate; must stay alive.
_before_terminate = None


def delay_terminate():
    """Paddle 2.6 lets gloo's exception about a lost connection out of C++ code that no exception may leave, so that
    the process aborts before anything is said. This lets the watch speak first; else all goes on as without it."""
    global _before_terminate
    try:
        set_terminate = ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE
    except (OSError, AttributeError):       # Paddle stands on another C++ library
        return
    handler = set_terminate.restype = ctypes.CFUNCTYPE(None)

    def wait_and_go_on():
        time.sleep(REACTION)
        previous()

    _before_terminate = handler(wait_and_go_on)
    previous = set_terminate(_before_terminate)


def start(rank: int, endpoints: List[str], timeout: float):
    """Waits for all ranks, then watches them for the rest of the process. Ends the process where one is missing."""
    global _watch
    delay_terminate()
    _watch = Watch(rank, endpoints, timeout)
    atexit.register(at_exit)


def at_exit():
    # An error that nobody caught is no goodbye: the closed connection tells the others.
    if getattr(sys, "last_value", None) is None:
        _watch.leave()


def meet():
    """Waits for the other ranks, if there are any."""
    if _watch is not None:
        _watch.meet()


def fail(reason: str):
    """To be called before this process ends for an error: where there are other ranks, tells them and ends it."""
    if _watch is not None:
        _watch.fail(reason)
