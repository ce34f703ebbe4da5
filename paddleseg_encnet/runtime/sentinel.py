"""The process beside each rank that watches the others; watch.py starts it, as star.py, and speaks with it.

It is a process of its own because a rank can't watch: it may be stopped itself, and some of Paddle's waits let no other
thread of Python run. The sentinels form a star: one, the centre, has a connection to each other one. Every second each
says that its rank goes on, and leaves that out while the rank is stopped. Who is not heard for SILENCE is gone, and so
is who closes its connection without a goodbye. The centre tells the others, and each ends its rank with that line; that
the centre is gone, each sees for itself.

Standard library only. Messages are words, one a line; what follows the word is for people.

    from a rank, through its sentinel to the centre         from the centre
        here            is at the next meeting                  met             all are
        bye             ends, its work is done                  done            all have said goodbye
        failed TEXT     ends, because of an error               ended R TEXT    rank R does
        lost            is dead, says its sentinel              gone TEXT       one is gone
        limit S TEXT    is to fail with TEXT in S seconds; without S and TEXT no more. Stays with the sentinel
    both ways: beat.  To a rank: end TEXT. It answers "said" when it has told TEXT to people, and ends.
"""

import hashlib
import select
import socket
import time
from typing import Callable, Dict, List, NamedTuple, Optional

from .links import Link  # not through the package, which brings Paddle

# Seconds between two signs of life; without one until a rank is suspected, and what may follow from its absence is held
# back; until it is gone. Gloo gives up after 30 s and blames whom it waits for: this is to be known earlier.
BEAT, QUIET, SILENCE = 1.0, 3.0, 20.0
# Seconds that a rank gets to tell its last line, and the others to read it.
REACTION = 2.0
NAMED = 8       # ranks in a line; of more only the number is told


class Rank(NamedTuple):
    """The rank that a sentinel stands beside, and what it can do with it."""
    number: int
    connection: socket.socket
    stopped: Callable[[], bool]     # tells whether its process is
    say: Callable[[str], None]      # writes a line where the rank's own are
    kill: Callable[[], None]


class Sentinel:
    """What the centre and the members have in common. `endpoints` is "host:port" of each rank; `timeout` is in seconds,
    to wait for ranks that have not started."""
    # What the two do each in its own way; the centre alone is called, and accepts.
    beat: Callable[[float], None]
    judge: Callable[[float], None]
    accept: Callable[[], None]
    from_own: Callable[[str, str], None]
    from_other: Callable[[Link, str, str], None]
    closed: Callable[[Link], None]

    def __init__(self, rank: Rank, endpoints: List[str], timeout: float):
        self.rank, self.endpoints, self.timeout = rank, endpoints, timeout
        self.names = [f"rank {other} ({endpoint})" for other, endpoint in enumerate(endpoints)]
        self.poll = select.poll()
        self.by_fd: Dict[int, Link] = {}
        self.deadline = time.monotonic() + timeout
        self.verdict: Optional[str] = None      # "gone TEXT" or "ended R TEXT"
        self.done = self.bye = False            # of all; of the own rank
        self.limit: Optional[tuple] = None
        self.own = self.add(rank.connection)

    def run(self) -> None:
        """Until all have said goodbye or one is gone; then the rank ends, if it still goes on."""
        beaten = time.monotonic()
        while not self.done and self.verdict is None:
            came = self.wait(beaten + BEAT - time.monotonic())
            now = time.monotonic()
            if now - beaten > QUIET:        # this process itself stood still, perhaps with the whole run
                for link in self.by_fd.values():
                    link.heard = now
            for link in came:               # behind it, as what has come may lead to a verdict
                self.heard(link)
            if now - beaten < BEAT:
                continue
            beaten = now
            if self.bye or self.own.open and not self.rank.stopped():
                self.beat(now)
            if self.limit and now > self.limit[0]:
                self.from_own("failed", self.limit[1])
                self.limit = None
            self.judge(now)
        self.end()

    # --- connections

    def add(self, connection: socket.socket) -> Link:
        link = self.by_fd[connection.fileno()] = Link(connection)
        self.poll.register(connection, select.POLLIN)
        return link

    def drop(self, link: Link) -> None:
        del self.by_fd[link.connection.fileno()]
        self.poll.unregister(link.connection)
        link.connection.close()
        link.open = False

    def wait(self, seconds: float) -> List[Link]:
        """The links that something has come from, read. Those that are closed are dropped."""
        came = []
        for fd, _ in self.poll.poll(max(0.0, seconds) * 1000):
            if fd not in self.by_fd:
                self.accept()
                continue
            link = self.by_fd[fd]
            link.read()
            if not link.open:
                self.drop(link)
            came.append(link)
        return came

    def heard(self, link: Link) -> None:
        """Acts on what is in the inbox, and on the end of the connection."""
        while link.inbox:
            word, _, text = link.inbox.popleft().partition(" ")
            if link is not self.own:
                self.from_other(link, word, text)
            elif word == "limit":
                seconds, _, text = text.partition(" ")
                self.limit = (time.monotonic() + float(seconds), text) if seconds else None
            else:
                self.bye = self.bye or word == "bye"
                self.from_own(word, text)
        if not link.open and link is not self.own:
            self.closed(link)
        elif not link.open and not self.bye:
            self.from_own("lost", "")

    def greeting(self, rank: int) -> str:
        """What the sentinel of a rank of this run says first; anybody else who comes to the port says another thing."""
        return f"rank {rank} of {hashlib.sha256(','.join(self.endpoints).encode()).hexdigest()}"

    # --- what people read

    def gone(self, ranks: List[int], how: str) -> None:
        more = len(ranks) - NAMED
        listed = ", ".join(self.names[rank] for rank in sorted(ranks)[:NAMED]) + (f" and {more} more" * (more > 0))
        self.verdict = "gone " + {
            "silent": f"{listed} has not answered for {SILENCE:g} s: it is stopped, its machine is down, or the "
                      "network between is cut",
            "alone": f"no other rank has answered for {SILENCE:g} s: is the network of {self.names[self.rank.number]} "
                     "cut?",
            "lost": f"{listed} is gone: it was killed, ran out of memory, failed (its workerlog says more), or its "
                    "machine is down",
            "early": f"{listed} ended before the others were done",
            "missing": f"{listed} did not start within {self.timeout:g} s; is there an error in its log (workerlog.*), "
                       "and can the machines reach each other? FLAGS_stop_check_timeout=SECONDS in the environment "
                       "waits longer"}[how]

    def verdict_here(self) -> str:
        """The verdict as this rank tells it."""
        word, _, text = (self.verdict or "").partition(" ")
        if word == "ended":
            who, _, text = text.partition(" ")
            if int(who) == self.rank.number:
                return text
            text = f"{self.names[int(who)]} ended: {text}"
        return text if self.bye or not self.own.open else f"{text}. Rank {self.rank.number} ends too"

    def end(self) -> None:
        """Tells the others and the rank, and sees to it that the rank ends."""
        text = self.verdict and self.verdict_here()
        waited_for = [link for link in self.by_fd.values() if link is not self.own]
        for link in waited_for:
            if self.verdict:
                link.tell(self.verdict)
            link.finish()
        if text and self.own.open:
            self.own.tell(f"end {text}")
            waited_for.append(self.own)
        elif text:
            self.rank.say(f"error: {text}")
        until = time.monotonic() + REACTION
        while any(link.open for link in waited_for) and time.monotonic() < until:
            self.wait(0.1)
        if self.own in waited_for and "said" not in self.own.inbox:
            self.rank.say(f"error: {text}")
        if text and self.own.open and (not self.bye or self.rank.stopped()):
            self.rank.kill()
        elif not text:
            self.wait_for_end()

    def wait_for_end(self) -> None:
        """All is done; the rank has only to end, and a launcher waits for that."""
        going = seen = time.monotonic()
        while self.own.open:
            self.wait(BEAT)
            now = time.monotonic()
            if now - seen > QUIET or not self.rank.stopped():
                going = now
            seen = now
            if now - going > SILENCE:
                self.rank.say(f"error: {self.names[self.rank.number]} is stopped, after all was done; it is ended")
                self.rank.kill()
                return
