"""The service answers with the pixels of the other tools, counts what it does, and has a page."""

import base64
import io
import json
import re

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from conftest import ROOT
from near_ties import assert_same_classes, live_scores
from PIL import Image
from service import NAMES, Service, head, in_format, received

from segrun.segmenter import Segmenter
from segrun.service.counters import Histogram, Metrics


def test_the_picture_is_that_of_infer(service, deploy, image, run_tool, tmp_path):
    run_tool("infer", "--config", deploy, "--image_path", image, "--save_dir", tmp_path, "--cpu_threads", "1")
    answer = service.predict(image.read_bytes())
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert re.fullmatch(r"decode;dur=[\d.]+, network;dur=[\d.]+, encode;dur=[\d.]+", answer.headers["server-timing"])
    found, expected = (Image.open(source) for source in (io.BytesIO(answer.body), tmp_path / f"{image.stem}.png"))
    assert np.array_equal(found, expected) and found.getpalette() == expected.getpalette()
    assert len(np.unique(found)) > 1


def test_the_json_says_the_same(service, deploy, image):
    ids = np.array(Image.open(io.BytesIO(service.predict(image.read_bytes()).body)))
    answer = service.predict(image.read_bytes(), "?format=json&picture=true")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    said = json.loads(answer.body)
    assert (said["height"], said["width"]) == ids.shape
    expected = Segmenter(deploy, device="cpu", threads=1)(image).presence
    assert [each["probability"] for each in said["presence"]] == pytest.approx(expected.tolist(), abs=1e-5)
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


def test_a_live_network_tells_presence(small_config, lively_weights, segmenter, image):
    with Service(ROOT / "tools" / "serve.py", "--config", small_config, "--model_path", lively_weights, "--port", "0",
                 "--cpu_threads", "1") as service:
        answer = service.predict(image.read_bytes(), "?format=json")
        picture = service.predict(image.read_bytes())
    expected = segmenter(image)
    assert expected.presence is not None
    said = json.loads(answer.body)
    # The order of float32 sums depends on the threads.
    assert [each["probability"] for each in said["presence"]] == pytest.approx(expected.presence.tolist(), abs=1e-4)
    assert [each["name"] for each in said["presence"]] == expected.names
    assert_same_classes(np.array(Image.open(io.BytesIO(picture.body))), expected.ids,
                        live_scores(small_config, lively_weights, image))


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
