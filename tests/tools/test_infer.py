"""tools/infer.py: what it says, and mistakes that end in one line. What it writes: test_answers.py."""

import importlib
import sys

import numpy as np
import pytest
import tifffile
from conftest import tool
from exports import OPENVINO, masks
from PIL import Image

from segrun.backends import openvino_runtime
from segrun.classes import Classes, id_type
from segrun.result import Segmentation


def test_more_is_said_of_a_benchmark(logits_export, scenes, run_tool, tmp_path, capsys):
    infer = ["infer", "--config", logits_export / "deploy.yaml", "--image_path", scenes / "leftImg8bit" / "val"]
    run_tool(*infer, "--save_dir", tmp_path / "one")
    assert "images/s" in capsys.readouterr().out
    run_tool(*infer, "--save_dir", tmp_path / "three", "--batch_size", 3, "--benchmark", "True", "--cpu_threads", 1,
             "--enable_mkldnn", "False", "--print_detail", "False")
    assert "90 % below" in capsys.readouterr().out
    assert masks(tmp_path / "one").keys() == masks(tmp_path / "three").keys() and len(masks(tmp_path / "one")) == 4


# --- mistakes --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags, message", [
    (["--config", "nowhere/deploy.yaml"], "no nowhere/deploy.yaml"),
    (["--image_path", "nowhere.png"], "no image, folder or list nowhere.png"),
    (["--batch_size", 0], "--batch_size must be at least 1"), (["--cpu_threads", 0], "--cpu_threads must be"),
    (["--precision", "fp16"], "fp16 is for a GPU"), (["--backend", "onnx", "--precision", "fp16"], "not fp16"),
])
def test_wrong_inference(flags, message, logits_export, image, error_of, tmp_path):
    error = error_of("infer", "--config", logits_export / "deploy.yaml", "--image_path", image, "--save_dir",
                     tmp_path, *flags)
    assert message in error


@pytest.mark.parametrize("content, message", [
    ("Deploy: [", "no valid YAML"), ("{}", "no section Deploy"),
    ("Deploy: {transforms: [{type: Blur}]}", "transform Blur"),
    ("Deploy: {}", "names no model model"), ("Deploy: {model: model.json}", "there is no"),
    ("Deploy: {int8: x}", "names no model"),
    ("Deploy: {output_op: softmaxx}", "has the output_op 'softmaxx'; there are argmax, softmax, none"),
    ("Deploy: {output_op: [none]}", "has the output_op ['none']; there are argmax, softmax, none"),
    ("Deploy: {transforms: [{type: Normalize, std: [0.0]}]}", "Normalize has std [0.0]; it must be above 0"),
    ("Deploy: {transforms: [{type: Normalize, std: [1, 0, 1]}]}", "Normalize has std [1, 0, 1]; it must be above 0"),
    ("Deploy: {transforms: [{type: Normalize, mean: [0.5, 0.5]}]}", "Normalize has mean [0.5, 0.5]; it takes"),
    ("Deploy: {transforms: [{type: Normalize, mean: [.nan]}]}", "Normalize has mean [nan]; it takes"),
    ("Deploy: {model: /etc/passwd}", "names '/etc/passwd' as its model: the files of an export lie in its folder"),
    ("Deploy: {model: ../model.json}", "names '../model.json' as its model: the files of an export lie"),
    ("Deploy: {model: a/../../model.json}", "names 'a/../../model.json' as its model: the files of an export lie"),
    ("Deploy: {model: 7}", "names 7 as its model: the files of an export lie in its folder"),
])
def test_wrong_deploy_yaml(content, message, image, error_of, tmp_path):
    (tmp_path / "deploy.yaml").write_text(content)
    error = error_of("infer", "--config", tmp_path / "deploy.yaml", "--image_path", image)
    assert message in error


def test_without_openvino(image, error_of, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "deploy.yaml").write_text("Deploy: {onnx: model.onnx}")
    monkeypatch.setitem(sys.modules, "openvino", None)
    # The process keeps its Core, which another test may have made: this is how it is made the first time.
    monkeypatch.setattr(openvino_runtime, "openvino_core", lambda: importlib.import_module("openvino").Core())
    error = error_of("infer", "--config", tmp_path / "deploy.yaml", "--image_path", image, "--backend",
                     "openvino")
    assert "OpenVINO does not load" in error and "pip install openvino" in error


@pytest.mark.skipif(not OPENVINO, reason="needs openvino")
def test_a_damaged_file_for_openvino(image, error_of, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no network")
    (tmp_path / "deploy.yaml").write_text("Deploy: {onnx: model.onnx}")
    error = error_of("infer", "--config", tmp_path / "deploy.yaml", "--image_path", image, "--backend",
                     "openvino")
    assert "model.onnx" in error


def test_a_deploy_yaml_that_is_a_picture(image, error_of):
    assert error_of("infer", "--config", image, "--image_path", image) == \
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


def test_wrong_images(logits_export, image, error_of, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    infer = ["infer", "--config", logits_export / "deploy.yaml", "--save_dir", tmp_path / "masks", "--image_path"]
    assert f"cannot read the image {broken}" in error_of(*infer, broken)
    (tmp_path / "empty").mkdir()
    assert "no image in the folder" in error_of(*infer, tmp_path / "empty")


@pytest.mark.parametrize("more", [[], ["--benchmark", "True"], ["--backend", "auto"]], ids=str)
def test_an_image_of_other_channels(more, logits_export, error_of, tmp_path):
    """There is no config to be changed, which the other tools advise."""
    tifffile.imwrite(tmp_path / "six.tif", np.zeros([8, 9, 6], np.uint8), photometric="minisblack",
                     planarconfig="contig")
    infer = ["infer", "--config", logits_export / "deploy.yaml", "--image_path", tmp_path / "six.tif", "--save_dir",
             tmp_path / "masks"]
    assert error_of(*infer, *more) == \
        f"error: the image {tmp_path / 'six.tif'} has 6 channels, the network was exported for 3"
