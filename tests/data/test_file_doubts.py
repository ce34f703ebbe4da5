"""What files tell beside their pixels: orientations, labels that are JPEG inside, damage that a decoder passes over."""

import os
import sys

import cv2
import numpy as np
import pytest
from PIL import Image
from test_data_checks import SIZE, Set

from paddleseg_encnet.data.checks import quick_check
from paddleseg_encnet.data.file_doubts import DAMAGED, JPEG_LABELS, TURNED, listening, orientation_of
from paddleseg_encnet.data.reading import read_label
from paddleseg_encnet.data.samples import Checked
from segrun.errors import DataError

# What a viewer does to the stored pixels, by the orientation.
SHOWN = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
         5: lambda a: a.swapaxes(0, 1), 6: lambda a: a.swapaxes(0, 1)[:, ::-1],
         7: lambda a: a.swapaxes(0, 1)[::-1, ::-1], 8: lambda a: a.swapaxes(0, 1)[::-1]}


def exif(orientation):
    tags = Image.Exif()
    tags[274] = orientation
    return tags


@pytest.fixture
def data(tmp_path):
    return Set(tmp_path)


def turned(data, name, size, image=1, label=1):
    """An image of train and its label, stored with orientations; returns the label's pixels as they are stored."""
    random = np.random.default_rng(1)
    Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(
        data.root / f"{name}.png", **({"exif": exif(image)} if image != 1 else {}))
    ids = random.integers(0, 3, size).astype(np.uint8)
    Image.fromarray(ids).save(data.root / f"{name}_label.png", **({"exif": exif(label)} if label != 1 else {}))
    return ids


@pytest.mark.parametrize("ending", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_a_labels_own_orientation_is_followed_like_an_images(tmp_path, orientation, ending):
    ids = np.random.default_rng(0).integers(0, 3, SIZE).astype(np.uint8)
    path = tmp_path / f"label{ending}"
    if ending == ".webp":       # which has colours alone; their ids are not those of a mask, their places are
        Image.fromarray(np.stack([ids] * 3, 2)).save(path, lossless=True, exif=exif(orientation))
        expected = SHOWN[orientation](np.stack([ids] * 3, 2))
    else:
        Image.fromarray(ids).save(path, exif=exif(orientation))
        expected = SHOWN[orientation](ids)
    np.testing.assert_array_equal(read_label(str(path)), expected)
    assert orientation_of(path.read_bytes()) == orientation


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_image_and_label_that_are_turned_alike_fit(data, orientation):
    """Both are read as they are shown, in a training as in a check."""
    ids = turned(data, "train2", (20, 32), orientation, orientation)
    assert not any(TURNED in line or "size" in line for line in data.findings())
    sample = Checked(data.builder().val_dataset.__class__(
        "val", str(data.root), [], 3, val_path=str(data.root / "train.txt"))).read(2)
    np.testing.assert_array_equal(sample["label"][0], SHOWN[orientation](ids))
    quick_check(data.builder(), with_val=False)


@pytest.mark.parametrize("size, image, label, told", [
    ((24, 32), 3, 1, True), ((24, 32), 2, 1, True), ((24, 32), 1, 3, True), ((24, 32), 3, 3, False),
    ((24, 24), 6, 1, True), ((24, 24), 6, 6, False), ((24, 24), 6, 8, True), ((24, 32), 1, 1, False)])
def test_orientations_that_sizes_do_not_tell_are_counted(data, size, image, label, told):
    for name in ("train1", "train2"):
        turned(data, name, size, image, label)
    lines = data.findings()
    assert (f"  2 x {TURNED}" in lines) == told
    assert any(f"train1.png has orientation {image}, its label" in line for line in lines) == told
    quick_check(data.builder(), with_val=False)     # it may be as it is meant


def test_a_label_of_the_size_of_a_turned_image_was_drawn_on_that(data):
    turned(data, "train2", (32, 24), image=6)
    data.label("train2", np.zeros((24, 32)))
    assert not any(TURNED in line for line in data.findings())


def test_training_is_told_of_orientations(data, logged):
    turned(data, "train2", SIZE, image=3)
    quick_check(data.builder(), with_val=False)
    assert any(level == "warning" and "1 images that EXIF turns" in line and "train2.png" in line
               for level, line in logged)


# --- JPEG -------------------------------------------------------------------------------------------------------------

def test_labels_that_are_jpeg_are_found_by_what_is_in_them(data):
    grey = np.kron(np.random.default_rng(0).integers(0, 3, (3, 4)), np.ones((8, 8))).astype(np.uint8)
    for name in ("train1", "train3"):
        Image.fromarray(grey).save(data.root / f"{name}_label.png", format="JPEG", quality=100)
    assert read_label(str(data.root / "train1_label.png")).max() <= 2       # so that no value tells
    lines = data.findings()
    assert f"  2 x {JPEG_LABELS}" in lines
    assert any("train1_label.png is a JPEG, whatever its name says" in line for line in lines)
    with pytest.raises(DataError, match="_label.png is a JPEG, whatever its name says"):
        quick_check(data.builder(), with_val=False)


def photograph():
    pixels = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8), (0, 0), 3)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def damaged_in_the_middle(whole):
    middle = len(whole) // 2
    return whole[:middle] + bytes((byte + 77) % 255 for byte in whole[middle:middle + 40]) + whole[middle + 40:]


DAMAGES = {"in the middle": (damaged_in_the_middle, "Corrupt JPEG data"),
           "ended early": (lambda whole: whole[:len(whole) // 2] + b"\xff\xd9", "premature end of data segment"),
           "with an end inside": (lambda whole: whole[:len(whole) // 2] + b"\xff\xd9" + whole[len(whole) // 2 + 2:],
                                  "premature end of data segment")}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", DAMAGES)
def test_what_libjpeg_says_of_an_image_names_the_file(data, name, workers, capfd):
    harm, words = DAMAGES[name]
    for image, content in (("train1", photograph()), ("train2", harm(photograph()))):
        (data.root / f"{image}.png").write_bytes(content)
        data.label(image, np.zeros((96, 128)))
    lines = data.findings(num_workers=workers)
    assert f"  1 x {DAMAGED}" in lines
    assert any("train2.png: " in line and words in line for line in lines)
    assert "JPEG" not in capfd.readouterr().err         # not said a second time, of no file


def test_training_is_told_of_damage_and_begins(data, logged):
    """libjpeg complains of many a photograph that is whole to the eye."""
    (data.root / "train2.png").write_bytes(damaged_in_the_middle(photograph()))
    data.label("train2", np.zeros((96, 128)))
    quick_check(data.builder(), with_val=False)
    assert any(level == "warning" and "1 images that are damaged" in line and "train2.png" in line
               for level, line in logged)


def test_what_others_say_while_an_image_is_read_is_still_heard(tmp_path, capfd):
    (tmp_path / "a.jpg").write_bytes(photograph())
    with pytest.raises(KeyError):
        with listening(str(tmp_path / "a.jpg")) as complaint:
            os.write(2, b"Corrupt JPEG data: 3 bytes\nfrom below\n")
            print("from above", file=sys.stderr)
            raise KeyError
    assert complaint.text == "Corrupt JPEG data: 3 bytes"
    said = capfd.readouterr().err
    assert "from below\n" in said and "from above\n" in said and "Corrupt" not in said
