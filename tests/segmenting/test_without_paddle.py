"""segrun, and the tools that run exports, import neither Paddle, nor PaddleSeg, nor this repository's other package."""

import io
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from exports import masks, needs_onnx, written
from PIL import Image
from service import Service

import segrun

# The first line of a program that can't import these.
ALONE = "import sys; sys.modules.update(dict.fromkeys(['paddle', 'paddleseg', 'paddleseg_encnet']))\n"
MODULES = ["segrun", *sorted(module.name for module in pkgutil.walk_packages(segrun.__path__, "segrun."))]
TOOL = ALONE + "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def run(code: str, *arguments, **more) -> subprocess.CompletedProcess:
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def export(lively_network, tmp_path_factory):
    """Folder of an export of classes."""
    return written(lively_network, tmp_path_factory.mktemp("export"), "argmax")


@pytest.fixture(scope="module")
def mask(export, image, tmp_path_factory):
    """What tools/infer.py writes, as it is installed."""
    folder = tmp_path_factory.mktemp("mask")
    code = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    run(code, ROOT / "tools" / "infer.py", "--config", f"{export}/deploy.yaml", "--image_path", image, "--save_dir",
        folder, "--backend", "onnx")
    return masks(folder)[image.name]


def test_each_module_can_be_imported():
    assert {"segrun.segmenter", "segrun.video", "segrun.service.server", "segrun.service.served_network"} < set(MODULES)
    run(ALONE + "import importlib\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
        "assert 'paddle.base' not in sys.modules", *MODULES)


def test_the_first_module_alone_takes_nothing_of_opencv():
    """So that a program can set its limits before."""
    run("import sys, segrun; from segrun import STREET; assert 'cv2' not in sys.modules")


@needs_onnx
def test_infer(export, image, mask, tmp_path):
    run(TOOL, ROOT / "tools" / "infer.py", "--config", f"{export}/deploy.yaml", "--image_path", image, "--save_dir",
        tmp_path, "--backend", "onnx")
    np.testing.assert_array_equal(masks(tmp_path)[image.name], mask)


@needs_onnx
def test_serve(export, image, mask):
    with Service("-c", TOOL, ROOT / "tools" / "serve.py", "--config", f"{export}/deploy.yaml", "--port", "0",
                 "--backend", "onnx") as service:
        answer = service.predict(image.read_bytes())
    np.testing.assert_array_equal(Image.open(io.BytesIO(answer.body)), mask)


def test_what_needs_paddle_says_so(tmp_path):
    code = ALONE + "from segrun import Segmenter; Segmenter('encnet_quick_start', 'model.pdparams')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "ValueError: encnet_quick_start needs Paddle and PaddleSeg, and no installed package" in \
        done.stderr.splitlines()[-1]
