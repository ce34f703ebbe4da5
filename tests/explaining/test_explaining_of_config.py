"""explain() is tools/explain.py from Python: the same pages."""

import pathlib

import paddle
import pytest

import paddleseg_encnet
from paddleseg_encnet.config import building
from segrun.errors import DataError


@pytest.fixture(scope="module")
def weights(small_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.seed(1)
    paddle.save(building.read_config(small_config).model.state_dict(), str(path))
    return path


@pytest.fixture
def image(scenes):
    return next((scenes / "leftImg8bit" / "val").glob("*/*.png"))


def test_the_page_of_an_image_is_the_tools(small_config, weights, image, run_tool, tmp_path):
    files = paddleseg_encnet.explain(small_config, weights, image, tmp_path / "own", device="cpu")
    run_tool("explain", image, "--config", small_config, "--model_path", weights, "--save_dir", tmp_path / "tool")
    assert files == {ending: str(tmp_path / "own" / f"{image.stem}.{ending}") for ending in ("png", "html")}
    for path in map(pathlib.Path, files.values()):
        assert path.read_bytes() == (tmp_path / "tool" / path.name).read_bytes()


def test_the_page_of_a_folder_is_the_tools(small_config, weights, image, run_tool, tmp_path):
    files = paddleseg_encnet.explain(small_config, weights, image.parent, tmp_path / "own", device="cpu")
    run_tool("explain", image.parent, "--config", small_config, "--model_path", weights, "--save_dir",
             tmp_path / "tool")
    assert sorted(files) == ["csv", "html", "png"]
    for path in map(pathlib.Path, files.values()):
        assert path.read_bytes() == (tmp_path / "tool" / path.name).read_bytes()


def test_images_left_out_are_told_when_the_page_is_there(small_config, weights, image, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "whole.png").write_bytes(image.read_bytes())
    (tmp_path / "images" / "broken.png").write_bytes(image.read_bytes()[:100])
    with pytest.raises(DataError, match="1 of 2 images left out: .*broken.png"):
        paddleseg_encnet.explain(small_config, weights, tmp_path / "images", tmp_path / "own", device="cpu")
    assert (tmp_path / "own" / "codewords.html").exists()


def test_a_label_is_of_one_image(small_config, weights, image, tmp_path):
    with pytest.raises(ValueError, match="--label is the label of one image"):
        paddleseg_encnet.explain(small_config, weights, image.parent, tmp_path / "own", label=image, device="cpu")
    assert not (tmp_path / "own").exists()
