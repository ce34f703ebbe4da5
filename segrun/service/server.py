"""Binds, loads, serves, and stops when it is asked to."""

import contextlib
import logging
import os
import socket
import sys
from typing import Callable, Iterator, List, Optional, Sequence

import uvicorn

from segrun.segmenter import Segmenter
from segrun.service import app
from segrun.service.counters import Metrics
from segrun.service.limits import MOST_CONNECTIONS, OTHER_FILES, Limits
from segrun.service.origins import Origins
from segrun.service.protocol import Guarded
from segrun.service.served_network import STEPS
from segrun.service.worker import Worker
from segrun.stopping import Stop

REUSE = os.name == "posix"      # of an address; Windows would let two programs have one port


def serve(load: Callable[[], Segmenter], host: str, port: int, limits: Limits,
          say: Callable[[str], None] = print, allow_origin: Sequence[str] = ()) -> None:
    """Serves until SIGTERM or SIGINT. Requests that are there then are still answered; a second signal ends at once.

    Args:
        load: makes the Segmenter (served_network.load_export or load_live); it is called in the thread that will
            predict.
        port: 0 for any that is free.
        say: takes a line for the user.
        allow_origin: whose pages may ask, beside the service's own; origins.Origins.

    Raises:
        ValueError, OSError: the address can't be had, an origin is none; or of `load`.
    """
    origins = Origins(allow_origin, host)
    with contextlib.closing(bound(host, port)) as listener:
        worker, metrics = Worker(limits), Metrics(STEPS)
        try:
            segmenter = worker.thread.submit(load).result()
            connection = type("Connection", (Guarded,), {"metrics": metrics,
                                                       "most": min(MOST_CONNECTIONS, granted_files() - OTHER_FILES)})
            config = uvicorn.Config(app.make(segmenter, worker, limits, metrics, origins), http=connection, ws="none",
                                    loop="asyncio", lifespan="off", log_level=logging.ERROR, access_log=False,
                                    server_header=False, proxy_headers=False, backlog=1024)
            # Not before: Paddle takes the signals when it is imported.
            with Stop("no more requests, and an end after the answers to those that are here") as stop:
                Server(config, stop, lambda: say(f"serving at {url_of(listener)}")).run([listener])
        finally:
            worker.thread.shutdown()


def granted_files() -> int:
    """How many the system lets the process open: commonly 1024, of which it grants more where it is asked, or 256."""
    if sys.platform == "win32":
        return MOST_CONNECTIONS + OTHER_FILES
    import resource
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + OTHER_FILES
    if granted != resource.RLIM_INFINITY and granted < wanted:
        granted = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, most))
    return wanted if granted == resource.RLIM_INFINITY else granted


def bound(host: str, port: int) -> socket.socket:
    """A socket with this address; nobody can connect yet.

    Raises:
        ValueError, OSError: there is no such address here, or another program has it.
    """
    if not 0 <= port < 1 << 16:
        raise ValueError(f"--port {port}: a port is a number from 0 to {(1 << 16) - 1}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM,
                                                                flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if REUSE:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # also where a former one has just ended
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise OSError(f"cannot serve at {host} port {port}: {error.strerror or error}; give another --host or --port, "
                      "or --port 0 for any that is free") from error
    return listener


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class Server(uvicorn.Server):
    """Leaves signals to `stop`: its own way of taking them ends the process by the signal, and not with 0."""

    def __init__(self, config: uvicorn.Config, stop: Stop, ready: Callable[[], None]):
        super().__init__(config)
        self.stop, self.ready = stop, ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: Optional[List[socket.socket]] = None) -> None:
        await super().startup(sockets=sockets)
        self.ready()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self.stop.signum is not None
