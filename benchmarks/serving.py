"""How the service holds: the shipped network for minutes under 32 clients, then 1000 hostile bodies, then
500 images of mixed sizes.

python benchmarks/serving.py [--minutes 10] [--backend onnx]

The network in weights/ is exported to a temporary folder and served by tools/serve.py in a process of its own. It ends
with 1 where an answer is neither a prediction nor 503, memory grows by more than 10 % (of
mixed sizes: by half after the first 20), or a hostile body gets more than
one line that says what is wrong.
"""

import argparse
import collections
import concurrent.futures
import http.client
import json
import os
import pathlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from typing import List, NamedTuple, Tuple

from segrun.backends import BACKENDS

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "encnet_lite0_camvid_480x360.yml"
WEIGHTS = ROOT / "weights" / "encnet_lite0_camvid.safetensors"
IMAGE = ROOT / "docs" / "images" / "street.jpg"
MOST_GROWTH = 0.1
MOST_PIXELS, FEW, MIXED_GROWTH = 4 << 20, 20, 1.5       # of the images of mixed sizes
REFUSALS = (400, 408, 413, 415, 422, 503)


class Seen(NamedTuple):
    """An answer: status 0 where there was none, and why in the body."""
    status: int
    body: bytes
    seconds: float


class Service:
    """tools/serve.py over an export."""

    def __init__(self, deploy: str, backend: str):
        command = [sys.executable, ROOT / "tools" / "serve.py", "--config", deploy, "--port", "0", "--backend", backend]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = " "
        while line and not line.startswith("serving at "):
            line = self.process.stdout.readline()
        if not line:
            sys.exit("error: the service does not start")
        self.port = int(line.strip(" /\n").split(":")[-1])

    def resident(self) -> int:
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) * 1024

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def predict(self, body: bytes, kind: str = "image/jpeg", query: str = "") -> Seen:
        start = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", f"/predict{query}", body, {"Content-Type": kind})
            response = connection.getresponse()
            return Seen(response.status, response.read(), time.perf_counter() - start)
        except OSError as error:
            return Seen(0, repr(error).encode(), time.perf_counter() - start)
        finally:
            connection.close()

    def send(self, head: List[str], body: bytes) -> Seen:
        """Sends these bytes, and the end of all that will come."""
        start = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as client:
            try:
                head_lines = ["POST /predict HTTP/1.1", "Host: localhost", *head, "", ""]
                client.sendall("\r\n".join(head_lines).encode() + body)
                client.shutdown(socket.SHUT_WR)
                response = http.client.HTTPResponse(client)
                response.begin()
                return Seen(response.status, response.read(), time.perf_counter() - start)
            except (OSError, http.client.HTTPException) as error:
                return Seen(0, repr(error).encode(), time.perf_counter() - start)


def export(folder: str, onnx: bool):
    subprocess.run([sys.executable, ROOT / "tools" / "export.py", "--config", CONFIG, "--model_path", WEIGHTS,
                    "--save_dir", folder, *["--onnx"] * onnx], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def load(service: Service, seconds: float, clients: int, rate: float) -> List[Seen]:
    """Requests of so many clients, `rate` a minute in all: each at its time, however long the one before took, unless
    its client still waits."""
    image, pause = IMAGE.read_bytes(), 60 * clients / rate
    begin = time.monotonic() + 0.5

    def client(number: int) -> List[Seen]:
        seen, due = [], begin + pause * number / clients
        while due < begin + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            seen.append(service.predict(image, query="?format=json" if number % 2 else ""))
            due += pause
        return seen

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return [each for found in pool.map(client, range(clients)) for each in found]


class Mixed(NamedTuple):
    """Answers to images of mixed sizes, and the most bytes that the service held after one."""
    seen: List[Seen]
    memory: int


def mixed(service: Service, count: int) -> Tuple[int, Mixed]:
    """The street in that many sizes and shapes, one after another, each time another: the most that is held after one
    of the first FEW, and after one of the others."""
    import cv2
    street, draw, seen, held = cv2.imread(str(IMAGE)), random.Random(3), [], []
    for _ in range(count):
        pixels, shape = draw.uniform(0.02, 0.99) * MOST_PIXELS, draw.uniform(0.6, 1.7)
        size = int((pixels * shape) ** 0.5), int((pixels / shape) ** 0.5)
        seen.append(service.predict(cv2.imencode(".jpg", cv2.resize(street, size))[1].tobytes()))
        held.append(service.resident())
    return max(held[:FEW]), Mixed(seen, max(held[FEW:]))


# --- hostile bodies --------------------------------------------------------------------------------------------------

def bomb(width: int, height: int) -> bytes:
    """A PNG that claims this size in a hundred bytes."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def damaged(draw: random.Random) -> bytes:
    data = bytearray(IMAGE.read_bytes())
    for _ in range(draw.randrange(1, 50)):
        data[draw.randrange(700)] = draw.randrange(256)
    return bytes(data)


def hostile(service: Service, draw: random.Random) -> Seen:
    image = IMAGE.read_bytes()
    return draw.choice([
        lambda: service.predict(b""),
        lambda: service.predict(b"text, and no image " * draw.randrange(1, 1000)),
        lambda: service.predict(draw.randbytes(draw.randrange(1, 100_000))),
        lambda: service.predict(bomb(30_000, 30_000), "image/png"),
        lambda: service.predict(bomb(draw.randrange(1, 2 ** 31), draw.randrange(1, 2 ** 31)), "image/png"),
        lambda: service.predict(bomb(draw.randrange(1, 2000), draw.randrange(1, 2000)), "image/png"),
        lambda: service.predict(image[:draw.randrange(1, len(image) - 10)]),
        lambda: service.predict(damaged(draw)),
        lambda: service.predict(image, draw.choice(["text/plain", "application/json", "multipart/form-data"])),
        lambda: service.predict(image, query="?format=exe"),
        lambda: service.predict(bytes((16 << 20) + draw.randrange(1, 1000))),
        lambda: service.send([f"Content-Length: {len(image)}", "Content-Type: image/jpeg"], image[:5000]),
        lambda: service.send(["Transfer-Encoding: chunked"], b"10\r\n" + bytes(16) + b"\r\n"),
        lambda: service.send(["Transfer-Encoding: chunked"], b"no number\r\n" + bytes(16)),
        lambda: service.send([f"Content-Length: {10 ** 15}"], b"x"),
    ])()


def clean(seen: Seen) -> bool:
    """Whether it is a prediction (a few damages are none), or one line that says what is wrong."""
    if seen.status == 200:
        return True
    try:
        content = json.loads(seen.body)
    except ValueError:
        return False
    return seen.status in REFUSALS and list(content) == ["error"] and seen.body.count(b"\n") == 1 and \
        not re.search(r"Traceback|File \"|site-packages|paddleseg_encnet/|segrun/|/home/|/tmp/", content["error"])


# --- the table -------------------------------------------------------------------------------------------------------

def row(name: str, seen: List[Seen], before: int, after: int) -> str:
    statuses = ", ".join(f"{count} x {status or 'none'}" for status, count in
                         sorted(collections.Counter(each.status for each in seen).items()))
    times = sorted(each.seconds for each in seen if each.status == 200) or [float("nan")]
    quantiles = [f"{1000 * times[min(len(times) - 1, int(share * len(times)))]:.0f}" for share in (0.5, 0.95, 0.99)]
    return f"| {name} | {len(seen)} | {statuses} | {' | '.join(quantiles)} | {before / 2 ** 20:.0f} | " \
           f"{after / 2 ** 20:.0f} |"


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--minutes", type=float, default=10)
    flags.add_argument("--clients", type=int, default=32)
    flags.add_argument("--rate", type=float, default=200, help="requests a minute of all clients together")
    flags.add_argument("--hostile", type=int, default=1000, help="number of hostile bodies")
    flags.add_argument("--mixed", type=int, default=500, help=f"images of mixed sizes, more than {FEW}")
    flags.add_argument("--backend", default="paddle", choices=BACKENDS)
    args = flags.parse_args()
    if args.mixed <= FEW:
        flags.error(f"--mixed {args.mixed}: must be more than {FEW}")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        export(folder, args.backend != "paddle")
        service = Service(os.path.join(folder, "deploy.yaml"), args.backend)
        try:
            load(service, 10, args.clients, args.rate)      # a warm-up
            start = service.resident()
            good = load(service, 60 * args.minutes, args.clients, args.rate)
            middle = service.resident()
            draw = random.Random(1)
            seeds = [draw.randrange(2 ** 30) for _ in range(args.hostile)]
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                bad = list(pool.map(lambda seed: hostile(service, random.Random(seed)), seeds))
            end = service.resident()
            few, many = mixed(service, args.mixed)
            still = service.predict(IMAGE.read_bytes())
            code = service.stop()
        finally:
            service.process.kill()
    print("| | requests | statuses | p50, ms | p95 | p99 | memory before, MiB | after |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(row(f"{args.clients} clients, {args.minutes:g} minutes", good, start, middle))
    print(row("hostile bodies", bad, middle, end))
    print(row(f"images of mixed sizes up to {MOST_PIXELS >> 20} megapixels, memory after {FEW} and after all",
              many.seen, few, many.memory))
    unclean = [each for each in bad if not clean(each)]
    failures = [
        *(["a request failed"] if {each.status for each in good} - {200, 503} else []),
        *([f"memory grew from {start} to {max(middle, end)} bytes"] if max(middle, end) > (1 + MOST_GROWTH) * start
          else []),
        *([f"of mixed sizes, memory grew from {few} to {many.memory} bytes"] if many.memory > MIXED_GROWTH * few
          else []),
        *(["an image of mixed sizes failed"] if {each.status for each in many.seen} != {200} else []),
        *([f"{len(unclean)} hostile bodies were not answered in a line, the first: {unclean[0]}"] if unclean else []),
        *([f"afterwards an image gets {still.status}, and SIGTERM {code}"] if (still.status, code) != (200, 0) else [])]
    for failure in failures:
        print(f"FAILED: {failure}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
