"""Imported weights: names, shapes and refusals with hand-made dicts; logits against PyTorch where it is installed."""

import dataclasses
import os

import numpy as np
import paddle
import pytest
import yaml
from conftest import ROOT, relative_difference
from networks import evaluating, uninitialised
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.models.backbones import ResNet50_vd, ResNet101_vd
from paddleseg.models.encnet import ENCNet as StockENCNet
from segmenters import visible
from weight_states import (
    DEEP,
    DEEP_IN_CONV1,
    State,
    build,
    encoding_state,
    fastfcn_state,
    mmseg_state,
    picture,
    resnet18,
    run_import,
    saved,
    without,
)

import paddleseg_encnet.models.backbones  # noqa: F401  registers
from paddleseg_encnet.weights import checkpoint, sources, weight_conversion
from paddleseg_encnet.weights.checkpoint import CheckpointError

TOLERANCE = 1e-4
SIZE = (65, 97)         # no multiples of 8


def imported(checkpoint_dict: dict):
    tensors, section = weight_conversion.convert_weights(checkpoint_dict)
    network = build(section)
    report = checkpoint.fill_layer(network, tensors)
    assert not (report.missing or report.unexpected or report.wrong_shape)
    return network


# --- recognition and names --------------------------------------------------------------------------------------------

def test_mmsegmentation_is_recognised():
    source = sources.recognise(mmseg_state(lateral=True))
    assert (source.family, source.backbone, source.stem_width) == ("mmsegmentation", "ResNet18_v1c", 32)
    assert (source.num_classes, source.num_codes, source.mid_channels, source.aux_channels) == (5, 3, 4, 6)
    assert source.add_lateral and source.use_se_loss and not source.align_corners
    assert "align_corners is False" in source.notes()[0]


def test_pytorch_encoding_is_recognised():
    source = sources.recognise(encoding_state())
    assert (source.family, source.backbone, source.stem_width) == ("PyTorch-Encoding", "ResNet18_v1c", 64)
    assert source.align_corners and not source.add_lateral
    assert source.notes() == ["the ImageNet classifier is left out"]


def test_fastfcn_is_recognised():
    source = sources.recognise(fastfcn_state())
    assert (source.family, source.use_jpu, source.output_stride) == ("PyTorch-Encoding", True, 32)
    assert "joint pyramid upsampling, presence layer" in str(source)
    _, section = weight_conversion.convert_weights(fastfcn_state())
    assert section["use_jpu"] is True and section["backbone"]["output_stride"] == 32
    assert weight_conversion.convert_weights(encoding_state())[1]["use_jpu"] is False
    assert ("jpu.*", "jpu", 3 * 5 + 4 * 10) in weight_conversion.conversion_summary(source)


@pytest.mark.parametrize("stem, width, backbone", [
    (("conv1", "bn1"), 32, "ResNet18_v1b"), (DEEP, 32, "ResNet18_v1c"), (DEEP_IN_CONV1, 64, "ResNet18_v1c")])
@pytest.mark.parametrize("prefix, classifier", [("", "fc"), ("backbone.", "head.fc")])
def test_backbones_are_recognised(stem, width, backbone, prefix, classifier):
    state = resnet18(State(), prefix, stem, width)
    state.conv(classifier, 1000, 512, bias=True)
    source = sources.recognise(state)
    assert (source.backbone, source.stem_width, source.is_network) == (backbone, width, False)
    tensors, section = weight_conversion.convert_weights(state)
    assert section == {"type": backbone, "output_stride": 8, "in_channels": 3, "stem_width": width,
                       "first_block_dilation": "half"}
    assert np.array_equal(tensors["stem.0.weight"], state[f"{prefix}{stem[0]}.weight"])
    assert np.array_equal(tensors["layer4.1.bn2._variance"], state[f"{prefix}layer4.1.bn2.running_var"])


@pytest.mark.parametrize("state, pairs", [
    (mmseg_state(lateral=True), {
        "backbone.stem.7._mean": "backbone.stem.7.running_mean",
        "bottleneck._conv.weight": "decode_head.bottleneck.conv.weight",
        "lateral_convs.1._batch_norm.bias": "decode_head.lateral_convs.1.bn.bias",
        "fusion._conv.weight": "decode_head.fusion.conv.weight",
        "enc_module.encoding.0.scale": "decode_head.enc_module.encoding.0.scale",
        "enc_module.encoding.1._variance": "decode_head.enc_module.encoding.1.running_var",
        "head.bias": "decode_head.conv_seg.bias",
        "fcn_head.conv.weight": "auxiliary_head.conv_seg.weight"}),
    (encoding_state(), {
        "backbone.stem.6.weight": "pretrained.conv1.6.weight",
        "backbone.stem.7.weight": "pretrained.bn1.weight",
        "enc_module.encoding_project._conv.weight": "head.encmodule.encoding.0.weight",
        "enc_module.encoding.0.codewords": "head.encmodule.encoding.3.codewords",
        "head.weight": "head.conv6.1.weight",
        "se_layer.bias": "head.encmodule.selayer.bias",
        "fcn_head.conv_bn_relu._batch_norm._mean": "auxlayer.conv5.1.running_mean"}),
    (fastfcn_state(), {
        "bottleneck._conv.weight": "head.conv5.0.weight",
        "jpu.conv5._conv.weight": "jpu.conv5.0.weight",
        "jpu.conv3._batch_norm._variance": "jpu.conv3.1.running_var",
        "jpu.dilation1.depthwise_conv._conv.weight": "jpu.dilation1.0.conv1.weight",
        "jpu.dilation2.depthwise_conv._batch_norm.bias": "jpu.dilation2.0.bn.bias",
        "jpu.dilation3.piontwise_conv._conv.weight": "jpu.dilation3.0.pointwise.weight",
        "jpu.dilation4.piontwise_conv._batch_norm._mean": "jpu.dilation4.1.running_mean"}),
])
def test_names(state, pairs):
    tensors, _ = weight_conversion.convert_weights(state)
    for ours, theirs in pairs.items():
        assert np.array_equal(tensors[ours], state[theirs]), ours
    transposed = "decode_head.se_layer.weight" if "decode_head.se_layer.weight" in state else \
        "head.encmodule.selayer.weight"
    assert np.array_equal(tensors["se_layer.weight"], state[transposed].T)
    assert not tensors["bottleneck._conv.bias"].any()
    # every number of the file arrives, but for counters and the ImageNet classifier
    arrived = {value.flat[-1] for value in tensors.values()}
    assert arrived >= {value.flat[-1] for name, value in state.items()
                       if not name.endswith("num_batches_tracked") and not name.startswith("pretrained.fc.")}


@pytest.mark.parametrize("state", [mmseg_state(lateral=True), mmseg_state(), encoding_state(), fastfcn_state()],
                         ids=["mmsegmentation with laterals", "mmsegmentation", "PyTorch-Encoding", "FastFCN"])
def test_converted_weights_fill_the_whole_network(state):
    tensors, _ = weight_conversion.convert_weights(state)
    assert set(imported(state).state_dict()) == set(tensors)


@pytest.mark.parametrize("wrap", [
    lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 1}, "best_pred": 0.4},
    lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    lambda state: {"model": {"state_dict": state}, "meta": {"epoch": 1}},
])
def test_wrappers(wrap):
    plain, _ = weight_conversion.convert_weights(encoding_state())
    wrapped, _ = weight_conversion.convert_weights(wrap(encoding_state()))
    assert plain.keys() == wrapped.keys()
    assert all(np.array_equal(plain[name], wrapped[name]) for name in plain)


def test_half_precision_becomes_single():
    state = {name: value.astype("float16") if value.dtype.kind == "f" else value
             for name, value in encoding_state().items()}
    tensors, _ = weight_conversion.convert_weights(state)
    assert {value.dtype.name for value in tensors.values()} == {"float32"}


CONFIG_TEXT = """model = dict(
    backbone=dict(type='ResNetV1c', dilations=(1, 1, 1, 2), style='pytorch', contract_dilation={contracted}),
    decode_head=dict(
        type='EncHead',
        norm_cfg=dict(type='SyncBN'),
        align_corners=True),
    auxiliary_head=dict(align_corners=False))"""


@pytest.mark.parametrize("contracted, first", [("True", "half"), ("False", "full")])
def test_settings_come_from_the_config_that_mmsegmentation_saves(contracted, first):
    text = CONFIG_TEXT.format(contracted=contracted)
    source = sources.recognise({"meta": {"config": text}, "state_dict": mmseg_state()})
    assert (source.align_corners, source.output_stride, source.first_block_dilation) == (True, 16, first)
    assert not source.notes()


def test_caffe_style_is_refused():
    text = CONFIG_TEXT.format(contracted="True").replace("pytorch", "caffe")
    with pytest.raises(CheckpointError, match="caffe"):
        sources.recognise({"meta": {"config": text}, "state_dict": mmseg_state()})


def test_without_the_parts_that_only_training_needs():
    state = without(mmseg_state(), "auxiliary_head", "decode_head.se_layer")
    tensors, section = weight_conversion.convert_weights(state)
    assert section["use_se_loss"] is False and section["aux_channels"] == 256
    notes = " ".join(sources.recognise(state).notes())
    assert "freshly initialised" in notes and "no presence layer" in notes
    weight = tensors["fcn_head.conv_bn_relu._conv.weight"]
    assert weight.std() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert (tensors["fcn_head.conv_bn_relu._batch_norm._variance"] == 1).all()
    assert np.array_equal(weight, weight_conversion.convert_weights(state)[0]["fcn_head.conv_bn_relu._conv.weight"])
    imported(state)


# --- refusals ---------------------------------------------------------------------------------------------------------

HOLDS_ITSELF = {"epoch": 3}
HOLDS_ITSELF["model"] = HOLDS_ITSELF


@pytest.mark.parametrize("state, words", [
    (without(mmseg_state(), "decode_head.fusion", "decode_head.bottleneck.bn.weight"),
     r"missing \(1\): decode_head.bottleneck.bn.weight$"),
    (without(mmseg_state(lateral=True), "decode_head.fusion"),
     r"missing \(5\): decode_head.fusion.conv.weight, decode_head.fusion.bn.weight, .*running_var$"),
    ({**mmseg_state(), "decode_head.extra.weight": np.ones(3, "float32")}, r"not used \(1\): decode_head.extra.weight"),
    ({**mmseg_state(), "decode_head.bottleneck.bn.bias": np.ones(3, "float32")},
     r"wrong \(1\): decode_head.bottleneck.bn.bias float32 \(3,\) instead of \(4,\)$"),
    ({**mmseg_state(), "decode_head.enc_module.fc.0.bias": np.ones(4, "int64")}, r"fc.0.bias int64 \(4,\)"),
    (without(fastfcn_state(), "jpu.dilation2.0.bn.weight"), r"missing \(1\): jpu.dilation2.0.bn.weight$"),
    ({**without(fastfcn_state(), "jpu"), "jpu.jum_1.conv_l.0.weight": np.ones((2, 4, 3, 3), "float32")}, "JPU_X"),
    (without(mmseg_state(), "backbone.layer3.1"), "2-2-1-2 basic blocks"),
    (without(mmseg_state(), "backbone.stem"), "no ResNet and no EfficientNet-Lite was found"),
    (resnet18(State(), "", DEEP_IN_CONV1, shortcut=(1, 2)), "ResNet-18 with average-pool shortcuts"),
    ({"epoch": 3}, "no tensors"),
    (HOLDS_ITSELF, "no tensors"),
    ({3: np.ones(3, "float32")}, "no tensors"),
    ({**mmseg_state(), "decode_head.conv_seg.weight": np.ones(3, "float32")}, "4 dimensions were expected"),
    ({**mmseg_state(), "decode_head.conv_seg.weight": np.ones((0, 1 << 40, 1, 1), "float32")}, "does not fit"),
    ({"w": np.ones(3, "float32")}, "its first tensors are w"),
])
def test_refused(state, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        weight_conversion.convert_weights(state)
    assert "\n" not in str(caught.value)


def test_encnet_on_v1d_is_refused():
    state = {**without(mmseg_state(), "backbone."), **resnet18(State(), "backbone.", DEEP, shortcut=(1, 2))}
    with pytest.raises(CheckpointError, match="V1d"):
        weight_conversion.convert_weights(state)


# --- PaddleSeg's own --------------------------------------------------------------------------------------------------

def randomise_statistics(network):
    random = np.random.RandomState(0)
    for name, value in network.state_dict().items():
        if name.endswith(("._mean", "bias")):
            value.set_value(random.uniform(-0.3, 0.3, value.shape).astype("float32"))
        elif name.endswith("._variance") or value.ndim == 1 and name.endswith(".weight"):
            value.set_value(random.uniform(0.5, 1.0, value.shape).astype("float32"))
        else:
            bound = (6 / np.prod(value.shape[1:])) ** 0.5
            value.set_value(random.uniform(-bound, bound, value.shape).astype("float32"))


def logits(network, images):
    with paddle.no_grad():
        return network(paddle.to_tensor(images))[0].numpy()


@pytest.mark.parametrize("lateral", [False, True])
@pytest.mark.parametrize("vd", [ResNet50_vd, ResNet101_vd])
def test_stock_encnet_both_ways(vd, lateral):
    with uninitialised():
        stock, back = (evaluating(StockENCNet(19, vd(), mid_channels=32, add_lateral=lateral)) for _ in range(2))
    randomise_statistics(stock)
    state = {name: value.numpy() for name, value in stock.state_dict().items()}
    source = sources.recognise(state)
    assert (source.family, source.add_lateral, source.notes()) == ("PaddleSeg", lateral, [])
    tensors, _ = weight_conversion.convert_weights(state)
    assert tensors.keys() == state.keys() and all(np.array_equal(tensors[name], state[name]) for name in state)
    ours = imported(state)
    images = picture(33, 49)
    expected = logits(stock, images)
    assert expected.std() > 0.01
    assert relative_difference(logits(ours, images), expected) < 1e-5
    missing, unexpected = back.set_state_dict(ours.state_dict())
    assert not missing and not unexpected
    assert relative_difference(logits(back, images), expected) == 0


# --- PyTorch ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("torch", reason="comparing with PyTorch needs torch; pip install torch")
    import torch_encnet
    return torch_encnet


def torch_outputs(module, images):
    import torch
    with torch.no_grad():
        return [x.numpy() for x in module(torch.from_numpy(images))]


def compare(module, network, images, pick):
    """Largest relative difference of what both say of the images; printed with pytest -s."""
    expected = pick(torch_outputs(module, images))
    with paddle.no_grad():
        found = [x.numpy() for x in network(paddle.to_tensor(images))][:len(expected)]
    differences = [relative_difference(ours, theirs) for ours, theirs in zip(found, expected)]
    assert all(x.std() > 1e-2 for x in expected)
    print(f"largest relative difference {max(differences):.1e}")
    assert max(differences) < TOLERANCE


@pytest.mark.parametrize("depth, lateral, width, size", [
    (50, True, 512, SIZE), (50, False, 64, (71, 50)), (101, True, 64, (33, 49)), (101, False, 64, SIZE),
    (152, True, 64, (33, 49)), (152, False, 64, (33, 49))])
def test_pytorch_encoding(reference, depth, lateral, width, size):
    module = reference.randomise(reference.EncodingEncNet(depth, 59 if lateral else 150, lateral, width=width))
    network = imported(reference.arrays(module))
    compare(module, network, picture(*size), lambda outputs: outputs[:1])


@pytest.mark.parametrize("depth, width, size", [(50, 512, SIZE), (101, 64, (33, 49)), (50, 64, (71, 50))])
def test_fastfcn(reference, depth, width, size):
    module = reference.randomise(reference.EncodingEncNet(depth, 59, lateral=False, width=width, jpu=True))
    compare(module, imported(reference.arrays(module)), picture(*size), lambda outputs: outputs[:1])


@pytest.mark.parametrize("depth, lateral, width, corners, size", [
    (50, False, 512, False, SIZE), (101, False, 64, False, (33, 49)), (50, True, 64, True, (71, 50)),
    (18, True, 64, False, SIZE)])
def test_mmsegmentation(reference, depth, lateral, width, corners, size):
    module = reference.randomise(reference.MMSegEncNet(depth, 19, lateral, width=width, align_corners=corners))
    text = CONFIG_TEXT.format(contracted="True").replace("(1, 1, 1, 2)", "(1, 1, 2, 4)").replace(
        "align_corners=True", f"align_corners={corners}")
    network = imported({"meta": {"config": text}, "state_dict": reference.arrays(module)})
    compare(module, network, picture(*size), lambda outputs: outputs[:1])


@pytest.mark.parametrize("jpu", [False, True])
def test_presence_and_auxiliary_logits(reference, jpu):
    """While training there are more outputs; here with running statistics and without dropout, as in inference."""
    module = reference.randomise(reference.EncodingEncNet(18, 7, not jpu, width=32, jpu=jpu))
    network = imported(reference.arrays(module))
    images = picture(*SIZE)
    expected, presence, auxiliary = torch_outputs(module, images)
    network.training = True         # of the network alone: its layers stay as they are
    with paddle.no_grad():
        found = [x.numpy() for x in network(paddle.to_tensor(images))]
    for ours, theirs in zip(found, (expected, auxiliary, presence)):
        assert relative_difference(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("depth, stem, width, pooled", [
    (18, "7x7", 32, False), (34, "7x7", 32, False), (50, "7x7", 32, False), (101, "7x7", 32, False),
    (152, "7x7", 32, False), (50, "conv1", 64, False), (18, "stem", 32, False), (50, "conv1", 32, True)])
def test_backbone_stages(reference, depth, stem, width, pooled):
    module = reference.randomise(reference.ResNet(depth, stem, width, pooled=pooled))
    state = reference.arrays(module)
    tensors, section = weight_conversion.convert_weights(state)
    assert section["type"] == f"ResNet{depth}_{'vd' if pooled else 'v1b' if stem == '7x7' else 'v1c'}"
    network = build({**section, "output_stride": 32})
    checkpoint.fill_layer(network, tensors)
    compare(module, network, picture(*((33, 49) if depth > 50 else SIZE)), lambda maps: maps)


# --- the tool ---------------------------------------------------------------------------------------------------------

def test_tool_writes_weights_and_a_config_that_builds(tmp_path, capsys):
    path = saved(mmseg_state(classes=19), tmp_path / "mm.safetensors")
    run_import(path, "--output_dir", tmp_path / "out", "--align_corners", "True")
    text = capsys.readouterr().out
    assert "decode_head.enc_module.*" in text and "enc_module" in text and "note:" not in text
    assert visible(tmp_path / "out") == ["model.pdparams", "model.yml"]

    config = yaml.safe_load((tmp_path / "out" / "model.yml").read_text())
    assert config["train_dataset"]["type"] == "Cityscapes" and config["model"]["align_corners"] is True
    assert config["val_dataset"]["transforms"][-1] == {
        "type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    builder = SegBuilder(Config(str(tmp_path / "out" / "model.yml")))
    network = builder.model         # reads the weights: `pretrained` names them
    found = network.state_dict()["se_layer.weight"].numpy()
    assert np.array_equal(found, mmseg_state(classes=19)["decode_head.se_layer.weight"].T)
    assert len(builder.loss["types"]) == 3


def test_tool_where_no_data_set_has_as_many_classes(tmp_path, capsys):
    state = without(mmseg_state(classes=7), "decode_head.se_layer")
    run_import(saved(state, tmp_path / "mm.safetensors"), "--output_dir", tmp_path, "--format", "safetensors")
    assert "no data set here has 7 classes" in capsys.readouterr().out
    config = yaml.safe_load((tmp_path / "model.yml").read_text())
    assert (config["val_dataset"]["type"], config["val_dataset"]["num_classes"]) == ("Dataset", 7)
    assert config["val_dataset"]["val_path"] == "path/to/your/data/val.txt"
    assert config["loss"]["coef"] == [1, 0.4]
    assert "enc_module.fc.0.weight" in checkpoint.read_weights(tmp_path / "model.safetensors")


def test_tool_with_a_base(tmp_path):
    path = saved(encoding_state(classes=11), tmp_path / "e.safetensors")
    (tmp_path / "base.yml").write_text(f"_base_: {ROOT}/configs/encnet_quick_start.yml\niters: 1234\n")
    run_import(path, "--output_dir", tmp_path, "--base", tmp_path / "base.yml")
    config = yaml.safe_load((tmp_path / "model.yml").read_text())
    assert config["iters"] == 1234 and config["model"]["num_classes"] == 11


def test_imported_network_is_evaluated_predicts_and_trains(tmp_path, small_config, scenes, run_tool, capsys):
    state = {name: value * 1e-3 if value.dtype.kind == "f" else value for name, value in
             mmseg_state(classes=19).items()}
    run_import(saved(state, tmp_path / "mm.safetensors"), "--output_dir", tmp_path / "net", "--base", small_config)
    config, weights = tmp_path / "net" / "model.yml", tmp_path / "net" / "model.pdparams"
    run_tool("val", "--config", config, "--model_path", weights)
    run_tool("predict", "--config", config, "--model_path", weights, "--save_dir", tmp_path / "pictures",
             "--image_path", next((scenes / "leftImg8bit" / "val").rglob("*.png")))
    run_tool("train", "--config", config, "--iters", 1, "--save_interval", 1, "--save_dir", tmp_path / "run")
    trained = checkpoint.read_weights(tmp_path / "run" / "iter_1" / "model.pdparams")
    assert trained.keys() == checkpoint.read_weights(weights).keys()
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 2
    assert "mIoU" in capsys.readouterr().out


def test_tool_imports_a_backbone(tmp_path):
    state = resnet18(State())
    run_import(saved(state, tmp_path / "r.safetensors"), "--output_dir", tmp_path)
    (tmp_path / "use.yml").write_text(
        f"_base_: [backbone.yml, {ROOT}/configs/encnet_cityscapes_1024x512_80k.yml]\nmodel: {{mid_channels: 8}}\n")
    network = SegBuilder(Config(str(tmp_path / "use.yml"))).model
    assert np.array_equal(network.backbone.layer4[1].conv2.weight.numpy(), state["layer4.1.conv2.weight"])


@pytest.mark.parametrize("make, words", [
    (lambda path: path, "does not exist"),
    (lambda path: saved(without(mmseg_state(), "decode_head.bottleneck.bn.bias"), path), "missing (1)"),
])
def test_tool_errors_are_one_line_and_leave_nothing(tmp_path, make, words):
    with pytest.raises(SystemExit) as caught:
        run_import(make(tmp_path / "x.safetensors"), "--output_dir", tmp_path / "out")
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_tool_leaves_nothing_half_written(tmp_path, monkeypatch):
    path = saved(mmseg_state(classes=19), tmp_path / "mm.safetensors")

    def full(_, temporary):
        open(temporary, "wb").write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paddle, "save", full)
    with pytest.raises(SystemExit, match="No space left"):
        run_import(path, "--output_dir", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_source_can_be_overruled():
    state = mmseg_state()
    source = dataclasses.replace(sources.recognise(state), align_corners=True)
    assert weight_conversion.convert_weights(state, source)[1]["align_corners"] is True
