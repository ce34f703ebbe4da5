"""Files whose tensors have words before their names, averaged copies beside them, and heads with one channel."""

import numpy as np
import paddle
import pytest
import yaml
from weight_states import State, build, encoding_state, mmseg_state, picture, resnet18, run_import, saved, without

from paddleseg_encnet.weights import binary, checkpoint, sources, weight_conversion
from paddleseg_encnet.weights.checkpoint import CheckpointError

PREFIXES = ["_orig_mod.module.", "module.module.", "module._orig_mod.", "model.", "net.", "model.net.module.",
            "segmentor.student."]
MEAN = {"data_preprocessor.mean": np.ones((3, 1, 1), "float32"), "data_preprocessor.std": np.ones((3, 1, 1), "float32")}


def under(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def doubled(state):
    """Weights that can be told from the others, as averaged ones are."""
    return {name: 2 * value for name, value in state.items()}


def same(found, expected):
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("make", [mmseg_state, encoding_state, lambda: resnet18(State())])
def test_words_before_the_names(prefix, make):
    expected, section = weight_conversion.convert_weights(make())
    found, its = weight_conversion.convert_weights({"state_dict": under(prefix, make())})
    assert same(found, expected) and its == section


@pytest.mark.parametrize("prefix", ["", "model.", "module.module."])
def test_what_is_no_part_of_the_network_is_left_out_and_said(prefix):
    expected, _ = weight_conversion.convert_weights(mmseg_state())
    beside = {**MEAN, "criterion.weight": np.ones(5, "float32")}
    checkpoint_dict = {"state_dict": under(prefix, {**beside, **mmseg_state()})}
    assert same(weight_conversion.convert_weights(checkpoint_dict)[0], expected)
    said = sources.recognise(checkpoint_dict).notes()
    assert "left out, as no part of the network: " + ", ".join(prefix + name for name in beside) in said


def test_what_else_is_beside_is_an_error():
    for other in ("teacher.weight", "ema_head.new.weight"):
        state = {**under("model.", mmseg_state()), other: np.ones(3, "float32")}
        if other.startswith("teacher"):
            with pytest.raises(CheckpointError, match=r"not used \(1\): teacher.weight$"):
                weight_conversion.convert_weights(state)
        else:
            with pytest.raises(CheckpointError, match=r"not used \(1\): new.weight$"):
                weight_conversion.convert_weights(sources.take_averaged(state)[0])


# --- averaged weights -------------------------------------------------------------------------------------------------

def mmcv_ema(state):
    """Of parameters alone, dots in their names replaced."""
    parameters = {name: value for name, value in state.items() if not name.endswith(("running_mean", "running_var"))}
    return {f"ema_{name.replace('.', '_')}": value for name, value in doubled(parameters).items()
            if not name.endswith("num_batches_tracked")}


EMA = {
    "mmcv": lambda state: {"state_dict": {**state, **mmcv_ema(state)}},
    "mmcv, compiled": lambda state: {"state_dict": under("_orig_mod.", {**state, **mmcv_ema(state)})},
    "a prefix": lambda state: {"state_dict": {**state, **under("ema_", doubled(state))}},
    "a network": lambda state: {"model": {**under("model.", state), **under("model_ema.module.", doubled(state))}},
    "a dict": lambda state: {"state_dict": under("module.", state), "ema_state_dict": {
        "steps": np.array(7), **under("module.", doubled(state))}},
    "a dict in a dict": lambda state: {"model": state, "ema": {"module": doubled(state)}},
    "timm": lambda state: {"state_dict": state, "state_dict_ema": doubled(state), "epoch": 3}}


@pytest.mark.parametrize("kind", EMA)
def test_averaged_weights_are_left_out_and_said_or_taken(kind):
    state = mmseg_state(lateral=True)
    expected, _ = weight_conversion.convert_weights(state)
    averaged, _ = weight_conversion.convert_weights(doubled(state))
    file = EMA[kind](state)
    assert same(weight_conversion.convert_weights(file)[0], expected)
    said = " ".join(sources.recognise(file).notes())
    assert "tensors under ema are left out: averaged weights, which --ema takes" in said

    taken, note = sources.take_averaged(file)
    found, _ = weight_conversion.convert_weights(taken)
    if kind.startswith("mmcv"):
        statistics = [name for name in found if name.endswith(("._mean", "._variance"))]
        assert f"{len(statistics)}, which the file has no averages of" in note
        averaged.update({name: expected[name] for name in statistics})
    assert same(found, averaged) and "averaged tensors are taken" in note
    assert "ema" not in " ".join(sources.recognise(taken).notes())


@pytest.mark.parametrize("meta", [{"mmengine_version": "0.10.4"}, {"mmcv_version": "1.7.0"}])
def test_mmengine_saves_the_averaged_ones_under_the_usual_names(meta):
    """Its EMAHook exchanges the two before it saves."""
    usual = doubled(mmseg_state())
    file = {"meta": meta, "state_dict": dict(usual), "ema_state_dict": under("module.", mmseg_state())}
    expected, _ = weight_conversion.convert_weights(usual)
    assert same(weight_conversion.convert_weights(file)[0], expected)
    taken, note = sources.take_averaged(file)
    assert same(weight_conversion.convert_weights(taken)[0], expected) and "under the usual names" in note
    said = " ".join(sources.recognise(file).notes())
    assert "averaged ones under the usual names, which are taken" in said


def test_a_file_of_averaged_weights_alone():
    file = {"state_dict_ema": mmseg_state()}
    with pytest.raises(CheckpointError, match="averaged weights alone: --ema takes them"):
        sources.recognise(file)
    assert same(weight_conversion.convert_weights(sources.take_averaged(file)[0])[0],
                weight_conversion.convert_weights(mmseg_state())[0])


def test_the_flag(tmp_path, capsys):
    state = mmseg_state(classes=19)
    path = saved({**state, **mmcv_ema(state), **MEAN}, tmp_path / "x.safetensors")
    run_import(path, "--output_dir", tmp_path / "plain")
    said = capsys.readouterr().out
    assert "note: left out, as no part of the network: data_preprocessor.mean, data_preprocessor.std\n" in said
    assert "which --ema takes\n" in said
    run_import(path, "--output_dir", tmp_path / "ema", "--ema")
    assert "averaged tensors are taken" in capsys.readouterr().out
    plain, averaged = (checkpoint.read_weights(tmp_path / name / "model.pdparams") for name in ("plain", "ema"))
    assert np.array_equal(averaged["head.weight"], 2 * plain["head.weight"])
    with pytest.raises(SystemExit, match="plain.safetensors: there are no averaged weights in this file"):
        run_import(saved(state, tmp_path / "plain.safetensors"), "--output_dir", tmp_path / "no", "--ema")


# --- heads with one channel -------------------------------------------------------------------------------------------

def binary_state(make, presence):
    """Of one output channel, and a presence layer of as many classes as the codebase gives it."""
    state = make(classes=1)
    if presence == 2:
        state.conv("decode_head.se_layer", 2, 4, bias=True)
    return state


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_two_classes_by_the_threshold(threshold):
    """To the bit of the decision, at sigmoids around the threshold."""
    draw = np.random.RandomState(0)
    weight, bias = draw.randn(1, 4, 1, 1).astype("float32"), draw.randn(1).astype("float32")
    state = binary.two_classes({"head.weight": weight, "head.bias": bias}, ["head", "other"], "presence", threshold)
    assert state["head.weight"].shape == (2, 4, 1, 1) and state["head.bias"].shape == (2,)
    features = draw.randn(1000, 4).astype("float32")
    channel = features @ weight.reshape(4) + bias
    two = features @ state["head.weight"].reshape(2, 4).T + state["head.bias"]
    above = 1 / (1 + np.exp(-channel.astype("float64"))) > threshold
    assert 50 < above.sum() < 950
    assert np.array_equal(two.argmax(1) == 1, above)


@pytest.mark.parametrize("make, presence, threshold", [
    (mmseg_state, 1, 0.3), (mmseg_state, 2, 0.3), (encoding_state, 1, 0.5)])
def test_a_head_with_one_channel(make, presence, threshold):
    state = {name: value * 1e-3 if value.dtype.kind == "f" else value
             for name, value in binary_state(make, presence).items()}
    source = sources.recognise(state)
    assert (source.num_classes, source.threshold, source.use_se_loss) == (2, threshold, presence == 2)
    assert any(f"class 1 is where its sigmoid is above {threshold:g}" in note for note in source.notes())
    tensors, section = weight_conversion.convert_weights(state)
    network = build(section)
    checkpoint.fill_layer(network, tensors)
    with paddle.no_grad():
        found = network(paddle.to_tensor(picture(33, 49)))[0].numpy()
    assert found.shape[1] == 2 and not found[:, 0].any() and found[:, 1].all()


def test_the_threshold_that_the_file_says():
    text = "decode_head=dict(type='EncHead', num_classes=2, out_channels=1, threshold=0.7, align_corners=False)"
    file = {"meta": {"config": text}, "state_dict": binary_state(mmseg_state, 2)}
    assert sources.recognise(file).threshold == 0.7
    assert sources.recognise({"meta": {"config": text}, "state_dict": mmseg_state()}).threshold is None


def test_the_flag_of_the_threshold(tmp_path, capsys):
    path = saved(binary_state(mmseg_state, 2), tmp_path / "x.safetensors")
    run_import(path, "--output_dir", tmp_path, "--threshold", 0.6)
    assert "class 1 is where its sigmoid is above 0.6" in capsys.readouterr().out
    assert yaml.safe_load((tmp_path / "model.yml").read_text())["model"]["num_classes"] == 2
    bias = checkpoint.read_weights(tmp_path / "model.pdparams")["head.bias"]
    shift = binary_state(mmseg_state, 2)["decode_head.conv_seg.bias"][0] - bias[1]
    assert bias[0] == 0 and shift == pytest.approx(np.log(0.6 / 0.4), abs=1e-5)
    with pytest.raises(SystemExit, match="--threshold is for a head with one channel, and this is a EncNet"):
        run_import(saved(mmseg_state(), tmp_path / "y.safetensors"), "--output_dir", tmp_path, "--threshold", 0.6)


# --- a base of another number of classes ------------------------------------------------------------------------------

def test_a_base_of_another_number_of_classes(tmp_path, small_config, scenes, run_tool, capsys):
    """small_config is of 19 classes. What is written predicts and exports; its data are placeholders, which it says."""
    state = {name: value * 1e-3 if value.dtype.kind == "f" else value for name, value in
             without(mmseg_state(classes=7), "decode_head.se_layer").items()}
    state.update({name: np.ones_like(value) for name, value in state.items() if name.endswith("running_var")})
    run_import(saved(state, tmp_path / "mm.safetensors"), "--output_dir", tmp_path / "net", "--base", small_config)
    assert f"{small_config} is of 19 classes, the network of 7: in the config, replace path/to/your/data by" in \
        capsys.readouterr().out
    config, weights = tmp_path / "net" / "model.yml", tmp_path / "net" / "model.pdparams"
    said = yaml.safe_load(config.read_text())
    assert {said[f"{part}_dataset"]["num_classes"] for part in ("train", "val")} == {7}
    image = next((scenes / "leftImg8bit" / "val").rglob("*.png"))
    run_tool("predict", "--config", config, "--model_path", weights, "--save_dir", tmp_path / "pictures",
             "--image_path", image)
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 2
    run_tool("export", "--config", config, "--model_path", weights, "--save_dir", tmp_path / "export")
    run_tool("infer", "--config", tmp_path / "export" / "deploy.yaml", "--image_path", image, "--save_dir",
             tmp_path / "masks")
    assert (tmp_path / "masks" / image.name).is_file()
