"""The service answers with the pixels of the other tools, refuses what is hostile in a line, and keeps its memory."""

import asyncio
import base64
import io
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import types
import zlib

import numpy as np
import paddle
import pytest
from browser import CHROMIUM, Browser
from conftest import ROOT
from PIL import Image
from service import Service, head, received

from paddleseg_encnet import Segmenter, cli
from paddleseg_encnet.deployment import export
from segrun.service.counters import Histogram, Metrics
from segrun.service.limits import Limits, Refused, check_header

MOST_BYTES, MOST_PIXELS = 300_000, 100_000
NAMES = [f"class <{i}>" for i in range(19)]


@pytest.fixture(scope="module")
def image(scenes):
    return next((scenes / "leftImg8bit" / "val").glob("*/*.png"))


@pytest.fixture(scope="module")
def network(small_config, tmp_path_factory):
    """(network, its weights)"""
    paddle.seed(1)
    network = cli.build(types.SimpleNamespace(config=str(small_config), opts=None)).model
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(network.state_dict(), str(path))
    return network, path


@pytest.fixture(scope="module")
def deploy(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    transforms = [{"type": "ResizeByShort", "short_size": 32}, {"type": "Normalize"}]
    export.export(network[0], str(folder), {"transforms": transforms, "class_names": NAMES})
    return folder / "deploy.yaml"


@pytest.fixture(scope="module")
def service(deploy):
    with Service(ROOT / "tools" / "serve.py", "--config", deploy, "--port", "0", "--cpu_threads", "1", "--max_bytes",
                 MOST_BYTES, "--max_pixels", MOST_PIXELS, "--body_time", "1") as service:
        yield service
        assert service.process.poll() is None       # nothing of all that has ended it


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A grey PNG that claims this size."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def in_format(name: str, width: int = 40, height: int = 30) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(file, name)
    return file.getvalue()


# --- what is answered ------------------------------------------------------------------------------------------------

def test_the_picture_is_that_of_infer(service, deploy, image, run_tool, tmp_path):
    run_tool("infer", "--config", deploy, "--image_path", image, "--save_dir", tmp_path, "--cpu_threads", "1")
    answer = service.predict(image.read_bytes())
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert re.fullmatch(r"decode;dur=[\d.]+, network;dur=[\d.]+, encode;dur=[\d.]+", answer.headers["server-timing"])
    found, expected = (Image.open(source) for source in (io.BytesIO(answer.body), tmp_path / f"{image.stem}.png"))
    assert np.array_equal(found, expected) and found.getpalette() == expected.getpalette()
    assert len(np.unique(found)) > 1


def test_the_json_says_the_same(service, image):
    ids = np.array(Image.open(io.BytesIO(service.predict(image.read_bytes()).body)))
    answer = service.predict(image.read_bytes(), "?format=json&picture=true")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    said = json.loads(answer.body)
    assert (said["height"], said["width"]) == ids.shape and said["presence"] is None
    assert {each["id"]: each["share"] for each in said["classes"]} == {
        i: pytest.approx((ids == i).mean(), abs=1e-6) for i in np.unique(ids)}
    assert all(each["name"] == NAMES[each["id"]] and len(each["color"]) == 3 for each in said["classes"])
    shares = [each["share"] for each in said["classes"]]
    assert shares == sorted(shares, reverse=True)
    assert list(said["milliseconds"]) == ["decode", "network", "encode"] and min(said["milliseconds"].values()) > 0
    assert np.array_equal(Image.open(io.BytesIO(base64.b64decode(said["picture"]))), ids)


@pytest.mark.parametrize("query, accept, kind", [
    ("", "application/json", "application/json"), ("", "*/*", "image/png"), ("", "image/png", "image/png"),
    ("?format=png", "application/json", "image/png"), ("?format=json", "image/png", "application/json"),
    ("", "text/html,image/avif,*/*;q=0.8", "image/png")])
def test_the_form_of_the_answer(service, image, query, accept, kind):
    assert service.predict(image.read_bytes(), query, Accept=accept).headers["content-type"] == kind


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_formats(service, name):
    said = json.loads(service.predict(in_format(name), "?format=json", "application/octet-stream").body)
    assert (said["width"], said["height"]) == (40, 30)


def test_a_chunked_body_and_two_requests_in_one_connection(service, image):
    data = image.read_bytes()
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:100], data[100:])) + b"0\r\n\r\n"
    with service.connect() as client:
        client.sendall(2 * (head("Transfer-Encoding: chunked") + body))
        answers = [received(client) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200] and answers[0].body == answers[1].body


def test_a_live_network_tells_presence(small_config, network, image):
    with Service(ROOT / "tools" / "serve.py", "--config", small_config, "--model_path", network[1], "--port", "0",
                 "--cpu_threads", "1") as service:
        answer = service.predict(image.read_bytes(), "?format=json")
        picture = service.predict(image.read_bytes())
    expected = Segmenter(small_config, network[1], "cpu")(str(image))
    assert expected.presence is not None
    said = json.loads(answer.body)
    # The order of float32 sums depends on the threads.
    assert [each["probability"] for each in said["presence"]] == pytest.approx(expected.presence.tolist(), abs=1e-4)
    assert [each["name"] for each in said["presence"]] == expected.names
    assert (np.array(Image.open(io.BytesIO(picture.body))) == expected.ids).mean() > 0.999


def test_health_and_other_addresses(service):
    answer = service.ask("GET", "/healthz")
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})
    assert service.ask("GET", "/etc/passwd").status == 404
    assert "GET /predict: Method Not Allowed" in service.ask("GET", "/predict").error
    answer = service.predict(b"", "?format=gif")
    assert answer.status == 400 and "'png' or 'json', not 'gif'" in answer.error


# --- metrics ---------------------------------------------------------------------------------------------------------

def values(text: str) -> dict:
    """{name and labels: number} of a text that Prometheus reads: each line a number, after the type of its name."""
    found, kinds = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kinds[name] = line.split(" ")
        elif not line.startswith("# HELP "):
            name, labels, number = re.fullmatch(r'([a-z_]+)(\{(?:[a-z]+="[^"]*",?)+\})? (\S+)', line).groups()
            base = re.sub("_(bucket|sum|count)$", "", name)
            assert name in kinds or kinds[base] == "histogram"
            assert name + (labels or "") not in found
            found[name + (labels or "")] = float(number)
    return found


def test_metrics_count(service, image):
    before = values(service.ask("GET", "/metrics").body.decode())
    service.predict(image.read_bytes())
    service.predict(b"text")
    answer = service.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    after = values(answer.body.decode())

    def more(name):
        return after[name] - before.get(name, 0)
    assert more('encnet_requests_total{status="200"}') == more('encnet_requests_total{status="422"}') == 1
    assert more("encnet_request_seconds_count") == more('encnet_request_seconds_bucket{le="+Inf"}') == 2
    assert more('encnet_step_seconds_count{step="network"}') == 1
    assert more('encnet_step_seconds_sum{step="network"}') > 0
    assert after["encnet_queue_length"] == 0 and after["process_resident_memory_bytes"] > 1e7


def test_a_histogram_counts_at_or_below():
    histogram = Histogram()
    for seconds in (0.01, 0.011, 31.0):
        histogram.add(seconds)
    lines = dict(line.rsplit(" ", 1) for line in histogram.lines("h"))
    assert [lines[f'h_bucket{{le="{bound}"}}'] for bound in ("0.01", "0.025", "30.0", "+Inf")] == ["1", "2", "2", "3"]
    assert lines["h_sum"] == "31.021000" and values(Metrics(["a"]).text(3))["encnet_queue_length"] == 3


# --- what is refused -------------------------------------------------------------------------------------------------

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


# --- the page --------------------------------------------------------------------------------------------------------

def test_the_page_asks_for_nothing_from_elsewhere(service):
    answer = service.ask("GET", "/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(rb"https?:|src=\"|@import|<link", answer.body)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_the_page_in_a_browser(service, image):
    said = json.loads(service.predict(image.read_bytes(), "?format=json").body)
    text = base64.b64encode(image.read_bytes()).decode()
    browser = Browser()
    try:
        browser.open(service.url)
        assert browser.wait("document.readyState == 'complete' && !!document.getElementById('drop')")
        drop = ("(text => {{ const data = new DataTransfer(); data.items.add(new File([Uint8Array.from(atob(text), "
                "c => c.charCodeAt(0))], 'a.png', {{type: 'image/png'}})); document.getElementById('drop')"
                ".dispatchEvent(new DragEvent('drop', {{dataTransfer: data, bubbles: true, cancelable: true}})); }})"
                "('{}')")
        browser.run(drop.format(text))
        assert browser.wait("!document.getElementById('seen').hidden && document.getElementById('mask').naturalWidth")
        rows = browser.run("[...document.querySelectorAll('#classes tr')].map(row => row.cells[1].textContent)")
        assert rows == [each["name"] for each in said["classes"]]
        sizes = "['image', 'mask'].map(id => document.getElementById(id).{0})"
        assert browser.run(sizes.format("naturalWidth")) == 2 * [said["width"]]
        assert browser.run(sizes.format("clientHeight + ''"))[0] == browser.run(sizes.format("clientHeight + ''"))[1]
        browser.run(drop.format(base64.b64encode(b"no image").decode()))
        assert "no image that can be read" in browser.wait("document.getElementById('error').textContent")
        assert browser.run("document.getElementById('seen').hidden")
    finally:
        browser.close()


# --- start and end ---------------------------------------------------------------------------------------------------

def test_it_ends_with_0(deploy):
    with Service(ROOT / "tools" / "serve.py", "--config", deploy, "--port", "0") as service:
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
        assert "SIGTERM: no more requests" in service.process.stderr.read()


def started(*arguments, before: str = "pass"):
    code = f"import runpy, sys; {before}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code, ROOT / "tools" / "serve.py", *map(str, arguments)],
                          capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("arguments, words", [
    (["--config", "/nowhere/deploy.yaml"], "there is no /nowhere/deploy.yaml; give the deploy.yaml of an export"),
    (["--config", "x", "--port", "99999"], "--port 99999: a port is a number from 0 to 65535"),
    (["--config", "x", "--host", "no.where.invalid"], "cannot serve at no.where.invalid port 8000: "),
    (["--config", "x", "--max_pixels", "1000000000"], "--max_pixels can be at most 89478485, got 1000000000")])
def test_mistakes_end_in_a_line(arguments, words):
    done = started(*([] if "--port" in arguments or "--host" in arguments else ["--port", "0"]), *arguments)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {words}") and done.stderr.count("\n") == 1


def test_a_port_that_is_taken(service, deploy):
    done = started("--config", deploy, "--port", service.port)
    assert (done.returncode, done.stderr) == (
        1, f"error: cannot serve at 127.0.0.1 port {service.port}: Address already in use; give another --host or "
           "--port, or --port 0 for any that is free\n")


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_without_the_extra(missing, deploy):
    done = started("--config", deploy, before=f"sys.modules['{missing}'] = None")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.endswith('pip install "paddleseg_encnet[serve]"\n')


def test_a_sample_and_a_backend_that_is_not_there(deploy, image, tmp_path):
    done = started("--config", deploy, "--port", "0", "--sample", tmp_path / "no.png")
    assert done.returncode == 1 and "No such file" in done.stderr.splitlines()[-1]
    done = started("--config", deploy, "--port", "0", "--backend", "onnx")
    assert done.returncode == 1 and re.match("error: .*(names no onnx model|ONNX Runtime does not load)", done.stderr)


def test_the_limits_of_a_body_hold_to_the_byte():
    from segrun.service.limits import body_of

    class Request:
        headers = {}

        def __init__(self, parts):
            self.parts = parts

        async def stream(self):
            for part in self.parts:
                yield part
    assert asyncio.run(body_of(Request([b"ab", b"cd"]), Limits(max_bytes=4))) == b"abcd"
    with pytest.raises(Refused) as refused:
        asyncio.run(body_of(Request([b"ab", b"cd", b"e"]), Limits(max_bytes=4)))
    assert refused.value.status == 413


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
    from paddleseg_encnet.serving.limits import body_of
    assert asyncio.run(body_of(Waiting(), Limits(body_time=0.05))) == 5 * b"ab"
    with pytest.raises(Refused, match="the body was not there after 0.1 s"):
        asyncio.run(asyncio.wait_for(body_of(Trickling(), Limits(body_time=0.1)), 30))
