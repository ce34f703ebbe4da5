"""--backend auto: the fastest runtime, remembered."""

import types

import numpy as np
import pytest
import yaml
from exports import masks

from segrun.backends import choosing
from segrun.exports import Export

BATCH = np.zeros([1, 3, 8, 8], "float32")


def fastest(config, *options, **more):
    """Of an export that is read anew."""
    return choosing.fastest(Export(config), BATCH, *options, **{"device": "cpu", **more})


@pytest.fixture
def runtimes(monkeypatch):
    """{backend: seconds of a run, or why there is none}, in place of the real ones."""
    known, now = {"paddle": 0.05, "onnx": 0.03, "openvino": "OpenVINO does not load"}, [0.0]

    class Runtime:
        def __init__(self, export, backend, *options, throughput=False):
            if isinstance(known[backend], str):
                raise ValueError(known[backend])
            self.throughput = throughput
            self.backend = backend

        def run(self, batch):
            now[0] += known[self.backend]

    monkeypatch.setattr(choosing, "Exported", Runtime)
    # A clock that only they move: what else the machine does is no matter.
    monkeypatch.setattr(choosing, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(choosing, "processor", lambda: "A processor")
    return known


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "deploy.yaml"
    path.write_text(yaml.safe_dump({"Deploy": {"model": "model.json", "class_names": ["道路"]}}))
    return str(path)


def test_the_fastest_is_taken_and_remembered_for_this_processor(runtimes, config, monkeypatch):
    said = []
    assert fastest(config, threads=2, say=said.append).backend == "onnx"
    assert said[0].startswith("--backend auto: onnx of onnx 3") and "left out: openvino: OpenVINO does not" in said[0]
    with open(config, encoding="utf-8") as file:
        deploy = yaml.safe_load(file)["Deploy"]
    assert deploy == {"model": "model.json", "class_names": ["道路"],
                      "fastest": {"A processor, 2 threads, fp32": "onnx"}}
    runtimes["openvino"] = 0.01
    assert fastest(config, threads=2, say=said.append).backend == "onnx"    # is not measured again
    assert said[-1].startswith("--backend auto: onnx, as measured before")
    assert fastest(config, threads=1, say=said.append).backend == "openvino"
    monkeypatch.setattr(choosing, "processor", lambda: "Another")
    assert fastest(config, threads=2, say=said.append).backend == "openvino"


def test_one_that_is_gone_is_measured_again(runtimes, config):
    fastest(config, say=str)
    runtimes["onnx"] = "ONNX Runtime does not load"
    said = []
    assert fastest(config, say=said.append).backend == "paddle"
    assert said[0] == "--backend auto: onnx was the fastest, but ONNX Runtime does not load"


def test_what_is_measured_one_by_one_is_loaded_for_many(runtimes, config):
    runtimes["openvino"] = 0.01
    for _ in range(2):      # measured, remembered
        assert fastest(config, say=str, throughput=True).throughput
    assert not fastest(config, say=str).throughput


def test_int8_has_no_paddle_and_none_is_an_error(runtimes, config):
    assert fastest(config, "int8", say=str).backend == "onnx"
    runtimes.update(onnx="no file", openvino="no package")
    with pytest.raises(ValueError, match="nothing here runs .* in int8; onnx: no file; openvino: no package"):
        fastest(config, "int8", threads=7, say=str)


def test_where_nothing_can_be_written_it_goes_on(runtimes, config, monkeypatch):
    def full(path, writer):
        raise OSError(28, "No space left on device", path)
    monkeypatch.setattr(choosing, "write", full)
    said = []
    assert fastest(config, say=said.append).backend == "onnx"
    assert "not remembered" in said[-1]


def test_infer_takes_it(small_config, lively_weights, image, run_tool, error_of, tmp_path, capsys):
    run_tool("export", "--config", small_config, "--model_path", lively_weights, "--save_dir", tmp_path / "export")
    for _ in range(2):
        run_tool("infer", "--config", tmp_path / "export" / "deploy.yaml", "--image_path", image, "--backend", "auto",
                 "--save_dir", tmp_path / "auto")
    output = capsys.readouterr().out
    assert "--backend auto: paddle of paddle " in output and "--backend auto: paddle, as measured before" in output
    run_tool("infer", "--config", tmp_path / "export" / "deploy.yaml", "--image_path", image, "--save_dir",
             tmp_path / "paddle")
    assert all((masks(tmp_path / "auto")[name] == mask).all() for name, mask in masks(tmp_path / "paddle").items())
    error = error_of("infer", "--config", tmp_path / "export" / "deploy.yaml", "--image_path", image,
                     "--backend", "auto", "--precision", "int8")
    assert "nothing here runs" in error
