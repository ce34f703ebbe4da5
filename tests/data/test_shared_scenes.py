"""Whether training and validation show the same scenes: by looks, and by numbers that go on in names."""

import shutil

import cv2
import numpy as np
import pytest
from conftest import CAMVID
from test_data_checks import Set

from paddleseg_encnet.data.checks import check_data, quick_check
from paddleseg_encnet.data.findings import Split
from paddleseg_encnet.data.likeness import thumbnail
from paddleseg_encnet.data.shared_scenes import NEAR, SEQUENCE, check_scenes


def scene(seed, size=(120, 160)):
    """A picture with large things in it, another for each seed."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


class Scenes(Set):
    """Images of any names in train and val, {name: pixels}."""

    def __init__(self, root, train, val):
        root.mkdir(exist_ok=True)
        super().__init__(root)
        for split, images in (("train", train), ("val", val)):
            (root / f"{split}.txt").write_text("".join(f"{name}.png {name}_label.png\n" for name in images))
            for name, pixels in images.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                self.image(name, pixels)
                self.label(name, np.zeros(pixels.shape[:2]))

    def found(self):
        train, val = check_data(self.builder())
        assert NEAR not in train.findings and SEQUENCE not in train.findings
        return val


@pytest.fixture
def others():
    return {f"street{chr(97 + i)}": scene(i) for i in range(10)}


LIKE = {
    "scaled": lambda image: cv2.resize(image, (80, 60), interpolation=cv2.INTER_AREA),
    "compressed": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], 1),
    "brightened": lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=30),
    "moved": lambda image: np.roll(image, 1, 1),
    "noisy": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 9, image.shape), 0, 255).astype(np.uint8),
    "mirrored": lambda image: image[:, ::-1].copy(),
}


@pytest.mark.parametrize("how", LIKE)
def test_an_image_that_looks_like_one_of_train_is_found(tmp_path, others, how):
    val = Scenes(tmp_path, others, {"new": scene(50), "known": LIKE[how](others["streetd"])}).found()
    assert val.findings[NEAR].count == 1 and list(val.findings) == [NEAR]
    assert "known.png and " in val.findings[NEAR].examples[0] and "streetd.png" in val.findings[NEAR].examples[0]
    assert ("mirrored" in val.findings[NEAR].examples[0]) == (how == "mirrored")
    assert [(scene.image[-9:], scene.other[-11:]) for scene in val.shared] == [("known.png", "streetd.png")]


def test_other_scenes_are_none(tmp_path, others):
    val = Scenes(tmp_path, others, {f"avenue{chr(97 + i)}": scene(100 + i) for i in range(10)}).found()
    assert val.findings == {} and val.shared == []


def test_images_that_show_nothing_are_not_alike(tmp_path):
    blank = {name: np.full((40, 60, 3), shade, np.uint8) for name, shade in (("a", 0), ("b", 9), ("c", 255))}
    assert thumbnail(blank["a"]) is None
    val = Scenes(tmp_path, {"a": blank["a"], "b": blank["b"]}, {"c": blank["c"]}).found()
    assert val.findings == {}


@pytest.mark.parametrize("pixels", [np.uint16, np.int16, np.uint32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_images_of_any_numbers_have_a_look(pixels, channels):
    bands = scene(3)[..., np.resize([0, 1, 2], channels)].astype(pixels) * 100
    assert len(thumbnail(bands)) == len(thumbnail(scene(3)))
    bands = bands.astype(np.float32)
    bands[0] = np.nan
    assert thumbnail(bands) is None


def drive(count, seed=0):
    """Frames of a drive: a window that moves along a street of large things, a sixteenth of its width each time."""
    street = np.random.default_rng(seed).integers(0, 256, (6, count + 4, 3), dtype=np.uint8)
    street = cv2.resize(street, (20 * (count + 4), 120), interpolation=cv2.INTER_CUBIC)
    return [street[:, 10 * i:10 * i + 160].copy() for i in range(count)]


def test_a_drive_that_goes_on_in_val_is_found_by_its_numbers(tmp_path, others):
    # Further from each other than frames that are nearly the same.
    frames = {f"0016E5_{30 * i:05}": frame for i, frame in enumerate(drive(30))}
    train = {**others, **dict(list(frames.items())[:18])}
    val = Scenes(tmp_path, train, dict(list(frames.items())[20:])).found()
    assert list(val.findings) == [SEQUENCE] and val.findings[SEQUENCE].count == 1
    assert val.findings[SEQUENCE].examples == [
        "0016E5_#.png: in train 18, 0016E5_00000.png to 0016E5_00510.png; in val 10, 0016E5_00600.png to "
        "0016E5_00870.png"]
    assert "--group" in val.findings[SEQUENCE].hint
    assert {scene.other[-16:] for scene in val.shared} == {"0016E5_00510.png"}


def test_a_numbered_list_of_photographs_is_no_drive(tmp_path):
    images = {f"IMG_{i:04}": scene(i) for i in range(30)}
    names = sorted(images, key=lambda name: name[::-1])
    val = Scenes(tmp_path, {name: images[name] for name in names[:20]}, {name: images[name] for name in names[20:]})
    assert val.found().findings == {}


def test_equal_names_in_folders_of_patients_are_apart(tmp_path):
    """Each patient is in one set; that all begin to count at 0 joins none."""
    def patients(numbers):
        return {f"patient{chr(97 + k)}/slice_{i:03}": frame for k in numbers
                for i, frame in enumerate(drive(8, 30 + k))}
    assert Scenes(tmp_path, patients([0, 1, 2]), patients([3, 4])).found().findings == {}


@pytest.mark.skipif(not (CAMVID / "val").is_dir(), reason=f"no CamVid in {CAMVID}; set CAMVID_ROOT")
def test_all_of_camvids_validation_is_of_one_drive_of_its_training():
    splits = []
    for name in ("train", "val"):
        splits.append(Split(name))
        for path in sorted((CAMVID / name).glob("*.png")):
            splits[-1].looks[str(path)] = thumbnail(cv2.imread(str(path)))
    check_scenes(*splits)
    assert list(splits[1].findings) == [SEQUENCE]
    assert splits[1].findings[SEQUENCE].examples == [
        "0016E5_#.png: in train 204, 0016E5_00390.png to 0016E5_08640.png; in val 101, 0016E5_07959.png to "
        "0016E5_08159.png"]


def test_a_training_is_not_kept_from_it(tmp_path, others):
    data = Scenes(tmp_path, others, {"known": LIKE["scaled"](others["streetd"])})
    quick_check(data.builder(), with_val=True)


def test_the_tool_shows_them_side_by_side(tmp_path, others, error_of, capsys):
    data = Scenes(tmp_path / "data", others, {"known": LIKE["brightened"](others["streetd"])})
    error = error_of("check_data", "--config", data.config, "--save_dir", tmp_path / "out")
    assert error.startswith(f"error: the data have 1 kind of fault: {NEAR} (val)")
    path = tmp_path / "out" / "shared_scenes.png"
    assert f"Images of val beside their like in train: {path}" in capsys.readouterr().out
    picture = cv2.imread(str(path))
    # Both images are in it, in its left and its right half, the first brighter.
    half = picture.shape[1] // 2
    left, right = (part[(part != 255).any(-1)].mean() for part in (picture[:, :half], picture[:, half:]))
    assert left > right + 5


def test_the_check_of_two_equal_sets_does_not_tell_each_image_twice(tmp_path, others):
    data = Scenes(tmp_path, others, {"other": scene(60)})
    shutil.copy(tmp_path / "streetc.png", tmp_path / "other.png")
    found = data.found().findings
    assert list(found) == ["images that are in train and in val"] and next(iter(found.values())).count == 1
