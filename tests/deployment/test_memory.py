"""What a process holds after images of many sizes."""

import importlib.util
import subprocess
import sys

import pytest
from conftest import ROOT

from paddleseg_encnet.config import building
from paddleseg_encnet.deployment import exporting
from paddleseg_encnet.weights import checkpoint

CONVERTS = all(map(importlib.util.find_spec, ("paddle2onnx", "onnxruntime", "onnx")))
OPENVINO = importlib.util.find_spec("openvino") is not None
BACKENDS = ["paddle", pytest.param("onnx", marks=pytest.mark.skipif(not CONVERTS, reason="needs the ONNX packages")),
            pytest.param("openvino", marks=pytest.mark.skipif(not (CONVERTS and OPENVINO), reason="needs OpenVINO"))]
# MiB above what it held after one image of 480 x 360. Seen: 59 (155 with Paddle 2.6.2), below 0, 144; before sizes were
# forgotten and memory given back 590, 86, 205.
BOUNDS = {"paddle": 250, "onnx": 50, "openvino": 170}
# Sizes from 0.27 to 0.44 megapixels, each once; what is held is told before them and after every fourth, in MiB.
CODE = """
import sys
from segrun import cpu
cpu.prepare()
cpu.use_one_arena()
import numpy as np
from segrun.service.served_network import load_export

segmenter = load_export(sys.argv[1], backend=sys.argv[2], device="cpu", threads=1)
for i in range(25):
    if i:
        segmenter.segment(np.zeros([500 + 7 * (5 * i % 24), 540 + 5 * (7 * i % 24), 3], np.uint8))
    if i % 4 == 0:
        with open("/proc/self/status") as file:
            print(next(int(line.split()[1]) // 1024 for line in file if line.startswith("VmRSS")), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def deploy(tmp_path_factory):
    """deploy.yaml of the network in weights/."""
    folder = tmp_path_factory.mktemp("export")
    network = building.read_config(str(ROOT / "configs" / "encnet_lite0_camvid_480x360.yml"), pretrained=False).model
    checkpoint.fill_layer(network, str(ROOT / "weights" / "encnet_lite0_camvid.safetensors"))
    network.eval()
    exporting.export_network(network, str(folder), {"transforms": [{"type": "Normalize"}]}, "argmax", onnx=CONVERTS)
    return folder / "deploy.yaml"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no /proc here to read the memory from")
@pytest.mark.parametrize("backend", BACKENDS)
def test_images_of_many_sizes_leave_nothing(backend, deploy):
    """Before, Paddle Inference kept 90 bytes for each pixel of the last ten sizes, to gigabytes."""
    done = subprocess.run([sys.executable, "-c", CODE, deploy, backend], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    held = [int(line) for line in done.stderr.splitlines() if line.isdecimal()]
    print(held)
    assert len(held) == 7 and max(held) < held[0] + BOUNDS[backend]
