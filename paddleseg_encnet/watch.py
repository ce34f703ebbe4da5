"""Ranks that notice when one of them does not come, or is gone.

Paddle's launcher ends the ranks of its own machine when one of them dies, without saying which one died first; ranks on
other machines wait for ever in the next collective, and so does everybody for a rank that never started. So each rank
keeps a connection to the first one. The kernel closes it when a process dies, however it dies, and after half a minute
without an answer from a machine; then every rank ends, with a line that names the one that is gone.

Standard library only. Messages are words, one a line; what follows the word is text for people.

    here            is at the next meeting        over        all are, go on
    bye             ends, its work is done        gone TEXT   a rank is gone, or ends for an error
"""

import atexit
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
    """Says why and ends at once: the main thread may stand in a collective that never returns."""
    sys.stdout.flush()
    print(f"error: {text}", file=sys.stderr, flush=True)
    os._exit(1)


class Watch:
    """This rank's connections: those to all others on the first rank, that to the first on the others.

    Args:
        rank: this one's number.
        endpoints: "host:port" of each rank. The first rank calls the others on theirs; its own is Paddle's.
        timeout: seconds to wait for ranks that have not started.
        end: what is called with the reason when a rank does not come or is gone.
    """

    def __init__(self, rank: int, endpoints: List[str], timeout: float, end: Callable[[str], None] = end_process):
        self.rank, self.endpoints, self.end = rank, endpoints, end
        self.names = {other: f"rank {other} ({endpoint})" for other, endpoint in enumerate(endpoints)}
        self.peers: Dict[int, socket.socket] = {}
        self.unread: Dict[int, bytes] = {}
        self.news = threading.Condition()
        self.arrived = {other: 0 for other in range(1, len(endpoints))}     # meetings that each has come to
        self.meetings = self.over = 0
        self.left = set()       # ranks that have said goodbye
        self.leaving = False

        deadline = time.monotonic() + timeout
        missing = self.call_the_others(deadline) if rank == 0 else self.wait_for_the_call(deadline)
        os.register_at_fork(after_in_child=self.close)      # a DataLoader worker would keep the connections open
        threading.Thread(target=self.listen, daemon=True, name="watch").start()
        if missing:
            self.gone(f"{missing} did not start within {timeout:g} s; is there an error in its log (workerlog.*), and "
                      "can the machines reach each other? FLAGS_stop_check_timeout=SECONDS in the environment waits "
                      "longer")
        else:
            self.meet()

    # --- start

    def call_the_others(self, deadline: float) -> Optional[str]:
        """Connects to every other rank; returns the names of those that did not answer."""
        missing = set(self.arrived)
        while missing and time.monotonic() < deadline:
            for other in sorted(missing):
                host, port = self.endpoints[other].rsplit(":", 1)
                try:
                    connection = socket.create_connection((host, int(port)), timeout=2)
                    connection.settimeout(SILENCE)
                    connection.sendall(self.greeting(0))
                    answer = connection.makefile("rb", buffering=0).readline(LONGEST_LINE)
                except OSError:     # it does not listen yet
                    continue
                if answer == self.greeting(other):
                    self.keep(other, connection)
                    missing.remove(other)
            time.sleep(0.1)
        return ", ".join(self.names[other] for other in sorted(missing)) or None

    def wait_for_the_call(self, deadline: float) -> Optional[str]:
        """Waits for the first rank's connection; returns its name if there was none."""
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                server.bind(("", int(self.endpoints[self.rank].rsplit(":", 1)[1])))
            except OSError as error:
                raise OSError(f"{self.names[self.rank]} cannot listen on its port: {error}; launch again, or name free "
                              "ports with --start_port") from error
            server.listen()
            while time.monotonic() < deadline:
                server.settimeout(max(0.1, deadline - time.monotonic()))
                try:
                    connection, _ = server.accept()
                    connection.settimeout(2)
                    called = connection.makefile("rb", buffering=0).readline(LONGEST_LINE) == self.greeting(0)
                    if called:
                        connection.sendall(self.greeting(self.rank))
                except OSError:     # nobody yet, or somebody who says nothing
                    continue
                if called:
                    self.keep(0, connection)
                    return None
                connection.close()
        return self.names[0]

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
            self.nobody_left_early()
            if self.rank == 0:
                self.news.wait_for(lambda: min(self.arrived.values()) >= self.meetings)
                self.tell("over")
            else:
                self.tell("here")
                self.news.wait_for(lambda: self.over >= self.meetings)

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
            others = {connection: other for other, connection in list(self.peers.items())}
            for connection in select.select(list(others), [], [])[0]:
                other = others[connection]
                try:
                    received = connection.recv(LONGEST_LINE)
                except OSError:
                    received = b""
                if not received:
                    self.lost(other)
                    continue
                *lines, self.unread[other] = (self.unread[other] + received).split(b"\n")
                for line in lines:
                    self.heard(other, line.decode(errors="replace"))

    def heard(self, other: int, message: str):
        word, _, text = message.partition(" ")
        if word == "gone":
            self.gone(text)
            return
        with self.news:
            if word == "bye":
                self.forget(other)
                self.left.add(other)
                self.nobody_left_early()
            elif word == "here":
                self.arrived[other] += 1
            elif word == "over":
                self.over += 1
            self.news.notify_all()

    def nobody_left_early(self):
        """A meeting that somebody who left has not come to never takes place."""
        for other in self.left:
            if (self.over if other == 0 else self.arrived[other]) < self.meetings:
                self.gone(f"{self.names[other]} ended before the others were done")

    def lost(self, other: int):
        """The connection is closed and there was no bye."""
        self.forget(other)
        self.gone(f"{self.names[other]} is gone: it was killed, ran out of memory, failed (its workerlog says more), "
                  "or its machine is down")

    def forget(self, other: int):
        self.peers.pop(other).close()

    def gone(self, text: str):
        if self.leaving:
            return
        self.leaving = True
        if self.rank == 0:
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


def start(rank: int, endpoints: List[str], timeout: float):
    """Waits for all ranks, then watches them for the rest of the process. Ends the process where one is missing."""
    global _watch
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
