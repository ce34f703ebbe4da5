"""tools/halve_weights.py: half as large, taken by every tool, computed in float32, and with its config in itself."""

import numpy as np
import paddle
import pytest
import yaml
from conftest import ROOT

from paddleseg_encnet.weights import checkpoint
from segrun import Segmenter
from segrun.palettes import CAMVID

CONFIG = ROOT / "configs" / "encnet_lite0_camvid_480x360.yml"
WEIGHTS = ROOT / "weights" / "encnet_lite0_camvid.safetensors"


@pytest.fixture
def weights(tmp_path):
    layer = paddle.nn.Sequential(paddle.nn.Conv2D(3, 40, 3), paddle.nn.BatchNorm2D(40))
    layer[1]._variance[0] = 1e6         # half precision ends at 65504
    path = tmp_path / "model.pdparams"
    paddle.save(layer.state_dict(), str(path))
    return layer, path


def test_half_is_loaded_as_float32(weights, run_tool, tmp_path, capsys):
    layer, path = weights
    output = tmp_path / "half.safetensors"
    run_tool("halve_weights", path, "--output", output)
    said = capsys.readouterr().out
    assert f"wrote {output}: 6 tensors" in said and "1 keep their type" in said and "1._variance" in said
    state = checkpoint.read_weights(output)
    assert state["0.weight"].dtype == np.float16 and state["1._variance"].dtype == np.float32
    other = paddle.nn.Sequential(paddle.nn.Conv2D(3, 40, 3), paddle.nn.BatchNorm2D(40))
    checkpoint.fill_layer(other, str(output))
    for name, value in other.state_dict().items():
        assert value.dtype == paddle.float32
        assert np.allclose(value.numpy(), layer.state_dict()[name].numpy(), rtol=2 ** -11, atol=2 ** -24)


def test_what_is_no_weights_file(run_tool, tmp_path):
    path = tmp_path / "model.pdopt"
    paddle.save({"step": 3}, str(path))
    with pytest.raises(SystemExit, match="error: .*model.pdopt: step is no tensor but a int"):
        run_tool("halve_weights", path, "--output", tmp_path / "half.safetensors")
    assert not (tmp_path / "half.safetensors").exists()


def test_with_its_config(run_tool, tmp_path):
    """The shipped network's. That such a file runs alone: test_description.py."""
    output, card = tmp_path / "model.safetensors", tmp_path / "card.md"
    card.write_text("of a street")
    run_tool("halve_weights", WEIGHTS, "--output", output, "--config", CONFIG, "--card", card)
    said = checkpoint.read_metadata(output)
    assert said["card"] == "of a street" and "_base_" not in yaml.safe_load(said["config"])
    before, after = checkpoint.read_weights(WEIGHTS), checkpoint.read_weights(output)
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)
    assert Segmenter(output, device="cpu").names == list(CAMVID)


def test_a_config_of_another_network(run_tool, tmp_path):
    output = tmp_path / "model.safetensors"
    with pytest.raises(SystemExit, match="error: .*encnet_lite0_camvid.safetensors: .*does not fit the network"):
        run_tool("halve_weights", WEIGHTS, "--output", output, "--config", ROOT / "configs/encnet_camvid_480x360.yml")
    with pytest.raises(SystemExit, match="error: --card needs --config"):
        run_tool("halve_weights", WEIGHTS, "--output", output, "--card", ROOT / "weights" / "README.md")
    assert not output.exists()
