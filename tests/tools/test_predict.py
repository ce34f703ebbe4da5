"""tools/predict.py: its flags, the folders that it writes, and what it refuses."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import ROOT
from films import Webcam, greys_of
from paddleseg import core
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.transforms import Compose
from paddleseg.utils import logger
from PIL import Image
from segmenters import files_below, picture

from segrun import outputs
from segrun.palettes import PALETTES, color_table


@pytest.fixture
def predict(small_weights, small_config, run_tool, tmp_path):
    """predict(IMAGE_PATH, *flags) writes into tmp_path/out, and returns it."""
    def run(path, *arguments):
        run_tool("predict", "--config", small_config, "--model_path", small_weights, "--image_path", path,
                 "--save_dir", tmp_path / "out", *arguments)
        return tmp_path / "out"
    return run


def files(folder) -> list:
    return sorted(files_below(folder))


def test_pictures_are_paddlesegs_if_nothing_is_asked_for(predict, small_weights, small_config, image, tmp_path):
    builder = SegBuilder(Config(str(small_config)))
    colors = color_table(PALETTES["Cityscapes"])[:19].reshape(-1).tolist()
    core.predict(builder.model, str(small_weights), Compose(builder.val_transforms), [str(image)],
                 save_dir=f"{tmp_path}/stock", custom_color=colors)
    out = predict(image)
    assert files(out) == files(tmp_path / "stock")
    for name in files(out):
        np.testing.assert_array_equal(np.array(Image.open(out / name)), np.array(Image.open(tmp_path / "stock" / name)))
        np.testing.assert_array_equal(cv2.imread(str(out / name)), cv2.imread(str(tmp_path / "stock" / name)))


def test_every_kind_of_picture(predict, scenes, image, tmp_path):
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


def test_labels_of_the_configs_images_are_found(predict, image, tmp_path):
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
    monkeypatch.setattr(logger, "warning", warnings.append)
    with pytest.raises(SystemExit) as stopped:
        predict(tmp_path / "in")
    assert "error: 1 of 3 images left out: cannot read the image" in stopped.value.code
    assert "bad.png" in stopped.value.code and len(warnings) == 1 and "bad.png" in warnings[0]
    assert files(tmp_path / "out") == [f"{folder}/{name}" for folder, ending in (
        ("added_prediction", "jpg"), ("pseudo_color_prediction", "png"))
        for name in (f"a/x.{ending}", f"b/c/x.{ending}")]


def test_a_label_that_does_not_fit_leaves_its_image_out_and_not_the_others(predict, tmp_path):
    for name in ("a", "b", "c"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture(64, 64))
        cv2.imwrite(str(tmp_path / f"{name}_label.png"), np.zeros((64, 60 if name == "b" else 64), np.uint8))
    (tmp_path / "list.txt").write_text("".join(f"{name}.png {name}_label.png\n" for name in "abc"))
    with pytest.raises(SystemExit) as stopped:
        predict(tmp_path / "list.txt", "--save", "comparison", "ids")
    assert stopped.value.code.startswith("error: 1 of 3 images left out: ") and "b_label.png" in stopped.value.code
    assert files(tmp_path / "out") == ["comparison/a.png", "comparison/c.png", "ids/a.png", "ids/c.png"]


def test_flips_and_custom_colors(predict, image):
    out = predict(image, "--device_id", 0, "--save", "palette", "--aug_pred", "--scales", 0.5, 1.0, "--flip_horizontal",
                  "--flip_vertical", "--custom_color", *([1, 2, 3] * 19))
    assert (cv2.imread(str(out / "pseudo_color_prediction" / image.name)) == [3, 2, 1]).all()


def test_video_from_the_command_line(predict, film):
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
def test_folder_that_takes_no_files(small_config, error_of, tmp_path, save_dir):
    """Before anything is predicted, or the weights are read. /proc takes files from nobody."""
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    (tmp_path / "file").touch()
    error = error_of("predict", "--config", small_config, "--model_path", "/nowhere.pdparams", "--image_path",
                     tmp_path / "x.png", "--save_dir", tmp_path / save_dir)
    assert f"error: cannot write {tmp_path / save_dir}/" in error


def test_image_beyond_opencvs_limit_in_the_shell(small_weights, small_config, tmp_path):
    cv2.imwrite(str(tmp_path / "large.png"), picture())
    done = subprocess.run([sys.executable, ROOT / "tools" / "predict.py", "--config", small_config, "--model_path",
                           small_weights, "--image_path", tmp_path / "large.png", "--save_dir", tmp_path / "out",
                           "--device", "cpu"], env={**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "100"},
                          capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    message = done.stderr.splitlines()[-1]
    assert message.startswith("error: 1 of 1 images left out: the image ")
    assert "large.png has more pixels than OpenCV reads" in message


def test_a_webcam_from_the_command_line(predict, film, monkeypatch):
    Webcam.show(film, monkeypatch)
    assert len(greys_of(predict(0, "--max_frames", 2) / "added_prediction" / "webcam0.mp4")) == 4


@pytest.mark.parametrize("arguments, words", [
    (["--image_path", 99], "error: OpenCV has no webcam 99 here: "),
    (["--image_path", 0, "--max_frames", -1], "error: --max_frames is the number of frames to take from a webcam, at "
     "least 1, got -1"),
    (["--image_path", "x.png", "--max_frames", 3], "error: --max_frames is the number of frames to take from a webcam"),
    (["--image_path", 0, "--save", "ids"], "error: of a video only the overlay is saved")])
def test_a_webcam_that_cannot_be(arguments, words, small_weights, small_config, error_of, tmp_path):
    error = error_of("predict", "--config", small_config, "--model_path", small_weights, "--save_dir",
                     tmp_path / "out", *arguments)
    assert error.startswith(words)
    assert not (tmp_path / "out").exists()
