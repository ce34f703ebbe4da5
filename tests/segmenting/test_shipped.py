"""The network in weights/ segments a photograph, and scores on CamVid what its card says."""

import re

import cv2
import numpy as np
import pytest
from conftest import CAMVID, ROOT

from paddleseg_encnet.weights import checkpoint
from segrun.palettes import CAMVID as CLASSES

CONFIG = ROOT / "configs" / "encnet_lite0_camvid_480x360.yml"
WEIGHTS = ROOT / "weights" / "encnet_lite0_camvid.safetensors"


def test_is_half_precision_and_small():
    assert WEIGHTS.stat().st_size < 20e6
    kinds = [value.dtype.name for value in checkpoint.read_weights(WEIGHTS).values()]
    assert kinds.count("float16") > 0.9 * len(kinds)


def test_segments_a_photograph(run_tool, tmp_path):
    """Without data, and without the package of ImageNet weights that the config names."""
    run_tool("predict", "--config", CONFIG, "--model_path", WEIGHTS, "--image_path", ROOT / "docs/images/street.jpg",
             "--save_dir", tmp_path, "--save", "ids")
    ids = cv2.imread(str(tmp_path / "ids" / "street.png"), cv2.IMREAD_UNCHANGED)
    assert ids.shape == (360, 480)
    names = np.array(list(CLASSES))[ids]
    assert (names[-40:, 200:400] == "road").mean() > 0.9
    assert (names[:60, 200:260] == "sky").mean() > 0.9
    assert (names[:200, :40] == "building").mean() > 0.8
    assert (names[160:280, 310:480] == "car").mean() > 0.3
    assert {"bicyclist", "tree", "pavement", "pedestrian"} <= set(np.unique(names))


@pytest.mark.skipif(not (CAMVID / "val").is_dir(), reason=f"no CamVid in {CAMVID}; set CAMVID_ROOT")
def test_scores_on_camvid_what_its_card_says(run_tool, capsys):
    said = float(re.search(r"mIoU \*\*([\d.]+)\*\*", (ROOT / "weights" / "README.md").read_text())[1])
    run_tool("val", "--config", CONFIG, "--model_path", WEIGHTS, "--opts", f"val_dataset.dataset_root={CAMVID}")
    found = float(re.search(r"mIoU: ([\d.]+)", capsys.readouterr().out)[1])
    assert 100 * found == pytest.approx(said, abs=0.06)
