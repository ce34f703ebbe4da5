"""Cityscapes, PASCAL VOC and ADE20K as published, in small."""

import json

import numpy as np
import projects
import published_layouts
import pytest
from PIL import Image, ImageDraw

from segrun.palettes import CITYSCAPES

# labelId -> train id, written out from the published list; all others are ignored.
TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14,
             28: 15, 31: 16, 32: 17, 33: 18}


def masks(folder) -> dict:
    return {str(path.relative_to(folder / "masks"))[:-4]: np.array(Image.open(path))
            for path in sorted((folder / "masks").rglob("*.png"))}


@pytest.fixture
def convert(run_tool, tmp_path, capsys):
    def run(source, *flags) -> str:
        run_tool("convert_labels", source, tmp_path / "published", "--save_dir", tmp_path / "own", *flags)
        return capsys.readouterr().out
    return run


@pytest.fixture
def cityscapes(tmp_path):
    """leftImg8bit and gtFine with labelIds; {name of the mask: ids}."""
    written = {}
    for split, name in (("train", "a_000000_000019"), ("train", "a_000001_000019"), ("val", "b_000000_000019")):
        folder = tmp_path / "published" / "gtFine" / split / name[0]
        folder.mkdir(parents=True, exist_ok=True)
        photo = tmp_path / "published" / "leftImg8bit" / split / name[0] / f"{name}_leftImg8bit.png"
        projects.photo(photo, len(written))
        ids = projects.blocks(np.random.default_rng(len(written)), range(34))
        Image.fromarray(ids).save(folder / f"{name}_gtFine_labelIds.png")
        written[f"{split}/{name[0]}/{name}"] = ids
    return written


def test_label_ids(tmp_path, cityscapes, convert):
    printed = convert("cityscapes")
    assert "2 images to train on, 1 to evaluate (the source's own split)" in printed
    assert masks(tmp_path / "own").keys() == cityscapes.keys()
    for name, mask in masks(tmp_path / "own").items():
        assert np.array_equal(mask, np.vectorize(lambda number: TRAIN_IDS.get(number, 255))(cityscapes[name]))
    assert (tmp_path / "own" / "labels.txt").read_text().splitlines() == list(CITYSCAPES)


def test_polygons(tmp_path, cityscapes, convert):
    """Painted here by train id: what is not drawn, groups, labels that are ignored, later ones on top."""
    random = np.random.default_rng(0)
    labels = [("road", 0), ("license plate", None), ("cargroup", 13), ("ego vehicle", 255), ("person", 11),
              ("sky", None)]
    polygons = [np.rint(projects.polygon(random)).astype(int).tolist() for _ in labels]
    objects = [{"label": label, "polygon": polygon} for (label, _), polygon in zip(labels, polygons)]
    objects[-1]["deleted"] = 1
    canvas = Image.new("L", (64, 48), 255)
    for (_, number), polygon in zip(labels, polygons):
        if number is not None:
            ImageDraw.Draw(canvas).polygon([tuple(point) for point in polygon], fill=number)
    files = sorted((tmp_path / "published" / "gtFine").rglob("*_labelIds.png"))
    with pytest.raises(SystemExit, match="no .*_gtFine_polygons.json in .*train; is it the other of --read"):
        convert("cityscapes", "--read", "polygons")
    for file in files:
        content = {"imgHeight": 48, "imgWidth": 64, "objects": objects}
        file.with_name(file.name.replace("labelIds.png", "polygons.json")).write_text(json.dumps(content))
    convert("cityscapes", "--read", "polygons")
    assert len(masks(tmp_path / "own")) == 3
    for mask in masks(tmp_path / "own").values():
        assert np.array_equal(mask, np.array(canvas)) and {0, 11, 13, 255} == set(np.unique(mask))
    objects[0]["label"] = "rod"
    file.with_name(file.name.replace("labelIds.png", "polygons.json")).write_text(json.dumps(
        {"imgHeight": 48, "imgWidth": 64, "objects": objects}))
    (tmp_path / "own").rename(tmp_path / "first")
    with pytest.raises(SystemExit, match=r"objects\[0\]: 'rod' is no label of Cityscapes; --unknown ignore makes"):
        convert("cityscapes", "--read", "polygons")
    assert "1 x labels that are none of Cityscapes': ignored (255)" in convert("cityscapes", "--read", "polygons",
                                                                               "--unknown", "ignore")


def test_number_that_is_none(tmp_path, cityscapes, convert):
    path = next((tmp_path / "published" / "gtFine" / "val").rglob("*_labelIds.png"))
    ids = np.array(Image.open(path))
    ids[0, :3] = 77
    Image.fromarray(ids).save(path)
    with pytest.raises(SystemExit, match="_labelIds.png: 3 pixels of 77: no labelIds, which are 0 to 33; --unknown"):
        convert("cityscapes")
    assert not (tmp_path / "own").exists()
    printed = convert("cityscapes", "--unknown", "ignore")
    assert "1 x masks with numbers that are no labelIds, which are 0 to 33: ignored (255)" in printed
    assert (masks(tmp_path / "own")["val/b/b_000000_000019"][0, :3] == 255).all()


def test_cityscapes_without_halves(tmp_path, cityscapes, convert):
    next((tmp_path / "published" / "leftImg8bit" / "train").rglob("a_000000*")).unlink()
    with pytest.raises(SystemExit, match="the annotation .*a_000000_000019_gtFine_labelIds.png has no image in"):
        convert("cityscapes")
    assert "annotations whose image is not there: left out" in convert("cityscapes", "--missing", "leave_out")


def test_voc(tmp_path, convert):
    published_layouts.pascal_voc(tmp_path / "published")
    (tmp_path / "published" / "VOC2012").rename(tmp_path / "other")
    with pytest.raises(SystemExit, match="there is no list .*train.txt; give the folder VOC2012"):
        convert("voc")
    (tmp_path / "published").rmdir()
    (tmp_path / "other").rename(tmp_path / "published")
    printed = convert("voc")
    assert "2 images to train on, 2 to evaluate (the source's own split)" in printed
    assert len(masks(tmp_path / "own")) == 4
    for name, mask in masks(tmp_path / "own").items():
        file = tmp_path / "published" / "SegmentationClass" / f"{name.split('/')[1]}.png"
        assert np.array_equal(mask, np.array(Image.open(file))) and set(np.unique(mask)) == {*range(21), 255}


def test_ade20k(tmp_path, convert):
    published_layouts.ade20k(tmp_path / "published")
    assert "4 images to train on, 2 to evaluate (the source's own split)" in convert("ade20k")
    assert len(masks(tmp_path / "own")) == 6
    for name, mask in masks(tmp_path / "own").items():
        split, stem = name.split("/")
        folder = {"train": "training", "val": "validation"}[split]
        ids = np.array(Image.open(tmp_path / "published" / "annotations" / folder / f"{stem}.png")).astype(int)
        assert np.array_equal(mask, np.where(ids == 0, 255, ids - 1)) and len(np.unique(mask)) == 151


def test_ade20k_without_halves(tmp_path, convert):
    published_layouts.ade20k(tmp_path / "published")
    (tmp_path / "published" / "annotations" / "training" / "ADE_train_a1.png").unlink()
    (tmp_path / "published" / "images" / "validation" / "ADE_val_b1.jpg").unlink()
    with pytest.raises(SystemExit, match="there is no image .*ADE_val_b1.jpg; unpack the archive again, or add"):
        convert("ade20k")
    printed = convert("ade20k", "--missing", "leave_out")
    assert "1 x images without annotation: left out" in printed and len(masks(tmp_path / "own")) == 4
