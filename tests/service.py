"""The service in a process of its own, clients that keep to no rule, and what they send."""

import http.client
import io
import json
import socket
import struct
import subprocess
import sys
import zlib
from typing import NamedTuple, Sequence

from conftest import ROOT
from events import wait_for
from PIL import Image

MOST_BYTES, MOST_PIXELS = 300_000, 100_000      # that the service of the fixture takes
NAMES = [f"class <{i}>" for i in range(19)]     # of its export

# A network without Paddle that takes half a second, or for an image of 5 x 5 until the test lets it go on; it says what
# it begins with, and sees one class.
SLOW = """
import sys, time
import numpy as np
from segrun.classes import Classes
from segrun.network import IDS, Output, Prepared
from segrun.segmenter import Segmenter
from segrun.service import limits, protocol, server

protocol.HEAD_TIME, protocol.SEND_TIME, server.MOST_CONNECTIONS = {head_time}, 1.0, {connections}

class Slow:
    channels, classes, meaning, requests = 3, Classes(["one"]), IDS, 1
    batch_size, pixelwise, least_side = None, False, 1

    def prepare(self, pixels, where):
        return Prepared(pixels.astype(np.float32).transpose(2, 0, 1), [])

    def run(self, batch):
        if batch.shape[2:] == (3, 3):
            raise RuntimeError("a fault of ours in /some/folder")
        print("predicting", *batch.shape[2:], flush=True)
        if batch.shape[2:] == (5, 5):
            sys.stdin.readline()
        else:
            time.sleep(0.5)
        return Output(np.zeros([1, *batch.shape[2:]], np.int32))

    def resize(self, values, size):
        return values

server.serve(lambda: Segmenter.of(Slow(), confidence=False), "127.0.0.1", 0, limits.Limits({limits}),
             lambda line: print(line, flush=True), {allow_origin})
"""


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A grey PNG that claims this size."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def in_format(name: str, width: int = 40, height: int = 30) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(file, name)
    return file.getvalue()


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

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        """From this address, of which a machine has all that begin with 127."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30, source_address=(address, 0))

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
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *lines, "", ""]).encode()


def slow(head_time: float = 1, connections: int = 520, allow_origin: Sequence[str] = (), **limits) -> Service:
    return Service("-c", SLOW.format(head_time=head_time, connections=connections, allow_origin=list(allow_origin),
                                     limits=", ".join(f"{name}={value}" for name, value in limits.items())))


def limited(deploy) -> Service:
    """tools/serve.py over an export, which takes MOST_BYTES and MOST_PIXELS, and a second for a body."""
    return Service(ROOT / "tools" / "serve.py", "--config", deploy, "--port", "0", "--cpu_threads", "1", "--max_bytes",
                   MOST_BYTES, "--max_pixels", MOST_PIXELS, "--body_time", "1")
