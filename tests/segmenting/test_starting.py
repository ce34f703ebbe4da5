"""The service starts, says in a line why it does not, and ends."""

import re
import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from service import Service


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
