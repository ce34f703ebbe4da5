"""Exports: the logits of the live network, whichever runtime runs them; what is written, and what is left of a failure.
"""

import ctypes
import os
import pathlib
import re
import subprocess
import sys

import exports
import numpy as np
import paddle
import pytest
import yaml
from conftest import ROOT
from exports import ONNX, OPENVINO, environment_of, exported, live_logits, masks, needs_onnx, random_images
from near_ties import MOST
from networks import network_of, randomised
from paddleseg.cvlibs import manager
from segmenters import visible

from paddleseg_encnet import ENCNet
from paddleseg_encnet.deployment import exporting
from segrun.exports import Export
from segrun.own_files import write_own

# --- the same numbers ------------------------------------------------------------------------------------------------

# Sizes that are no multiple of the stride, and a batch: all dimensions are free. Float32 sums in another order.
SHAPES = [(1, 3, 61, 83), (2, 3, 96, 40)]
FP32 = [backend for backend, precision in exports.HERE if precision == "fp32"]


@pytest.mark.parametrize("how", [{"onednn": False}, *({"backend": backend} for backend in FP32)], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_runtime_gives_the_live_logits(lively_network, logits_export, shape, how):
    images = random_images(*shape)
    live = live_logits(lively_network, images)
    found = exported(logits_export, **how).run(images).values
    assert np.abs(found - live).max() < 1e-4 * np.abs(live).max()


def test_paddle_inference_leaves_the_threads_of_the_process(logits_export, one_thread, monkeypatch):
    """A training beside it would be slower, and sum up in another order than the one that it goes on from."""
    from paddle.base import core
    libraries = os.path.join(os.path.dirname(paddle.__file__), "libs")
    openmp, mkl = (ctypes.CDLL(os.path.join(libraries, name)) for name in ("libiomp5.so", "libmklml_intel.so"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    core.set_num_threads(2)
    for threads in (1, 3):
        exported(logits_export, threads=threads).run(random_images(*SHAPES[0]))
        assert (openmp.omp_get_max_threads(), mkl.MKL_Get_Max_Threads()) == (2, 2)


def test_paddle_inference_with_an_untouched_config(lively_network, logits_export, one_thread):
    """As other people's programs run an export: oneDNN is on by default in Paddle 3."""
    from paddle import inference
    model = yaml.safe_load((logits_export / "deploy.yaml").read_text())["Deploy"]["model"]
    predictor = inference.create_predictor(
        inference.Config(str(logits_export / model), str(logits_export / "model.pdiparams")))
    images = random_images(1, 3, 50, 70)
    handle = predictor.get_input_handle(predictor.get_input_names()[0])
    handle.reshape(images.shape)
    handle.copy_from_cpu(images)
    predictor.run()
    found = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    live = live_logits(lively_network, images)
    assert np.abs(found - live).max() < 1e-4 * np.abs(live).max()


@needs_onnx
def test_int8_is_near_the_live_logits(lively_network, logits_export, image):
    images = Export(str(logits_export)).batch_of(str(image))
    live = live_logits(lively_network, images)
    found = exported(logits_export, "onnx", "int8").run(images).values
    # 8 bits resolve 1/255 of a tensor's range; the errors of some twenty convolutions add up.
    assert 0 < np.abs(found - live).max() < 0.15 * np.abs(live).max()
    # Where activations are signed, ONNX Runtime leaves convolutions in float32.
    import onnx
    graph = onnx.load(str(logits_export / "model_int8.onnx")).graph
    signed = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.INT8}
    assert not any(signed.intersection(node.input) for node in graph.node if node.op_type == "QuantizeLinear")
    assert os.path.getsize(logits_export / "model_int8.onnx") < 0.4 * os.path.getsize(logits_export / "model.onnx")


@pytest.mark.parametrize("backbone", ["ResNet18_vd", "EfficientNetLite0"])
def test_joint_pyramid_upsampling_gives_the_live_logits(backbone, image, tmp_path):
    """At sizes that are no multiples of 32, where three maps of different rounding meet."""
    network = randomised(ENCNet(19, manager.BACKBONES[backbone](output_stride=32), num_codes=4, mid_channels=16,
                                use_jpu=True))
    exports.written(network, tmp_path, "none", image)
    for run in [exported(tmp_path, onednn=False), *(exported(tmp_path, backend) for backend in FP32)]:
        for shape in SHAPES:
            live = live_logits(network, random_images(*shape))
            found = run.run(random_images(*shape)).values
            assert np.abs(found - live).max() < 1e-4 * np.abs(live).max(), (run.runtime, shape)
    if ONNX:
        images = Export(str(tmp_path)).batch_of(str(image))
        live = live_logits(network, images)
        found = exported(tmp_path, "onnx", "int8").run(images).values
        assert 0 < np.abs(found - live).max() < 0.15 * np.abs(live).max()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("options", [dict(size=[13, 5]), dict(scale_factor=2), dict(scale_factor=[0.5, 3])])
def test_bilinear_resizing_in_three_dimensions(options, align_corners):
    x = paddle.to_tensor(random_images(2, 3, 8, 6))
    flat = exporting.interpolate(x, mode="bilinear", align_corners=align_corners, **options)
    deep = exporting.in_three_dimensions(x, mode="bilinear", align_corners=align_corners, **options)
    np.testing.assert_allclose(deep.numpy(), flat.numpy(), atol=1e-6)


def test_synchronised_batchnorm_is_exported_as_plain(lively_network, lively_weights, small_config, tmp_path):
    synchronised = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(network_of(small_config))
    assert any(isinstance(layer, paddle.nn.SyncBatchNorm) for layer in synchronised.sublayers())
    synchronised.set_state_dict(paddle.load(str(lively_weights)))
    exporting.export_network(synchronised, str(tmp_path), {"transforms": []}, "none")
    model = yaml.safe_load((tmp_path / "deploy.yaml").read_text())["Deploy"]["model"]
    assert b"sync_batch_norm" not in (tmp_path / model).read_bytes()
    images = random_images(1, 3, 48, 32)
    live = live_logits(lively_network, images)
    assert np.abs(exported(tmp_path).run(images).values - live).max() < 1e-4 * np.abs(live).max()


# --- the tool --------------------------------------------------------------------------------------------------------

@needs_onnx
def test_onnx_and_int8_are_exported_and_verified(small_config, lively_weights, image, run_tool, tmp_path, capfd):
    run_tool("export", "--config", small_config, "--model_path", lively_weights, "--save_dir", tmp_path / "export",
             "--onnx", "--int8", image, "--verify", image, "--output_op", "none")
    output = capfd.readouterr().out
    assert "ONNX Runtime: largest logit difference" in output and "ONNX Runtime, int8: largest" in output
    agreeing = re.findall(r"(?:Paddle Inference|ONNX Runtime|OpenVINO): .*, ([\d.]+)% of the pixels agree", output)
    assert len(agreeing) == 2 + OPENVINO and all(float(share) >= 100 * (1 - MOST) for share in agreeing)
    assert output.count("OpenVINO: largest") == output.count("OpenVINO, int8: largest") == OPENVINO


def test_export_describes_itself_and_replaces_an_older_one(small_config, lively_weights, image, run_tool, tmp_path,
                                                           capsys):
    (tmp_path / "notes.txt").write_text("mine")
    write_own(str(tmp_path / "model.onnx"), lambda path: pathlib.Path(path).write_text("of an earlier export"))
    run_tool("export", "--config", small_config, "--model_path", lively_weights, "--save_dir", tmp_path, "--output_op",
             "softmax", "--input_shape", 2, 3, 64, 128, "--verify", image)
    assert "Paddle Inference: largest logit difference" in capsys.readouterr().out
    deploy = yaml.safe_load((tmp_path / "deploy.yaml").read_text())["Deploy"]
    assert deploy["transforms"] == [{"type": "Normalize"}] and deploy["input_shape"] == [2, 3, 64, 128]
    assert deploy["class_names"][:2] == ["road", "sidewalk"] and deploy["palette"][1] == [244, 35, 232]
    assert [name for name in visible(tmp_path) if "info" not in name] == sorted(
        ["deploy.yaml", "notes.txt", deploy["model"], deploy["params"]])
    found = exported(tmp_path).run(random_images(2, 3, 64, 128)).values
    assert found.shape == (2, 19, 64, 128) and np.abs(found.sum(1) - 1).max() < 1e-5
    # One image fills the batch of two.
    run_tool("infer", "--config", tmp_path / "deploy.yaml", "--image_path", image, "--save_dir", tmp_path / "masks")
    assert len(masks(tmp_path / "masks")) == 1


# --- mistakes --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags, message", [
    (["--input_shape", 512, 1024], "--input_shape takes batch, channels, height, width"),
    (["--input_shape", 1, 3, 0, 64], "--input_shape takes batch, channels, height, width"),
])
def test_wrong_export(flags, message, small_config, lively_weights, error_of, tmp_path):
    error = error_of("export", "--config", small_config, "--model_path", lively_weights, "--save_dir",
                     tmp_path / "new", *flags)
    assert message in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("problem", ["exits", "is not there"])
def test_a_failed_conversion_leaves_nothing(problem, lively_network, tmp_path, monkeypatch):
    class Converter:
        @staticmethod
        def export(*args, **kwargs):
            sys.exit(-1)
    monkeypatch.setitem(sys.modules, "paddle2onnx", Converter if problem == "exits" else None)
    # The network itself need not be traced for it.
    monkeypatch.setattr(exporting, "trace", lambda *args: "model.json")
    with pytest.raises(exporting.ExportError) as error:
        exporting.export_network(lively_network, str(tmp_path / "new"), {"transforms": []}, onnx=True)
    assert {"exits": "could not convert", "is not there": "pip install"}[problem] in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".export*"))


def test_a_converter_that_does_not_like_this_paddle(tmp_path):
    (tmp_path / "paddle2onnx.py").write_text("raise ValueError('Paddle is too old. Install another')")
    code = "from paddleseg_encnet.deployment.exporting import to_onnx; to_onnx('model.json', 'model.onnx')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path,
                          env=environment_of(tmp_path, ROOT))
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"{exporting.__name__}.ExportError: ONNX needs a paddle2onnx for this Paddle")
    assert "(Paddle is too old)" in said and "pip install" in said
