"""Exports: the same pixels as the live network, whichever runtime runs them; flags; mistakes end in one line."""

import ctypes
import importlib.util
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import paddle
import pytest
import yaml
from conftest import ROOT
from near_ties import MOST, assert_same_classes, live_scores
from paddleseg.cvlibs import manager
from paddleseg.transforms import Compose
from PIL import Image

from paddleseg_encnet import ENCNet, cli
from paddleseg_encnet.deployment import export
from paddleseg_encnet.deployment.deployed import Deployed, Images


def converter_loads() -> bool:
    try:
        import onnxruntime  # noqa: F401
        import paddle2onnx  # noqa: F401
    except (ImportError, ValueError):       # ValueError: paddle2onnx 2 with Paddle 2.6
        return False
    return True


ONNX = converter_loads()
OPENVINO = importlib.util.find_spec("openvino") is not None
needs_onnx = pytest.mark.skipif(not ONNX, reason="needs onnxruntime and a paddle2onnx that loads with this Paddle")


@pytest.fixture(scope="module")
def config(small_config):
    """The small quick start, with a lateral that changes size: its backbone has stride 16."""
    return small_config


@pytest.fixture(scope="module")
def network(config):
    """The quick start's network, smaller."""
    return randomised(cli.build(cli.parser("").parse_args(["--config", str(config)])).model)


def randomised(network):
    """Each tensor random and of a size that keeps activations near 1; in evaluation mode."""
    random = np.random.RandomState(3)
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            bound = (6 / np.prod(tensor.shape[1:])) ** 0.5
            tensor.set_value(random.uniform(-bound, bound, tensor.shape).astype("float32"))
        elif name.endswith(".scale"):
            tensor.set_value(random.uniform(-1, 0, tensor.shape).astype("float32"))
        else:       # BatchNorm's four, and biases
            tensor.set_value(random.uniform(0.2, 0.8, tensor.shape).astype("float32"))
    network.eval()
    return network


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(network.state_dict(), str(path))
    return path


@pytest.fixture(scope="module")
def image(scenes):
    return next((scenes / "leftImg8bit" / "val").glob("*/*.png"))


@pytest.fixture(scope="module")
def logits_export(network, image, tmp_path_factory):
    """Folder of an export of logits, in every form that can be had here."""
    folder = tmp_path_factory.mktemp("logits")
    export.export(network, str(folder), {"transforms": [{"type": "Normalize"}]}, "none", onnx=ONNX,
                  calibration=[str(image)] if ONNX else None)
    return folder


def live_logits(network, images):
    with paddle.no_grad():
        return network(paddle.to_tensor(images))[0].numpy()


def random_images(*shape):
    return np.random.RandomState(1).uniform(-1, 1, shape).astype("float32")


# --- the same numbers ------------------------------------------------------------------------------------------------

# Sizes that are no multiple of the stride, and a batch: all dimensions are free. Float32 sums in another order.
SHAPES = [(1, 3, 61, 83), (2, 3, 96, 40)]


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_paddle_inference_gives_the_live_logits(network, logits_export, shape, onednn):
    images = random_images(*shape)
    live = live_logits(network, images)
    found = Deployed(str(logits_export / "deploy.yaml"), onednn=onednn).run(images)
    assert np.abs(found - live).max() < 1e-4 * np.abs(live).max()


def test_paddle_inference_leaves_the_threads_of_the_process(logits_export, one_thread, monkeypatch):
    """A training beside it would be slower, and sum up in another order than the one that it goes on from."""
    from paddle.base import core
    libraries = os.path.join(os.path.dirname(paddle.__file__), "libs")
    openmp, mkl = (ctypes.CDLL(os.path.join(libraries, name)) for name in ("libiomp5.so", "libmklml_intel.so"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    core.set_num_threads(2)
    for threads in (1, 3):
        Deployed(str(logits_export / "deploy.yaml"), threads=threads).run(random_images(*SHAPES[0]))
        assert (openmp.omp_get_max_threads(), mkl.MKL_Get_Max_Threads()) == (2, 2)


def test_paddle_inference_with_an_untouched_config(network, logits_export, one_thread):
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
    live = live_logits(network, images)
    assert np.abs(found - live).max() < 1e-4 * np.abs(live).max()


@needs_onnx
@pytest.mark.parametrize("shape", SHAPES)
def test_onnx_gives_the_live_logits(network, logits_export, shape):
    images = random_images(*shape)
    live = live_logits(network, images)
    found = Deployed(str(logits_export / "deploy.yaml"), backend="onnx").run(images)
    assert np.abs(found - live).max() < 1e-4 * np.abs(live).max()


@needs_onnx
def test_int8_is_near_the_live_logits(network, logits_export, image):
    images = Images(str(logits_export / "deploy.yaml")).prepare(image)[0][np.newaxis]
    live = live_logits(network, images)
    found = Deployed(str(logits_export / "deploy.yaml"), precision="int8").run(images)
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
    export.export(network, str(tmp_path), {"transforms": [{"type": "Normalize"}]}, "none", onnx=ONNX,
                  calibration=[str(image)] if ONNX else None)
    config = str(tmp_path / "deploy.yaml")
    files = [{"backend": backend} for backend in ("onnx", *["openvino"] * OPENVINO)] if ONNX else []
    for options in [{}, {"onednn": False}, *files]:
        for shape in SHAPES:
            live = live_logits(network, random_images(*shape))
            found = Deployed(config, **options).run(random_images(*shape))
            assert np.abs(found - live).max() < 1e-4 * np.abs(live).max(), (options, shape)
    if ONNX:
        images = Images(config).prepare(image)[0][np.newaxis]
        live = live_logits(network, images)
        assert 0 < np.abs(Deployed(config, precision="int8").run(images) - live).max() < 0.15 * np.abs(live).max()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("options", [dict(size=[13, 5]), dict(scale_factor=2), dict(scale_factor=[0.5, 3])])
def test_bilinear_resizing_in_three_dimensions(options, align_corners):
    x = paddle.to_tensor(random_images(2, 3, 8, 6))
    flat = export.interpolate(x, mode="bilinear", align_corners=align_corners, **options)
    deep = export.in_three_dimensions(x, mode="bilinear", align_corners=align_corners, **options)
    np.testing.assert_allclose(deep.numpy(), flat.numpy(), atol=1e-6)


def test_synchronised_batchnorm_is_exported_as_plain(network, weights, config, tmp_path):
    synchronised = cli.build(cli.parser("").parse_args(["--config", str(config)])).model
    synchronised = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(synchronised)
    assert any(isinstance(layer, paddle.nn.SyncBatchNorm) for layer in synchronised.sublayers())
    synchronised.set_state_dict(paddle.load(str(weights)))
    export.export(synchronised, str(tmp_path), {"transforms": []}, "none")
    model = yaml.safe_load((tmp_path / "deploy.yaml").read_text())["Deploy"]["model"]
    assert b"sync_batch_norm" not in (tmp_path / model).read_bytes()
    images = random_images(1, 3, 48, 32)
    live = live_logits(network, images)
    assert np.abs(Deployed(str(tmp_path / "deploy.yaml")).run(images) - live).max() < 1e-4 * np.abs(live).max()


# --- what stands before and after ------------------------------------------------------------------------------------

TRANSFORMS = [
    [{"type": "Normalize"}],
    [{"type": "Resize", "target_size": [96, 64]},
     {"type": "Normalize", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}],
    [{"type": "Resize", "target_size": [90, 90], "keep_ratio": True, "size_divisor": 8, "interp": "CUBIC"}],
    [{"type": "ResizeByLong", "long_size": 77}], [{"type": "ResizeByShort", "short_size": 50, "max_size": 90}],
    [{"type": "LimitLong", "max_long": 60}], [{"type": "LimitLong", "min_long": 200}],
    [{"type": "Normalize"}, {"type": "Padding", "target_size": [140, 80]}],
]


@pytest.mark.parametrize("transforms", TRANSFORMS, ids=lambda transforms: "-".join(t["type"] for t in transforms))
def test_images_are_prepared_as_paddleseg_does(transforms, image, tmp_path):
    (tmp_path / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": {"transforms": transforms}}))
    found, history = Images(str(tmp_path / "deploy.yaml")).prepare(image)
    stock = Compose([manager.TRANSFORMS[t["type"]](**{k: v for k, v in t.items() if k != "type"}) for t in transforms])
    expected = stock({"img": str(image)})["img"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    size = cv2.imread(str(image)).shape[:2]
    assert Images(str(tmp_path / "deploy.yaml")).finish(np.zeros(found.shape[1:], "int32"), history).shape == size


@pytest.fixture(scope="module")
def resizing(config, tmp_path_factory):
    """A config whose validation images are resized, which PaddleSeg's own export forgets."""
    path = tmp_path_factory.mktemp("resizing") / "small.yml"
    path.write_text(f"_base_: {config}\nval_dataset:\n  transforms:\n    - {{type: Resize, target_size: [96, 48]}}\n"
                    "    - {type: Normalize}\n")
    return path


def masks(folder):
    return {path.name: np.array(Image.open(path)) for path in sorted(folder.rglob("*.png"))}


@pytest.mark.parametrize("resized", [False, True])
def test_infer_writes_the_pixels_of_predict(resized, config, resizing, weights, scenes, run_tool, tmp_path, capsys):
    config = resizing if resized else config
    folder = scenes / "leftImg8bit" / "val"
    run_tool("predict", "--config", config, "--model_path", weights, "--image_path", folder, "--save_dir",
             tmp_path / "live")
    live = masks(tmp_path / "live" / "pseudo_color_prediction")
    # Logits are resized back as predict does it; classes could only take the nearest.
    run_tool("export", "--config", config, "--model_path", weights, "--save_dir", tmp_path / "export",
             "--output_op", "none" if resized else "argmax")
    infer = ["infer", "--config", tmp_path / "export" / "deploy.yaml", "--image_path", folder]
    run_tool(*infer, "--save_dir", tmp_path / "one")
    assert "images/s" in capsys.readouterr().out
    run_tool(*infer, "--save_dir", tmp_path / "three", "--batch_size", 3, "--benchmark", "True", "--cpu_threads", 1,
             "--enable_mkldnn", "False", "--print_detail", "False")
    assert "90 % below" in capsys.readouterr().out
    assert len(live) == 4
    for run in ("one", "three"):
        found = masks(tmp_path / run)
        assert found.keys() == live.keys()
        for path in folder.rglob("*.png"):
            assert_same_classes(found[path.name], live[path.name], live_scores(config, weights, path))


@needs_onnx
def test_onnx_and_int8_are_exported_verified_and_run(config, weights, image, run_tool, tmp_path, capfd):
    run_tool("export", "--config", config, "--model_path", weights, "--save_dir", tmp_path / "export", "--onnx",
             "--int8", image, "--verify", image, "--output_op", "none")
    output = capfd.readouterr().out
    assert "ONNX Runtime: largest logit difference" in output and "ONNX Runtime, int8: largest" in output
    agreeing = re.findall(r"(?:Paddle Inference|ONNX Runtime|OpenVINO): .*, ([\d.]+)% of the pixels agree", output)
    assert len(agreeing) == 2 + OPENVINO and all(float(share) >= 100 * (1 - MOST) for share in agreeing)
    assert output.count("OpenVINO: largest") == output.count("OpenVINO, int8: largest") == OPENVINO
    backends = [["--backend", name] for name in ("onnx", *["openvino"] * OPENVINO)]
    for flags in (*backends, *([*backend, "--precision", "int8"] for backend in backends), ["--precision", "int8"]):
        run_tool("infer", "--config", tmp_path / "export" / "deploy.yaml", "--image_path", image, "--save_dir",
                 tmp_path / "".join(flags), *flags)
        assert len(masks(tmp_path / "".join(flags))) == 1


def test_export_describes_itself_and_replaces_an_older_one(config, weights, image, run_tool, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "model.onnx").write_text("of an earlier export")
    run_tool("export", "--config", config, "--model_path", weights, "--save_dir", tmp_path, "--output_op", "softmax",
             "--input_shape", 2, 3, 64, 128, "--verify", image)
    assert "Paddle Inference: largest logit difference" in capsys.readouterr().out
    deploy = yaml.safe_load((tmp_path / "deploy.yaml").read_text())["Deploy"]
    assert deploy["transforms"] == [{"type": "Normalize"}] and deploy["input_shape"] == [2, 3, 64, 128]
    assert deploy["class_names"][:2] == ["road", "sidewalk"] and deploy["palette"][1] == [244, 35, 232]
    assert sorted(path.name for path in tmp_path.iterdir() if "info" not in path.name) == sorted(
        ["deploy.yaml", "notes.txt", deploy["model"], deploy["params"]])
    found = Deployed(str(tmp_path / "deploy.yaml")).run(random_images(2, 3, 64, 128))
    assert found.shape == (2, 19, 64, 128) and np.abs(found.sum(1) - 1).max() < 1e-5
    # One image fills the batch of two.
    run_tool("infer", "--config", tmp_path / "deploy.yaml", "--image_path", image, "--save_dir", tmp_path / "masks")
    assert len(masks(tmp_path / "masks")) == 1


@pytest.mark.parametrize("backend, absent", [("paddle", ["paddleseg"]),
                                             pytest.param("onnx", ["paddleseg", "paddle"], marks=needs_onnx)])
def test_infer_runs_without(backend, absent, logits_export, image, tmp_path):
    code = (f"import sys, runpy; sys.modules.update(dict.fromkeys({absent}))\n"
            f"sys.argv = ['infer.py', '--config', {str(logits_export / 'deploy.yaml')!r}, '--backend', {backend!r}, "
            f"'--image_path', {str(image)!r}, '--save_dir', {str(tmp_path)!r}]\n"
            f"runpy.run_path({str(ROOT / 'tools' / 'infer.py')!r}, run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(masks(tmp_path)) == 1


# --- mistakes --------------------------------------------------------------------------------------------------------

def error_of(run_tool, *arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        run_tool(*arguments)
    return str(stopped.value.code)


@pytest.mark.parametrize("flags, message", [
    (["--input_shape", 512, 1024], "--input_shape takes batch, channels, height, width"),
    (["--input_shape", 1, 3, 0, 64], "--input_shape takes batch, channels, height, width"),
    (["--verify", "nowhere.png"], "no image nowhere.png"), (["--int8", "nowhere"], "no image nowhere"),
])
def test_wrong_export(flags, message, config, weights, run_tool, tmp_path):
    error = error_of(run_tool, "export", "--config", config, "--model_path", weights, "--save_dir", tmp_path / "new",
                     *flags)
    assert error.startswith("error: ") and message in error and "\n" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("problem", ["exits", "is not there", "does not like this Paddle"])
def test_a_failed_conversion_leaves_nothing(problem, network, tmp_path, monkeypatch):
    class Converter:
        @staticmethod
        def export(*args, **kwargs):
            sys.exit(-1)
    if problem == "does not like this Paddle":
        (tmp_path / "paddle2onnx.py").write_text("raise ValueError('Paddle is too old. Install another')")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "paddle2onnx", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "paddle2onnx", Converter if problem == "exits" else None)
    # The network itself need not be traced for it.
    monkeypatch.setattr(export, "trace", lambda *args: "model.json")
    with pytest.raises(export.ExportError) as error:
        export.export(network, str(tmp_path / "new"), {"transforms": []}, onnx=True)
    assert {"exits": "could not convert", "is not there": "pip install", "does not like this Paddle": "too old"}[
        problem] in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".export*"))


@pytest.mark.parametrize("flags, message", [
    (["--config", "nowhere/deploy.yaml"], "no nowhere/deploy.yaml"),
    (["--image_path", "nowhere.png"], "no image, folder or list nowhere.png"),
    (["--batch_size", 0], "--batch_size must be at least 1"), (["--cpu_threads", 0], "--cpu_threads must be"),
    (["--precision", "fp16"], "fp16 is for a GPU"), (["--backend", "onnx", "--precision", "fp16"], "not fp16"),
    (["--backend", "openvino", "--precision", "fp16"], "openvino runs fp32 and int8, not fp16"),
])
def test_wrong_inference(flags, message, logits_export, image, run_tool, tmp_path):
    error = error_of(run_tool, "infer", "--config", logits_export / "deploy.yaml", "--image_path", image, "--save_dir",
                     tmp_path, *flags)
    assert error.startswith("error: ") and message in error and "\n" not in error


@pytest.mark.parametrize("content, message", [
    ("Deploy: [", "no valid YAML"), ("{}", "no section Deploy"),
    ("Deploy: {transforms: [{type: Blur}]}", "transform Blur"),
    ("Deploy: {}", "names no model model"), ("Deploy: {model: model.json}", "there is no"),
    ("Deploy: {int8: x}", "names no model"),
])
def test_wrong_deploy_yaml(content, message, image, run_tool, tmp_path):
    (tmp_path / "deploy.yaml").write_text(content)
    error = error_of(run_tool, "infer", "--config", tmp_path / "deploy.yaml", "--image_path", image)
    assert message in error and "\n" not in error


def test_without_openvino(image, run_tool, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "deploy.yaml").write_text("Deploy: {onnx: model.onnx}")
    monkeypatch.setitem(sys.modules, "openvino", None)
    error = error_of(run_tool, "infer", "--config", tmp_path / "deploy.yaml", "--image_path", image, "--backend",
                     "openvino")
    assert "OpenVINO does not load" in error and "pip install openvino" in error and "\n" not in error


@pytest.mark.skipif(not OPENVINO, reason="needs openvino")
def test_a_damaged_file_for_openvino(image, run_tool, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no network")
    (tmp_path / "deploy.yaml").write_text("Deploy: {onnx: model.onnx}")
    error = error_of(run_tool, "infer", "--config", tmp_path / "deploy.yaml", "--image_path", image, "--backend",
                     "openvino")
    assert "model.onnx" in error and "\n" not in error


def test_a_deploy_yaml_that_is_a_picture(image, run_tool):
    assert error_of(run_tool, "infer", "--config", image, "--image_path", image) == \
        f"error: {image} is no valid YAML: it is no text in UTF-8"


def test_classes_beyond_a_palette(tmp_path):
    """They would come out as other classes."""
    (tmp_path / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": {
        "transforms": [{"type": "Normalize"}], "palette": [[i // 2, 0, 0] for i in range(300)]}}))
    images = Images(str(tmp_path / "deploy.yaml"))
    assert images.finish(np.array([[0, 255]], "int32"), []).tolist() == [[0, 255]] and len(images.palette()) == 768
    with pytest.raises(ValueError, match="class 256 does not fit a picture with 256 colours; tools/predict.py"):
        images.finish(np.array([[0, 256]], "int32"), [])


def test_wrong_images(logits_export, image, run_tool, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    infer = ["infer", "--config", logits_export / "deploy.yaml", "--save_dir", tmp_path / "masks", "--image_path"]
    assert f"cannot read the image {broken}" in error_of(run_tool, *infer, broken)
    (tmp_path / "empty").mkdir()
    assert "no image in the folder" in error_of(run_tool, *infer, tmp_path / "empty")
    deploy = yaml.safe_load((logits_export / "deploy.yaml").read_text())["Deploy"]
    (tmp_path / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": {**deploy, "input_shape": [1, 3, 32, 32]}}))
    with pytest.raises(ValueError, match="exported for 32 x 32"):
        Images(str(tmp_path / "deploy.yaml")).prepare(image)
