"""A skip that nobody allowed fails the run."""

import os
import pathlib
import subprocess
import sys

import pytest
from skips import allowed_reasons

HERE = pathlib.Path(__file__).parent
MISSING = "pytest.importorskip('runtime_of_nobody')"


@pytest.mark.parametrize("at_import, in_test, code, said", [
    ("", "pytest.skip('no CamVid in /nowhere')", 0, "1 skipped: no CamVid in /nowhere (the photographs"),
    ("", MISSING, 1, "NOT IN tests/skips.txt: could not import 'runtime_of_nobody'"),
    (MISSING, "pass", 1, "NOT IN tests/skips.txt: could not import 'runtime_of_nobody'"),
    ("", "pytest.xfail('known')", 0, "1 xfailed"),
    ("", "assert False", 1, "1 failed")])
def test_a_run_with_such_a_test(at_import, in_test, code, said, tmp_path):
    (tmp_path / "test_it.py").write_text(f"import pytest\n{at_import}\ndef test():\n    {in_test}\n")
    (tmp_path / "test_other.py").write_text("def test_passes():\n    pass\n")
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "skips", "-p", "no:cacheprovider"], cwd=tmp_path,
                          env={**os.environ, "PYTHONPATH": str(HERE)}, capture_output=True, text=True)
    assert done.returncode == code, done.stdout
    assert said in done.stdout


def test_no_runtime_and_no_service_is_allowed_to_be_missing():
    for reason in allowed_reasons():
        assert not any(name in reason.lower() for name in ("onnx", "openvino", "fastapi", "uvicorn"))
