"""One thread decodes, predicts and encodes, an image after the other; requests wait for it in a bounded queue.

The runtimes compute with all cores already, and of one thread the memory can be told. The network is loaded in it too:
OpenMP keeps threads, and their memory, for each thread that has computed.
"""

import asyncio
import contextlib
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Awaitable, Callable, Iterator, Optional, TypeVar

from segrun.service.limits import Limits, Refused

Result = TypeVar("Result")
STUCK = 120.0       # seconds of one prediction after which the service calls itself ill


class Worker:
    """Does one thing at a time; what comes first is done first.

    `waiting` are the requests in the queue; `open` are these, the one that is predicted and those whose body still
    comes.
    """

    def __init__(self, limits: Limits):
        self.limits, self.thread = limits, ThreadPoolExecutor(1, "network")
        self.lock: Optional[asyncio.Lock] = None        # Python 3.9 binds it to the loop that it is made in
        self.open = self.waiting = 0
        self.since: Optional[float] = None
        self.last = 0.0     # seconds of the last prediction

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A request has a place within; Refused where all are taken."""
        if self.open >= self.limits.queue:
            raise self.busy(f"{self.open} requests are here already, and no more are taken")
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    async def run(self, work: Callable[[], Result], gone: Callable[[], Awaitable[bool]]) -> Optional[Result]:
        """What `work()` returns, in the thread.

        Args:
            gone: an async function, whether nobody waits for it any more; then it is not done, and None.

        Raises:
            Refused: it waited too long; or what `work` raises.
        """
        self.lock = self.lock or asyncio.Lock()
        self.waiting += 1
        try:
            await asyncio.wait_for(self.lock.acquire(), self.limits.queue_time)
        except asyncio.TimeoutError:
            raise self.busy(f"the request waited for {self.limits.queue_time:g} s, and its turn did not come") from None
        finally:
            self.waiting -= 1
        try:
            if await gone():
                return None
            self.since = time.monotonic()
            return await asyncio.get_running_loop().run_in_executor(self.thread, work)
        finally:
            if self.since is not None:
                self.last, self.since = time.monotonic() - self.since, None
            self.lock.release()

    def busy(self, why: str) -> Refused:
        return Refused(503, f"{why}; try again later", max(1, math.ceil(self.waiting * self.last)))

    def stuck(self) -> bool:
        return self.since is not None and time.monotonic() - self.since > STUCK
