"""Clients that send next to nothing take nothing from others: their bodies come outside the network's queue, their
connections make room, and no address has it all. benchmarks/slow_clients.py is the same at full size."""

import asyncio
import contextlib

import pytest
from crowds import Slow
from events import wait_for
from service import head, png, received, slow

from segrun.service import intake
from segrun.service.limits import Limits, Refused, address_of
from segrun.service.worker import Worker

SMALL, HELD = png(8, 8, 8 * b"\0        "), png(5, 5, 5 * b"\0     ")


def test_slow_bodies_hold_no_place_of_the_queue():
    """Ten times as many as the queue is long, all of them within their body while others are answered."""
    with slow(queue=4, body_time=600, min_rate=1) as service, Slow(service, 40) as crowd:
        for _ in range(3):
            assert service.predict(SMALL).status == 200
            for path in ("/healthz", "/metrics", "/"):
                assert service.ask("GET", path).status == 200
        assert crowd.answered() == []


def test_a_body_that_comes_too_slowly_is_refused():
    with slow(body_time=600, min_rate=10_000) as service, Slow(service, 3) as crowd:
        answers = []
        wait_for(lambda: answers.extend(filter(None, crowd.answered())) or len(answers) == 3)
        for answer in answers:
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b'{"error": "the body comes with less than 10000 bytes a second"}\n' in answer


def told_to_end(client) -> bool:
    answer = received(client)
    return answer.status == 503 and answer.headers["retry-after"] == "1" and \
        answer.error == "there are too many connections, and least has come from this one" and client.recv(1) == b""


def test_idle_connections_make_room():
    """The newest is always taken, and the oldest end."""
    with slow(head_time=600, connections=30) as service, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(service.connect()) for _ in range(70)]
        assert all(told_to_end(client) for client in clients[:40])
        clients += [stack.enter_context(service.connect()) for _ in range(30)]
        for path in ("/healthz", "/metrics"):
            assert service.ask("GET", path).status == 200
        assert service.predict(SMALL).status == 200
        assert all(told_to_end(client) for client in clients[40:70])
        clients[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert received(clients[-1]).status == 200


def test_heads_that_stop_make_room():
    with slow(head_time=600, connections=5) as service, contextlib.ExitStack() as stack:
        clients = []
        for _ in range(6):
            clients.append(stack.enter_context(service.connect()))
            clients[-1].sendall(b"POST /pre")
        assert told_to_end(clients[0])


def test_a_connection_between_two_requests_ends_without_a_word():
    """What is said there would be taken for the answer to the next request."""
    with slow(head_time=600, connections=5) as service, service.connect() as client, contextlib.ExitStack() as stack:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert received(client).status == 200
        for _ in range(6):
            stack.enter_context(service.connect())
        assert client.recv(1) == b""


def test_slow_ones_and_idle_ones_together():
    """More of both than there may be connections."""
    with slow(queue=4, body_time=600, min_rate=1, head_time=600, connections=30) as service:
        with Slow(service, 25), contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(service.connect())
            with Slow(service, 15):
                for _ in range(3):
                    assert service.predict(SMALL).status == 200
                    assert service.ask("GET", "/healthz").status == 200


def test_a_connection_that_waits_for_its_answer_does_not_end():
    with slow(connections=1) as service, service.connect() as client:
        client.sendall(head(f"Content-Length: {len(HELD)}") + HELD)
        assert service.predicting() == "5 5"
        for _ in range(3):
            with service.connect() as late:
                assert told_to_end(late)
        service.go_on()
        assert received(client).status == 200


def test_an_upload_goes_on_beside_idle_ones():
    """It is worth more than connections that have just begun, however many they are."""
    size = 40_000
    with slow(head_time=600, connections=10, body_time=600, min_rate=1) as service, contextlib.ExitStack() as stack:
        client = stack.enter_context(service.connect())
        body = SMALL + bytes(size)
        client.sendall(head(f"Content-Length: {len(body)}") + body[:size])
        for _ in range(30):
            stack.enter_context(service.connect())
        assert service.ask("GET", "/healthz").status == 200
        client.sendall(body[size:])
        assert received(client).status == 200


# --- no address has it all --------------------------------------------------------------------------------------------

def test_another_address_gets_a_place_of_a_full_queue():
    with slow(queue=3, queue_time=600) as service, contextlib.ExitStack() as stack:
        def post(address):
            client = stack.enter_context(service.connect(address))
            client.sendall(head(f"Content-Length: {len(HELD)}") + HELD)
            return client
        clients = []
        for waiting in range(3):
            clients.append(post("127.0.0.1"))
            service.await_queue(waiting)
        assert received(post("127.0.0.1")).error.startswith("3 requests are here already")
        other = post("127.0.0.2")
        answer = received(clients[2])
        assert answer.status == 503 and "of this one most were here" in answer.error
        for _ in range(3):
            assert service.predicting() == "5 5"
            service.go_on()
        assert [received(client).status for client in (clients[0], clients[1], other)] == 3 * [200]


def test_places_are_shared():
    """Of six, a has all until b and c come: then each has two, and nobody gets a third one."""
    async def share():
        worker = Worker(Limits(queue=6))
        with contextlib.ExitStack() as stack:
            places = [stack.enter_context(worker.place("a")) for _ in range(6)]
            worker.current = places[0]
            worker.line.extend(places[1:])
            for address in ("b", "c", "b", "c"):
                place = stack.enter_context(worker.place(address))
                worker.line.append(place)
            assert sorted(place.address for place in worker.places) == ["a", "a", "b", "b", "c", "c"]
            assert [place.turn.done() for place in places] == [False, False, True, True, True, True]
            assert all("try again later" in str(place.turn.exception()) for place in places[2:])
            for address in ("a", "b", "c"):
                with pytest.raises(Refused, match="6 requests are here already"):
                    worker.check(address)
    asyncio.run(share())


def test_turns_go_on_whatever_becomes_of_those_that_wait():
    """One gives up, one is cancelled when its turn has just come; the others are done, in their order."""
    done = []

    async def use():
        worker = Worker(Limits(queue=9, queue_time=30))

        async def request(number):
            async def gone():
                return number == 2
            with worker.place("a") as place:
                return await worker.run(place, lambda: done.append(number), gone)
        tasks = [asyncio.ensure_future(request(number)) for number in range(5)]
        await asyncio.sleep(0)
        assert worker.waiting == 4
        while worker.current is not None and not done:
            await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert worker.current is None and not worker.places and not worker.line
        worker.thread.shutdown()
    asyncio.run(use())
    assert done == [0, 3, 4] or done == [0, 1, 3, 4]


def test_bodies_that_are_too_much_together():
    """100 bytes are held. The address that has most gives way, and of its bodies the one that waits for longest."""
    async def receive():
        held = intake.Intake(Limits(max_bytes=100, queue=8))
        with contextlib.ExitStack() as stack:
            mine = [stack.enter_context(held.receiving("a")) for _ in range(3)]
            for body in mine:
                held.add(body, bytes(30))
            held.add(mine[0], b"x")
            other = stack.enter_context(held.receiving("b"))
            held.add(other, bytes(20))
            assert [body.dropped.done() for body in (*mine, other)] == [False, True, False, False]
            assert held.held == 81
            held.add(mine[1], bytes(50))        # too late
            assert held.held == 81
            with pytest.raises(Refused, match="more than the 100 bytes"):
                held.add(other, bytes(81))
        assert held.held == 0 and not held.bodies
    asyncio.run(receive())


@pytest.mark.parametrize("size, error", [(1, "less than 1000 bytes a second"), (500, None)])
def test_the_rate_of_a_body(size, error, monkeypatch):
    monkeypatch.setattr(intake, "WINDOW", 0.1)

    class Steady:
        """Fifty parts a second at most, for a second."""
        headers = {}

        async def stream(self):
            for _ in range(50):
                yield bytes(size)
                await asyncio.sleep(0.02)

    async def receive():
        limits = Limits(min_rate=1000, body_time=60)
        return await intake.body_of(Steady(), limits, intake.Intake(limits), "a")
    if error is None:
        assert asyncio.run(receive()) == bytes(50 * size)
    else:
        with pytest.raises(Refused, match=error):
            asyncio.run(receive())


@pytest.mark.parametrize("client, address", [
    (("10.0.0.7", 5000), "10.0.0.7"), (("::1", 1), "::/64"), (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
    (("::ffff:10.0.0.7", 1), "10.0.0.7"), (("fe80::1%eth0", 1), "fe80::/64"), (None, "")])
def test_whose_a_connection_is(client, address):
    assert address_of(client) == address
