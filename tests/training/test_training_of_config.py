"""train() is tools/train.py from Python: the same settings, weights and scores; it tells of each step and evaluation,
and leads on to the network."""

import dataclasses
import inspect
import json

import numpy as np
import paddle
import pytest
from conftest import tool

import paddleseg_encnet
from paddleseg_encnet import Machine, Optimising, Saving, Segmenter, flags
from paddleseg_encnet.config import building
from paddleseg_encnet.evaluation.evaluation_loop import evaluate
from paddleseg_encnet.training.events import Evaluated, Stepped
from paddleseg_encnet.weights import checkpoint
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
def run(small_config, tmp_path_factory):
    """Folder of four steps, evaluated at 2 and 4, what train() returned, and what it told."""
    folder, events = tmp_path_factory.mktemp("python") / "run", []
    trained = paddleseg_encnet.train(small_config, folder, do_eval=True, save_interval=2, seed=3, device="cpu",
                                     callback=events.append)
    return folder, trained, events


def test_settings_are_the_tools_flags_with_their_defaults():
    given = flags.keywords(tool("train").flags().parse_args(["--config", "c"]))
    found = {name: parameter.default for name, parameter in inspect.signature(paddleseg_encnet.train).parameters.items()
             if name not in ("config", "callback", "optimising", "saving", "machine", "named")}
    for group in (Optimising(), Saving(), Machine()):
        found.update(dataclasses.asdict(group))
    # The device is the one difference: a tool warns where there is no GPU.
    assert found.pop("device") is None and given.pop("device") == "gpu"
    assert {"config": "c", **found} == given


def test_a_group_and_the_names_of_its_settings_are_the_same(run, small_config, tmp_path):
    """A name comes before its group."""
    paddleseg_encnet.train(small_config, tmp_path, seed=3, machine=Machine(device="cpu", precision="no such"),
                           optimising=Optimising(iters=2), saving=Saving(save_interval=1), precision="fp32")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iter_1", "iter_2"]
    assert numbers(tmp_path / "iter_1").keys() == numbers(run[0] / "iter_2").keys()


def test_second_call_in_a_process_goes_on_from_the_first(run, small_config, tmp_path):
    trained = paddleseg_encnet.train(small_config, tmp_path, iters=4, save_interval=2, seed=8, device="cpu",
                                     resume_model=run[0] / "iter_2")
    assert_equal(tmp_path / "iter_4", run[0] / "iter_4")
    assert trained.step in (-1, 2)          # nothing is evaluated here; the best is the checkpoint's
    assert trained.weights is None          # and lies in the other folder


# --- what it leads to ------------------------------------------------------------------------------------------------

def test_the_best_weights_segment(run, small_config, image):
    folder, trained, _ = run
    assert trained.weights == str(folder / "best_model" / "model.pdparams") and trained.save_dir == str(folder)
    assert_equal(folder / "best_model", folder / f"iter_{trained.step}")
    own = trained.segmenter(device="cpu", min_conf=0.1)(image)
    np.testing.assert_array_equal(own.ids, Segmenter(small_config, trained.weights, device="cpu", min_conf=0.1)(
        image).ids)


def test_the_config_of_the_best_weights_is_that_of_the_training(small_config, tmp_path, image):
    trained = paddleseg_encnet.train(small_config, tmp_path, iters=1, do_eval=True, seed=1, device="cpu",
                                     opts=["model.num_codes=3"])
    assert trained.segmenter(device="cpu")(image).ids.shape == (64, 128)


def test_without_an_evaluation_no_weights_are_the_best(small_config, tmp_path):
    trained = paddleseg_encnet.train(small_config, tmp_path, iters=1, seed=1, device="cpu")
    assert (trained.mean_iou, trained.step, trained.weights) == (-1, -1, None)
    with pytest.raises(ValueError, match="none of the weights in .* was evaluated, so that none is the best: train with"
                                         " do_eval"):
        trained.segmenter()


# --- what it tells ---------------------------------------------------------------------------------------------------

def test_each_step_and_each_evaluation_is_told_in_its_turn(run):
    assert [(type(event), event.step) for event in run[2]] == [
        (Stepped, 1), (Stepped, 2), (Evaluated, 2), (Stepped, 3), (Stepped, 4), (Evaluated, 4)]


def test_what_is_told_is_what_is_logged(small_config, tmp_path, capsys):
    told = []
    paddleseg_encnet.train(small_config, tmp_path, seed=3, device="cpu", log_iters=1, callback=told.append)
    logged = [line for line in capsys.readouterr().out.splitlines() if "[TRAIN]" in line]
    assert len(logged) == len(told) == 4
    for line, event in zip(logged, told):
        assert list(event.losses) == ["segmentation", "auxiliary", "SE"]
        assert f"iter: {event.step}/4, loss: {sum(event.losses.values()):.4f}, lr: {event.learning_rate:.6f}" in line


def test_what_is_told_of_an_evaluation_is_the_checkpoints_score(run, small_config):
    folder, trained, told = run
    evaluations = [event for event in told if isinstance(event, Evaluated)]
    assert max(event.scores.mean_iou for event in evaluations) == trained.mean_iou
    builder = building.read_config(small_config, pretrained=False)
    for event in evaluations:
        checkpoint.fill_layer(builder.model, str(folder / f"iter_{event.step}" / "model.pdparams"))
        again = evaluate(builder.model, builder.val_dataset)
        assert event.network == "model" and event.scores.confusion.tolist() == again.confusion.tolist()


def test_the_best_weights_are_there_when_an_evaluation_is_told(small_config, tmp_path):
    seen = []

    def look(event):
        if isinstance(event, Evaluated):
            seen.append((event.network, json.loads((tmp_path / "best_model" / "state.json").read_text())["step"]))
    paddleseg_encnet.train(small_config, tmp_path, iters=1, do_eval=True, use_ema=True, seed=1, device="cpu",
                           callback=look)
    assert seen == [("model", 1), ("ema_model", 1)]


@pytest.mark.parametrize("error", [RuntimeError("enough"), ValueError("enough"), KeyError("enough")])
def test_what_a_callback_raises_ends_the_run_and_comes_out(small_config, tmp_path, error):
    def end(event):
        if event.step == 3:
            raise error
    with pytest.raises(type(error), match="enough") as raised:
        paddleseg_encnet.train(small_config, tmp_path, save_interval=2, seed=1, device="cpu", callback=end)
    assert raised.value is error
    assert [path.name for path in tmp_path.iterdir()] == ["iter_2"]


def test_numpys_error_in_a_callback_is_no_mistake_in_the_config(small_config, tmp_path):
    """Raised in NumPy's files it would pass for one of the config's values."""
    def end(event):
        np.pad(np.zeros(1), "one")
    with pytest.raises(TypeError) as raised:
        paddleseg_encnet.train(small_config, tmp_path, seed=1, device="cpu", callback=end)
    assert "config" not in str(raised.value)


# --- mistakes --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, error, words", [
    (dict(config="nowhere.yml"), FileNotFoundError, "there is no config nowhere.yml"),
    (dict(precision="bf16"), ValueError, "precision is fp32 or fp16, got 'bf16'"),
    (dict(amp_level="O3"), ValueError, "amp_level is O1 or O2, got 'O3'"),
    (dict(data_format="nhwc"), ValueError, "data_format is NCHW or NHWC, got 'nhwc'"),
    (dict(save_interval=0), ValueError, "save_interval is a number of steps, at least 1, got 0"),
    (dict(accum_steps=0), ValueError, "accum_steps is a number of micro-batches, at least 1, got 0"),
    (dict(log_iters=0), ValueError, "log_iters is a number of steps, at least 1, got 0"),
    # PaddleSeg takes 0 for not given, and a training of -3 steps ended well without one.
    (dict(iters=0), ValueError, "iters must be at least 1, got 0"),
    (dict(opts=["train_dataset.dataset_root=/nowhere"]), DataError, "there is no folder /nowhere/leftImg8bit/train"),
    (dict(save_dir="/proc/run"), OSError, "cannot write /proc/run/iter_0: "),
    (dict(iter=3), TypeError, "unexpected keyword argument 'iter'; did you mean iters")])
def test_mistakes_leave_nothing(small_config, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        paddleseg_encnet.train(**{"config": small_config, "save_dir": tmp_path / "run", "device": "cpu", **options})
    assert not (tmp_path / "run").exists()
