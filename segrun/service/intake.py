"""Bodies that are being received: how fast they must come, and how many bytes they may hold together.

They wait for nobody: a request joins the queue of the network when its body is here. What is bounded is what they hold,
not how many they are, as a client that sends a byte a second holds a byte. Where it is too much, the address that holds
most gives way, and of its bodies the one from which nothing has come for longest.
"""

import asyncio
import collections
import contextlib
import math
import time
from typing import Any, Counter, Dict, Iterator, List, Optional

from fastapi import Request

from segrun.service.limits import Limits, Refused

SHARE = 8       # of the bytes that the queue may hold, bodies on their way may hold one part in so many
WINDOW = 2.0    # seconds in which a body must have come as fast as it must
TURNS = 3       # of the event loop, in which a part of a body that the system has reaches who waits for it


class Body:
    """`data` is what has come so far, `heard` when its last part came; `dropped` is done when it must give way."""

    def __init__(self, address: str):
        self.address, self.data, self.heard = address, bytearray(), time.monotonic()
        self.dropped: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()


class Intake:
    """Used in the thread of the event loop alone."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.most = max(limits.max_bytes, limits.queue * limits.max_bytes // SHARE)
        self.bodies: Dict[int, Body] = {}
        self.held = 0

    @contextlib.contextmanager
    def receiving(self, address: str) -> Iterator[Body]:
        body = Body(address)
        self.bodies[id(body)] = body
        try:
            yield body
        finally:
            self.forget(body)

    def add(self, body: Body, part: bytes) -> None:
        """Raises Refused where the body becomes too large."""
        if len(body.data) + len(part) > self.limits.max_bytes:
            raise too_large(self.limits)
        if id(body) not in self.bodies:         # it has been dropped, and nobody has noticed yet
            return
        body.data.extend(part)
        body.heard = time.monotonic()
        self.held += len(part)
        while self.held > self.most:
            held: Counter[str] = collections.Counter()
            for each in self.bodies.values():
                held[each.address] += len(each.data)
            most = held.most_common(1)[0][0]
            self.drop(min((each for each in self.bodies.values() if each.address == most and each.data),
                          key=lambda each: each.heard))

    def drop(self, body: Body) -> None:
        self.forget(body)
        if not body.dropped.done():
            body.dropped.set_result(None)

    def forget(self, body: Body) -> None:
        if self.bodies.pop(id(body), None) is not None:
            self.held -= len(body.data)


async def body_of(request: Request, limits: Limits, intake: Intake, address: str) -> bytes:
    """The whole body.

    Args:
        address: whose it is, as limits.address_of has it.

    Raises:
        Refused: it is empty, too large or too slow, or gave way to others.
        ClientDisconnect: the client ended before.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.max_bytes:
        raise too_large(limits)
    with intake.receiving(address) as body:
        async def receive() -> None:
            async for part in request.stream():
                intake.add(body, part)

        receiving, slow = asyncio.ensure_future(receive()), asyncio.ensure_future(too_slow(body, limits))
        ends: List["asyncio.Future[Any]"] = [receiving, slow, body.dropped]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if body.dropped.done():
                raise Refused(503, "more bodies come than are held at a time, and from this address most; try again "
                              "later", 1)
            if not receiving.done():
                raise Refused(408, slow.result())
            receiving.result()
        finally:
            receiving.cancel()
            slow.cancel()
        if not body.data:
            raise Refused(400, "the body is empty: it must be the bytes of an image")
        return bytes(body.data)


async def too_slow(body: Body, limits: Limits) -> str:
    """As soon as it is, why."""
    end, before = time.monotonic() + limits.body_time, 0
    while True:
        seconds = min(WINDOW, max(0.0, end - time.monotonic()))
        await asyncio.sleep(seconds)
        settled: Optional[int] = None
        while settled != len(body.data):        # a busy service reads late what came in time
            settled = len(body.data)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        if time.monotonic() >= end:
            return f"the body was not there after {limits.body_time:g} s"
        if settled - before < limits.min_rate * seconds:
            return f"the body comes with less than {math.ceil(limits.min_rate)} bytes a second"
        before = settled


def too_large(limits: Limits) -> Refused:
    return Refused(413, f"the body has more than the {limits.max_bytes} bytes that are taken")
