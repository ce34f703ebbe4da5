"""The queue is bounded in length and time; crowds, slow clients, faults, signals, with a network that takes 0.5 s."""

import concurrent.futures
import json
import signal
import time

import pytest
from service import head, png, received, slow

SMALL = png(8, 8, 8 * b"\0        ")
FAULTY = png(3, 3, 3 * b"\0   ")


@pytest.fixture(scope="module")
def service():
    with slow(queue=6, queue_time=1.2, body_time=2) as service:
        yield service
        assert service.process.poll() is None


def crowd(service, number: int, body: bytes = SMALL) -> list:
    with concurrent.futures.ThreadPoolExecutor(number) as pool:
        return list(pool.map(lambda _: service.predict(body), range(number)))


def test_more_than_the_queue_takes(service):
    """Of ten that come at once six have places. Predicted are those whose turn comes within 1.2 s: at 0, 0.5 and 1."""
    answers = crowd(service, 10)
    by_status = sorted(answer.status for answer in answers)
    assert by_status == 3 * [200] + 7 * [503]
    refused = [answer for answer in answers if answer.status == 503]
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    errors = sorted(answer.error for answer in refused)
    assert errors == 4 * ["6 requests are here already, and no more are taken; try again later"] + \
        3 * ["the request waited for 1.2 s, and its turn did not come; try again later"]
    assert service.predict(SMALL).status == 200


def test_five_hundred_clients_at_once(service):
    """Half of them with a body that the system's buffers don't hold, and which nobody reads."""
    before = service.resident()
    large = SMALL + bytes(4 << 20)
    with concurrent.futures.ThreadPoolExecutor(500) as pool:
        answers = list(pool.map(lambda i: service.predict(large if i % 2 else SMALL), range(500)))
    assert {answer.status for answer in answers} == {200, 503}
    assert all(answer.error for answer in answers if answer.status == 503)
    assert service.resident() - before < 120e6      # six bodies of 4 MiB and sockets; all would be 1 GiB


def test_the_queue_length_and_who_left(service):
    clients = [service.connect() for _ in range(3)]
    for client in clients:
        client.sendall(head(f"Content-Length: {len(SMALL)}") + SMALL)
        time.sleep(0.05)
    assert "encnet_queue_length 2\n" in service.ask("GET", "/metrics").body.decode()
    clients[1].close()
    begun = time.monotonic()
    assert received(clients[2]).status == 200
    assert time.monotonic() - begun < 1.2       # two predictions, not three
    clients[0].close(), clients[2].close()
    assert 'encnet_requests_total{status="gone"} 1\n' in service.ask("GET", "/metrics").body.decode()


def test_slow_bodies_keep_places_for_a_time_only(service):
    clients = [service.connect() for _ in range(6)]
    for client in clients:
        client.sendall(head("Content-Length: 1000") + b"x")
    time.sleep(0.1)
    assert service.predict(SMALL).status == 503
    assert service.ask("GET", "/healthz").status == 200
    assert [received(client).status for client in clients] == 6 * [408]
    for client in clients:
        client.close()
    assert service.predict(SMALL).status == 200


def test_a_fault_of_ours_is_told_without_its_trace(service):
    answer = service.predict(FAULTY)
    assert answer.status == 500
    assert answer.error == "the service failed at this request; what it writes to stderr says where"
    assert service.predict(SMALL).status == 200
    assert 'encnet_requests_total{status="500"} 1\n' in service.ask("GET", "/metrics").body.decode()


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_head_that_takes_too_long(service, before):
    """Of a connection's first request, and of a later one, however steadily it trickles."""
    with service.connect() as client:
        client.sendall(before)
        assert not before or received(client).status == 200
        for letter in "POST /":
            client.sendall(letter.encode())
            time.sleep(0.1)
        begun = time.monotonic()
        answer = received(client)
        assert (answer.status, answer.error) == (408, "the request's head was not there after 1 s")
        assert time.monotonic() - begun < 1 and client.recv(1) == b""


def test_answers_that_nobody_reads(service):
    """The connection is cut, and what it kept in memory goes."""
    with service.connect() as client:
        client.settimeout(0.5)
        with pytest.raises((TimeoutError, OSError)):
            for _ in range(100_000):
                client.sendall(100 * b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1.5)
        client.settimeout(10)
        with pytest.raises(ConnectionResetError):
            while client.recv(1 << 20):
                pass


def test_too_many_connections(service):
    time.sleep(0.1)
    clients = [service.connect() for _ in range(522)]
    try:
        answer = received(clients[-1])
        assert (answer.status, answer.error) == (503, "there are too many connections; try again later")
        assert answer.headers["retry-after"] == "1"
    finally:
        for client in clients:
            client.close()
    time.sleep(0.2)
    assert service.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_those_that_are_here_be_answered(signum):
    with slow(queue=6, queue_time=5) as service:
        idle, clients = service.connect(), [service.connect() for _ in range(2)]
        for client in clients:
            client.sendall(head(f"Content-Length: {len(SMALL)}", path="/predict?format=json") + SMALL)
        time.sleep(0.2)
        service.process.send_signal(signum)
        time.sleep(0.3)
        with pytest.raises(ConnectionRefusedError):
            service.connect()
        answers = [received(client) for client in clients]
        assert [json.loads(answer.body)["width"] for answer in answers] == [8, 8]
        assert idle.recv(1) == b""
        assert service.process.wait(10) == 0


def test_a_second_signal_ends_at_once():
    with slow(queue_time=5) as service:
        clients = [service.connect() for _ in range(6)]
        for client in clients:
            client.sendall(head(f"Content-Length: {len(SMALL)}") + SMALL)
        time.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(1) == 128 + signal.SIGTERM
