"""8 bits that keep the accuracy: which convolutions stay in float32, and by what that is measured."""

import numpy as np
import pytest
from conftest import ROOT
from exports import NORMALIZE, exported, needs_onnx, random_images
from networks import randomised
from paddleseg.cvlibs import Config, SegBuilder, manager
from PIL import Image

from paddleseg_encnet import ENCNet
from paddleseg_encnet.deployment import exporting, held_out, int8
from segrun.backends.onnx_runtime import OnnxRuntime
from segrun.exports import Export

NAMES = [f"conv2d_{i}.w_0" for i in range(9)]


class Quantiser:
    """In place of ONNX Runtime: a network of nine convolutions, of which the first so many have to stay in float32."""

    def __init__(self, needed: int, monkeypatch):
        self.needed, self.written, self.times, self.said = needed, 0, 0, []
        monkeypatch.setattr(int8, "quantise", self.quantise)
        monkeypatch.setattr(int8, "by_noise", lambda *_: [(f"node {name}", name) for name in NAMES])

    def quantise(self, folded, path, before, chosen, in_float):
        assert in_float == [f"node {name}" for name in NAMES[:len(in_float)]]
        self.written, self.times = len(in_float), self.times + 1

    def mean_iou(self, model, before):
        return 0.8 if model == "folded" or self.written >= self.needed else 0.7

    def within(self, max_drop=0.5):
        limit = int8.Limit(max_drop, self.mean_iou, self.said.append)
        return int8.quantise_within(limit, "folded", "path", None, ["image"])


@pytest.mark.parametrize("needed", range(9))
def test_the_fewest_convolutions_stay_in_float32(needed, monkeypatch):
    quantiser = Quantiser(needed, monkeypatch)
    assert quantiser.within() == NAMES[:needed]
    assert quantiser.written == needed and quantiser.times <= 5
    if needed:
        assert "no convolutions in float32: +10.00 points of mIoU lost of 80.00" in quantiser.said
        assert f"{needed} convolutions in float32: +0.00 points of mIoU lost of 80.00" in quantiser.said


def test_a_limit_that_cannot_be_kept(monkeypatch):
    with pytest.raises(int8.Int8Error, match=r"lose 10.00 points.* even if 8 of 9 .*--max_drop 0.5 can't be kept"):
        Quantiser(9, monkeypatch).within()
    assert Quantiser(9, monkeypatch).within(max_drop=11) == []


def test_weights_are_called_as_their_layers():
    network = ENCNet(3, manager.BACKBONES["EfficientNetLite0"](output_stride=16), num_codes=4, mid_channels=8)
    names = {weight.name: name for name, weight in network.named_parameters()}
    found = [weight for weight in names if int8.weight(f"ConvBnFusion_W_{weight}") == weight]
    depthwise = [name for weight, name in names.items() if weight.startswith("depthwise")]
    assert len(depthwise) == 16 and len(found) > 40
    assert exporting.layers_of_weights(found, network) == [names[weight].removesuffix(".weight") for weight in found]
    assert "backbone._blocks.13._depthwise_conv" in exporting.layers_of_weights(found, network)
    assert int8.weight("another") == "another" and exporting.layers_of_weights(["another"], network) == ["another"]


# --- by what it is measured ------------------------------------------------------------------------------------------

@pytest.fixture
def pictures(scenes):
    """All of the scenes, of train and val."""
    return sorted(map(str, (scenes / "leftImg8bit").rglob("*.png")))


def test_images_that_are_calibrated_on_are_not_measured_on(small_config, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(int8, "CALIBRATION_IMAGES", 2)
    builder = SegBuilder(Config(str(small_config)))
    foreign = str(tmp_path / "foreign.png")
    labels = held_out.labelled_images(builder, [*pictures, foreign])
    assert len(int8.calibrating([*pictures, foreign])) == 2
    assert sorted(labels) == sorted(set(pictures) - set(int8.calibrating([*pictures, foreign])))
    assert all(label.endswith("labelTrainIds.png") for label in labels.values())
    monkeypatch.setattr(held_out, "MOST_IMAGES", 1)
    assert len(held_out.labelled_images(builder, pictures)) == 1


@pytest.mark.parametrize("flags, message", [
    (["--max_drop", 1], "--max_drop is a number of points from 0 on, beside --int8 IMAGES"),
    (["--max_drop", -1, "--int8", ROOT / "docs" / "images" / "street.jpg"], "from 0 on, beside --int8 IMAGES; got -1"),
    (["--max_drop", 1, "--int8", ROOT / "docs" / "images" / "street.jpg"],
     "--max_drop can't be kept: none of the images of"),
])
def test_drops_that_cannot_be_measured(flags, message, small_config, error_of, tmp_path):
    error = error_of("export", "--config", small_config, "--model_path", "unread.pdparams", "--save_dir",
                     tmp_path / "new", *flags)
    assert message in error
    assert list(tmp_path.iterdir()) == []


# --- with ONNX Runtime -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def lite(image, tmp_path_factory):
    """An int8 export of EfficientNet-Lite, whose ReLU6 reaches its 6."""
    folder = tmp_path_factory.mktemp("lite")
    backbone = manager.BACKBONES["EfficientNetLite0"](output_stride=16)
    network = randomised(ENCNet(19, backbone, num_codes=4, mid_channels=16))
    image = str(image)
    names = [str(i) for i in range(19)]
    exporting.export_network(network, str(folder), {"transforms": NORMALIZE, "class_names": names}, "argmax", onnx=True,
                             calibration=[image])
    return folder, network, image


@needs_onnx
def test_a_clip_is_before_the_8_bits_and_not_behind(lite):
    """What EfficientNet-Lite lost 22 points by: outputs from -50 to 80 in 8 bits, of which 0 to 6 was kept."""
    import onnx
    nodes = onnx.load(str(lite[0] / "model_int8.onnx")).graph.node
    dequantised = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    clips = [node for node in nodes if node.op_type == "Clip"]
    assert not any(node.input[0] in dequantised for node in clips)
    assert sum(node.op_type == "Conv" and node.input[0] in dequantised for node in nodes) > 50


@needs_onnx
def test_convolutions_named_stay_in_float32(lite, tmp_path):
    import onnx
    folder, _, image = lite
    before = Export(str(folder))
    needed = 3

    def mean_iou(model, before):
        nodes = onnx.load(model).graph.node
        dequantised = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
        eight = [node for node in nodes if node.op_type == "Conv" and node.input[1] in dequantised]
        return 0.8 if len(eight) <= sum(node.op_type == "Conv" for node in nodes) - needed else 0.7

    kept = int8.to_int8(str(folder / "model.onnx"), str(tmp_path / "int8.onnx"), before, [image],
                        int8.Limit(0.5, mean_iou, str))
    assert len(kept) == needed and mean_iou(str(tmp_path / "int8.onnx"), before) == 0.8
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]
    run = OnnxRuntime(str(tmp_path / "int8.onnx"), "cpu", 1)
    assert run(random_images(1, 3, 40, 50))[0].shape == (1, 40, 50)


@needs_onnx
def test_scores_are_those_of_the_labels(lite, small_config, pictures, tmp_path):
    """Of a network that is right everywhere, and of the float32 one against its own classes."""
    folder, _, image = lite
    before, config = Export(str(folder)), SegBuilder(Config(str(small_config))).config

    def mean_iou():
        return held_out.mean_iou(str(folder / "model.onnx"), before, {image: label}, config)
    classes = exported(folder, "onnx").run(before.batch_of(image)).values[0]
    label = str(tmp_path / "label.png")
    Image.fromarray(classes.astype("uint8")).save(label)
    assert mean_iou() == 1
    Image.fromarray(np.where(np.arange(classes.shape[1]) < 9, 255, classes).astype("uint8")).save(label)
    assert mean_iou() == 1
    Image.fromarray(np.full_like(classes, 18).astype("uint8")).save(label)
    right = (classes == 18).mean()
    assert mean_iou() == pytest.approx(right / len(set(np.unique(classes)) | {18}), abs=1e-6)


@needs_onnx
def test_export_measures_what_int8_costs(small_config, lively_weights, scenes, image, run_tool, tmp_path, capfd,
                                         monkeypatch):
    monkeypatch.setattr(int8, "CALIBRATION_IMAGES", 1)
    monkeypatch.setattr(held_out, "MOST_IMAGES", 2)
    run_tool("export", "--config", small_config, "--model_path", lively_weights, "--save_dir", tmp_path / "new",
             "--int8", scenes / "leftImg8bit" / "train", "--max_drop", 100, "--verify", image)
    output = capfd.readouterr().out
    assert "measured on 2 images" in output and "no convolutions in float32: " in output
    assert "int8: largest logit difference" in output
    assert "float32_convolutions" not in (tmp_path / "new" / "deploy.yaml").read_text()
