"""The queue is bounded in length and time; crowds, slow clients, faults, signals, with a network that takes 0.5 s,
or as long as a test wants."""

import concurrent.futures
import json
import select
import signal
import time

import pytest
from events import wait_for
from service import head, png, received, slow

SMALL, HELD = png(8, 8, 8 * b"\0        "), png(5, 5, 5 * b"\0     ")
FAULTY = png(3, 3, 3 * b"\0   ")


@pytest.fixture(scope="module")
def service():
    with slow(queue=6, queue_time=30, body_time=2) as service:
        yield service
        assert service.process.poll() is None


def post(service, body: bytes, path: str = "/predict"):
    """A client that has sent its request."""
    client = service.connect()
    client.sendall(head(f"Content-Length: {len(body)}", path=path) + body)
    return client


def test_more_than_the_queue_takes():
    """Of ten that come at once six have places. Predicted are those whose turn comes in time."""
    with slow(queue=6, queue_time=4) as service, concurrent.futures.ThreadPoolExecutor(10) as pool:
        coming = [pool.submit(service.predict, HELD) for _ in range(10)]
        assert service.predicting() == "5 5"
        service.await_queue(5)
        for _ in range(2):
            service.go_on()
            assert service.predicting() == "5 5"
        service.await_queue(0)      # three have waited for too long
        service.go_on()
        answers = [each.result() for each in coming]
        by_status = sorted(answer.status for answer in answers)
        assert by_status == 3 * [200] + 7 * [503]
        refused = [answer for answer in answers if answer.status == 503]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        errors = sorted(answer.error for answer in refused)
        assert errors == 4 * ["6 requests are here already, and no more are taken; try again later"] + \
            3 * ["the request waited for 4 s, and its turn did not come; try again later"]
        assert service.predict(SMALL).status == 200


def test_five_hundred_clients_at_once():
    """Half of them with a body that the system's buffers don't hold, and which nobody reads. How long the clients take
    for their bodies is no matter: here 500 threads share a processor."""
    with slow(queue=6, queue_time=1.2, body_time=60, head_time=60) as service:
        before = service.resident()
        large = SMALL + bytes(4 << 20)
        with concurrent.futures.ThreadPoolExecutor(500) as pool:
            answers = list(pool.map(lambda i: service.predict(large if i % 2 else SMALL), range(500)))
        assert {answer.status for answer in answers} == {200, 503}
        assert all(answer.error for answer in answers if answer.status == 503)
        assert service.resident() - before < 120e6      # six bodies of 4 MiB and sockets; all would be 1 GiB


def test_the_queue_length_and_who_left():
    with slow(queue_time=60) as service:
        clients = []
        for waiting in range(3):
            clients.append(post(service, SMALL if waiting == 2 else HELD))
            service.await_queue(waiting)
        assert service.predicting() == "5 5"
        clients[1].close()
        service.go_on()
        assert service.predicting() == "8 8"        # not the second one's
        assert [received(clients[i]).status for i in (0, 2)] == [200, 200]
        clients[0].close(), clients[2].close()
        assert 'encnet_requests_total{status="gone"} 1\n' in service.ask("GET", "/metrics").body.decode()


def test_a_fault_of_ours_is_told_without_its_trace(service):
    answer = service.predict(FAULTY)
    assert answer.status == 500
    assert answer.error == "the service failed at this request; what it writes to stderr says where"
    assert service.predict(SMALL).status == 200
    assert 'encnet_requests_total{status="500"} 1\n' in service.ask("GET", "/metrics").body.decode()


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_head_that_takes_too_long(service, before):
    """Of a connection's first request, and of a later one, however steadily it trickles."""
    with service.connect() as client:
        client.sendall(before)
        assert not before or received(client).status == 200
        client.sendall(b"POST /")
        while not select.select([client], [], [], 0.1)[0]:
            client.sendall(b"a")
        answer = received(client)
        assert (answer.status, answer.error) == (408, "the request's head was not there after 1 s")
        assert client.recv(1) == b""


def test_answers_that_nobody_reads(service):
    """The connection is cut, and what it kept in memory goes."""
    with service.connect() as client, pytest.raises((ConnectionResetError, BrokenPipeError)):
        while True:         # until the system takes no more, and then the service has had enough
            client.sendall(100 * b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_those_that_are_here_be_answered(signum):
    with slow(queue=6, queue_time=60) as service:
        idle = service.connect()
        clients = [post(service, HELD, "/predict?format=json") for _ in range(2)]
        service.await_queue(1)
        service.process.send_signal(signum)
        wait_for(service.refuses_connections)
        service.go_on()
        service.go_on()
        answers = [received(client) for client in clients]
        assert [json.loads(answer.body)["width"] for answer in answers] == [5, 5]
        assert idle.recv(1) == b""
        assert service.process.wait(30) == 0


def test_a_second_signal_ends_at_once():
    """Though a prediction is under way, which never ends."""
    with slow(queue_time=60) as service, post(service, HELD):
        assert service.predicting() == "5 5"
        service.process.send_signal(signal.SIGTERM)
        wait_for(service.refuses_connections)
        assert service.process.poll() is None
        time.sleep(0.2)         # within 0.1 s a second one is taken for the first, repeated
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(30) == 128 + signal.SIGTERM
