"""Images of 1, 4 and 6 channels from the config to the export: every tool, and one prediction from all of them."""

import re

import cv2
import numpy as np
import paddle
import pytest
import tifffile
from conftest import ROOT
from near_ties import MOST, assert_same_classes
from paddleseg.cvlibs import Config, SegBuilder
from PIL import Image

from paddleseg_encnet import Segmenter
from paddleseg_encnet.weights import checkpoint

CHANNELS = {1: np.uint8, 4: np.uint8, 6: np.uint16}


def write_image(folder, name: str, channels: int, seed: int) -> str:
    """Three classes in stripes, each bright in another channel; of six channels with 12 bits. Returns its file name."""
    random = np.random.default_rng(seed)
    label = np.repeat(random.integers(0, 3, [4, 6]), 12, axis=0).repeat(12, axis=1).astype(np.uint8)     # [48, 72]
    top = 4000 if channels == 6 else 250
    image = np.stack([np.where(label == i % 3, top * 0.8, top * 0.1 * (label + 1)) for i in range(channels)], axis=2)
    image = (image + random.normal(0, top * 0.02, image.shape)).clip(0, top).astype(CHANNELS[channels])
    cv2.imwrite(str(folder / f"{name}_label.png"), label)
    if channels == 1:
        cv2.imwrite(str(folder / f"{name}.png"), image)
        return f"{name}.png"
    tifffile.imwrite(folder / f"{name}.tif", image, photometric="minisblack", planarconfig="contig")
    return f"{name}.tif"


@pytest.fixture(scope="module", params=CHANNELS)
def made(request, tmp_path_factory):
    """(channels, folder, config): images, a config that names the number at the backbone alone, and weights."""
    channels, folder = request.param, tmp_path_factory.mktemp("channels")
    for split, count in (("train", 8), ("val", 3)):
        names = [write_image(folder, f"{split}{i}", channels, hash_of(split, i)) for i in range(count)]
        (folder / f"{split}.txt").write_text("".join(f"{name} {name.split('.')[0]}_label.png\n" for name in names))
    top = 4000 / 255 if channels == 6 else 1.0
    normalize = f"{{type: Normalize, mean: {[0.4 * top] * channels}, std: {[0.3 * top] * channels}}}"
    config = folder / "config.yml"
    config.write_text(f"""
_base_: {ROOT}/configs/_base_/encnet.yml
batch_size: 2
iters: 4
ignore_index: 255
train_dataset:
  type: Dataset
  mode: train
  dataset_root: {folder}
  train_path: {folder}/train.txt
  num_classes: 3
  transforms:
    - {{type: ResizeStepScaling, min_scale_factor: 0.5, max_scale_factor: 1.5, scale_step_size: 0.25}}
    - {{type: RandomPaddingCrop, crop_size: [64, 64]}}
    - {{type: RandomHorizontalFlip}}
    - {normalize}
val_dataset:
  type: Dataset
  mode: val
  dataset_root: {folder}
  val_path: {folder}/val.txt
  num_classes: 3
  transforms:
    - {normalize}
model:
  num_classes: 3
  backbone: {{type: ResNet18_v1b, output_stride: 16, in_channels: {channels}}}
  num_codes: 4
  mid_channels: 16
optimizer: {{type: SGD, momentum: 0.9, weight_decay: 1.0e-4}}
lr_scheduler: {{type: PolynomialDecay, learning_rate: 0.02, end_lr: 0, power: 0.9}}
""")
    paddle.save(SegBuilder(Config(str(config))).model.state_dict(), str(folder / "model.pdparams"))
    return channels, folder, config


def hash_of(split: str, number: int) -> int:
    return number + 100 * (split == "val")


def test_from_the_config_to_the_export(made, run_tool, tmp_path, capsys):
    channels, folder, config = made
    run_tool("check_data", "--config", config, "--save_dir", tmp_path / "data", "--num_workers", 2)
    assert "Nothing wrong was found" in capsys.readouterr().out
    run_tool("train", "--config", config, "--do_eval", "--use_vdl", "--save_dir", tmp_path / "run", "--num_workers", 2,
             "--seed", 1, "--save_interval", 4)
    output = capsys.readouterr()
    assert "can't" not in output.out and list((tmp_path / "run").glob("vdlrecords*"))
    weights = tmp_path / "run" / "iter_4" / "model.pdparams"
    assert checkpoint.read_weights(weights)["backbone.stem.0.weight"].shape[1] == channels
    run_tool("val", "--config", config, "--model_path", weights, "--aug_eval", "--flip_horizontal", "--scales", 1.0)
    assert "Images: 3" in capsys.readouterr().out

    image = folder / f"val0.{'png' if channels == 1 else 'tif'}"
    images = [folder / f"val{i}.{image.suffix[1:]}" for i in range(3)]
    (folder / "images.txt").write_text("".join(f"{path.name}\n" for path in images))
    run_tool("predict", "--config", config, "--model_path", weights, "--image_path", folder / "images.txt", "--save",
             "ids", "overlay", "comparison", "--save_dir", tmp_path / "predicted")
    run_tool("predict", "--config", config, "--model_path", weights, "--image_path", image, "--save", "ids",
             "--save_dir", tmp_path / "windows", "--is_slide", "--crop_size", 72, 48, "--stride", 36, 24)
    run_tool("explain", image, "--config", config, "--model_path", weights, "--save_dir", tmp_path / "explained")
    run_tool("explain", folder / "images.txt", "--config", config, "--model_path", weights, "--save_dir",
             tmp_path / "explained")
    assert {path.name for path in (tmp_path / "explained").iterdir()} >= {"val0.png", "val0.html", "codewords.html"}
    run_tool("export", "--config", config, "--model_path", weights, "--save_dir", tmp_path / "export", "--verify",
             image)
    agreeing = re.findall(r"Paddle Inference: .*, ([\d.]+)% of the pixels agree", capsys.readouterr().out)
    assert len(agreeing) == 1 and float(agreeing[0]) >= 100 * (1 - MOST)
    run_tool("infer", "--config", tmp_path / "export" / "deploy.yaml", "--image_path", folder / "images.txt",
             "--save_dir", tmp_path / "inferred")

    segmenters = [Segmenter(config, weights, device="cpu"), Segmenter(tmp_path / "export", device="cpu")]
    live = SegBuilder(Config(str(config))).model
    checkpoint.fill_layer(live, weights)
    live.eval()
    for path in images:
        ids = cv2.imread(str(tmp_path / "predicted" / "ids" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        assert ids.shape == (48, 72) and (ids.max() < 3 and len(np.unique(ids)) > 1)
        inferred, scores = palette_ids(tmp_path / "inferred" / f"{path.stem}.png"), by_hand(live, path, channels)
        assert_same_classes(inferred, ids, scores)
        assert_same_classes(scores.argmax(axis=0), ids, scores)     # of pixels that were normalised in float64
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if channels == 1 else tifffile.imread(path)
        for given in (path, pixels):
            np.testing.assert_array_equal(segmenters[0](given).ids, ids)
            np.testing.assert_array_equal(segmenters[1](given).ids, inferred)
    # One window of the image's size is the image.
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "windows" / "ids" / "val0.png"), cv2.IMREAD_UNCHANGED),
                                  cv2.imread(str(tmp_path / "predicted" / "ids" / "val0.png"), cv2.IMREAD_UNCHANGED))


def test_what_is_no_image_for_the_network(made, tmp_path):
    channels, folder, config = made
    segmenter = Segmenter(config, folder / "model.pdparams", device="cpu")
    wanted = r"\[H, W\]" if channels == 1 else rf"\[H, W, {channels}\]"
    for shape in ([8, 9, 3], [8, 9, channels, 1], [0, 9] if channels == 1 else [8, 9]):
        with pytest.raises(ValueError, match=rf"the image is an array of shape \[.*\]: it must be {wanted}, as"):
            segmenter(np.ones(shape, np.uint8))
    with pytest.raises(TypeError, match="the image is an array of bool: it must be"):
        segmenter(np.ones([8, 9] if channels == 1 else [8, 9, channels], bool))
    if channels == 1:
        image = Image.open(folder / "val0.png")
        np.testing.assert_array_equal(segmenter(image).ids, segmenter(folder / "val0.png").ids)
    else:
        with pytest.raises(ValueError, match=rf"PIL image, the network takes {channels} channels.*array {wanted}"):
            segmenter(Image.new("RGB", [9, 8]))


def palette_ids(path) -> np.ndarray:
    return np.array(Image.open(path))


def by_hand(model, path, channels: int) -> np.ndarray:
    """The logits [C, H, W], without anything of this package but the network."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[..., None] if channels == 1 else tifffile.imread(path)
    top = 4000 if channels == 6 else 255
    values = ((image / top - 0.4) / 0.3).astype("float32").transpose(2, 0, 1)[None]
    with paddle.no_grad():
        return model(paddle.to_tensor(values))[0].numpy()[0]


def test_a_file_with_other_channels_ends_the_run_with_its_name(made, run_tool, tmp_path):
    channels, folder, config = made
    if channels == 1:
        pytest.skip("OpenCV makes grey of any image, as PaddleSeg does")
    other = {4: 6, 6: 4}[channels]
    name = write_image(tmp_path, "other", other, 7)
    (tmp_path / "train.txt").write_text(f"{name} other_label.png\n" * 2)
    with pytest.raises(SystemExit, match=f"error: .*{name} has {other} channels, but in_channels is {channels}"):
        run_tool("train", "--config", config, "--save_dir", tmp_path / "run", "--opts",
                 f"train_dataset.dataset_root={tmp_path}", f"train_dataset.train_path={tmp_path}/train.txt")
    with pytest.raises(SystemExit, match=f"error: .*{name} has {other} channels, but in_channels is {channels}"):
        run_tool("train", "--config", config, "--save_dir", tmp_path / "run", "--no_data_check", "--num_workers", 2,
                 "--opts", f"train_dataset.dataset_root={tmp_path}", f"train_dataset.train_path={tmp_path}/train.txt")


def test_weights_of_colour_images(made, run_tool, tmp_path, capsys):
    """As the backbone's `pretrained`: refused with what to do, or taken but for the first convolution."""
    channels, folder, config = made
    colour = SegBuilder(Config(str(config))).build_component({"type": "ResNet18_v1b", "output_stride": 16})
    paddle.save(colour.state_dict(), str(tmp_path / "colour.pdparams"))
    arguments = ("--config", config, "--save_dir", tmp_path / "run", "--iters", 1, "--no_data_check", "--learning_rate",
                 1e-9, "--opts", f"model.backbone.pretrained={tmp_path}/colour.pdparams")
    with pytest.raises(SystemExit, match=f"images with 3 channels, the network of {channels} .in_channels.*leave "
                                         "`pretrained` out, or train with --allow_partial"):
        run_tool("train", *arguments)
    capsys.readouterr()
    run_tool("train", "--allow_partial", *arguments)
    assert "left as initialised: 1, stem.0.weight\n" in capsys.readouterr().out
    trained = checkpoint.read_weights(tmp_path / "run" / "iter_1" / "model.pdparams")
    np.testing.assert_allclose(trained["backbone.layer1.0.conv1.weight"],
                               colour.state_dict()["layer1.0.conv1.weight"].numpy(), atol=1e-6)     # of the step
    own = {name[len("backbone."):]: value for name, value in trained.items() if name.startswith("backbone.")}
    with pytest.raises(checkpoint.CheckpointError, match=f"images with {channels} channel.*the network of 3.*set "
                                                         f"in_channels to {channels}"):
        checkpoint.fill_layer(colour, own)


def test_a_video_has_three_channels(made, run_tool, tmp_path):
    channels, folder, config = made
    (tmp_path / "x.mp4").write_bytes(b"any")
    with pytest.raises(SystemExit, match=f"x.mp4 have 3 channels, the network takes {channels}"):
        run_tool("predict", "--config", config, "--model_path", folder / "model.pdparams", "--image_path",
                 tmp_path / "x.mp4", "--save_dir", tmp_path / "out")


def test_an_export_for_other_channels_is_refused(made, run_tool, tmp_path):
    channels, folder, config = made
    with pytest.raises(SystemExit, match=f"--input_shape has 3 channels, the network takes {channels}"):
        run_tool("export", "--config", config, "--model_path", folder / "model.pdparams", "--save_dir",
                 tmp_path / "export", "--input_shape", 1, 3, 48, 72)
    assert not (tmp_path / "export").exists()
