"""tools/infer.py: the pixels of the live network, what it runs without, and mistakes that end in one line."""

import subprocess
import sys

import numpy as np
import paddle
import pytest
import tifffile
from conftest import ROOT, tool
from exports import OPENVINO, built, error_of, image_of, masks, needs_onnx, written
from PIL import Image

from segrun.classes import Classes, id_type
from segrun.result import Segmentation


@pytest.fixture(scope="module")
def network(small_config):
    return built(small_config)


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(network.state_dict(), str(path))
    return path


@pytest.fixture(scope="module")
def image(scenes):
    return image_of(scenes)


@pytest.fixture(scope="module")
def logits_export(network, image, tmp_path_factory):
    """Folder of an export of logits, in every form that can be had here."""
    folder = tmp_path_factory.mktemp("logits")
    written(network, folder, "none", image)
    return folder


@pytest.fixture(scope="module")
def resizing(small_config, tmp_path_factory):
    """A config whose validation images are resized, which PaddleSeg's own export forgets."""
    path = tmp_path_factory.mktemp("resizing") / "small.yml"
    path.write_text(f"_base_: {small_config}\nval_dataset:\n  transforms:\n"
                    "    - {type: Resize, target_size: [96, 48]}\n    - {type: Normalize}\n")
    return path


@pytest.mark.parametrize("resized", [False, True])
def test_infer_writes_the_pixels_of_predict(resized, small_config, resizing, weights, scenes, run_tool, tmp_path,
                                            capsys):
    config = resizing if resized else small_config
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
        # A pixel may fall to the other side where two logits are equal to rounding.
        assert all((found[name] == live[name]).mean() > 0.999 for name in live)


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

@pytest.mark.parametrize("flags, message", [
    (["--config", "nowhere/deploy.yaml"], "no nowhere/deploy.yaml"),
    (["--image_path", "nowhere.png"], "no image, folder or list nowhere.png"),
    (["--batch_size", 0], "--batch_size must be at least 1"), (["--cpu_threads", 0], "--cpu_threads must be"),
    (["--precision", "fp16"], "fp16 is for a GPU"), (["--backend", "onnx", "--precision", "fp16"], "not fp16"),
    (["--backend", "openvino", "--precision", "fp16"], "openvino runs fp32 and bf16 and int8, not fp16"),
    (["--backend", "paddle", "--precision", "int8"], "paddle runs fp32 and fp16, not int8"),
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
    infer, pixels = tool("infer"), np.zeros([1, 2, 3], np.uint8)

    def save(*ids):
        classes = Classes.of_export({"palette": [[i // 2, 0, 0] for i in range(300)]})
        mask = np.array([ids]).astype(id_type(max(ids) + 1))
        infer.save_ids(Segmentation(pixels, mask, classes), str(tmp_path / "x.png"))
        return Image.open(tmp_path / "x.png")
    picture = save(0, 255)
    assert np.array(picture).tolist() == [[0, 255]] and len(picture.getpalette()) == 768
    assert picture.getpalette()[3 * 255] == 127
    with pytest.raises(ValueError, match="class 256 does not fit a picture with 256 colours; tools/predict.py"):
        save(0, 256)


def test_wrong_images(logits_export, image, run_tool, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    infer = ["infer", "--config", logits_export / "deploy.yaml", "--save_dir", tmp_path / "masks", "--image_path"]
    assert f"cannot read the image {broken}" in error_of(run_tool, *infer, broken)
    (tmp_path / "empty").mkdir()
    assert "no image in the folder" in error_of(run_tool, *infer, tmp_path / "empty")


@pytest.mark.parametrize("more", [[], ["--benchmark", "True"], ["--backend", "auto"]], ids=str)
def test_an_image_of_other_channels(more, logits_export, run_tool, tmp_path):
    """There is no config to be changed, which the other tools advise."""
    tifffile.imwrite(tmp_path / "six.tif", np.zeros([8, 9, 6], np.uint8), photometric="minisblack",
                     planarconfig="contig")
    infer = ["infer", "--config", logits_export / "deploy.yaml", "--image_path", tmp_path / "six.tif", "--save_dir",
             tmp_path / "masks"]
    assert error_of(run_tool, *infer, *more) == \
        f"error: the image {tmp_path / 'six.tif'} has 6 channels, the network was exported for 3"
