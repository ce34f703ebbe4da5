"""Labels that differ in capitals, width or spaces alone are counted, and a flag decides; a stray JSON file; groups."""

import json

import numpy as np
import projects
import pytest
from PIL import Image

from paddleseg_encnet.labelling import mask_writing
from paddleseg_encnet.labelling.label_classes import plainly
from paddleseg_encnet.labelling.project import Item
from segrun.errors import DataError

SQUARE = [[4, 4], [20, 4], [20, 20], [4, 20]]
SIMILAR = "labels that differ in capitals, width or spaces alone"


@pytest.fixture
def convert(run_tool, tmp_path, capsys):
    """convert(source, project, flags...) converts into tmp_path/own; returns the classes and what was printed."""
    def run(source, project, *flags) -> tuple:
        run_tool("convert_labels", source, project, "--save_dir", tmp_path / "own", *flags)
        lines = (tmp_path / "own" / "labels.txt").read_text(encoding="utf-8").splitlines()
        return lines, capsys.readouterr().out
    return run


@pytest.fixture
def labelled(tmp_path):
    """labelled(labels...) -> folder of labelme's files, an image for each label."""
    def write(*labels):
        for i, label in enumerate(labels):
            projects.photo(tmp_path / "photos" / f"{i}.jpg", i)
            projects.labelme_json(tmp_path / "photos" / f"{i}.json", f"{i}.jpg", [projects.shape(label, SQUARE)])
        return tmp_path / "photos"
    return write


CARS = ("car", "car", "Car", "CAR", "ｃａｒ", "tree")


def test_what_looks_like_one_label_is_counted(labelled, convert):
    classes, printed = convert("labelme", labelled(*CARS))
    assert classes == ["background", "CAR", "Car", "car", "tree", "ｃａｒ"]
    assert f"1 x {SIMILAR}: each a class of its own (--similar keep)" in printed
    assert "'CAR' (1 x, first in " in printed and "'car' (2 x, first in " in printed and "'ｃａｒ' (1 x" in printed


def test_joined_they_have_the_name_that_is_used_most(labelled, convert, tmp_path):
    classes, printed = convert("labelme", labelled(*CARS), "--similar", "join")
    assert classes == ["background", "car", "tree"]
    assert f"1 x {SIMILAR}: one class (--similar join)" in printed
    for i, label in enumerate(CARS):
        assert set(np.unique(projects.mask(tmp_path / "own", str(i)))) == {0, 2 if label == "tree" else 1}


def test_a_conversion_can_stop_at_them(labelled, error_of, tmp_path):
    error = error_of("convert_labels", "labelme", labelled("car", "Car"), "--save_dir", tmp_path / "own", "--similar",
                     "stop")
    assert f"error: {SIMILAR}: 'Car' (1 x" in error and "'car' (1 x" in error and not (tmp_path / "own").exists()


def test_another_background_is_told_and_joined(labelled, convert, tmp_path):
    project = labelled("Background", "Background", "tree")
    classes, printed = convert("labelme", project)
    assert classes == ["background", "Background", "tree"] and f"1 x {SIMILAR}" in printed
    (tmp_path / "own").rename(tmp_path / "kept")
    classes, _ = convert("labelme", project, "--similar", "join")
    assert classes == ["background", "tree"] and set(np.unique(projects.mask(tmp_path / "own", "0"))) == {0}


def test_names_of_a_list_are_joined_to(labelled, convert, error_of, tmp_path):
    project, listed = labelled("CAR", "CAR", "tree"), tmp_path / "names.txt"
    listed.write_text("background\nCar\ntree\n")
    error = error_of("convert_labels", "labelme", project, "--save_dir", tmp_path / "own", "--labels", listed)
    assert "the label 'CAR', 2 x" in error and error.endswith("--similar join takes it for Car")
    classes, _ = convert("labelme", project, "--labels", listed, "--similar", "join")
    assert classes == ["background", "Car", "tree"] and projects.mask(tmp_path / "own", "0").max() == 1


def test_words_that_are_others_are_apart(labelled, convert):
    _, printed = convert("labelme", labelled("car", "cart", "ca r"), "--similar", "stop")
    assert "nothing was left to be decided" in printed
    assert plainly(" Traffic\u3000  LIGHT ") == "traffic light" != plainly("trafficlight")


# --- COCO, colours ----------------------------------------------------------------------------------------------------

@pytest.fixture
def coco(tmp_path):
    """coco(names...) -> file of a project whose categories are called so."""
    pytest.importorskip("pycocotools", reason="pip install pycocotools")

    def write(*names):
        content = projects.coco(tmp_path / "project", count=3)
        content["categories"] = [{**category, "name": name} for category, name in zip(content["categories"], names)]
        (tmp_path / "project" / "instances.json").write_text(json.dumps(content))
        return tmp_path / "project" / "instances.json", "--images", tmp_path / "project" / "photos"
    return write


def test_spaces_at_the_ends_of_a_category_are_left_out_and_told(coco, convert):
    classes, printed = convert("coco", *coco("Car ", "tree", "window"))
    assert sorted(classes) == ["Car", "background", "tree", "window"]
    assert "1 x labels with spaces at their ends: taken without" in printed and "'Car '" in printed


def test_categories_that_no_list_keeps_apart(coco, convert, error_of, tmp_path):
    project = coco("Car ", "Car", "window")
    error = error_of("convert_labels", "coco", *project, "--save_dir", tmp_path / "own")
    assert "spaces at their ends alone: 'Car" in error and "'Car '" in error and "add --similar join" in error
    assert sorted(convert("coco", *project, "--similar", "join")[0]) == ["Car", "background", "window"]


def test_colours_of_one_name(tmp_path, convert):
    projects.photo(tmp_path / "photos" / "a.png", 0)
    projects.photo(tmp_path / "photos" / "b.png", 1)
    picture = np.zeros((*projects.SIZE, 3), np.uint8)
    picture[:8], picture[8:16] = (9, 0, 0), (0, 9, 0)
    for name in "ab":
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "table.txt").write_text("0 0 0 other\n9 0 0 Car\n0 9 0 car\n")
    project = (tmp_path / "masks", "--images", tmp_path / "photos", "--table", tmp_path / "table.txt")
    classes, printed = convert("colours", *project)
    assert classes == ["other", "Car", "car"] and f"1 x {SIMILAR}: each a class" in printed
    (tmp_path / "own").rename(tmp_path / "kept")
    classes, printed = convert("colours", *project, "--similar", "join")
    mask = projects.mask(tmp_path / "own", "a")
    assert classes == ["other", "Car"] and (mask[:16] == 1).all() and not mask[16:].any()


# --- a stray JSON -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, content, words", [
    ("package.json", '{"name": "photos"}', "package.json is no file of labelme's"),
    ("list.json", "[1, 2]", "list.json holds a list, where an object with keys is expected"),
    ("notes.json", "to do: more", "notes.json is no JSON")])
def test_a_stray_json_is_named_and_left_out_by_a_flag(labelled, convert, error_of, tmp_path, name, content, words):
    project = labelled("car", "tree")
    (project / name).write_text(content)
    error = error_of("convert_labels", "labelme", project, "--save_dir", tmp_path / "own")
    assert words in error and error.endswith("; --foreign leave_out passes over it")
    classes, printed = convert("labelme", project, "--foreign", "leave_out")
    assert classes == ["background", "car", "tree"] and words in printed
    assert "1 x JSON files that are none of labelme's: left out (--foreign leave_out)" in printed


# --- groups -----------------------------------------------------------------------------------------------------------

def split_of(names, share=0.8, seed=0, group=None):
    return mask_writing.assign_splits([Item(name, "", lambda: None) for name in names], share, seed, group)


DRIVES = [f"{drive}_{frame:05}" for drive, count in (("0001TP", 20), ("0006R0", 30), ("0016E5", 50), ("0005VD", 25))
          for frame in range(count)]


@pytest.mark.parametrize("group", ["^[^_]*", "^(.*)_", r"^(\d+)(..)_"])
@pytest.mark.parametrize("seed", range(4))
def test_images_of_a_drive_stay_together(group, seed):
    drawn = split_of(DRIVES, seed=seed, group=group)
    of_drives = {drive: {split for name, split in drawn.items() if name.startswith(drive)}
                 for drive in ("0001TP", "0006R0", "0016E5", "0005VD")}
    assert all(len(splits) == 1 for splits in of_drives.values()) and set(drawn.values()) == {"train", "val"}
    assert drawn == split_of(DRIVES[::-1], seed=seed, group=group)


def test_groups_come_near_the_share():
    names = [f"{site:02}_{i}" for site in range(40) for i in range(1 + site % 5)]
    for share in (0.5, 0.8):
        drawn = split_of(names, share, group="^[^_]*")
        assert sum(split == "train" for split in drawn.values()) == pytest.approx(share * len(names), abs=2)


@pytest.mark.parametrize("group, words", [
    ("(", "--group ( is no regular expression"), ("^x", "--group ^x finds nothing in the name 0001TP_00000"),
    ("^0", "--group ^0 finds 0 in all 125 names: of one group nothing is left to evaluate on")])
def test_a_group_that_is_none(group, words):
    with pytest.raises(DataError) as error:
        split_of(DRIVES, group=group)
    assert words in str(error.value)


def test_a_conversion_by_groups_says_so(tmp_path, convert):
    for i in range(12):
        projects.photo(tmp_path / "photos" / f"site{i // 3}_{i}.jpg", i)
        projects.labelme_json(tmp_path / "photos" / f"site{i // 3}_{i}.json", f"site{i // 3}_{i}.jpg",
                              [projects.shape("car", SQUARE)])
    _, printed = convert("labelme", tmp_path / "photos", "--split", "0.75", "--group", r"^site\d")
    assert r"9 images to train on, 3 to evaluate (--split 0.75 --seed 0 --group ^site\d)" in printed
    sites = [{line.split("site")[1][0] for line in (tmp_path / "own" / f"{split}.txt").read_text().splitlines()}
             for split in ("train", "val")]
    assert sites[0].isdisjoint(sites[1]) and len(sites[0]) == 3
