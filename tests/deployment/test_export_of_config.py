"""export() is tools/export.py from Python: the same files."""

import inspect

import numpy as np
import paddle
import pytest
from conftest import tool

import paddleseg_encnet
from paddleseg_encnet import Segmenter, flags
from paddleseg_encnet.config import building


@pytest.fixture(scope="module")
def weights(small_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.seed(1)
    paddle.save(building.read_config(small_config).model.state_dict(), str(path))
    return path


@pytest.fixture
def image(scenes):
    return next((scenes / "leftImg8bit" / "val").glob("*/*.png"))


def test_arguments_are_the_tools_flags_with_their_defaults():
    given = flags.keywords(tool("export").flags().parse_args(["--config", "c", "--model_path", "m"]))
    found = {name: parameter.default for name, parameter in
             inspect.signature(paddleseg_encnet.export).parameters.items() if name not in ("config", "model_path")}
    assert {"config": "c", "model_path": "m", **found} == given


def test_an_export_is_the_tools_and_segments(small_config, weights, image, run_tool, tmp_path):
    with paddle.utils.unique_name.guard():      # parameters are in the file by the number of their making
        found = paddleseg_encnet.export(small_config, weights, tmp_path / "own", output_op="none", verify=image)
    run_tool("export", "--config", small_config, "--model_path", weights, "--save_dir", tmp_path / "tool",
             "--output_op", "none")
    files = sorted(path.name for path in (tmp_path / "tool").iterdir())
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == files
    assert (tmp_path / "own" / "deploy.yaml").read_text() == (tmp_path / "tool" / "deploy.yaml").read_text()
    assert (tmp_path / "own" / "model.pdiparams").read_bytes() == (tmp_path / "tool" / "model.pdiparams").read_bytes()
    # Float32 through two engines: a few of 8192 pixels may fall to the other side where two logits are equal.
    (agreement,) = found.values()
    assert agreement.pixels > 0.99 and agreement.difference < 1e-3 * agreement.largest
    live = Segmenter(small_config, weights, device="cpu")(image)
    assert np.mean(Segmenter(tmp_path / "own", backend="paddle", device="cpu")(image).ids == live.ids) > 0.99


def test_without_an_image_nothing_is_compared(small_config, weights, tmp_path):
    assert paddleseg_encnet.export(small_config, weights, tmp_path / "own") == {}


@pytest.mark.parametrize("options, error, words", [
    (dict(verify="nowhere.png"), FileNotFoundError, "there is no image nowhere.png"),
    (dict(int8="nowhere"), FileNotFoundError, "there is no image nowhere"),
    (dict(max_drop=1.0), ValueError, "--max_drop is a number of points from 0 on, beside --int8 IMAGES; got 1"),
    (dict(input_shape=[1, 3]), ValueError, "--input_shape takes batch, channels, height, width"),
    (dict(model_path="/nowhere.pdparams"), ValueError, "/nowhere.pdparams: does not exist")])
def test_mistakes_leave_nothing(small_config, weights, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        paddleseg_encnet.export(**{"config": small_config, "model_path": weights, "save_dir": tmp_path / "own",
                                   **options})
    assert not (tmp_path / "own").exists()
