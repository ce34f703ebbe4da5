"""tools/halve_weights.py: half as large, taken by every tool, and computed in float32."""

import numpy as np
import paddle
import pytest

from paddleseg_encnet.weights import checkpoint


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
    state = checkpoint.read(output)
    assert state["0.weight"].dtype == np.float16 and state["1._variance"].dtype == np.float32
    other = paddle.nn.Sequential(paddle.nn.Conv2D(3, 40, 3), paddle.nn.BatchNorm2D(40))
    checkpoint.load(other, str(output))
    for name, value in other.state_dict().items():
        assert value.dtype == paddle.float32
        assert np.allclose(value.numpy(), layer.state_dict()[name].numpy(), rtol=2 ** -11, atol=2 ** -24)


def test_what_is_no_weights_file(run_tool, tmp_path):
    path = tmp_path / "model.pdopt"
    paddle.save({"step": 3}, str(path))
    with pytest.raises(SystemExit, match="error: .*model.pdopt: step is no tensor but a int"):
        run_tool("halve_weights", path, "--output", tmp_path / "half.safetensors")
    assert not (tmp_path / "half.safetensors").exists()
