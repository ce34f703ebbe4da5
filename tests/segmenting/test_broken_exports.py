"""Exports with a file that is cut short, or a deploy.yaml that says what is not so: one line that names the file."""

import shutil

import numpy as np
import pytest
import yaml
from exports import exported, masks, needs_onnx, random_images

from segrun.backends import choosing
from segrun.exports import Export

HERE = f"{choosing.processor()}, 1 threads, fp32"      # as deploy.yaml has it


@pytest.fixture
def folder(logits_export, tmp_path):
    return shutil.copytree(logits_export, tmp_path / "export")


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def model_of(folder):
    return folder / Export(str(folder)).content["model"]


@pytest.mark.parametrize("length", ["half", "nothing"])
@pytest.mark.parametrize("which", ["model", "params"])
def test_a_file_for_paddle_is_named(folder, which, length):
    path = model_of(folder) if which == "model" else folder / "model.pdiparams"
    cut(path) if length == "half" else path.write_bytes(b"")
    other = folder / "model.pdiparams" if which == "model" else model_of(folder)
    with pytest.raises(ValueError, match=f"^Paddle Inference can't load {path}, is it damaged or cut short?") as error:
        exported(folder)
    assert str(other) not in str(error.value) and "\n" not in str(error.value)


@needs_onnx
def test_an_onnx_file_is_named(folder):
    cut(folder / "model.onnx")
    with pytest.raises(ValueError, match=f"^ONNX Runtime can't load {folder}/model.onnx, is it damaged or cut short?"):
        exported(folder, "onnx")


@needs_onnx
@pytest.mark.parametrize("broken", ["model.onnx", "model.pdiparams"])
def test_auto_tries_the_next_runtime_and_names_the_file(folder, broken):
    cut(folder / broken)
    said = []
    network = choosing.fastest(Export(str(folder)), random_images(1, 3, 32, 32), device="cpu", threads=1,
                               say=said.append)
    assert f"can't load {folder}/{broken}, is it damaged" in said[-1] and "(left out: " in said[-1]
    chosen = yaml.safe_load((folder / "deploy.yaml").read_text())["Deploy"]["fastest"]
    assert chosen[HERE] == ("paddle" if broken == "model.onnx" else said[-1].split()[2])
    assert network.run(random_images(1, 3, 32, 32)).values.shape == (1, 19, 32, 32)


@needs_onnx
def test_auto_where_the_fastest_of_before_is_broken_now(folder):
    content = Export(str(folder)).content
    (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": {**content, "fastest": {HERE: "onnx"}}}))
    cut(folder / "model.onnx")
    said = []
    choosing.fastest(Export(str(folder)), random_images(1, 3, 32, 32), device="cpu", threads=1, say=said.append)
    assert said[0].startswith(f"--backend auto: onnx was the fastest, but ONNX Runtime can't load {folder}/model.onnx")


# --- a deploy.yaml that says what is not so --------------------------------------------------------------------------

@pytest.mark.parametrize("said, found", [("argmax", r"an array \[1, 19, 64, 128\]"), ("softmax", "numbers from ")])
def test_an_output_op_that_is_another(folder, said, found, image, error_of, tmp_path):
    """The pictures would be wrong, or have a confidence that is none."""
    content = Export(str(folder)).content
    (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": {**content, "output_op": said}}))
    with pytest.raises(ValueError, match=f"deploy.yaml has output_op {said}, but the network gives {found}"):
        exported(folder).run(random_images(1, 3, 64, 128))
    error = error_of("infer", "--config", folder, "--image_path", image, "--backend", "paddle", "--save_dir",
                     tmp_path / "out")
    assert f"has output_op {said}, but the network gives" in error and not (tmp_path / "out").exists()


def test_probabilities_are_no_logits(folder):
    network = exported(folder)
    scores = random_images(1, 5, 8, 8)
    exponents = np.exp(scores)
    with pytest.raises(ValueError, match="has output_op none, but the network gives probabilities"):
        network.judge(exponents / exponents.sum(axis=1, keepdims=True))
    network.judge(scores)


# --- batches with a file that is broken, and long names --------------------------------------------------------------

@pytest.mark.parametrize("more", [[], ["--batch_size", 4], ["--benchmark", "True"], ["--backend", "auto"],
                                  ["--io_threads", 0]], ids=str)
def test_the_others_are_done_and_each_is_named(more, logits_export, image, error_of, capsys, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "0.png").touch()
    for name in ("1", "2", "4", "a" * 251, "b" * 251):
        shutil.copy(image, folder / f"{name}.png")
    (folder / "3.png").write_bytes(image.read_bytes()[:500])
    (folder / f"{'b' * 251}.png").rename(folder / f"{'b' * 250}.jpeg")      # whose mask keeps its name's length
    shutil.copy(image, folder / f"{'a' * 251}.bmp")                          # and this needs .bmp.png
    error = error_of("infer", "--config", logits_export, "--image_path", folder, "--save_dir", tmp_path / "out", *more)
    assert error.startswith(f"error: 4 of 8 images left out: cannot read the image {folder}/0.png")
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: left out: ")]
    assert len(warned) == 4 and "/3.png" in warned[1] and all("File name too long" in line for line in warned[2:])
    assert sorted(masks(tmp_path / "out")) == ["1.png", "2.png", "4.png", f"{'b' * 250}.png"]


def test_a_name_of_255_bytes(logits_export, image, run_tool, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(image, tmp_path / "in" / f"{'a' * 251}.png")
    run_tool("infer", "--config", logits_export, "--image_path", tmp_path / "in", "--save_dir", tmp_path / "out")
    assert list(masks(tmp_path / "out")) == [f"{'a' * 251}.png"]


def test_predict_and_explain_leave_the_long_name_out(small_config, lively_weights, image, error_of, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a" * 251 + ".png", "a" * 251 + ".bmp", "b.png"):
        shutil.copy(image, tmp_path / "in" / name)
    live = ["--config", small_config, "--model_path", lively_weights, "--save_dir", tmp_path / "out"]
    error = error_of("predict", *live, "--image_path", tmp_path / "in", "--save", "ids")
    assert error.startswith(f"error: 2 of 3 images left out: {tmp_path}/in/aaa") and "File name too long" in error
    assert list(masks(tmp_path / "out")) == ["b.png"]
    assert "File name too long" in error_of("explain", *live, tmp_path / "in" / f"{'a' * 251}.png")
