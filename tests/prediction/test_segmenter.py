"""Segmenter: what tools/predict.py and infer.py write, from Python; what it refuses; docs/python.md as it stands."""

import argparse
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import cv2
import numpy as np
import paddle
import pytest
import yaml
from conftest import ROOT
from near_ties import assert_same_classes, live_scores
from PIL import Image, ImageOps

import paddleseg_encnet
from paddleseg_encnet import Segmenter, cli
from paddleseg_encnet.data.reading import DataError
from paddleseg_encnet.pictures.palettes import CITYSCAPES

random = np.random.default_rng(0)


def network_of(config):
    return cli.build(argparse.Namespace(config=str(config), opts=None)).model


def normalized(pixels: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] as the network takes it, float32 [1, 3, H, W]."""
    return ((pixels / 255 - 0.5) / 0.5).astype("float32").transpose(2, 0, 1)[np.newaxis]


@pytest.fixture(scope="module")
def resizing(small_config, tmp_path_factory) -> pathlib.Path:
    """The small config with validation images made smaller, so that predictions are resized to the image's own size."""
    path = tmp_path_factory.mktemp("resizing") / "resizing.yml"
    path.write_text(f"""
_base_: {small_config}
val_dataset:
  transforms: [{{type: Resize, target_size: [96, 48]}}, {{type: Normalize}}]
""")
    return path


@pytest.fixture(scope="module")
def weights(small_config, pixels, tmp_path_factory) -> pathlib.Path:
    """Random ones, of a size that keeps activations near 1, with which an image has many classes."""
    network, numbers = network_of(small_config), np.random.RandomState(3)
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            bound = (6 / np.prod(tensor.shape[1:])) ** 0.5
            tensor.set_value(numbers.uniform(-bound, bound, tensor.shape).astype("float32"))
        elif not name.endswith(".scale"):       # BatchNorm's four, and biases
            tensor.set_value(numbers.uniform(0.2, 0.8, tensor.shape).astype("float32"))
    network.eval()
    with paddle.no_grad():      # each class is as often above 0 as below
        logits = network(paddle.to_tensor(normalized(pixels)))[0].numpy()
        network.head.bias.set_value(network.head.bias.numpy() - np.median(logits, axis=(0, 2, 3)))
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(network.state_dict(), str(path))
    return path


@pytest.fixture(scope="module")
def segmenter(small_config, weights) -> Segmenter:
    return Segmenter(small_config, weights, device="cpu")


@pytest.fixture(scope="module")
def image(scenes) -> pathlib.Path:
    return next((scenes / "leftImg8bit" / "val").glob("*/*.png"))


@pytest.fixture(scope="module")
def pixels(image) -> np.ndarray:
    return np.array(Image.open(image))


@pytest.fixture
def written(run_tool, weights, tmp_path):
    """written(CONFIG, IMAGE, *flags): what tools/predict.py writes, by the kind of picture."""
    def predict(config, path, *flags):
        run_tool("predict", "--config", config, "--model_path", weights, "--image_path", path, "--save_dir",
                 tmp_path / "out", "--save", "ids", "confidence", "overlay", "legend", *flags)
        name = f"{path.stem}.png"
        return {kind: np.array(Image.open(tmp_path / "out" / folder / name)) for kind, folder in (
            ("ids", "ids"), ("confidence", "confidence"), ("overlay", "added_prediction"), ("legend", "legend"))}
    return predict


def assert_equal(seen, expected):
    """To the last bit: it is the same network on the same pixels."""
    assert len(np.unique(expected["ids"])) > 3, "an image of one class shows little"
    for name, found in (("ids", seen.ids), ("confidence", seen.confidence), ("overlay", seen.overlay())):
        np.testing.assert_array_equal(found, expected[name])
        assert found.dtype == np.uint8
    shown = cv2.imdecode(np.frombuffer(seen._repr_png_(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(shown, expected["legend"])


# --- equal to tools/predict.py ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", [str, pathlib.Path, lambda path: np.array(Image.open(path)), Image.open],
                         ids=["text", "path", "array", "PIL image"])
def test_whatever_holds_the_image_the_result_is_that_of_predict(segmenter, small_config, image, written, kind):
    seen = segmenter(kind(str(image)))
    assert_equal(seen, written(small_config, image))
    assert seen.names == segmenter.names == list(CITYSCAPES)


def test_own_size_is_that_of_predict_too(resizing, weights, image, pixels, written):
    seen = Segmenter(resizing, weights, device="cpu")(image)
    assert seen.ids.shape == pixels.shape[:2] == (64, 128)
    assert_equal(seen, written(resizing, image))


@pytest.mark.parametrize("options, flags", [
    (dict(is_slide=True, crop_size=[64, 64], stride=[48, 48]),
     ["--is_slide", "--crop_size", 64, 64, "--stride", 48, 48]),
    (dict(aug_pred=True, scales=[0.5, 1.0], flip_horizontal=True),
     ["--aug_pred", "--scales", 0.5, 1.0, "--flip_horizontal"])], ids=["windows", "scales and flips"])
def test_flags_of_predict(small_config, weights, image, written, options, flags):
    assert_equal(Segmenter(small_config, weights, device="cpu", **options)(image), written(small_config, image, *flags))


def test_colors_and_names_of_the_config_and_keys_that_are_set(small_config, weights, image, tmp_path):
    config = tmp_path / "config.yml"
    config.write_text(f"_base_: {small_config}\ntest_config: {{custom_color: {[1, 2, 3] * 19}}}\n")
    seen = Segmenter(config, weights, device="cpu")(image)
    assert (seen.overlay(alpha=1) == [1, 2, 3]).all() and (seen.overlay(alpha=0) == seen.image).all()
    own = Segmenter(small_config, weights, device="cpu", opts=["val_dataset.type=Dataset"])
    assert own.names == [str(i) for i in range(19)]


def test_a_list_gives_what_its_images_give_alone(segmenter, image, pixels):
    mirrored = pixels[:, ::-1]      # not contiguous
    both = segmenter([image, mirrored])
    assert [len(both), len(segmenter(())), len(segmenter([]))] == [2, 0, 0]
    np.testing.assert_array_equal(both[0].ids, segmenter(image).ids)
    np.testing.assert_array_equal(both[1].ids, segmenter(mirrored.copy()).ids)
    assert (both[0].ids != both[1].ids).any()


def test_what_is_given_stays_as_it_is(segmenter, pixels):
    given = pixels.copy()
    given.flags.writeable = False
    seen = segmenter(given)
    np.testing.assert_array_equal(seen.image, pixels)
    seen.image[:] = 0
    np.testing.assert_array_equal(given, pixels)


# --- files and PIL images of other kinds -----------------------------------------------------------------------------

def test_orientation_is_followed_in_a_path_and_left_in_a_pil_image(segmenter, pixels, tmp_path):
    path, exif = tmp_path / "turned.png", Image.Exif()
    exif[0x0112] = 6        # to be shown turned by a quarter to the right
    Image.fromarray(pixels).save(path, exif=exif)
    upright = np.rot90(pixels, -1)
    np.testing.assert_array_equal(segmenter(path).ids, segmenter(upright).ids)
    np.testing.assert_array_equal(segmenter(Image.open(path)).ids, segmenter(pixels).ids)
    np.testing.assert_array_equal(segmenter(ImageOps.exif_transpose(Image.open(path))).ids, segmenter(upright).ids)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_pil_images_are_taken_as_their_files_are(segmenter, pixels, tmp_path, mode):
    made = Image.fromarray(pixels).quantize(16) if mode == "P" else Image.fromarray(pixels).convert(mode)
    if mode == "RGBA":
        made.putalpha(Image.fromarray(random.integers(0, 256, pixels.shape[:2], dtype=np.uint8)))
    made.save(tmp_path / "image.png")
    np.testing.assert_array_equal(segmenter(made).image, segmenter(tmp_path / "image.png").image)


# --- presence --------------------------------------------------------------------------------------------------------

def test_presence_is_the_sigmoid_of_the_se_branch(segmenter, small_config, weights, pixels):
    network = network_of(small_config)
    network.set_state_dict(paddle.load(str(weights)))
    network.eval()
    with paddle.no_grad():
        context, _ = network.enc_module(network.fuse(network.backbone(paddle.to_tensor(normalized(pixels)))))
        logits = network.se_layer(context).numpy()[0].astype(np.float64)
    found = segmenter(pixels).presence
    assert found.dtype == np.float32 and found.shape == (19,)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), rtol=1e-5)     # float32
    assert found.max() - found.min() > 0.1


def test_presence_in_windows_is_the_largest_of_them(segmenter, small_config, weights, pixels):
    windows = Segmenter(small_config, weights, device="cpu", is_slide=True, crop_size=[64, 64], stride=[64, 64])
    halves = [segmenter(pixels[:, :64]).presence, segmenter(pixels[:, 64:]).presence]
    np.testing.assert_allclose(windows(pixels).presence, np.max(halves, axis=0), rtol=1e-5)
    assert (halves[0] != halves[1]).any()


def test_no_branch_no_presence(small_config, pixels, tmp_path):
    config = tmp_path / "fcn.yml"
    config.write_text(f"""
_base_: {small_config}
model:
  _inherited_: False
  type: DilatedFCN
  num_classes: 19
  mid_channels: 8
  use_aux_loss: False
  backbone: {{type: ResNet18_vd, output_stride: 16}}
loss: {{_inherited_: False, types: [{{type: CrossEntropyLoss}}], coef: [1]}}
""")
    paddle.save(network_of(config).state_dict(), str(tmp_path / "fcn.pdparams"))
    seen = Segmenter(config, tmp_path / "fcn.pdparams", device="cpu")(pixels)
    assert seen.presence is None and seen.ids.shape == (64, 128)


# --- exports ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def exported(run_tool, weights, tmp_path):
    """exported(CONFIG, *flags): the folder of an export."""
    def export(config, *flags):
        run_tool("export", "--config", config, "--model_path", weights, "--save_dir", tmp_path / "export", *flags)
        return tmp_path / "export"
    return export


def test_export_of_classes(exported, resizing, image, run_tool, tmp_path):
    folder = exported(resizing)
    seen = Segmenter(folder, device="cpu")(image)
    run_tool("infer", "--config", folder / "deploy.yaml", "--image_path", image, "--save_dir", tmp_path / "masks")
    np.testing.assert_array_equal(seen.ids, np.array(Image.open(tmp_path / "masks" / image.name)))
    assert seen.ids.dtype == np.uint8 and seen.ids.shape == (64, 128)
    assert seen.confidence is None and seen.presence is None and seen.names == list(CITYSCAPES)
    again = Segmenter(str(folder / "deploy.yaml"))(image)
    np.testing.assert_array_equal(again.ids, seen.ids)


@pytest.mark.parametrize("config, output_op", [("resizing", "none"), ("small_config", "softmax")])
def test_export_of_scores_is_the_live_network(exported, weights, image, config, output_op, request):
    config = request.getfixturevalue(config)
    live = Segmenter(config, weights, device="cpu")(image)
    seen = Segmenter(exported(config, "--output_op", output_op))(image)
    np.testing.assert_array_equal(seen.image, live.image)
    np.testing.assert_array_equal(seen.style.colors, live.style.colors)
    assert len(np.unique(live.ids)) > 2 and seen.presence is None
    assert_same_classes(seen.ids, live.ids, live_scores(config, weights, image))
    # Paddle Inference sums in another order, so that a rounding may go the other way.
    assert np.abs(seen.confidence.astype(int) - live.confidence).max() <= 1


def test_export_of_a_fixed_batch_and_size(exported, small_config, weights, segmenter, image, pixels):
    folder = exported(small_config, "--input_shape", 2, 3, 64, 128)
    fixed = Segmenter(folder)
    assert_same_classes(fixed(image).ids, segmenter(image).ids, live_scores(small_config, weights, image))
    with pytest.raises(ValueError, match="image 1 of the list comes to the network as 100 x 64, but that was"):
        fixed([pixels, pixels[:, :100]])

    # PaddleSeg's own export names no classes.
    content = yaml.safe_load((folder / "deploy.yaml").read_text())
    del content["Deploy"]["class_names"], content["Deploy"]["palette"]
    (folder / "deploy.yaml").write_text(yaml.safe_dump(content))
    seen = Segmenter(folder)(image)
    assert seen.names[:3] == ["0", "1", "2"] and seen.names[seen.ids.max()] == str(seen.ids.max())
    assert seen._repr_png_().startswith(b"\x89PNG")


# --- the notebook, the process ---------------------------------------------------------------------------------------

def test_text_of_a_result(segmenter, pixels):
    seen = segmenter(pixels)
    first = segmenter.names[np.bincount(seen.ids.reshape(-1)).argmax()]
    assert re.match(rf"<Segmentation of 128 x 64 pixels: {first} \d+%, ", repr(seen)) and "\n" not in repr(seen)


def test_device_is_the_segmenters_own(small_config, weights, image, monkeypatch):
    chosen = []
    set_device = paddle.set_device
    monkeypatch.setattr(paddle, "get_device", lambda: chosen[-1] if chosen else "somewhere:3")
    monkeypatch.setattr(paddle, "set_device", lambda name: chosen.append(name) or set_device("cpu"))
    segmenter = Segmenter(small_config, weights, device="cpu")
    assert chosen == ["cpu", "somewhere:3"]
    segmenter(image)
    assert chosen == ["cpu", "somewhere:3"] * 2


def test_device_that_is_there_is_taken_without_a_word(small_config, weights, image, segmenter, monkeypatch):
    from paddleseg_encnet.runtime import devices
    lines = []
    monkeypatch.setattr(devices.logger, "warning", lines.append)
    np.testing.assert_array_equal(Segmenter(small_config, weights)(image).ids, segmenter(image).ids)
    if not paddle.is_compiled_with_cuda():
        assert lines == []
        Segmenter(small_config, weights, device="gpu")
        assert len(lines) == 1 and "no gpu" in lines[0]


def test_importing_the_package_imports_no_more_than_before():
    code = ("import sys, paddleseg_encnet\n"
            "rooms = ('prediction', 'training', 'evaluation', 'explaining', 'deployment', 'weights', 'cli')\n"
            "print([name for name in sys.modules if name.split('.')[1:2] and name.split('.')[1] in rooms\n"
            "       and name.startswith('paddleseg_encnet.')])\n"
            "assert {'Segmenter', 'train', 'score'} <= set(dir(paddleseg_encnet))\n"
            "from paddleseg_encnet import Segmenter, score, train\n"
            "print(Segmenter.__name__, score.__name__, train.__name__)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    before, after = done.stdout.splitlines()[-2:]
    assert "prediction" not in before and "from_config" not in before and after == "Segmenter score train", before
    with pytest.raises(AttributeError, match="module 'paddleseg_encnet' has no attribute 'Segmentor'"):
        paddleseg_encnet.Segmentor


# --- mistakes --------------------------------------------------------------------------------------------------------

def ones(*shape, dtype=np.uint8):
    return np.ones(shape, dtype)


@pytest.mark.parametrize("given, error, words", [
    (ones(8, 9, 3, dtype=np.float32), TypeError, "image is an array of float32: it must be uint8, RGB from 0 to 255"),
    (ones(8, 9, 3, dtype=np.int64), TypeError, "an array of int64: it must be uint8"),
    (ones(8, 9), ValueError, r"of shape \[8, 9\]: it must be \[H, W, 3\], RGB; np.stack"),
    (ones(8, 9, 1), ValueError, r"of shape \[8, 9, 1\]: .*image.repeat"),
    (ones(8, 9, 4), ValueError, r"of shape \[8, 9, 4\]: .*of RGBA take image\[..., :3\]"),
    (ones(2, 8, 9, 3), ValueError, r"of shape \[2, 8, 9, 3\]: .*list\(images\)"),
    (ones(3, 8, 9), ValueError, r"of shape \[3, 8, 9\]: .*transpose\(1, 2, 0\)"),
    (ones(8, 9, 5), ValueError, r"of shape \[8, 9, 5\]: it must be \[H, W, 3\], RGB$"),
    (ones(0, 9, 3), ValueError, r"of shape \[0, 9, 3\]: .*at least one pixel"),
    (None, TypeError, "the image is a NoneType; give a path, an array"),
    (paddle.ones([8, 9, 3]), TypeError, "the image is a Tensor; give a path"),
    ([ones(8, 9, 3), ones(8, 9)], ValueError, r"image 1 of the list is an array of shape \[8, 9\]"),
    ([ones(8, 9, 3), 7], TypeError, "image 1 of the list is a int; give a path"),
    ([[ones(8, 9, 3)]], TypeError, "image 0 of the list is a list; give a path"),
    (Image.new("F", (9, 8)), ValueError, "the image is a PIL image of mode F, whose values go beyond 255"),
    (Image.new("I;16", (9, 8)), ValueError, "the image is a PIL image of mode I;16"),
    ("nowhere.png", FileNotFoundError, "there is no image nowhere.png$"),
    (str(ROOT), FileNotFoundError, "there is no image .*, it is a folder"),
    (pathlib.Path(__file__), DataError, "cannot read the image .*test_segmenter.py: it is damaged"),
])
def test_what_is_no_image_is_refused_in_one_line(segmenter, given, error, words):
    with pytest.raises(error, match=words) as raised:
        segmenter(given)
    assert "\n" not in str(raised.value)


def test_advice_for_arrays_is_good_advice(segmenter, pixels):
    """Each expression of the messages, applied, gives an image that is taken."""
    np.testing.assert_array_equal(segmenter((255 * (pixels / 255)).round().astype('uint8')).ids, segmenter(pixels).ids)
    grey = pixels[..., 0]
    for image in (np.stack([grey] * 3, axis=2), grey[..., None].repeat(3, axis=2)):
        np.testing.assert_array_equal(segmenter(image).image, np.dstack([grey] * 3))
    np.testing.assert_array_equal(segmenter(pixels.transpose(2, 0, 1).transpose(1, 2, 0)).image, pixels)
    assert len(segmenter(list(np.stack([pixels] * 2)))) == 2


@pytest.mark.parametrize("arguments, options, error, words", [
    (["nowhere.yml", "weights"], {}, FileNotFoundError, "there is no config nowhere.yml"),
    (["CONFIG"], {}, ValueError, "a config needs weights"),
    (["CONFIG", "/nowhere.pdparams"], {}, ValueError, "/nowhere.pdparams: does not exist"),
    (["CONFIG", "WEIGHTS"], {"slide": True}, TypeError, "there is no argument slide; of inference there are aug_pred"),
    (["CONFIG", "WEIGHTS"], {"is_slide": True}, ValueError, "need crop_size and stride"),
    (["FOLDER"], {}, FileNotFoundError, "there is no .*deploy.yaml; give the deploy.yaml of an export"),
    (["FOLDER", "WEIGHTS"], {}, ValueError, "is taken for an export, which has weights of its own.*leave weights out"),
    (["FOLDER"], {"device": "gpu:1"}, ValueError, 'an export runs on device "cpu" or "gpu", got \'gpu:1\''),
    (["FOLDER"], {"opts": ["iters=2"]}, ValueError, "leave opts out"),
])
def test_mistakes_in_the_making(small_config, weights, tmp_path, arguments, options, error, words):
    there = {"CONFIG": small_config, "WEIGHTS": weights, "FOLDER": tmp_path}
    with pytest.raises(error, match=words) as raised:
        Segmenter(*(there.get(argument, argument) for argument in arguments), **options)
    assert "\n" not in str(raised.value)


# --- docs/python.md --------------------------------------------------------------------------------------------------

def test_page_runs_from_its_first_line_to_its_last(small_config, scenes, run_tool, tmp_path, monkeypatch, capsys):
    """As it stands, in a folder where the quick start is small, and with two steps."""
    (tmp_path / "configs").mkdir()
    shutil.copy(small_config, tmp_path / "configs" / "encnet_quick_start.yml")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scenes").symlink_to(scenes)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "python.md").read_text()
    assert text.count("iters=100, ") == 1
    text = text.replace("iters=100, ", "iters=2, device='cpu', ")
    space = {}
    for code, command in re.findall(r"```python\n([^`]*)```|^    (python tools/(?:.*\\\n)*.*)$", text, re.M):
        if code:
            exec(code, space)
        elif "make_scenes" not in command:
            _, script, *arguments = shlex.split(command.replace("\\\n", ""))
            run_tool(pathlib.Path(script).stem, *arguments)
    said = capsys.readouterr().out
    assert re.search(r"^\d\.\d{4} at step 2$", said, re.M) and "of the pixels agree" in said
    assert (tmp_path / "output" / "python" / "overlay.png").stat().st_size > 0
    assert space["again"].presence is None and space["again"].confidence is not None
