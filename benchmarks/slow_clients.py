"""How long a normal client of the service waits beside 200 that send a byte a second and 1000 that send nothing.

python benchmarks/slow_clients.py [--seconds 60] [--backend onnx]

The network in weights/ is exported and served as by benchmarks/serving.py. The slow and the idle clients come again as
soon as they are sent away; they come from the address of the normal client, then from another. It ends with 1 where an
answer to the normal client is none, or took a second or longer.
"""

import argparse
import asyncio
import http.client
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from typing import Dict, List, NamedTuple

from serving import IMAGE, ROOT, Service, export

from segrun.backends import BACKENDS

MOST = 1.0      # seconds that an answer may take
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 1000000\r\n\r\n"


class Crowd:
    """Slow and idle clients. `statuses` counts what they were told, `begun` how often they came."""

    def __init__(self, port: int, address: str):
        self.port, self.address = port, address
        self.statuses: Dict[str, int] = {}
        self.begun = 0

    async def come(self, slow: int, idle: int, pipe):
        """Until something comes through the pipe, through which goes that all are there, and in the end what was."""
        clients = [asyncio.ensure_future(self.again(number < slow)) for number in range(slow + idle)]
        while self.begun < slow + idle:
            await asyncio.sleep(0.1)
        pipe.send(True)
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        pipe.send((self.begun, self.statuses))

    async def again(self, slow: bool):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.address, 0))
            except OSError:
                await asyncio.sleep(0.1)
                continue
            self.begun += 1
            try:
                await self.one(reader, writer, slow)
            except OSError:
                self.count("reset")
            finally:
                writer.close()

    async def one(self, reader, writer, slow: bool):
        """Sends what it sends until it is answered or sent away."""
        if slow:
            writer.write(HEAD)
        answer = asyncio.ensure_future(reader.read(1000))
        try:
            while not answer.done():
                if slow:
                    writer.write(b"x")
                await asyncio.wait([answer], timeout=1)
            self.count(answer.result()[9:12].decode() or "closed")
        finally:
            answer.cancel()

    def count(self, status: str):
        self.statuses[status] = self.statuses.get(status, 0) + 1


def run_crowd(port: int, address: str, slow: int, idle: int, pipe):
    """In a process of its own, so that it does not keep the normal client from its work."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(files, min(slow + idle + 200, most)), most))
    asyncio.run(Crowd(port, address).come(slow, idle, pipe))


class Waited(NamedTuple):
    status: int
    seconds: float


def asked(service: Service, path: str) -> Waited:
    start = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return Waited(response.status, time.perf_counter() - start)
    except (OSError, http.client.HTTPException):
        return Waited(0, time.perf_counter() - start)
    finally:
        connection.close()


def beside(service: Service, seconds: float) -> Dict[str, List[Waited]]:
    """A prediction, /healthz and /metrics, one after the other, twice a second."""
    image, found, end = IMAGE.read_bytes(), {"/predict": [], "/healthz": [], "/metrics": []}, time.monotonic() + seconds
    while time.monotonic() < end:
        seen = service.predict(image)
        found["/predict"].append(Waited(seen.status, seen.seconds))
        for path in ("/healthz", "/metrics"):
            found[path].append(asked(service, path))
        time.sleep(0.5)
    return found


def beside_a_crowd(service: Service, args: argparse.Namespace, address: str) -> Dict[str, List[Waited]]:
    context = multiprocessing.get_context("spawn")
    pipe, end = context.Pipe()
    crowd = context.Process(target=run_crowd, args=[service.port, address, args.slow, args.idle, end], daemon=True)
    crowd.start()
    pipe.recv()
    found = beside(service, args.seconds)
    pipe.send("end")
    begun, statuses = pipe.recv()
    crowd.join()
    print(f"the crowd at {address} came {begun} times and was told {statuses}")
    return found


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--seconds", type=float, default=60)
    flags.add_argument("--slow", type=int, default=200, help="clients that send a byte a second")
    flags.add_argument("--idle", type=int, default=1000, help="clients that send nothing")
    flags.add_argument("--backend", default="paddle", choices=BACKENDS)
    args = flags.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    rows, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        export(folder, args.backend != "paddle")
        service = Service(os.path.join(folder, "deploy.yaml"), args.backend)
        try:
            service.predict(IMAGE.read_bytes())
            for address in ("", "127.0.0.1", "127.0.0.2"):
                found = beside_a_crowd(service, args, address) if address else beside(service, args.seconds)
                for path, waited in found.items():
                    times = sorted(each.seconds for each in waited)
                    bad = sum(each.status != 200 for each in waited)
                    failed = failed or bool(bad) or times[-1] >= MOST
                    rows.append(f"| {path} | {address or 'nowhere'} | {len(waited)} | {len(waited) - bad} | "
                                f"{times[len(times) // 2]:.3f} | {times[-1]:.3f} |")
        finally:
            service.process.kill()
    print("| asked | the crowd is at | times | answers 200 | median, s | longest, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows))
    sys.exit(failed)


if __name__ == "__main__":
    main()
