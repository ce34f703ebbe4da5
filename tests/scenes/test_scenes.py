"""Drawn street scenes: the layout of Cityscapes, the same for the same seed, and what belongs where."""

import hashlib
import os

import cv2
import numpy as np
import pytest

from paddleseg_encnet import scenes
from segrun import palettes

SIZE = (128, 64)


def digests(root) -> dict:
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(root.rglob("*.png"))}


def test_layout_is_cityscapes(tmp_path):
    assert scenes.generate(str(tmp_path / "s"), train=5, val=4, size=SIZE)
    names = set(digests(tmp_path / "s"))
    assert len(names) == 2 * 9
    for split, kind, index in (("train", "highway", 0), ("train", "highway", 1), ("val", "crossing", 0)):
        stem = f"{split}/{kind}/{kind}_{index:06d}_000019"
        assert {f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelTrainIds.png"} <= names
    image, label = (cv2.imread(str(tmp_path / "s" / name), cv2.IMREAD_UNCHANGED) for name in (
        "leftImg8bit/val/city/city_000000_000019_leftImg8bit.png",
        "gtFine/val/city/city_000000_000019_gtFine_labelTrainIds.png"))
    assert image.shape == (64, 128, 3) and label.shape == (64, 128)
    assert image.dtype == label.dtype == np.uint8
    assert set(np.unique(label)) <= {*range(19), 255}


def test_same_seed_same_bytes_and_more_scenes_only_add(tmp_path):
    for name, count, seed in (("few", 4, 0), ("more", 8, 0), ("other", 4, 1)):
        scenes.generate(str(tmp_path / name), train=count, val=4, size=SIZE, seed=seed)
    few, more, other = (digests(tmp_path / name) for name in ("few", "more", "other"))
    assert few.items() < more.items()
    assert few.keys() == other.keys() and not set(few.values()) & set(other.values())


def test_splits_share_no_image(tmp_path):
    scenes.generate(str(tmp_path / "s"), train=8, val=8, size=SIZE)
    found = digests(tmp_path / "s")
    images = [digest for name, digest in found.items() if name.startswith("leftImg8bit")]
    assert len(set(images)) == 16


def shares(kind, count=8) -> np.ndarray:
    """Share of the pixels of each class in some scenes of a kind."""
    labels = [scenes.render(kind, index, size=(128, 64))[1] for index in range(count)]
    counts = np.bincount(np.concatenate([label.ravel() for label in labels]), minlength=256)
    return counts / counts.sum()


def test_each_kind_has_the_classes_that_belong_there():
    names = list(palettes.CITYSCAPES)
    seen = {kind: {names[i] for i in np.flatnonzero(shares(kind)[:19] > 1e-4)} for kind in scenes.KINDS}
    assert seen["highway"].isdisjoint({"person", "rider", "bicycle", "sidewalk", "train", "bus"})
    assert {"road", "fence", "car", "truck", "terrain", "sky", "vegetation"} <= seen["highway"]
    assert {"building", "sidewalk", "person", "pole", "traffic light"} <= seen["city"] & seen["crossing"]
    assert "train" in seen["city"] and "train" not in seen["residential"]
    assert {"building", "vegetation", "terrain", "wall"} <= seen["residential"]
    assert set.union(*seen.values()) == set(names)
    assert 0 < shares("city", 2)[255] < 0.15        # the bonnet of the car that carries the camera


def test_a_complete_set_is_reused_and_another_is_refused(tmp_path):
    root = str(tmp_path / "s")
    assert scenes.generate(root, train=4, val=4, size=SIZE)
    assert not scenes.generate(root, train=4, val=4, size=SIZE)
    with pytest.raises(FileExistsError, match="other parameters"):
        scenes.generate(root, train=5, val=4, size=SIZE)
    os.remove(tmp_path / "s/leftImg8bit/val/city/city_000000_000019_leftImg8bit.png")
    with pytest.raises(FileExistsError, match="lacks leftImg8bit"):
        scenes.generate(root, train=4, val=4, size=SIZE)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="scenes.json"):
        scenes.generate(str(tmp_path), train=1, val=1, size=SIZE)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_interruption_leaves_nothing(tmp_path):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        scenes.generate(str(tmp_path / "s"), train=4, val=4, size=SIZE, progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options, words", [
    (dict(size=(63, 64)), "64"), (dict(size=(128, 31)), "32"), (dict(train=0), "at least 1"), (dict(seed=-1), "seed")])
def test_wrong_parameters(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        scenes.generate(str(tmp_path / "s"), **{**dict(train=1, val=1, size=SIZE), **options})


def test_tool(tmp_path, capsys):
    from conftest import tool

    from paddleseg_encnet import flags
    module = tool("make_scenes")
    arguments = ["--save_dir", str(tmp_path / "s"), "--train", "2", "--val", "1", "--size", "64", "32"]
    flags.run_main(module.main, module.flags(), arguments)
    output = capsys.readouterr()
    assert "; train on them: python " in output.out and "3/3 scenes" in output.err
    assert f"tools/train.py --config encnet_quick_start --do_eval --opts train_dataset.dataset_root={tmp_path}/s" \
        in output.out
    with pytest.raises(SystemExit, match="^error: .*other parameters"):
        flags.run_main(module.main, module.flags(), arguments + ["--seed", "2"])
