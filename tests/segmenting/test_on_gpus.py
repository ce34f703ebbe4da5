"""What an export would be run with on a GPU, as far as a machine without one can tell: runtimes are replaced."""

import json
import types

import numpy as np
import paddle
import pytest

from paddleseg_encnet.models.encnet import ContextEncoder
from segrun.backends.onnx_runtime import OnnxRuntime
from segrun.backends.paddle_inference import FLOAT32_OPERATIONS, PaddleInference


class Anything:
    """An object whose methods note their names and arguments in `calls`."""

    def __init__(self, calls):
        self.calls = calls

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            return ["images"] if name.endswith("names") else self
        return call


@pytest.fixture
def configured(monkeypatch):
    """What Paddle Inference's Config was told."""
    calls = []
    monkeypatch.setattr(paddle.inference, "Config", lambda *files: Anything(calls))
    monkeypatch.setattr(paddle.inference, "create_predictor", lambda config: Anything([]))
    return calls


def told(calls: list, name: str) -> list:
    return [arguments for called, *arguments in calls if called == name]


def test_half_precision_keeps_sums_over_positions_in_float32(configured):
    PaddleInference("model.json", "params", "gpu:1", "fp16", 1)
    (_, number, kind), = told(configured, "enable_use_gpu")
    assert number == 1 and kind == paddle.inference.PrecisionType.Half
    (kept,), = told(configured, "exp_disable_mixed_precision_ops")
    assert {"matmul_v2", "pd_op.matmul", "batch_norm", "pd_op.batch_norm_"} <= kept
    assert not {"conv2d", "pd_op.conv2d", "pool2d", "relu"} & kept


def test_in_float32_nothing_is_left_out(configured):
    PaddleInference("model.json", "params", "gpu", "fp32", 1)
    (_, _, kind), = told(configured, "enable_use_gpu")
    assert kind == paddle.inference.PrecisionType.Float32
    assert told(configured, "exp_disable_mixed_precision_ops") == []


# What hands numbers of the features on, or makes a constant; relu's are within half precision's range on both sides.
HARMLESS = {"data", "feed", "fetch", "fill_constant", "flatten", "flatten_contiguous_range", "full", "full_int_array",
            "parameter", "relu"}


class Context(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.encoder = ContextEncoder(8, 16, 4)

    def forward(self, features):
        return self.encoder.context_of(features)


def operations(folder) -> set:
    """Names of the operations in a traced model."""
    if (folder / "model.json").exists():
        program = json.loads((folder / "model.json").read_text())["program"]
        return {operation["#"].split(".", 1)[-1] for region in program["regions"] for block in region["blocks"]
                for operation in block["ops"] if operation["#"] not in ("p", "0.combine")}
    paddle.enable_static()
    try:
        program, *_ = paddle.static.load_inference_model(str(folder / "model"), paddle.static.Executor())
        return {operation.type for operation in program.global_block().ops}
    finally:
        paddle.disable_static()


def test_each_operation_of_the_layer_stays_in_float32(tmp_path):
    """From the features to the context, as this Paddle traces it."""
    network = Context()
    network.eval()
    spec = paddle.static.InputSpec([None, 16, None, None], "float32", "features")
    paddle.jit.save(paddle.jit.to_static(network, input_spec=[spec], full_graph=True), str(tmp_path / "model"))
    found = operations(tmp_path)
    assert len(found) > 15 and "relu" in found
    assert found - HARMLESS <= FLOAT32_OPERATIONS, found - HARMLESS - FLOAT32_OPERATIONS


@pytest.fixture
def without_libraries(monkeypatch):
    """An ONNX Runtime built for CUDA, which finds no CUDA when it starts."""
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider",
                                                                         "CPUExecutionProvider"])
    asked = []

    def session(model, options, providers, provider_options):
        asked.append((providers, provider_options))
        return types.SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"],
                                     get_inputs=lambda: [types.SimpleNamespace(name="images")],
                                     run=lambda *_: [np.zeros(1)])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return asked


def test_a_gpu_that_does_not_start_is_an_error_where_it_was_asked_for(without_libraries):
    with pytest.raises(ValueError, match="has CUDAExecutionProvider, but could not start it, and would run on the CPU"):
        OnnxRuntime("model.onnx", "gpu:1", 1)
    assert without_libraries == [(["CUDAExecutionProvider"], [{"device_id": 1}])]


def test_a_gpu_that_does_not_start_is_left_where_any_device_will_do(without_libraries):
    assert OnnxRuntime("model.onnx", None, 1).name == "images"


@pytest.mark.parametrize("tool", ["infer", "serve"])
def test_tools_take_a_gpu_by_its_number(tool):
    from conftest import tool as module
    args = module(tool).flags().parse_args(["--config", "x", *(["--image_path", "y"] if tool == "infer" else []),
                                            "--device", "gpu:1"])
    assert args.device == "gpu:1"
