"""export() is tools/export.py from Python: the same files."""

import inspect

import pytest
from conftest import tool
from near_ties import MOST

import paddleseg_encnet
from paddleseg_encnet import flags


def test_arguments_are_the_tools_flags_with_their_defaults():
    given = flags.keywords(tool("export").flags().parse_args(["--config", "c", "--model_path", "m"]))
    found = {name: parameter.default for name, parameter in
             inspect.signature(paddleseg_encnet.export).parameters.items() if name not in ("config", "model_path")}
    assert {"config": "c", "model_path": "m", **found} == given


def test_what_is_verified_is_returned(small_config, lively_weights, image, tmp_path):
    (agreement,) = paddleseg_encnet.export(small_config, lively_weights, tmp_path / "own", verify=image).values()
    assert agreement.pixels >= 1 - MOST and agreement.difference < 1e-4 * agreement.largest


def test_without_an_image_nothing_is_compared(small_config, lively_weights, tmp_path):
    assert paddleseg_encnet.export(small_config, lively_weights, tmp_path / "own") == {}


@pytest.mark.parametrize("options, error, words", [
    (dict(verify="nowhere.png"), FileNotFoundError, "there is no image nowhere.png"),
    (dict(int8="nowhere"), FileNotFoundError, "there is no image nowhere"),
    (dict(max_drop=1.0), ValueError, "--max_drop is a number of points from 0 on, beside --int8 IMAGES; got 1"),
    (dict(input_shape=[1, 3]), ValueError, "--input_shape takes batch, channels, height, width"),
    (dict(model_path="/nowhere.pdparams"), ValueError, "/nowhere.pdparams: does not exist")])
def test_mistakes_leave_nothing(small_config, lively_weights, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        paddleseg_encnet.export(**{"config": small_config, "model_path": lively_weights, "save_dir": tmp_path / "own",
                                   **options})
    assert not (tmp_path / "own").exists()
