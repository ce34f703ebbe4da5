"""Reading real files of Paddle and PyTorch, and filling networks strictly."""

import os
from pathlib import Path

import numpy as np
import paddle  # noqa: E402  after the package, which prepares it
import pytest

from paddleseg_encnet.weights import checkpoint
from paddleseg_encnet.weights.checkpoint import CheckpointError

FIXTURES = Path(__file__).parent / "fixtures"
PADDLES = ("paddle262", "paddle331")


def f4(*values):
    return np.array(values, "float32")


# What fixtures/make_fixtures.py put into the files.
TENSORS = {
    "f32": np.arange(12, dtype="float32").reshape(3, 4),
    "slice": f4(4, 5, 6, 7),  # shares the storage of f32
    "transposed": np.array([[0, 3], [1, 4], [2, 5]], "float64"),
    "half": np.array([0.5, -2], "float16"),
    "bf16": f4([1.5], [-3]),
    "count": np.array(7),
    "flags": np.array([True, False, True]),
    "bytes": np.array([1, 255], "uint8"),
    "empty": np.zeros((0, 3), "float32"),
    "parameter": f4(1, 2),
}
LAYER = {"0.weight": np.arange(6, dtype="float32").reshape(2, 3),
         **{name: f4(0, 1, 2) for name in ("0.bias", "1.weight", "1.bias", "1._mean", "1._variance")}}


def same(read, expected):
    """Equal in type, shape and value, and safe to keep and to change."""
    if isinstance(expected, dict):
        assert type(read) is dict and list(map(str, read)) == list(map(str, expected))
        for key in expected:
            same(read[key], expected[key])
    elif isinstance(expected, np.ndarray):
        assert isinstance(read, np.ndarray) and read.dtype == expected.dtype and read.shape == expected.shape
        assert np.array_equal(read, expected)
        assert read.flags.c_contiguous and read.flags.owndata and read.flags.writeable
    else:
        assert type(read) is type(expected) and read == expected


@pytest.mark.parametrize("name", ["torch_zip.pth", "torch_legacy.pth"])
def test_torch_files(name):
    state = checkpoint.read_weights(FIXTURES / name)
    assert list(state) == ["tensors", "state_dict", "optimizer", "meta"]
    same(state["tensors"], TENSORS)
    same(state["meta"], {"epoch": 3, "accuracy": 0.75, "palette": np.arange(6, dtype="int32").reshape(2, 3),
                         "shape": (3, 4), "none": None, "done": True, "text": "café"})
    same(state["state_dict"]["0.weight"], f4([0, 1]))
    same(state["state_dict"]["1.num_batches_tracked"], np.array(1))
    same(state["optimizer"]["state"][3]["momentum_buffer"], f4(2))
    assert state["optimizer"]["param_groups"][0]["params"] == [0, 1, 2, 3]
    state["tensors"]["f32"][:] = 0
    same(state["tensors"]["slice"], TENSORS["slice"])  # no array shares memory with another


def test_safetensors_file():
    state = checkpoint.read_weights(FIXTURES / "torch.safetensors")
    same({name: state[name] for name in TENSORS}, TENSORS)
    assert len(state) == len(TENSORS)


@pytest.mark.parametrize("version", PADDLES)
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_paddle_layer_and_optimiser(version, protocol):
    same(checkpoint.read_weights(FIXTURES / f"{version}_p{protocol}.pdparams"), LAYER)
    same(checkpoint.read_weights(FIXTURES / f"{version}_p{protocol}.pdopt"), {
        "linear_0.w_0_velocity_0": np.zeros((2, 3), "float32"), "linear_0.b_0_velocity_0": f4(0, 0, 0),
        "batch_norm1d_0.w_0_velocity_0": f4(0, 0, 0), "batch_norm1d_0.b_0_velocity_0": f4(4, 4, 4),
        "LR_Scheduler": {"last_epoch": 1, "last_lr": 0.45001}})


@pytest.mark.parametrize("version", PADDLES)
@pytest.mark.parametrize("protocol", [2, 4])
def test_paddle_types_and_nested_dicts(version, protocol):
    same(checkpoint.read_weights(FIXTURES / f"{version}_kinds_p{protocol}.pdparams"), {
        "bf16": f4(1.5, -3), "half": np.array([0.5, -2], "float16"), "int": np.array([[1, 2]]),
        "flag": np.array([True, False]), "scalar": np.array(2.5, "float32"), "empty": np.zeros((0, 3), "float32")})
    same(checkpoint.read_weights(FIXTURES / f"{version}_master_p{protocol}.pdopt"), {
        "master_weights": {"w": f4(1, 2)}, "LR_Scheduler": {"last_lr": 0.5}, "w_moment": f4(3)})


@pytest.mark.parametrize("version", PADDLES)
def test_paddle_joins_the_pieces_of_a_large_parameter(version):
    same(checkpoint.read_weights(FIXTURES / f"{version}_slices.pdparams"), {"b": f4(1), "w": f4([0, 1], [2, 3])})


def test_content_decides_and_not_the_suffix(tmp_path):
    odd = tmp_path / "weights.safetensors"
    odd.write_bytes((FIXTURES / "torch_zip.pth").read_bytes())
    same(checkpoint.read_weights(str(odd))["tensors"], TENSORS)


def network(classes=3, backbone=True):
    class Net(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            if backbone:
                self.backbone = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 1), paddle.nn.BatchNorm2D(4))
            self.head = paddle.nn.Conv2D(4, classes, 1)
            self.se_layer = paddle.nn.Linear(4, classes)
    return Net()


def values(layer):
    return {name: tensor.numpy().copy() for name, tensor in layer.state_dict().items()}


def equal(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def refused(layer, source, **options):
    """The message of a refused load, after making sure that it changed nothing."""
    before = values(layer)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.fill_layer(layer, source, **options)
    assert equal(values(layer), before)
    message = str(caught.value)
    assert "\n" not in message and message.isprintable()
    return message


@pytest.mark.parametrize("protocol", [2, 4])
def test_round_trip_of_layer_and_optimiser_on_this_paddle(tmp_path, protocol):
    saved, other = network(), network()
    for tensor in saved.state_dict().values():
        tensor.set_value(np.random.RandomState(0).rand(*tensor.shape).astype("float32"))
    schedule = paddle.optimizer.lr.PolynomialDecay(0.5, decay_steps=10)
    optimiser = paddle.optimizer.Adam(schedule, parameters=saved.parameters())
    saved.head(saved.backbone(paddle.ones([2, 3, 2, 2]))).sum().backward()
    optimiser.step()
    schedule.step()
    paths = [str(tmp_path / name) for name in ("model.pdparams", "model.pdopt")]
    paddle.save(saved.state_dict(), paths[0], protocol=protocol)
    paddle.save(optimiser.state_dict(), paths[1], protocol=protocol)
    assert not equal(values(other), values(saved))
    report = checkpoint.fill_layer(other, paths[0])
    assert equal(values(other), values(saved))
    assert len(report.loaded) == len(other.state_dict())

    read = checkpoint.read_weights(paths[1])
    for name, tensor in optimiser.state_dict().items():
        same(read[name], tensor if isinstance(tensor, dict) else tensor.numpy())
    saved.head(saved.backbone(2 * paddle.ones([2, 3, 2, 2]))).sum().backward()
    optimiser.step()
    schedule.step()
    moments = [name for name in read if "moment" in name]
    assert any(not np.array_equal(optimiser.state_dict()[name].numpy(), read[name]) for name in moments)
    optimiser.set_state_dict(read)
    for name, array in read.items():
        if name != "LR_Scheduler":
            assert np.array_equal(optimiser.state_dict()[name].numpy(), array)
    assert schedule.last_epoch == 1 and schedule.last_lr == read["LR_Scheduler"]["last_lr"]


def test_a_real_checkpoint_fills_parameters_and_buffers():
    layer = paddle.nn.Sequential(paddle.nn.Linear(2, 3), paddle.nn.BatchNorm1D(3))
    checkpoint.fill_layer(layer, FIXTURES / "paddle262_p4.pdparams")
    assert equal(values(layer), LAYER)


def test_the_layer_does_not_share_memory_with_the_given_dict():
    layer, state = network(), values(network())
    checkpoint.fill_layer(layer, state)
    kept = values(layer)
    for array in state.values():
        array += 1
    assert equal(values(layer), kept)


def test_paddle_tensors_are_taken_too():
    layer, other = network(), network()
    checkpoint.fill_layer(layer, other.state_dict())
    assert equal(values(layer), values(other))


def test_strict_lists_missing_unexpected_and_wrong_shapes():
    layer = network()
    state = values(network())
    del state["head.bias"]
    state["extra.weight"] = f4(1)
    state["backbone.0.weight"] = np.zeros((5, 3, 1, 1), "float32")
    message = refused(layer, state)
    assert "missing (1): head.bias;" in message
    assert "unexpected (1): extra.weight;" in message
    assert ("wrong shape (1): backbone.0.weight (5, 3, 1, 1) in the checkpoint, (4, 3, 1, 1) in the network;"
            in message)


def test_long_lists_are_shortened():
    state = {**values(network()), **{f"extra.{n}": f4(0) for n in range(317)}}
    message = refused(network(), state)
    assert "unexpected (317): extra.0, extra.1, extra.2, extra.3, extra.4, … and 312 more;" in message
    assert "extra.5" not in message and "missing" not in message


def test_each_kind_of_difference_is_refused_alone():
    complete = values(network())
    assert "missing (1)" in refused(network(), {k: v for k, v in complete.items() if k != "backbone.1._mean"})
    assert "unexpected (1)" in refused(network(), {**complete, "fc.bias": f4(0)})
    assert "wrong shape (1)" in refused(network(), {**complete, "backbone.1._mean": f4(0)})


def test_another_number_of_classes_is_said_in_words():
    message = refused(network(19), values(network(150)))
    assert "the checkpoint has 150 classes, the network 19;" in message
    assert "head.weight (150, 4, 1, 1) in the checkpoint, (19, 4, 1, 1) in the network" in message


@pytest.mark.parametrize("changes", [
    {"head.bias": f4(0, 0)},  # 2 against 3 ...
    {"backbone.0.bias": f4(0), "backbone.1.bias": f4(0)},  # the width of the backbone
    {"head.weight": np.zeros((5, 9, 1, 1), "float32")},  # two dimensions differ
    {"head.weight": np.zeros((5, 4), "float32")},  # another rank
])
def test_other_shapes_are_not_called_classes(changes):
    state = {**values(network(3)), **{"se_layer.bias": f4(0, 0, 0, 0, 0)}, **changes}
    message = refused(network(3), state)
    assert "classes" not in message and f"wrong shape ({len(changes) + 1})" in message


def test_partial_load_reports_shares_of_backbone_and_head():
    layer, state = network(19), values(network(150))
    head = layer.head.weight.numpy().copy()
    del state["backbone.1._mean"]
    state["fc.weight"] = state["junk"] = f4(0)
    report = checkpoint.fill_layer(layer, state, allow_partial=True, ignore_extra=("fc.",))
    assert report.loaded_of(backbone=True) == (5, 6) and report.loaded_of(backbone=False) == (0, 4)
    text = str(report)
    assert "5 of 6 tensors of the backbone (83%) and 0 of 4 tensors of the head (0%)" in text
    assert "left as initialised: backbone.1._mean, head.weight, head.bias" in text
    assert "not used: junk" in text and "ignored as asked: fc.weight" in text
    assert np.array_equal(layer.backbone[0].weight.numpy(), state["backbone.0.weight"])
    assert np.array_equal(layer.head.weight.numpy(), head)
    assert report.unexpected == ("junk",) and report.wrong_shape[0] == "head.weight"


def test_report_of_a_network_without_backbone():
    text = str(checkpoint.fill_layer(network(backbone=False), values(network(backbone=False))))
    assert text == "loaded 4 of 4 tensors of the head (100%); the network has no backbone"


@pytest.mark.parametrize("state", [{}, {"module.head.bias": f4(0, 0, 0)}, {"head.bias": f4(0)}])
@pytest.mark.parametrize("allow_partial", [False, True])
def test_nothing_in_common_is_always_an_error(state, allow_partial):
    layer = network()
    if allow_partial or "head.bias" not in state:
        assert "not one tensor" in refused(layer, state, allow_partial=allow_partial)
    else:
        refused(layer, state)


def test_tensors_in_an_inner_dict_are_pointed_out():
    message = refused(network(), FIXTURES / "torch_zip.pth", allow_partial=True)
    assert "in a dict that it holds (tensors, state_dict, optimizer, meta); pass that dict" in message


def test_ignore_extra_forgives_only_its_prefixes_and_only_extras():
    state = {**values(network()), "fc.weight": f4(0), "out.bias": f4(0)}
    assert checkpoint.fill_layer(network(), state, ignore_extra=("fc.", "out.")).ignored == ("fc.weight", "out.bias")
    extra = {**values(network()), "fc.b": f4(0)}
    assert checkpoint.fill_layer(network(), extra, ignore_extra="fc.").ignored == ("fc.b",)
    assert "unexpected (1): out.bias" in refused(network(), state, ignore_extra=("fc.",))
    del state["head.bias"]
    assert "missing (1): head.bias" in refused(network(), state, ignore_extra=("fc.", "out.", "head."))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_float_types_are_converted(dtype):
    layer, state = network(), {name: array.astype(dtype) for name, array in values(network()).items()}
    checkpoint.fill_layer(layer, state)
    assert layer.head.weight.dtype == paddle.float32
    assert np.array_equal(layer.head.weight.numpy(), state["head.weight"].astype("float32"))


def test_a_bfloat16_network_is_filled():
    layer = paddle.nn.Linear(2, 2)
    layer.to(dtype="bfloat16")
    checkpoint.fill_layer(layer, {"weight": f4([1.5, 2], [3, 4]), "bias": f4(-3, 0)})
    assert layer.weight.dtype == paddle.bfloat16
    assert layer.weight.astype("float32").numpy().tolist() == [[1.5, 2], [3, 4]]


@pytest.mark.parametrize("allow_partial", [False, True])
@pytest.mark.parametrize("value", [np.array([1, 2, 3]), {"nested": 1}, 5])
def test_integers_and_non_tensors_for_a_parameter_are_refused(value, allow_partial):
    message = refused(network(), {**values(network()), "head.bias": value}, allow_partial=allow_partial)
    assert "wrong type (1): head.bias is " in message


def test_integer_buffers_are_filled_but_not_from_floats_or_beyond_their_range():
    layer = paddle.nn.Layer()
    layer.register_buffer("count", paddle.to_tensor([1, 2], dtype="int32"))
    checkpoint.fill_layer(layer, {"count": np.array([3, 4])})
    assert layer.count.numpy().tolist() == [3, 4]
    assert "wrong type" in refused(layer, {"count": f4(3, 4)})
    assert "wrong type" in refused(layer, {"count": np.array([3, 2**40])})


def test_safetensors_round_trip(tmp_path):
    state = {**{k: v for k, v in TENSORS.items()}, "fortran": np.asfortranarray(TENSORS["f32"]),
             "big_endian": np.array([1, 2], ">i4"), "é": np.array(3, "int8")}
    path = tmp_path / "out.safetensors"
    path.write_bytes(b"old")
    checkpoint.write_safetensors(state, path)
    read = checkpoint.read_weights(path)
    same({name: read[name] for name in state}, {**state, "big_endian": np.array([1, 2], "int32")})
    assert os.listdir(tmp_path) == ["out.safetensors"]


def test_safetensors_reads_elsewhere(tmp_path):
    numpy_reader = pytest.importorskip("safetensors.numpy")
    checkpoint.write_safetensors(TENSORS, tmp_path / "out.safetensors")
    read = numpy_reader.load_file(tmp_path / "out.safetensors")
    assert read.keys() == TENSORS.keys() and all(np.array_equal(read[name], TENSORS[name]) for name in read)


@pytest.mark.parametrize("state", [{"w": [1, 2]}, {"w": np.array([None])}, {3: f4(0)}, {"__metadata__": f4(0)}])
def test_safetensors_refuses_what_it_cannot_hold(tmp_path, state):
    path = tmp_path / "out.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(CheckpointError):
        checkpoint.write_safetensors({"good": f4(1), **state}, path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["out.safetensors"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "out.safetensors"
    path.write_bytes(b"old")

    def full(_):
        raise OSError("disk full")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.write_safetensors({"w": f4(1)}, path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["out.safetensors"]
