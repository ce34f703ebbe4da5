"""score() is tools/val.py from Python: the same arguments and scores."""

import inspect

import pytest
from conftest import tool

import paddleseg_encnet
from paddleseg_encnet import flags
from paddleseg_encnet.evaluation import scores_of_config


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


@pytest.mark.parametrize("flags, half", [([], False), (["--precision", "fp16"], True)])
def test_precision_is_what_the_network_is_run_in(flags, half, run_tool, small_config, lively_weights, monkeypatch):
    asked, evaluate = [], scores_of_config.evaluate

    def noted(model, dataset, precision, **options):
        asked.append((precision.half, precision.level))
        return evaluate(model, dataset, precision, **options)
    monkeypatch.setattr(scores_of_config, "evaluate", noted)
    run_tool("val", "--config", small_config, "--model_path", lively_weights, *flags)
    assert asked == [(half, "O1")]


@pytest.mark.parametrize("options, error, words", [
    (dict(model_path="/nowhere.pdparams"), ValueError, "/nowhere.pdparams: does not exist"),
    (dict(precision="bf16"), ValueError, "precision is fp32 or fp16, got 'bf16'"),
    (dict(data_format="nhwc"), ValueError, "data_format is NCHW or NHWC, got 'nhwc'"),
    (dict(is_slide=True), ValueError, "need crop_size and stride"),
    (dict(slide=True), TypeError, "there is no argument slide; of inference there are is_slide"),
    (dict(save_confusion="scores.tiff"), ValueError, "must end in .png")])
def test_mistakes(small_config, lively_weights, options, error, words):
    with pytest.raises(error, match=words):
        paddleseg_encnet.score(**{"config": small_config, "model_path": lively_weights, "device": "cpu", **options})
