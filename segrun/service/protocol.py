"""Connections that are broken, slow or too many, which uvicorn leaves to others: a head or an answer that gets stuck, a
body that ends too early. Of too many, those that are worth least end: who comes to ask something asks at once, and
goes on."""

import asyncio
import contextlib
from typing import Dict, List, Optional, Sequence, Set, Tuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from segrun.service.answers import JSON, error_bytes
from segrun.service.counters import Metrics
from segrun.service.limits import HEAD_TIME, LINGER, MIN_RATE, OTHER_FILES, SEND_TIME, address_of

HEAD = 1024     # bytes with which a request begins that are worth nothing
FEW = 20        # where there are too many connections, this part of all ends with those
PAUSE = 0.05    # seconds until then; how many more there may be meanwhile:
SPARE = OTHER_FILES // 2


class Guarded(H11Protocol):
    """A connection. What belongs to the class, which uvicorn makes connections of, is one for all: `metrics`, `most` of
    them, and what `trimming` will begin. `worth` is the time of its beginning, or of its last request's, and a second
    more for each MIN_RATE bytes that came since then."""
    metrics: Metrics
    most: int
    trimming: Optional[asyncio.TimerHandle] = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)        # so that it is told of any byte that is not taken
        self.head_timer: Optional[asyncio.TimerHandle] = None
        self.send_timer: Optional[asyncio.TimerHandle] = None
        self.refused = False
        self.address, self.worth = address_of(self.client), self.loop.time()
        self.head_timer = self.loop.call_later(HEAD_TIME, self.slow_head)
        over, own = len(self.connections) - self.most, type(self)
        if over > SPARE:
            own.trim(self.connections)
        elif over > 0 and own.trimming is None:     # not before what those have sent is read that come at once
            own.trimming = self.loop.call_later(PAUSE, own.trim, self.connections)

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self.worth = max(self.worth, self.loop.time())
            self.worth += max(0, len(data) - HEAD) / MIN_RATE
        else:
            self.worth += len(data) / MIN_RATE
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self.head_timer = stopped(self.head_timer)
        elif self.head_timer is None and not self.transport.is_closing():
            self.head_timer = self.loop.call_later(HEAD_TIME, self.slow_head)
        if (self.conn.our_state, self.conn.their_state) == (h11.DONE, h11.SEND_BODY):
            self.transport.close()      # a body that nobody asked for, behind its answer

    def on_response_complete(self) -> None:
        super().on_response_complete()      # another request may have come in one piece with the last
        if self.conn.their_state is not h11.IDLE:
            self.head_timer = stopped(self.head_timer)

    def eof_received(self) -> None:
        if not self.refused and self.cycle is not None and self.cycle.more_body and not self.cycle.response_started:
            self.refuse(400, "the body ended before its end")

    def connection_lost(self, error: Optional[Exception]) -> None:
        self.head_timer, self.send_timer = stopped(self.head_timer), stopped(self.send_timer)
        super().connection_lost(error)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.send_timer = self.send_timer or self.loop.call_later(SEND_TIME, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.refused:
            self.send_timer = stopped(self.send_timer)

    @classmethod
    def trim(cls, connections: Set["Guarded"]) -> None:
        """Ends as many as there are too many, and a few more: of the address that has most of those that may end, the
        one that is worth least; and so on."""
        cls.trimming = stopped(cls.trimming)
        living = [each for each in connections if not each.transport.is_closing()]
        theirs: Dict[str, List[Guarded]] = {}
        for each in sorted(living, key=lambda each: each.worth, reverse=True):
            if each.may_end():
                theirs.setdefault(each.address, []).append(each)
        for _ in range(len(living) - cls.most + cls.most // FEW if len(living) > cls.most else 0):
            most = max(theirs.values(), key=len, default=[])
            if most:
                most.pop().end()

    def may_end(self) -> bool:
        """Not where a whole request is here and its answer is not yet away."""
        return self.refused or self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def end(self) -> None:
        if self.refused:
            self.transport.abort()
            return
        if self.cycle is None or not self.cycle.response_complete or self.conn.trailing_data[0]:
            self.refuse(503, "there are too many connections, and least has come from this one",
                        [(b"retry-after", b"1")])
        self.transport.close()

    def slow_head(self) -> None:
        self.head_timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.refuse(408, f"the request's head was not there after {HEAD_TIME:g} s")

    def send_400_response(self, msg: str) -> None:
        """In place of uvicorn's, which is no JSON."""
        self.refuse(400, "this is no HTTP request that can be read")

    def refuse(self, status: int, message: str, headers: Sequence[Tuple[bytes, bytes]] = ()) -> None:
        """Answers and ends the connection, after LINGER seconds in which what still comes is forgotten, as ErrorAnswer
        does."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()      # within an answer
            return
        body = error_bytes(message)
        head = [(b"content-type", JSON.encode()), (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"), *headers]
        for event in (h11.Response(status_code=status, headers=head), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        with contextlib.suppress(OSError):      # the client has left
            self.transport.write_eof()
        self.refused, self.head_timer = True, stopped(self.head_timer)
        self.send_timer = self.send_timer or self.loop.call_later(LINGER, self.transport.abort)
        if self.cycle is None or self.cycle.response_complete:      # else the app counts it
            self.metrics.count(str(status))
        else:
            self.cycle.disconnected = True
            self.cycle.message_event.set()


def stopped(timer: Optional[asyncio.TimerHandle]) -> Optional[asyncio.TimerHandle]:
    """What is left of it: None."""
    if timer is not None:
        timer.cancel()
    return None
