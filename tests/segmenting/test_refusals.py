"""The service refuses what is hostile in a line, and keeps its memory."""

import asyncio
import socket
import struct
import time
import zlib

import pytest
from PIL import Image
from service import MOST_BYTES, MOST_PIXELS, head, in_format, png, received

from segrun.service import intake
from segrun.service.limits import Limits, Refused, check_header

HOSTILE = [
    (b"", "image/png", 400, "the body is empty"),
    (b"hello, this is text", "image/png", 422, "the body is no image that can be read"),
    (b"<?php system('id') ?>", "text/plain", 415, "must be the bytes of an image"),
    (b"--x\r\n", "multipart/form-data; boundary=x", 415, "not multipart/form-data"),
    (png(30_000, 30_000), "image/png", 413, "the image has"),
    (png(2_000_000_000, 2_000_000_000), "image/png", 413, "the image has more than"),
    (png(1, MOST_PIXELS + 1), "image/png", 413, "1 x 100001 pixels, more than the 100000"),
    (png(0, 5), "image/png", 422, "the body is no image that can be read"),
    (png(50, 50, b"\0" * 100), "image/png", 422, "cannot read the image in the body"),
    (png(90_000, 1, b"\0" * 90_001), "image/png", 422, "would become 2880000 x 32, more than 100000 pixels"),
    (in_format("JPEG")[:1000], "image/jpeg", 422, "cut short"),
    (in_format("TIFF")[:300], "image/tiff", 422, ""),
    (b"\x89PNG\r\n\x1a\n" + bytes(100), "image/png", 422, ""),
    (b"\xff\xd8\xff\xe0" * 5000, "image/jpeg", 422, ""),
    (b"II*\0\x08\0\0\0\xff\xff" + b"\0\1\3\0\1\0\0\0\xff\xff\xff\xff" * 5000, "image/tiff", 422, ""),
    (b"#?RADIANCE\n\n-Y 30000 +X 30000\n", "image/x", 422, "the body is no image that can be read"),
    (bytes(MOST_BYTES + 1), "image/png", 413, "more than the 300000 bytes")]


@pytest.mark.parametrize("body, kind, status, words", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_bodies(service, body, kind, status, words):
    answer = service.predict(body, kind=kind)
    assert (answer.status, words in answer.error) == (status, True), answer
    said = answer.error
    for known in ("image/...", "application/octet-stream", kind.split(";")[0]):
        said = said.replace(known, "")
    assert "/" not in said          # no path of ours


def test_a_compressed_body(service):
    answer = service.predict(zlib.compress(b"x"), Content_Encoding="gzip")
    assert answer.status == 415 and "Content-Encoding gzip" in answer.error


def test_the_size_is_read_before_anything_is_decoded(monkeypatch):
    Image.init()        # a plugin of Pillow's makes a picture of its own when it is imported
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for body, status in ((png(30_000, 30_000), 413), (png(9_000, 9_000), 413), (b"GIF89a", 422)):
        with pytest.raises(Refused) as refused:
            check_header(body, Limits())
        assert refused.value.status == status
    assert check_header(png(20, 10), Limits()) == (10, 20)


@pytest.mark.parametrize("sent, status, words", [
    (head("Content-Length: 1000") + b"half", 400, "the body ended before its end"),
    (head("Transfer-Encoding: chunked") + b"4\r\nhalf\r\n", 400, "the body ended before its end"),
    (head("Transfer-Encoding: chunked") + b"zz\r\nno number\r\n", 400, "no HTTP request"),
    (head(f"Content-Length: {10 ** 12}"), 413, "more than the 300000 bytes"),
    (head("Content-Length: -5") + b"x", 400, "no HTTP request"),
    (head("X-Long: " + "x" * 1_000_000), 400, "no HTTP request"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "no HTTP request"),
    (b"GET /\0 HTTP/1.1\r\n\r\n", 400, "no HTTP request"),
    (head("Content-Length: 4", path="/predict?format=%ff%00") + b"half", 400, "format: ")])
def test_hostile_requests(service, sent, status, words):
    answer = service.send(sent, end=True)
    assert (answer.status, words in answer.error) == (status, True), answer


@pytest.mark.parametrize("first", [head("Content-Length: 1000"), head("Transfer-Encoding: chunked")])
def test_a_body_that_takes_too_long(service, first):
    with service.connect() as client:
        client.sendall(first)
        answer = received(client)
        assert (answer.status, answer.error) == (408, "the body was not there after 1 s")
        assert client.recv(1) == b""        # and the connection ends


def test_a_chunked_body_that_never_ends(service):
    """It is cut off at so many bytes, and its client sees why although it still sends."""
    part = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    with service.connect() as client:
        client.sendall(head("Transfer-Encoding: chunked") + MOST_BYTES // 0x8000 * part + part)
        answer = received(client)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        begun = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < begun + 10:
                client.sendall(part)


def test_clients_that_leave(service, image):
    data = image.read_bytes()
    for sent in (head(f"Content-Length: {len(data)}") + data[:len(data) // 2],
                 head(f"Content-Length: {len(data)}") + data, b"POST /pre"):
        for _ in range(10):
            with service.connect() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))     # as if cut off
                client.sendall(sent)
    assert service.predict(data).status == 200


def test_memory_stays_under_hostile_bodies(service, image):
    bodies = [png(30_000, 30_000), image.read_bytes()[:2000], bytes(MOST_BYTES + 1), b"text" * 1000]
    for body in bodies:
        service.predict(body)
    before = service.resident()
    for i in range(200):
        service.predict(bodies[i % 4])
    assert service.resident() - before < 20e6       # an image of 30 000 x 30 000 has 900 MB


def body_of(request, **limits) -> bytes:
    async def receive():
        asked = Limits(**limits)
        return await asyncio.wait_for(intake.body_of(request, asked, intake.Intake(asked), "an address"), 30)
    return asyncio.run(receive())


class Waiting:
    """A request whose body has come, in five parts, to a service that takes 0.1 s to get to each."""
    headers = {}

    async def stream(self):
        for _ in range(5):
            time.sleep(0.1)             # all else that the service does meanwhile
            for _ in range(2):          # the socket is read, then the app woken
                await asyncio.sleep(0)
            yield b"ab"


class Trickling(Waiting):
    async def stream(self):
        while True:
            yield b"a"
            await asyncio.sleep(0.02)


def test_a_body_that_is_here_is_not_too_late():
    """The service is late with it, not the client."""
    assert body_of(Waiting(), body_time=0.05) == 5 * b"ab"
    with pytest.raises(Refused, match="the body was not there after 0.1 s"):
        body_of(Trickling(), body_time=0.1)


def test_the_limits_of_a_body_hold_to_the_byte():
    class Request:
        headers = {}

        def __init__(self, parts):
            self.parts = parts

        async def stream(self):
            for part in self.parts:
                yield part
    assert body_of(Request([b"ab", b"cd"]), max_bytes=4) == b"abcd"
    with pytest.raises(Refused) as refused:
        body_of(Request([b"ab", b"cd", b"e"]), max_bytes=4)
    assert refused.value.status == 413
