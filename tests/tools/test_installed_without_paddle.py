"""Who installs the wheel without Paddle: the shipped network and its photograph are there, and it runs."""

import json
import pathlib
import zipfile

import cv2
import numpy as np
import pytest
from conftest import ROOT
from installed_wheel import ALONE
from near_ties import assert_same_classes, live_scores

from segrun import STREET, Segmenter
from segrun.loading import shipped_files

MIB = 2 ** 20
NAME = "encnet_lite0_camvid"
CONFIG, WEIGHTS = ROOT / "configs" / f"{NAME}_480x360.yml", ROOT / "weights" / f"{NAME}.safetensors"
FILES = ["segrun/photographs/street.jpg", "segrun/weights/README.md", f"segrun/weights/{NAME}.safetensors",
         f"segrun/weights/{NAME}/deploy.yaml", f"segrun/weights/{NAME}/model.onnx"]


def test_files_of_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {info.filename for info in archive.infolist()}
    assert {name for name in names if name.startswith(("segrun/photographs", "segrun/weights"))} == set(FILES)
    assert wheel.stat().st_size < 16 * MIB
    assert not [name for name in names if name.startswith(("docs", "tests", "weights"))]


def test_what_every_install_brings(wheel):
    """No Paddle, but with [cpu] and [gpu]; [onnx] and [openvino] are a runtime and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        path = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = [line[len("Requires-Dist: "):].replace('"', "'") for line in archive.read(path).decode().splitlines()
                 if line.startswith("Requires-Dist: ")]
    of = {extra: [line.partition(";")[0].strip() for line in lines if f"extra == '{extra}'" in line]
          for extra in ("cpu", "gpu", "onnx", "openvino", "dev")}
    assert sorted(line for line in lines if "extra ==" not in line) == ["numpy", "opencv-python", "pillow", "pyyaml"]
    assert of["onnx"] == ["onnxruntime"] and [line.split(">=")[0] for line in of["openvino"]] == ["openvino"]
    for extra in ("cpu", "gpu", "dev"):
        assert {"paddleseg", "numpy<2", "setuptools"} <= set(of[extra])
    with_paddle = {extra for extra in of if any(line.startswith("paddlepaddle") for line in of[extra])}
    assert with_paddle == {"cpu", "gpu"}


def test_the_files_in_a_checkout():
    assert pathlib.Path(STREET) == ROOT / "docs" / "images" / "street.jpg"
    assert shipped_files(NAME) == (str(ROOT / "weights" / f"{NAME}.safetensors"),
                                   str(ROOT / "weights" / NAME / "deploy.yaml"))


def test_the_files_where_it_is_installed(installed):
    code = ("from segrun import STREET; from segrun.loading import shipped_files; import json\n"
            f"print(json.dumps([STREET, *shipped_files({NAME!r})]))")
    found = json.loads(installed.python("-c", code).stdout)
    folder = installed.folder / "segrun"
    assert found == [str(folder / "photographs" / "street.jpg"), str(folder / "weights" / f"{NAME}.safetensors"),
                     str(folder / "weights" / NAME / "deploy.yaml")]
    assert all(pathlib.Path(path).is_file() for path in found)


def test_the_package_without_paddle_says_what_to_install(installed):
    done = installed.python("-c", f"{ALONE}\nimport paddleseg_encnet", code=1)
    line = done.stderr.splitlines()[-1]
    assert line.startswith("ImportError: No module named 'paddle': ") and 'pip install "paddleseg_encnet[cpu]"' in line
    assert "`from segrun import Segmenter`" in line


# --- the shipped network ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def live():
    """What the live network sees in the photograph."""
    return Segmenter(NAME, device="cpu")(STREET)


TWO_LINES = f"from segrun import STREET, Segmenter\nprint(Segmenter({NAME!r})(STREET))"
IN_THREADS = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy
from segrun import STREET, Segmenter
segmenter = Segmenter({NAME!r}, **eval(sys.argv[1]))
one = segmenter(STREET)
with ThreadPoolExecutor(2) as pool:
    for seen in pool.map(segmenter, [STREET] * 6):
        assert numpy.array_equal(seen.ids, one.ids) and numpy.array_equal(seen.presence, one.presence)
assert "paddle.base" not in sys.modules and "paddleseg_encnet" not in sys.modules
numpy.savez(sys.argv[2], ids=one.ids, confidence=one.confidence, presence=one.presence)
"""


@pytest.mark.parametrize("package, how", [("onnxruntime", {}), ("onnxruntime", {"backend": "onnx"}),
                                          ("openvino", {"backend": "openvino"})])
def test_it_runs_without_paddle(package, how, installed, live, tmp_path):
    pytest.importorskip(package)
    installed.python("-c", f"{ALONE}\n{IN_THREADS}", how, tmp_path / "seen.npz")
    seen = np.load(tmp_path / "seen.npz")
    assert_same_classes(seen["ids"], live.ids, live_scores(CONFIG, WEIGHTS, STREET))
    assert np.abs(seen["confidence"].astype(int) - live.confidence).max() <= 1
    assert np.abs(seen["presence"] - live.presence).max() < 1e-5


def test_two_lines(installed):
    pytest.importorskip("onnxruntime")
    done = installed.python("-c", f"{ALONE}\n{TWO_LINES}")
    assert done.stdout.startswith("<Segmentation of 480 x 360 pixels: ") and "road" in done.stdout


def test_without_a_runtime_either(installed):
    first = f"{ALONE}; sys.modules.update(onnxruntime=None, openvino=None)"
    done = installed.python("-c", f"{first}\n{TWO_LINES}", code=1)
    assert done.stderr.splitlines()[-1].startswith("ValueError: ONNX Runtime does not load (")
    assert done.stderr.splitlines()[-1].endswith('pip install onnxruntime, or "paddleseg_encnet[onnx]"')


def test_the_command_runs_it(installed, live):
    pytest.importorskip("onnxruntime")
    deploy = installed.folder / "segrun" / "weights" / NAME / "deploy.yaml"
    installed("infer", "--config", deploy, "--backend", "onnx", "--image_path", STREET, "--save_dir", "masks",
              first=ALONE)
    ids = cv2.imread(str(installed.cwd / "masks" / "street.png"), cv2.IMREAD_UNCHANGED)
    assert ids.shape[:2] == live.ids.shape


def test_it_is_live_where_paddle_is(installed, live):
    """From an empty folder: weights, config and class names come from the one file."""
    code = (f"from segrun import STREET, Segmenter; import numpy; segmenter = Segmenter({NAME!r}, device='cpu')\n"
            "numpy.save('ids.npy', segmenter(STREET).ids); print(type(segmenter.network).__name__, segmenter.names)")
    done = installed.python("-c", code)
    assert f"LiveNetwork {live.names}" in done.stdout
    assert np.array_equal(np.load(installed.cwd / "ids.npy"), live.ids)
