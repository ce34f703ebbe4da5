"""train() and score() are tools/train.py and tools/val.py from Python: the same arguments, weights and scores."""

import inspect
import json

import numpy as np
import paddle
import pytest
from conftest import tool

import paddleseg_encnet
from paddleseg_encnet import cli
from segrun.errors import DataError


def numbers(path) -> dict:
    return {name: np.asarray(value) for name, value in paddle.load(str(path / "model.pdparams")).items()
            if name != "StructuredToParameterName@@"}


def assert_equal(first, second):
    found, expected = numbers(first), numbers(second)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.fixture(scope="module")
def trained(small_config, tmp_path_factory):
    """Folder of four steps, evaluated at 2 and 4, and what train() returned."""
    folder = tmp_path_factory.mktemp("python") / "run"
    best = paddleseg_encnet.train(small_config, folder, do_eval=True, save_interval=2, seed=3, device="cpu")
    return folder, best


# The device is the one difference: a tool warns where there is no GPU.
@pytest.mark.parametrize("name, function, required", [
    ("train", paddleseg_encnet.train, ["--config", "c"]),
    ("val", paddleseg_encnet.score, ["--config", "c", "--model_path", "m"])])
def test_arguments_are_the_tools_flags_with_their_defaults(name, function, required):
    flags = cli.keywords(tool(name).flags().parse_args(required))
    expected = {flag: value for flag, value in flags.items() if flag not in ("config", "model_path", "device")}
    arguments = inspect.signature(function).parameters
    found = {argument: parameter.default for argument, parameter in arguments.items()
             if argument not in ("config", "model_path", "device", "inference")}
    if "inference" in arguments:
        found.update(vars(cli.inference_args("aug_eval", {})))
    assert found == expected and arguments["device"].default is None and flags["device"] == "gpu"


def test_train_is_the_tool_to_the_last_bit(trained, small_config, run_tool, tmp_path):
    folder, best = trained
    run_tool("train", "--config", small_config, "--save_dir", tmp_path, "--do_eval", "--save_interval", 2, "--seed", 3)
    for name in ("iter_2", "iter_4", "best_model"):
        assert_equal(folder / name, tmp_path / name)
    state = json.loads((tmp_path / "iter_4" / "state.json").read_text())
    assert {"mean_iou": best.mean_iou, "step": best.step} == state["best"]["model"]


def test_second_call_in_a_process_goes_on_from_the_first(trained, small_config, tmp_path):
    folder, _ = trained
    best = paddleseg_encnet.train(small_config, tmp_path, iters=4, save_interval=2, seed=8, device="cpu",
                                  resume_model=folder / "iter_2")
    assert_equal(tmp_path / "iter_4", folder / "iter_4")
    assert best.step in (-1, 2)         # nothing is evaluated here; the best is the checkpoint's


def test_score_is_what_the_tool_writes(trained, small_config, run_tool, tmp_path):
    weights = trained[0] / "iter_4" / "model.pdparams"
    scores = paddleseg_encnet.score(small_config, weights, device="cpu", save_json=tmp_path / "own.json",
                                    flip_horizontal=True, aug_eval=True)
    run_tool("val", "--config", small_config, "--model_path", weights, "--save_json", tmp_path / "tool.json",
             "--flip_horizontal", "--aug_eval")
    assert (tmp_path / "own.json").read_text() == (tmp_path / "tool.json").read_text()
    written = json.loads((tmp_path / "tool.json").read_text())
    assert scores.mean_iou == written["mean_iou"] and scores.confusion.tolist() == written["confusion"]
    assert scores.presence.mean_recall == written["presence"]["mean_recall"]


@pytest.mark.parametrize("options, error, words", [
    (dict(config="nowhere.yml"), FileNotFoundError, "there is no config nowhere.yml"),
    (dict(precision="bf16"), ValueError, "precision is fp32 or fp16, got 'bf16'"),
    (dict(amp_level="O3"), ValueError, "amp_level is O1 or O2, got 'O3'"),
    (dict(data_format="nhwc"), ValueError, "data_format is NCHW or NHWC, got 'nhwc'"),
    (dict(save_interval=0), ValueError, "save_interval is a number of steps, at least 1, got 0"),
    (dict(opts=["train_dataset.dataset_root=/nowhere"]), DataError, "there is no folder /nowhere/leftImg8bit/train"),
    (dict(iter=3), TypeError, "unexpected keyword argument 'iter'")])
def test_mistakes_of_training_leave_nothing(small_config, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        paddleseg_encnet.train(**{"config": small_config, "save_dir": tmp_path / "run", "device": "cpu", **options})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options, error, words", [
    (dict(model_path="/nowhere.pdparams"), ValueError, "/nowhere.pdparams: does not exist"),
    (dict(data_format="nhwc"), ValueError, "data_format is NCHW or NHWC, got 'nhwc'"),
    (dict(is_slide=True), ValueError, "need crop_size and stride"),
    (dict(slide=True), TypeError, "there is no argument slide; of inference there are aug_eval, scales"),
    (dict(save_confusion="scores.tiff"), ValueError, "must end in .png")])
def test_mistakes_of_scoring(small_config, trained, options, error, words):
    given = {"config": small_config, "model_path": trained[0] / "iter_4" / "model.pdparams", "device": "cpu", **options}
    with pytest.raises(error, match=words):
        paddleseg_encnet.score(**given)
