"""Clients of the service that are slow, each with a socket: all of them in one thread."""

import contextlib
import threading
import time
from typing import List

from service import Service, head


class Slow:
    """Clients that send a byte of their body now and then, until the end of `with`. They have begun with it, and the
    service waits for more, when `with` begins."""

    def __init__(self, service: Service, count: int, address: str = "127.0.0.1", pause: float = 0.05):
        self.pause, self.ended = pause, threading.Event()
        self.clients = [service.connect(address) for _ in range(count)]
        for client in self.clients:
            client.sendall(head("Content-Length: 1000000", "Expect: 100-continue"))
        for client in self.clients:
            assert client.recv(1000).startswith(b"HTTP/1.1 100 ")
            client.setblocking(False)
        self.thread = threading.Thread(target=self.trickle)

    def trickle(self):
        while not self.ended.is_set():
            for client in self.clients:
                with contextlib.suppress(OSError):
                    client.send(b"x")
            time.sleep(self.pause)

    def answered(self) -> List[bytes]:
        """What those have been sent that are no longer waited for; nothing where there is no connection any more."""
        found = []
        for client in self.clients:
            try:
                found.append(client.recv(10_000))
            except BlockingIOError:
                continue
            except ConnectionError:
                found.append(b"")
        return found

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.thread.join()
        for client in self.clients:
            client.close()
