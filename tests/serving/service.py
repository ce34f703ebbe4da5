"""The service in a process of its own, and clients that keep to no rule."""

import http.client
import json
import os
import socket
import subprocess
import sys
from typing import NamedTuple

from conftest import ROOT
from events import wait_for

# A network without Paddle that takes half a second, or for an image of 5 x 5 until the test lets it go on; it says what
# it begins with.
SLOW = """
import sys, time, types
package = types.ModuleType("paddleseg_encnet")
package.__path__ = [{package!r}]
sys.modules["paddleseg_encnet"] = package
import numpy as np
from segrun.outputs import Style
from segrun.service import limits, protocol, server

protocol.HEAD_TIME, protocol.SEND_TIME, protocol.MOST_CONNECTIONS = {head_time}, 1.0, 520

class Slow:
    channels, style = 3, Style(["one"], np.zeros([256, 3], np.uint8))

    def see(self, image):
        if image.shape[:2] == (3, 3):
            raise RuntimeError("a fault of ours in /some/folder")
        print("predicting", *image.shape[:2], flush=True)
        if image.shape[:2] == (5, 5):
            sys.stdin.readline()
        else:
            time.sleep(0.5)
        return np.zeros(image.shape[:2], np.uint8), None

server.serve(Slow, "127.0.0.1", 0, limits.Limits({limits}), lambda line: print(line, flush=True))
"""


class Answer(NamedTuple):
    status: int
    headers: dict       # by names in lower case
    body: bytes

    @property
    def error(self) -> str:
        """Of an error's one line of JSON, which is all that there is."""
        assert self.headers["content-type"] == "application/json" and self.body.count(b"\n") == 1
        content = json.loads(self.body)
        assert list(content) == ["error"] and "Traceback" not in content["error"]
        return content["error"]


class Service:
    """Started with `command`; ends within `with`, or before."""

    def __init__(self, *command):
        self.process = subprocess.Popen([sys.executable, *map(str, command)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        line = ""
        while not line.startswith("serving at "):
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
        self.url = line.split()[-1]
        self.port = int(self.url.split(":")[-1].strip("/"))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.communicate()

    def ask(self, method: str, path: str, body=None, **headers) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = answer_of(connection.getresponse())
        connection.close()
        return answer

    def predict(self, body, query: str = "", kind: str = "image/png", **headers) -> Answer:
        return self.ask("POST", f"/predict{query}", body, Content_Type=kind, **headers)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def send(self, sent: bytes, end: bool = False) -> Answer:
        """The answer to these bytes. `end`: nothing more will come, as the client's system says."""
        with self.connect() as client:
            client.sendall(sent)
            if end:
                client.shutdown(socket.SHUT_WR)
            return received(client)

    def resident(self) -> int:
        return next(int(float(line.split()[1])) for line in self.ask("GET", "/metrics").body.decode().splitlines()
                    if line.startswith("process_resident_memory_bytes"))

    def predicting(self) -> str:
        """Waits until the network of slow() begins with an image; its height and width."""
        word, size = self.process.stdout.readline().split(maxsplit=1)
        assert word == "predicting"
        return size.strip()

    def go_on(self):
        """Ends a prediction of 5 x 5."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def await_queue(self, length: int):
        """Until so many requests wait for their turn."""
        wait_for(lambda: f"encnet_queue_length {length}\n" in self.ask("GET", "/metrics").body.decode())

    def refuses_connections(self) -> bool:
        try:
            self.connect().close()
        except ConnectionError:
            return True
        return False


def received(client: socket.socket) -> Answer:
    response = http.client.HTTPResponse(client)
    response.begin()
    return answer_of(response)


def answer_of(response: http.client.HTTPResponse) -> Answer:
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def head(*lines: str, path: str = "/predict", kind: str = "image/png") -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {kind}", *lines, "", ""]).encode()


def slow(head_time: float = 1, **limits) -> Service:
    package = os.path.join(ROOT, "paddleseg_encnet")
    return Service("-c", SLOW.format(package=package, head_time=head_time,
                                     limits=", ".join(f"{k}={v}" for k, v in limits.items())))
