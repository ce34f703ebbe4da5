"""The star of sentinels: the centre, which decides, and the members, which are connected with it."""

import os
import select
import signal
import socket
import sys
import time
from typing import Dict, List, Optional, Set

from .links import Link
from .sentinel import QUIET, SILENCE, Rank, Sentinel

# The rank that the others connect with. Not the first one: its port may be Paddle's own.
CENTRE = 1


class Member(Sentinel):
    """The sentinel that is connected with the centre."""

    centre: Link

    def run(self) -> None:
        centre = self.call()
        if centre is not None:
            self.centre = centre
            self.heard(self.own)        # what it said meanwhile
            self.heard(centre)
        elif self.own.open:
            self.gone([CENTRE], "missing")
        else:
            return      # the rank is dead, and there is nobody to be told
        super().run()

    def call(self) -> Optional[Link]:
        """Calls until the centre answers; None if it does not in time, or the own rank is dead."""
        host, port = self.endpoints[CENTRE].rsplit(":", 1)
        while time.monotonic() < self.deadline and self.own.open:
            try:
                link = self.add(socket.create_connection((host, int(port)), timeout=2))
            except OSError:     # it does not listen yet
                self.wait(0.1)
                continue
            link.tell(self.greeting(self.rank.number))
            while link.open and not link.inbox and time.monotonic() < self.deadline and self.own.open:
                self.wait(1)
            if link.inbox and link.inbox.popleft() == self.greeting(CENTRE):
                return link
            if link.open:       # somebody else
                self.drop(link)
        return None

    def beat(self, now: float) -> None:
        self.centre.tell("beat")

    def from_own(self, word: str, text: str) -> None:
        self.centre.tell(f"{word} {text}")

    def from_other(self, link: Link, word: str, text: str) -> None:
        if word == "met":
            self.own.tell(word)
        elif word in ("gone", "ended"):
            self.verdict = f"{word} {text}"
        self.done = self.done or word == "done"

    def closed(self, link: Link) -> None:
        if not self.done and self.verdict is None:
            self.gone([CENTRE], "lost")

    def judge(self, now: float) -> None:
        if now - self.centre.heard > SILENCE:
            self.gone([CENTRE], "silent")


class Centre(Sentinel):
    """The sentinel that all others are connected with, and that decides."""

    def __init__(self, rank: Rank, endpoints: List[str], timeout: float):
        super().__init__(rank, endpoints, timeout)
        self.links: Dict[int, Link] = {rank.number: self.own}
        self.numbers = {self.own: rank.number}
        self.arrived = [0] * len(endpoints)     # meetings that each rank has come to
        self.met = 0                            # meetings that took place
        self.left: Set[int] = set()
        self.dead: Set[int] = set()
        self.failed: Optional[tuple] = None     # rank, text, when
        self.server = socket.socket()
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.server.bind(("", int(endpoints[rank.number].rsplit(":", 1)[1])))
        except OSError as error:
            self.verdict = (f"gone {self.names[rank.number]} cannot listen on its port: {error}; launch again, or name "
                            "free ports with --start_port")
            return
        self.server.listen(len(endpoints))
        self.poll.register(self.server, select.POLLIN)

    def accept(self) -> None:
        self.add(self.server.accept()[0])

    def greeted(self, link: Link, said: str) -> None:
        """A caller has said its first line."""
        number = next((other for other in range(len(self.endpoints))
                       if other not in self.links and said == self.greeting(other)), None)
        if number is None or not link.open:
            if link.open:
                self.drop(link)
            return
        self.links[number], self.numbers[link] = link, number
        link.tell(self.greeting(self.rank.number))
        if len(self.links) == len(self.endpoints):
            self.stop_listening()       # Paddle may want the port

    def stop_listening(self) -> None:
        self.poll.unregister(self.server)
        self.server.close()

    def tell_others(self, line: str) -> None:
        for link in self.links.values():
            if link is not self.own:
                link.tell(line)

    def beat(self, now: float) -> None:
        self.own.heard = now
        self.tell_others("beat")

    def from_own(self, word: str, text: str) -> None:
        self.from_rank(self.rank.number, word, text)

    def from_other(self, link: Link, word: str, text: str) -> None:
        if link not in self.numbers:
            self.greeted(link, f"{word} {text}")
        elif word in ("gone", "ended"):
            self.verdict = self.verdict or f"{word} {text}"
        elif word != "beat":
            self.from_rank(self.numbers[link], word, text)

    def closed(self, link: Link) -> None:
        if link in self.numbers and self.numbers[link] not in self.left:
            self.from_rank(self.numbers[link], "lost", "")

    def from_rank(self, rank: int, word: str, text: str) -> None:
        now = time.monotonic()
        if word == "here":
            self.arrived[rank] += 1
        elif word == "bye":
            self.left.add(rank)
        elif word == "failed":
            self.failed = self.failed or (rank, text, now)
        elif word == "lost":
            self.dead.add(rank)
        self.judge(now)

    def judge(self, now: float) -> None:
        """What has happened, once that is clear."""
        if self.verdict is not None:
            return
        dead = self.dead - ({self.failed[0]} if self.failed else set())
        watched = {rank: link for rank, link in self.links.items() if rank not in self.left and rank not in self.dead}
        quiet = {rank: now - link.heard for rank, link in watched.items() if now - link.heard > QUIET}
        early = [rank for rank in self.left if self.arrived[rank] < max(self.arrived)]
        missing = sorted(set(range(len(self.endpoints))) - set(self.links))
        if max(quiet.values(), default=0) > SILENCE:
            silent = [rank for rank, seconds in quiet.items() if seconds > SILENCE - QUIET]
            alone = len(silent) > 1 and set(silent) == set(range(len(self.endpoints))) - {self.rank.number}
            self.gone(silent, "alone" if alone else "silent")
        elif dead and not quiet:
            self.gone(sorted(dead), "lost")
        elif early:
            self.gone(early, "early")
        elif missing and now > self.deadline:
            self.gone(missing, "missing")
        elif self.failed and all(link.heard > self.failed[2] for link in watched.values()):
            # Everybody goes on, so that this is no consequence of another's absence.
            self.verdict = "ended {} {}".format(*self.failed)
        elif not missing and min(self.arrived) > self.met:
            self.met += 1
            self.tell_others("met")
            self.own.tell("met")
        elif len(self.left) == len(self.endpoints):
            self.tell_others("done")
            self.done = True


def main() -> None:
    """Beside the process that has started this one: RANK ENDPOINTS TIMEOUT, and stdin is the connection with it."""
    number, endpoints, timeout = int(sys.argv[1]), sys.argv[2].split(","), float(sys.argv[3])
    parent = os.getppid()

    def stopped() -> bool:
        # Not "t", which a debugger does. Without /proc a rank that is stopped is noticed only with its sentinel.
        try:
            with open(f"/proc/{parent}/stat", encoding="utf-8", errors="replace") as file:
                return file.read().rsplit(")", 1)[1].split()[0] == "T"
        except OSError:
            return False

    def say(line: str) -> None:
        os.write(2, f"{line}\n".encode())

    def kill() -> None:
        if os.getppid() == parent:
            os.kill(parent, signal.SIGKILL)

    rank = Rank(number, socket.socket(fileno=0), stopped, say, kill)
    (Centre if number == CENTRE else Member)(rank, endpoints, timeout).run()
