"""score() is tools/val.py from Python: the same arguments and scores."""

import inspect

import pytest
from conftest import tool

import paddleseg_encnet
from paddleseg_encnet import flags


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


@pytest.mark.parametrize("options, error, words", [
    (dict(model_path="/nowhere.pdparams"), ValueError, "/nowhere.pdparams: does not exist"),
    (dict(data_format="nhwc"), ValueError, "data_format is NCHW or NHWC, got 'nhwc'"),
    (dict(is_slide=True), ValueError, "need crop_size and stride"),
    (dict(slide=True), TypeError, "there is no argument slide; of inference there are is_slide"),
    (dict(save_confusion="scores.tiff"), ValueError, "must end in .png")])
def test_mistakes(small_config, lively_weights, options, error, words):
    with pytest.raises(error, match=words):
        paddleseg_encnet.score(**{"config": small_config, "model_path": lively_weights, "device": "cpu", **options})
