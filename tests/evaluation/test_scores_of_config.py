"""score() is tools/val.py from Python: the same arguments and scores."""

import inspect
import json

import paddle
import pytest
from conftest import tool

import paddleseg_encnet
from paddleseg_encnet import flags
from paddleseg_encnet.config import building


@pytest.fixture(scope="module")
def weights(small_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.seed(1)
    paddle.save(building.read_config(small_config).model.state_dict(), str(path))
    return path


def test_arguments_are_the_tools_flags_with_their_defaults():
    parser = tool("val").flags()
    args = parser.parse_args(["--config", "c", "--model_path", "m"])
    given = {name: value for name, value in flags.keywords(args).items()
             if name not in flags.inference_of(args, "aug_eval")}
    found = {name: parameter.default for name, parameter in inspect.signature(paddleseg_encnet.score).parameters.items()
             if name not in ("config", "model_path", "inference")}
    # The device is the one difference: a tool warns where there is no GPU.
    assert found.pop("device") is None and given.pop("device") == "gpu"
    assert {"config": "c", "model_path": "m", **found} == given


def test_score_is_what_the_tool_writes(weights, small_config, run_tool, tmp_path):
    scores = paddleseg_encnet.score(small_config, weights, device="cpu", save_json=tmp_path / "own.json",
                                    flip_horizontal=True, aug_eval=True)
    run_tool("val", "--config", small_config, "--model_path", weights, "--save_json", tmp_path / "tool.json",
             "--flip_horizontal", "--aug_eval")
    assert (tmp_path / "own.json").read_text() == (tmp_path / "tool.json").read_text()
    written = json.loads((tmp_path / "tool.json").read_text())
    assert scores.mean_iou == written["mean_iou"] and scores.confusion.tolist() == written["confusion"]
    assert scores.presence.mean_recall == written["presence"]["mean_recall"]


@pytest.mark.parametrize("options, error, words", [
    (dict(model_path="/nowhere.pdparams"), ValueError, "/nowhere.pdparams: does not exist"),
    (dict(data_format="nhwc"), ValueError, "data_format is NCHW or NHWC, got 'nhwc'"),
    (dict(is_slide=True), ValueError, "need crop_size and stride"),
    (dict(slide=True), TypeError, "there is no argument slide; of inference there are is_slide"),
    (dict(save_confusion="scores.tiff"), ValueError, "must end in .png")])
def test_mistakes(small_config, weights, options, error, words):
    with pytest.raises(error, match=words):
        paddleseg_encnet.score(**{"config": small_config, "model_path": weights, "device": "cpu", **options})
