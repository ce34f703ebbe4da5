"""tools/predict.py and what it is made of: inputs, kinds of pictures, sliding windows, videos."""

import os
import resource
import subprocess
import sys

import cv2
import numpy as np
import paddle
import pytest
from conftest import ROOT
from paddleseg.core import infer
from paddleseg.transforms import Compose, Normalize, Resize
from paddleseg.utils import visualize
from PIL import Image

from paddleseg_encnet import predictor
from paddleseg_encnet.data import reading
from segrun import drawing, inputs, outputs, video
from segrun import tiling as sliding
from segrun.palettes import ADE20K, CAMVID, PALETTES, PASCAL_VOC, bit_reversed, color_table

random = np.random.default_rng(0)


class Edges(paddle.nn.Layer):
    """A network without chance: 5 classes from one convolution, so that each pixel depends on its neighbours."""

    def __init__(self, classes: int = 5):
        super().__init__()
        weights = np.random.default_rng(1).normal(size=[classes, 3, 3, 3]).astype("float32")
        self.conv = paddle.nn.Conv2D(3, classes, 3, padding=1)
        self.conv.weight.set_value(3 * weights)

    def forward(self, images):
        return [self.conv(images)]


def picture(height=40, width=60) -> np.ndarray:
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def small(**options) -> predictor.Predictor:
    return predictor.Predictor(Edges(), Compose([Normalize()]), **options)


STYLE = outputs.Style([f"class {i}" for i in range(5)], color_table(CAMVID))


# --- colours ---------------------------------------------------------------------------------------------------------

def test_palettes_have_the_classes_of_paddlesegs_datasets():
    from paddleseg import datasets
    for name in ("Cityscapes", "ADE20K", "PascalVOC", "PascalContext"):
        assert len(PALETTES[name]) == getattr(datasets, name).NUM_CLASSES
    assert len(PALETTES["CamVid"]) == 11 and len(PALETTES["PascalContext59"]) == 59
    assert [list(ADE20K).index(name) for name in ("wall", "sky", "person", "flag")] == [0, 2, 12, 149]
    assert PASCAL_VOC["person"] == (192, 128, 128) and PASCAL_VOC["background"] == (0, 0, 0)
    assert list(PALETTES["PascalContext"]).index("wood") == 59 and list(PALETTES["PascalContext59"]).index("wood") == 58


def test_colors_that_no_palette_has_are_paddlesegs():
    assert color_table(None)[:255].reshape(-1).tolist() == visualize.get_color_map_list(256)[:255 * 3]
    assert bit_reversed([1, 6, 255]).tolist() == [[128, 0, 0], [0, 128, 128], [224, 224, 192]]     # as in VOC's masks


def test_custom_colors_come_first():
    table = color_table(CAMVID, [1, 2, 3])
    assert table[0].tolist() == [1, 2, 3] and tuple(table[1]) == CAMVID["building"]
    assert table[255].tolist() == [0, 0, 0] and color_table(PASCAL_VOC)[255].tolist() == [224, 224, 192]
    assert color_table(None, size=65536)[300].tolist() == bit_reversed([301])[0].tolist()


# --- drawing ---------------------------------------------------------------------------------------------------------

def test_overlay_is_paddlesegs(tmp_path):
    image, ids = picture(), random.integers(0, 5, (40, 60), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "x.png"), image)
    stock = visualize.visualize(str(tmp_path / "x.png"), ids, STYLE.colors.reshape(-1).tolist(), weight=0.6)
    np.testing.assert_array_equal(drawing.overlay(image, ids, STYLE.colors[:, ::-1], alpha=0.4), stock)


def test_error_map():
    label, ids = np.array([[0, 1, 255]]), np.array([[0, 2, 2]])
    assert drawing.error_map(label, ids)[0].tolist() == [list(drawing.RIGHT), list(drawing.WRONG),
                                                         list(drawing.UNLABELLED)]


def test_legend_shows_each_class_seen_within_the_width():
    colors = color_table(ADE20K)
    shown = [0, 12, 60, 149]
    drawn = drawing.legend(list(ADE20K), colors, shown, width=160)
    assert drawn.shape[1] == 160 and drawn.shape[0] >= 2 * 24
    seen = {tuple(color) for color in drawn.reshape(-1, 3)}
    assert {tuple(colors[i]) for i in shown} <= seen and tuple(colors[5]) not in seen


def test_names_that_opencv_cannot_write():
    assert [drawing.writable(name, 7) for name in ("road", "Fläche", "道路", "道路 2")] == ["road", "Flache", "7", "7"]


# --- sliding windows -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size, crop, stride", [
    ((41, 67), (16, 16), (11, 7)), ((41, 67), (32, 16), (32, 16)), ((20, 90), (32, 32), (8, 8)),
    ((30, 30), (64, 64), (64, 64)), ((64, 32), (32, 10), (16, 3))])
def test_strips_are_paddlesegs_sliding_window_to_the_last_bit(size, crop, stride):
    image = picture(*size)
    own = small(is_slide=True, crop_size=crop, stride=stride, confidence=True)
    assert own.in_strips
    tensor = paddle.to_tensor(own.transformed(image)["img"][None])
    with paddle.no_grad():
        stock = infer.slide_inference(own.model, tensor, crop, stride).numpy()[0]
        logits = np.concatenate([strip.copy() for _, strip in sliding.strips(
            lambda top, bottom, left, right: own.model(tensor[:, :, top:bottom, left:right])[0][0].numpy(),
            size, crop, stride)], axis=1)
    np.testing.assert_array_equal(logits, stock)
    seen = own.predict(image)
    np.testing.assert_array_equal(seen.ids, stock.argmax(0))
    sure = np.exp(stock).max(0) / np.exp(stock).sum(0)
    np.testing.assert_allclose(seen.confidence, sure * 255, atol=0.5 + 1e-3)     # rounded; logits up to 20


def test_strips_hold_one_row_of_windows():
    """Of 64 windows one above the other, with overlap."""
    strips = sliding.strips(lambda top, bottom, left, right: np.zeros([3, bottom - top, right - left]),
                            (8 * 63 + 16, 20), (20, 16), (20, 8))
    rows = [(first, strip.shape[1], strip.base.shape[1]) for first, strip in strips]
    assert [first for first, _, _ in rows] == list(range(0, 8 * 64, 8)) and rows[-1][1] == 16
    assert max(held for _, _, held in rows) == 16


def test_windows_that_leave_pixels_out():
    with pytest.raises(ValueError, match="--stride 20 is larger than --crop_size 16"):
        small(is_slide=True, crop_size=(16, 16), stride=(16, 20)).predict(picture())


def test_what_changes_sizes_goes_paddlesegs_way():
    transforms = Compose([Resize(target_size=(32, 32)), Normalize()])
    own = predictor.Predictor(Edges(), transforms, is_slide=True, crop_size=(16, 16), stride=(8, 8))
    assert not own.in_strips and own.predict(picture()).ids.shape == (40, 60)


# --- confidence ------------------------------------------------------------------------------------------------------

def test_confidence_is_the_softmax_of_what_decides():
    image = picture()
    for options in ({}, {"aug_eval": True, "scales": [0.5, 1.0], "flip_horizontal": True}):
        own = small(confidence=True, **options)
        data = own.transformed(image)
        with paddle.no_grad():
            ids, logits = own.infer(own.model, paddle.to_tensor(data["img"][None]), trans_info=[], **own.inference)
        expected = paddle.nn.functional.softmax(logits, axis=1).max(axis=1)[0].numpy()
        seen = own.predict(image)
        np.testing.assert_array_equal(seen.ids, ids.numpy()[0, 0])
        np.testing.assert_allclose(seen.confidence, expected * 255, atol=0.5 + 1e-3)
        unsure = small(min_conf=0.7, **options).predict(image).ids
        np.testing.assert_array_equal(unsure, np.where(expected < 0.7, 255, seen.ids))
        assert 0 < (unsure == 255).mean() < 1


def test_more_than_255_classes_have_16_bits(tmp_path):
    own = predictor.Predictor(Edges(300), Compose([Normalize()]), min_conf=0.5)
    seen = own.predict(picture())
    assert seen.ids.dtype == np.uint16 and 65535 in seen.ids and 256 <= seen.ids[seen.ids < 65535].max() < 300
    style = outputs.Style([str(i) for i in range(300)], color_table(None, size=65536))
    for kind in ("ids", "palette", "legend", "comparison"):
        outputs.save(kind, seen, style, str(tmp_path), "x.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "ids" / "x.png"), cv2.IMREAD_UNCHANGED), seen.ids)
    colors = cv2.imread(str(tmp_path / "pseudo_color_prediction" / "x.png"))[..., ::-1]
    np.testing.assert_array_equal(colors, style.colors[seen.ids])


def test_pictures_for_people_are_not_larger_than_a_screen(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "PANEL", 400)
    ids = np.repeat(np.arange(5, dtype=np.uint8), 200)[None].repeat(100, axis=0)
    seen = outputs.Predicted(np.zeros([100, 1000, 3], np.uint8), ids, None, ids)
    for kind, width in (("legend", 400), ("comparison", 2 * 200 + 6)):
        drawn = cv2.imread(outputs.save(kind, seen, STYLE, str(tmp_path), "x.png"))[..., ::-1]
        assert drawn.shape[1] == width and {tuple(color) for color in STYLE.colors[:5]} <= {
            tuple(color) for color in drawn.reshape(-1, 3)}


# --- what is read ----------------------------------------------------------------------------------------------------

def test_images_of_other_kinds_are_read_as_color(tmp_path):
    color, path = picture(), str(tmp_path / "x.png")
    alpha = random.integers(0, 256, (40, 60, 1), dtype=np.uint8)
    grey = color[..., :1]
    palette = Image.fromarray(color[..., ::-1].copy()).quantize(16)
    deep = random.integers(0, 65536, (40, 60, 3)).astype(np.uint16)
    for written, expected in ((grey, np.repeat(grey, 3, 2)), (np.concatenate([color, alpha], 2), color),
                              (deep, (deep >> 8).astype(np.uint8))):
        cv2.imwrite(path, written)
        np.testing.assert_array_equal(reading.read_image(path), expected)
    palette.save(path)
    np.testing.assert_array_equal(reading.read_image(path), np.array(palette.convert("RGB"))[..., ::-1])


def test_folders_and_lists(tmp_path):
    for name in ("b/x.PNG", "a/y.jpg", "a/.hidden.png", "a/film.mp4", "with space.png", "label.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images, root, labels = inputs.find_images(str(tmp_path))
    assert [os.path.relpath(path, root) for path in images] == ["a/y.jpg", "b/x.PNG", "label.png", "with space.png"]
    assert not labels
    names = tmp_path / "list.txt"
    names.write_text("b/x.PNG label.png\n\nwith space.png\nwith space.png\tlabel.png\na/y.jpg\n")
    images, root, labels = inputs.find_images(str(names))
    at = str(tmp_path) + os.sep
    assert images == [at + "a/y.jpg", at + "b/x.PNG", at + "with space.png"] and root == str(tmp_path)
    assert labels == {at + "b/x.PNG": at + "label.png", at + "with space.png": at + "label.png"}
    names.write_text("b/x.PNG nowhere.png\n")
    with pytest.raises(FileNotFoundError, match="names 1 files that do not exist, the first: .*nowhere.png"):
        inputs.find_images(str(names))


def test_labels_as_the_data_sets_have_them(tmp_path):
    path = str(tmp_path / "x.png")
    cv2.imwrite(path, np.array([[0, 1, 5, 6, 255]], np.uint8))
    assert predictor.label_of(path, (1, 5), 5, 0, 255).tolist() == [[0, 1, 255, 255, 255]]    # CamVid's void is 11
    assert predictor.label_of(path, (1, 5), 5, 1, 255).tolist() == [[255, 0, 4, 255, 255]]    # ADE20K counts from 1
    assert predictor.label_of(path, (1, 5), 5, 0, 1).tolist() == [[0, 255, 255, 255, 255]]


# --- files -----------------------------------------------------------------------------------------------------------

def test_picture_that_cannot_be_written(tmp_path, monkeypatch):
    """The disk is full after a part of it."""
    def full(path, data):
        with open(path, "wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(outputs, "write_bytes", full)
    with pytest.raises(OSError, match="cannot write .*ids/a/x.png: No space left on device"):
        outputs.save("ids", small().predict(picture()), STYLE, str(tmp_path), "a/x.jpg")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# --- videos ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def film(tmp_path) -> str:
    """Seven frames, from dark to light."""
    path = str(tmp_path / "film.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for i in range(7):
        writer.write(np.full((48, 64, 3), 30 * i, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("ending", [".avi", ".mp4"])
def test_video_has_an_overlay_on_each_frame(film, ending, tmp_path):
    given = film.replace(".avi", ".avi" if ending == ".avi" else ".mov")    # the name decides what is written
    os.rename(film, given)
    written = video.predict_video(small(), given, str(tmp_path / "out"), STYLE)
    assert written.endswith(f"film{ending}") and video.count_frames(written) == 7
    seen = cv2.VideoCapture(written).read()[1]
    expected = outputs.overlay(small().predict(cv2.VideoCapture(given).read()[1]), STYLE, ".png")
    expected = cv2.imdecode(np.frombuffer(expected, np.uint8), 1)
    assert np.abs(seen.astype(int) - expected).mean() < 12, "the codec loses more than it should"
    assert os.listdir(os.path.dirname(written)) == [os.path.basename(written)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_of_a_video_that_was_not_finished(film, error, tmp_path):
    own = small()
    predict, frames = own.predict, []

    def interrupted(frame):
        frames.append(1)
        if len(frames) == 3:
            raise error()
        return predict(frame)
    own.predict = interrupted
    with pytest.raises(error):
        video.predict_video(own, film, str(tmp_path / "out"), STYLE)
    assert not os.listdir(tmp_path / "out" / "added_prediction")


def test_video_without_a_codec(film, tmp_path, monkeypatch):
    monkeypatch.setitem(video.CODECS, ".mp4", "none")
    os.rename(film, tmp_path / "film.mov")
    with pytest.raises(OSError, match="cannot write a video of codec none to .*added_prediction: convert the video"):
        video.predict_video(small(), str(tmp_path / "film.mov"), str(tmp_path / "out"), STYLE)
    assert not os.listdir(tmp_path / "out" / "added_prediction")


def test_video_on_a_full_disk(film, tmp_path):
    """OpenCV says nothing of it; the limit on a file's size does the same to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="film.avi: of 7 frames . are in the file; is there room?"):
            video.predict_video(small(), film, str(tmp_path / "out"), STYLE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not os.listdir(tmp_path / "out" / "added_prediction")


def test_video_that_cannot_be_read(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(reading.DataError, match="cannot read the video .*film.mp4"):
        video.predict_video(small(), str(tmp_path / "film.mp4"), str(tmp_path / "out"), STYLE)
    assert not (tmp_path / "out").exists()


# --- the command line ------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def weights(small_config, tmp_path_factory):
    from paddleseg.cvlibs import Config, SegBuilder
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(SegBuilder(Config(str(small_config))).model.state_dict(), str(path))
    return path


@pytest.fixture
def predict(weights, small_config, run_tool, tmp_path):
    """predict(IMAGE_PATH, *flags) writes into tmp_path/out, and returns it."""
    def run(path, *arguments):
        run_tool("predict", "--config", small_config, "--model_path", weights, "--image_path", path, "--save_dir",
                 tmp_path / "out", *arguments)
        return tmp_path / "out"
    return run


def files(folder) -> list:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_pictures_are_paddlesegs_if_nothing_is_asked_for(predict, weights, small_config, scenes, tmp_path):
    from paddleseg import core
    from paddleseg.cvlibs import Config, SegBuilder
    image = str(next((scenes / "leftImg8bit" / "val").glob("*/*.png")))
    builder = SegBuilder(Config(str(small_config)))
    core.predict(builder.model, str(weights), Compose(builder.val_transforms), [image], save_dir=f"{tmp_path}/stock",
                 custom_color=color_table(PALETTES["Cityscapes"])[:19].reshape(-1).tolist())
    out = predict(image)
    assert files(out) == files(tmp_path / "stock")
    for name in files(out):
        np.testing.assert_array_equal(np.array(Image.open(out / name)), np.array(Image.open(tmp_path / "stock" / name)))
        np.testing.assert_array_equal(cv2.imread(str(out / name)), cv2.imread(str(tmp_path / "stock" / name)))


def test_every_kind_of_picture(predict, scenes, tmp_path):
    image = next((scenes / "leftImg8bit" / "val").glob("*/*.png"))
    label = scenes / "gtFine" / "val" / image.parent.name / image.name.replace("leftImg8bit", "gtFine_labelTrainIds")
    names = tmp_path / "list.txt"
    names.write_text(f"{image} {label}\n")
    out = predict(names, "--save", *outputs.FOLDERS, "--min_conf", 0.08, "--alpha", 1, "--palette", "Cityscapes",
                  "--is_slide", "--crop_size", 64, 64, "--stride", 48, 48)
    assert files(out) == sorted(f"{folder}/{image.name}" for folder in outputs.FOLDERS.values())
    seen = {kind: cv2.imread(str(out / folder / image.name), cv2.IMREAD_UNCHANGED)
            for kind, folder in outputs.FOLDERS.items()}
    ids, colors = seen["ids"], color_table(PALETTES["Cityscapes"])
    assert ids.shape == (64, 128) and set(np.unique(ids)) <= {*range(19), 255}
    np.testing.assert_array_equal(ids == 255, seen["confidence"] < 0.08 * 255)
    np.testing.assert_array_equal(np.array(Image.open(out / "pseudo_color_prediction" / image.name)), ids)
    np.testing.assert_array_equal(seen["overlay"][..., ::-1], colors[ids])
    np.testing.assert_array_equal(seen["legend"][:64, :128], seen["overlay"])
    shown = {tuple(color) for color in seen["comparison"][..., ::-1].reshape(-1, 3)}
    assert {tuple(colors[i]) for i in np.unique(cv2.imread(str(label), 0))} <= shown


def test_labels_of_the_configs_images_are_found(predict, scenes, tmp_path):
    image = next((scenes / "leftImg8bit" / "val").glob("*/*.png"))
    elsewhere = tmp_path / "in" / "copy.png"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(image.read_bytes())
    heights = [cv2.imread(str(predict(path, "--save", "comparison") / "comparison" / path.name)).shape[0]
               for path in (image, elsewhere)]
    assert heights[0] > heights[1] + image_height(image)        # label and errors stand in a second row


def image_height(path) -> int:
    return cv2.imread(str(path)).shape[0]


def test_folders_keep_their_structure_and_a_bad_image_does_not_stop_the_rest(predict, tmp_path, monkeypatch):
    for folder in ("a", "b/c"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "in" / folder / "x.jpg"), picture(64, 64))
    (tmp_path / "in" / "a" / "bad.png").write_bytes(b"no picture")
    warnings = []
    monkeypatch.setattr(predictor.logger, "warning", warnings.append)
    with pytest.raises(SystemExit) as stopped:
        predict(tmp_path / "in")
    assert "error: 1 of 3 images left out: cannot read the image" in stopped.value.code
    assert "bad.png" in stopped.value.code and len(warnings) == 1 and "bad.png" in warnings[0]
    assert files(tmp_path / "out") == [f"{folder}/{name}" for folder, ending in (
        ("added_prediction", "jpg"), ("pseudo_color_prediction", "png"))
        for name in (f"a/x.{ending}", f"b/c/x.{ending}")]


def test_flips_and_custom_colors(predict, scenes):
    image = next((scenes / "leftImg8bit" / "val").glob("*/*.png"))
    out = predict(image, "--device_id", 0, "--save", "palette", "--aug_pred", "--scales", 0.5, 1.0, "--flip_horizontal",
                  "--flip_vertical", "--custom_color", *([1, 2, 3] * 19))
    assert (cv2.imread(str(out / "pseudo_color_prediction" / image.name)) == [3, 2, 1]).all()


def test_video_from_the_command_line(predict, film, tmp_path):
    out = predict(film)
    assert files(out) == ["added_prediction/film.avi"]
    with pytest.raises(SystemExit) as stopped:
        predict(film, "--save", "ids")
    assert "of a video only the overlay is saved" in stopped.value.code


@pytest.mark.parametrize("arguments, words", [
    (["--alpha", 2], "--alpha must be from 0 to 1, is 2.0"),
    (["--min_conf", -1], "--min_conf must be from 0 to 1, is -1.0"),
    (["--palette", "CamVid"], "--palette CamVid has 11 classes, the network 19"),
    (["--is_slide", "--crop_size", 64, 64, "--stride", 64, 65], "stride 64 65 of sliding windows must be at least 1"),
    (["--is_slide", "--crop_size", 64, 64, "--stride", 0, 8], "stride 0 8 of sliding windows must be at least 1"),
    (["--custom_color", 1, 2], "takes R G B from 0 to 255 for each class, got 2 numbers"),
    (["--custom_color", 1, 2, 256], "takes R G B from 0 to 255")])
def test_flags_that_make_no_sense(predict, arguments, words, tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    with pytest.raises(SystemExit) as stopped:
        predict(tmp_path / "x.png", *arguments)
    assert words in stopped.value.code and not (tmp_path / "out").exists()


@pytest.mark.parametrize("save_dir", ["file", "file/below", "/proc/out"])
def test_folder_that_takes_no_files(weights, small_config, run_tool, tmp_path, save_dir):
    """Before anything is predicted, or the weights are read. /proc takes files from nobody."""
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        run_tool("predict", "--config", small_config, "--model_path", "/nowhere.pdparams", "--image_path",
                 tmp_path / "x.png", "--save_dir", tmp_path / save_dir)
    assert f"error: cannot write {tmp_path / save_dir}/" in stopped.value.code


def test_image_beyond_opencvs_limit_in_the_shell(weights, small_config, tmp_path):
    cv2.imwrite(str(tmp_path / "large.png"), picture())
    done = subprocess.run([sys.executable, ROOT / "tools" / "predict.py", "--config", small_config, "--model_path",
                           weights, "--image_path", tmp_path / "large.png", "--save_dir", tmp_path / "out", "--device",
                           "cpu"], env={**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "100"}, capture_output=True,
                          text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith("error: 1 of 1 images left out: the image ")
    assert "large.png has more pixels than OpenCV reads" in message
