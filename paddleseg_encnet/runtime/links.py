"""Connections that carry lines, without ever waiting for the other side. Standard library only."""

import socket
import time
from collections import deque
from typing import Deque

LONGEST_LINE = 4096


class Link:
    """A connection that carries lines. `heard` is when the last one came."""

    def __init__(self, connection: socket.socket):
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection, self.unread, self.open = connection, b"", True
        self.inbox: Deque[str] = deque()
        self.heard = time.monotonic()

    def tell(self, line: str) -> None:
        try:
            self.connection.sendall(" ".join(line.splitlines()).encode()[:LONGEST_LINE - 1] + b"\n")
        except OSError:     # who can't be told is noticed by what is read, or not read, from it
            return

    def read(self) -> None:
        """Puts the lines that have come into the inbox."""
        try:
            received = self.connection.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        self.heard = time.monotonic()
        *lines, self.unread = (self.unread + received).split(b"\n")
        self.inbox.extend(line.decode(errors="replace") for line in lines)
        self.open = bool(received) and len(self.unread) < LONGEST_LINE

    def finish(self) -> None:
        """Says no more. Closed only when the other side has read: closing earlier takes with it what was said last."""
        try:
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:     # the other side is gone
            return
