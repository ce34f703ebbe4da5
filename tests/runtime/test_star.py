"""The star of sentinels, as threads of this process: up to 256 ranks, each of which can be stopped, killed or late."""

import resource
import socket
import threading
import time

import pytest
from events import wait_for

from paddleseg_encnet.runtime import sentinel, star
from paddleseg_encnet.runtime.sentinel import Rank

BEAT, QUIET, SILENCE = 0.3, 1.0, 4.0


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    for module in (sentinel, star):
        for name, value in dict(BEAT=BEAT, QUIET=QUIET, SILENCE=SILENCE, REACTION=1.0).items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)


class Ranks:
    """`count` sentinels in threads, and the ranks' ends of the connections with them."""

    def __init__(self, count: int, start=None, timeout: float = 60):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < 4 * count + 100:      # four ends of connections a rank, all in this process
            if hard != resource.RLIM_INFINITY and hard < 4 * count + 100:
                pytest.skip(f"this process may not have {4 * count + 100} open files")
            resource.setrlimit(resource.RLIMIT_NOFILE, (4 * count + 100, hard))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # The others' ports are not used.
        self.endpoints = [f"127.0.0.1:{port if rank == star.CENTRE else 1 + rank}" for rank in range(count)]
        self.stopped, self.said, self.killed = set(), {}, set()
        self.ends, self.sentinels, self.threads, self.unread = {}, {}, {}, {}
        for rank in range(count) if start is None else start:
            self.start(rank, timeout)

    def start(self, rank: int, timeout: float = 60):
        self.ends[rank], theirs = socket.socketpair()
        self.ends[rank].settimeout(60)
        self.unread[rank] = self.ends[rank].makefile("r")
        beside = Rank(rank, theirs, lambda: rank in self.stopped, lambda line: self.said.__setitem__(rank, line),
                      lambda: self.killed.add(rank))
        kind = star.Centre if rank == star.CENTRE else star.Member
        self.sentinels[rank] = kind(beside, self.endpoints, timeout)
        self.threads[rank] = threading.Thread(target=self.sentinels[rank].run, daemon=True)
        self.threads[rank].start()

    def tell(self, rank: int, line: str):
        self.ends[rank].sendall(f"{line}\n".encode())

    def hear(self, rank: int) -> str:
        return self.unread[rank].readline().strip()

    def meet(self):
        for rank in self.ends:
            self.tell(rank, "here")
        assert {self.hear(rank) for rank in self.ends} == {"met"}

    def kill(self, rank: int):
        """The rank's process and what it had open; its sentinel lives on."""
        self.unread.pop(rank).close()
        self.ends.pop(rank).close()

    def leave(self):
        """Returns when all know that all have said goodbye."""
        for rank in self.ends:
            self.tell(rank, "bye")
        wait_for(lambda: all(one.done for one in self.sentinels.values()))

    def await_connected(self, *ranks: int):
        """Until these are connected with the centre."""
        wait_for(lambda: set(ranks) <= set(self.sentinels[star.CENTRE].links))

    def told(self) -> dict:
        """{rank: the last line of each that was told one and could tell it}"""
        lines = {}
        for rank in sorted(set(self.ends) - self.stopped):
            lines[rank] = self.hear(rank)
            self.tell(rank, "said")
            self.kill(rank)
        return lines

    def close(self):
        """When all have been told that one is gone, or all have said goodbye."""
        for rank, thread in self.threads.items():
            thread.join(20)
            assert not thread.is_alive(), f"the sentinel of rank {rank} goes on"
        for rank in list(self.ends):
            self.kill(rank)


def assert_ends_in_peace(ranks: Ranks):
    """They meet, say goodbye and end, and nobody is missed."""
    ranks.meet()
    ranks.leave()
    for rank in list(ranks.ends):
        ranks.kill(rank)
    ranks.close()
    assert not ranks.said and not ranks.killed


@pytest.mark.parametrize("how", ["stopped", "killed"])
@pytest.mark.parametrize("victim", [star.CENTRE, 200])
def test_256_ranks_name_the_one_that_is_gone(how, victim):
    ranks = Ranks(256)
    ranks.meet()
    connections = sum(link is not one.own for one in ranks.sentinels.values() for link in one.by_fd.values()) // 2
    assert connections == 255       # one a rank; two at most are allowed
    began = time.monotonic()
    if how == "stopped":
        ranks.stopped.add(victim)
    else:
        ranks.kill(victim)
    told = ranks.told()
    seconds = time.monotonic() - began
    assert set(told) == set(range(256)) - {victim}
    for rank, line in told.items():
        assert line.startswith(f"end rank {victim} (127.0.0.1:") and line.endswith(f". Rank {rank} ends too"), line
        assert ("has not answered" if how == "stopped" else "is gone: it was killed") in line
    assert SILENCE - BEAT <= seconds < SILENCE + 10 if how == "stopped" else seconds < 10
    ranks.close()
    assert ranks.killed == ranks.stopped        # it could not end by itself


# --- three ranks: at which moment, and what else happens -------------------------------------------------------------

def names(line: str, rank: int, how: str) -> bool:
    return line.startswith(f"end rank {rank} (127.0.0.1:") and how in line


def before_the_first_meeting(ranks, victim):
    ranks.stopped.add(victim)
    for rank in set(ranks.ends) - {victim}:
        ranks.tell(rank, "here")


def while_the_others_wait(ranks, victim):
    ranks.meet()
    before_the_first_meeting(ranks, victim)


def while_one_waits_for_a_gradient_and_gives_up(ranks, victim):
    """As gloo does after 30 seconds: what it says is no error of that rank."""
    ranks.meet()
    ranks.stopped.add(victim)
    time.sleep(SILENCE / 2)
    ranks.tell((victim + 1) % 3, "failed Timed out waiting 30000ms for recv operation to complete")


def while_one_waits_for_a_gradient_and_is_aborted(ranks, victim):
    """As gloo's exception does in Paddle 2.6."""
    ranks.meet()
    ranks.stopped.add(victim)
    time.sleep(SILENCE / 2)
    ranks.kill((victim + 1) % 3)


def when_the_others_have_said_goodbye(ranks, victim):
    ranks.meet()
    ranks.stopped.add(victim)
    for rank in set(ranks.ends) - {victim}:
        ranks.tell(rank, "bye")


@pytest.mark.parametrize("moment", [
    before_the_first_meeting, while_the_others_wait, while_one_waits_for_a_gradient_and_gives_up,
    while_one_waits_for_a_gradient_and_is_aborted, when_the_others_have_said_goodbye], ids=lambda case: case.__name__)
def test_a_rank_that_is_stopped_is_named_at_any_moment(moment):
    runs = [Ranks(3) for _ in range(3)]
    moments = [threading.Thread(target=moment, args=(ranks, victim)) for victim, ranks in enumerate(runs)]
    for each in moments:
        each.start()
    for each in moments:
        each.join()
    for victim, (ranks, told) in enumerate([(ranks, ranks.told()) for ranks in runs]):
        assert told and all(names(line, victim, "has not answered") for line in told.values()), told
        ranks.close()
        assert ranks.killed == {victim}
        assert names(ranks.said[victim].replace("error: ", "end "), victim, "has not answered")


def test_a_rank_that_is_stopped_when_all_have_said_goodbye_is_ended():
    ranks = Ranks(3)
    ranks.meet()
    ranks.leave()
    ranks.stopped.add(2)
    for rank in (0, 1):
        ranks.kill(rank)
    ranks.close()
    assert ranks.killed == {2} and list(ranks.said) == [2] and "rank 2 (" in ranks.said[2]


def test_a_rank_that_is_stopped_before_all_have_started():
    ranks = Ranks(3, start=[0, 1])
    ranks.await_connected(0, 1)
    ranks.stopped.add(0)
    assert names(ranks.told()[1], 0, "has not answered")
    ranks.close()


def test_a_machine_that_stands_still_is_named_and_ends_when_it_goes_on():
    """Its sentinel too stands still, for its rank's state is asked for in vain."""
    ranks = Ranks(3)
    ranks.meet()
    go_on = threading.Event()
    ranks.sentinels[2].rank = ranks.sentinels[2].rank._replace(stopped=go_on.wait)
    told = {rank: ranks.hear(rank) for rank in (0, 1)}
    assert all(names(line, 2, "has not answered") for line in told.values()), told
    go_on.set()
    assert names(ranks.hear(2), 2, "has not answered")
    ranks.close()


def test_a_run_that_was_stopped_as_a_whole_goes_on():
    """As a scheduler that makes room for another job does it: nobody can tell on nobody."""
    ranks = Ranks(3)
    ranks.meet()
    stopped, go_on = threading.Semaphore(0), threading.Event()

    def stand_still() -> bool:
        stopped.release()
        return not go_on.wait(60)

    for one in ranks.sentinels.values():
        one.rank = one.rank._replace(stopped=stand_still)
    assert all(stopped.acquire(timeout=60) for _ in ranks.sentinels)
    for one in ranks.sentinels.values():
        one.rank = one.rank._replace(stopped=lambda: False)
    time.sleep(1.5 * SILENCE)       # of the run
    go_on.set()
    assert_ends_in_peace(ranks)


def test_the_centre_that_hears_nobody_asks_for_its_own_network():
    ranks = Ranks(3)
    ranks.meet()
    ranks.stopped |= {0, 2}
    assert "no other rank has answered" in ranks.told()[1]
    ranks.close()


@pytest.mark.parametrize("rank", range(3))
def test_an_error_is_told_as_soon_as_all_have_been_heard_after_it(rank):
    ranks = Ranks(3)
    ranks.meet()
    began = time.monotonic()
    ranks.tell(rank, "failed the label street.png has a pixel of 33")
    told = ranks.told()
    assert time.monotonic() - began < SILENCE      # nobody was waited for who is silent
    assert told.pop(rank) == "end the label street.png has a pixel of 33"
    assert all(names(line, rank, "ended: the label street.png has a pixel of 33. ") for line in told.values())
    ranks.close()


@pytest.mark.parametrize("rank", range(3))
def test_what_takes_longer_than_its_limit_fails(rank):
    ranks = Ranks(3)
    ranks.meet()
    ranks.tell(rank, "limit 0.5 not in time")
    ranks.tell(rank, "limit")
    time.sleep(1.5)     # in which a limit that still held would end the run
    ranks.tell(rank, "limit 0.5 did not connect")
    assert ranks.told()[rank] == "end did not connect"
    ranks.close()


def test_who_else_comes_to_the_port_disturbs_nothing():
    """Somebody who says nothing, who says something else, who says it without end; and a rank's double."""
    ranks = Ranks(3, start=[star.CENTRE, 0])
    ranks.await_connected(0)
    host, port = ranks.endpoints[star.CENTRE].split(":")
    callers = [socket.create_connection((host, int(port))) for _ in range(4)]
    callers[1].sendall(b"GET / HTTP/1.1\r\n\r\n")
    callers[2].sendall(b"GET " + 5000 * b"/")
    callers[3].sendall(ranks.sentinels[star.CENTRE].greeting(0).encode() + b"\n")
    for caller in callers[1:]:
        try:
            assert caller.recv(100) == b""
        except ConnectionResetError:    # as a close is told where something was not read
            continue
    ranks.start(2)
    assert_ends_in_peace(ranks)


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ranks = Ranks(3, start=[])
        ranks.endpoints[star.CENTRE] = f"127.0.0.1:{taken.getsockname()[1]}"
        ranks.start(star.CENTRE)
        line = ranks.told()[star.CENTRE]
    assert names(line, star.CENTRE, "cannot listen on its port: ") and "--start_port" in line
    ranks.close()
