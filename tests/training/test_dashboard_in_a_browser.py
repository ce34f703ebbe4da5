"""What a browser shows of a run's dashboard."""

import socket
import subprocess
import sys
import time
import urllib.request

import browser
import pytest
import vdl

pytest.importorskip("visualdl")

# How many canvases show something in colour: a curve, a histogram.
DRAWN = """[...document.querySelectorAll("canvas")].filter(canvas => {
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 0; i < data.length; i += 4) {
        const [red, green, blue, alpha] = data.slice(i, i + 4);
        if (alpha > 100 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60) return true;
    }
}).length"""


@pytest.fixture(scope="module")
def shown(small_config, tmp_path_factory):
    return vdl.four_steps(small_config, tmp_path_factory.mktemp("shown"))


@pytest.fixture(scope="module")
def served(shown):
    """Address of a VisualDL server that shows the run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "visualdl.server.app", "--logdir", shown, "--port", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address, deadline = f"http://127.0.0.1:{port}/app", time.monotonic() + 60
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline and server.poll() is None:
        try:
            opener.open(f"{address}/api/runs").read()
            break
        except OSError:
            time.sleep(0.2)
    yield address
    server.terminate()
    server.wait()


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium to look with")
def test_a_browser_shows_curves_pictures_histograms_and_hyper_parameters(served):
    page = browser.Browser()
    try:
        page.open(f"{served}/scalar")
        assert page.wait(f"{DRAWN} >= 4") is True, page.run("document.body.innerText")
        page.open(f"{served}/image")
        sizes = page.wait("(pictures => pictures.length >= 4 && pictures.every(each => each.naturalWidth) && "
                          "pictures.map(each => each.naturalWidth))"
                          "([...document.querySelectorAll('img')].filter(each => each.src.startsWith('blob:')))")
        assert sizes == [2 * 128 + 6] * 4, page.run("document.body.innerText")
        page.open(f"{served}/histogram")
        assert page.wait(f"{DRAWN} == 3") is True, page.run("document.body.innerText")
        page.open(f"{served}/hyper-parameter")
        words = ["num_codes", "ResNet18_vd", "0.05", "coef_SE", "best_mIoU"]
        found = page.wait(f"{words}.every(word => document.body.innerText.includes(word))")
        assert found is True, page.run("document.body.innerText")
    finally:
        page.close()
