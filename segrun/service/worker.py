"""One thread decodes, predicts and encodes, an image after the other; requests wait for it in a bounded queue.

The runtimes compute with all cores already, and of one thread the memory can be told. The network is loaded in it too:
OpenMP keeps threads, and their memory, for each thread that has computed.
"""

import asyncio
import collections
import contextlib
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Awaitable, Callable, Counter, Deque, Iterator, List, Optional, TypeVar

from segrun.service.limits import Limits, Refused

Result = TypeVar("Result")
STUCK = 120.0       # seconds of one prediction after which the service calls itself ill


class Place:
    """In the queue, of a request whose body is here. `turn` is done when it comes; it is Refused where it gave way."""

    def __init__(self, address: str):
        self.address = address
        self.turn: "asyncio.Future[None]" = asyncio.get_running_loop().create_future()


class Worker:
    """Does one thing at a time; what comes first is done first.

    `places` are the requests in the queue and the one that is predicted, `line` those that wait. No address has all of
    them where others come too: who comes when all are taken gets the last one of the address that has most, if it has
    two less itself.
    """

    def __init__(self, limits: Limits):
        self.limits, self.thread = limits, ThreadPoolExecutor(1, "network")
        self.places: List[Place] = []
        self.line: Deque[Place] = collections.deque()
        self.current: Optional[Place] = None
        self.since: Optional[float] = None
        self.last = 0.0     # seconds of the last prediction

    @property
    def waiting(self) -> int:
        return len(self.line)

    def check(self, address: str) -> None:
        """Raises Refused where a request of this address would get no place now."""
        if len(self.places) >= self.limits.queue and self.giving_way(address) is None:
            raise self.busy(f"{len(self.places)} requests are here already, and no more are taken")

    @contextlib.contextmanager
    def place(self, address: str) -> Iterator[Place]:
        """A request has a place within; Refused where all are taken."""
        self.check(address)
        if len(self.places) >= self.limits.queue:
            other = self.giving_way(address)
            assert other is not None
            self.leave(other)
            other.turn.set_exception(self.busy("requests of other addresses came, and of this one most were here"))
        place = Place(address)
        self.places.append(place)
        try:
            yield place
        finally:
            self.leave(place)

    def giving_way(self, address: str) -> Optional[Place]:
        """Whose place a request of this address gets where all are taken."""
        held: Counter[str] = collections.Counter(place.address for place in self.places)
        other, most = held.most_common(1)[0]
        if most < held[address] + 2:
            return None
        return next((place for place in reversed(self.line) if place.address == other and not place.turn.done()), None)

    def leave(self, place: Place) -> None:
        if place in self.places:
            self.places.remove(place)
        if place in self.line:
            self.line.remove(place)

    async def run(self, place: Place, work: Callable[[], Result],
                  gone: Callable[[], Awaitable[bool]]) -> Optional[Result]:
        """What `work()` returns, in the thread.

        Args:
            gone: an async function, whether nobody waits for it any more; then it is not done, and None.

        Raises:
            Refused: it waited too long, or gave way; or what `work` raises.
        """
        try:
            await self.turn(place)
            if await gone():
                return None
            self.since = time.monotonic()
            return await asyncio.get_running_loop().run_in_executor(self.thread, work)
        finally:
            if self.current is place:
                if self.since is not None:
                    self.last, self.since = time.monotonic() - self.since, None
                self.next()

    async def turn(self, place: Place) -> None:
        """Until it comes."""
        if self.current is None:
            self.current = place
            return
        self.line.append(place)
        try:
            await asyncio.wait_for(place.turn, self.limits.queue_time)
        except asyncio.TimeoutError:
            raise self.busy(f"the request waited for {self.limits.queue_time:g} s, and its turn did not come") from None
        finally:
            if place in self.line:
                self.line.remove(place)

    def next(self) -> None:
        self.current = None
        while self.line and self.current is None:
            place = self.line.popleft()
            if not place.turn.done():
                self.current = place
                place.turn.set_result(None)

    def busy(self, why: str) -> Refused:
        return Refused(503, f"{why}; try again later", max(1, math.ceil(self.waiting * self.last)))

    def stuck(self) -> bool:
        return self.since is not None and time.monotonic() - self.since > STUCK
