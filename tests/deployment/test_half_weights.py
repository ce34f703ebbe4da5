"""export --half_weights: an ONNX file of half the size, computed in float32."""

import importlib.util
import re

import numpy as np
import pytest
from conftest import ROOT
from exports import needs_onnx
from near_ties import MOST

from paddleseg_encnet.deployment.half_weights import halve
from segrun import STREET
from segrun.backends.exported import Exported
from segrun.exports import Export, read_deploy

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

CONFIG = ROOT / "configs" / "encnet_lite0_camvid_480x360.yml"
WEIGHTS = ROOT / "weights" / "encnet_lite0_camvid.safetensors"
RUNTIMES = ["onnx", *["openvino"] * (importlib.util.find_spec("openvino") is not None)]


# --- a file ----------------------------------------------------------------------------------------------------------

def written(path, kernel, factor, offset):
    """A convolution, a product with a constant node, a sum, and a resizing to one and a third; from [1, 3, H, W]."""
    make = onnx.helper
    scales = np.array([1, 1, 4 / 3, 4 / 3], "float32")
    nodes = [make.make_node("Conv", ["images", "kernel"], ["features"], pads=[1] * 4),
             make.make_node("Constant", [], ["factor"], value=onnx.numpy_helper.from_array(factor)),
             make.make_node("Mul", ["features", "factor"], ["scaled"]),
             make.make_node("Add", ["scaled", "offset"], ["sum"]),
             make.make_node("Constant", [], ["scales"], value=onnx.numpy_helper.from_array(scales)),
             make.make_node("Resize", ["sum", "", "scales"], ["logits"], mode="linear")]
    shape = [1, "channels", "height", "width"]
    graph = make.make_graph(
        nodes, "network", [make.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, "height", "width"])],
        [make.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(kernel, "kernel"), onnx.numpy_helper.from_array(offset, "offset")])
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=7), path)


def output(path, images):
    import onnxruntime
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"images": images})[0]


def tensors(path) -> dict:
    graph = onnx.load(path).graph
    constants = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    found = {**{tensor.name: tensor for tensor in graph.initializer}, **constants}
    return {name: onnx.numpy_helper.to_array(tensor).dtype.name for name, tensor in found.items()}


@pytest.fixture
def weights():
    random = np.random.default_rng(5)
    return [random.normal(0, 1, shape).astype("float32") for shape in ((20, 3, 3, 3), (20, 1, 1), (20, 1, 1))]


IMAGES = np.random.default_rng(6).normal(0, 1, (1, 3, 9, 12)).astype("float32")


def test_weights_that_are_halves_give_the_same_numbers(weights, tmp_path):
    path = tmp_path / "model.onnx"
    written(path, *(values.astype("float16").astype("float32") for values in weights))
    before = output(path, IMAGES)
    halve(str(path))
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert tensors(path) == {"kernel.float16": "float16", "offset.float16": "float16", "factor.float16": "float16",
                             "scales": "float32"}
    assert before.shape == (1, 20, 12, 16) and np.array_equal(output(path, IMAGES), before)


def test_other_weights_are_rounded_to_halves(weights, tmp_path):
    path, rounded = tmp_path / "model.onnx", tmp_path / "rounded.onnx"
    written(path, *weights)
    before = output(path, IMAGES)
    halve(str(path))
    after = output(path, IMAGES)
    written(rounded, *(values.astype("float16").astype("float32") for values in weights))
    assert np.array_equal(after, output(rounded, IMAGES))
    assert 0 < np.abs(after - before).max() < 2 ** -8 * np.abs(before).max()


def test_what_is_too_large_for_a_half_stays(weights, tmp_path):
    path = tmp_path / "model.onnx"
    weights[1][0] = 1e6
    written(path, *weights)
    halve(str(path))
    assert tensors(path)["factor"] == "float32" and tensors(path)["kernel.float16"] == "float16"
    assert np.isfinite(output(path, IMAGES)).all()


# --- an export -------------------------------------------------------------------------------------------------------

@needs_onnx
def test_an_export_with_half_weights(run_tool, tmp_path, capsys):
    """The shipped weights are halves: the same numbers to the bit."""
    flags = ["--config", CONFIG, "--model_path", WEIGHTS, "--onnx", "--output_op", "none"]
    run_tool("export", *flags, "--save_dir", tmp_path / "full")
    run_tool("export", *flags, "--save_dir", tmp_path / "half", "--half_weights", "--verify", STREET)
    agreeing = re.findall(r"(?:Paddle Inference|ONNX Runtime|OpenVINO): .*, ([\d.]+)% of the pixels agree",
                          capsys.readouterr().out)
    assert len(agreeing) == 1 + len(RUNTIMES) and all(float(share) >= 100 * (1 - MOST) for share in agreeing)
    full, half = ((tmp_path / name / "model.onnx").stat().st_size for name in ("full", "half"))
    assert half < 0.52 * full
    for runtime in RUNTIMES:
        networks = [Exported(Export(str(tmp_path / name)), runtime, device="cpu") for name in ("full", "half")]
        one, other = (network.run(networks[0].export.batch_of(STREET)) for network in networks)
        assert np.array_equal(one.values, other.values) and np.array_equal(one.presence, other.presence)
    shipped = Exported(Export(str(ROOT / "weights" / "encnet_lite0_camvid")), "onnx", device="cpu")
    assert np.abs(shipped.run(shipped.export.batch_of(STREET)).values - one.values).max() < 1e-3


@needs_onnx
def test_classes_are_verified_by_logits_of_halves(run_tool, tmp_path, capsys):
    run_tool("export", "--config", CONFIG, "--model_path", WEIGHTS, "--onnx", "--half_weights", "--save_dir", tmp_path,
             "--verify", STREET)
    assert "ONNX Runtime: largest logit difference" in capsys.readouterr().out
    assert read_deploy(str(tmp_path / "deploy.yaml"))["half_weights"] is True


def test_half_weights_are_of_the_onnx_file(run_tool, tmp_path):
    with pytest.raises(SystemExit, match="^error: --half_weights is for the ONNX file: add --onnx$"):
        run_tool("export", "--config", CONFIG, "--model_path", WEIGHTS, "--save_dir", tmp_path, "--half_weights")
    assert not list(tmp_path.iterdir())
