"""COCO's files: masks pixel by pixel as COCO.annToMask has them, and a decision for all that a file leaves open."""

import contextlib
import io
import json

import numpy as np
import projects
import pytest
from PIL import Image

from paddleseg_encnet.labelling.coco import decompressed
from segrun.errors import DataError

pytest.importorskip("pycocotools", reason="pip install pycocotools")

IDS = {2: 1, 7: 2, 90: 3}       # background, then the categories by their id: car, tree, window


@pytest.fixture
def project(tmp_path):
    """Folder and content of instances.json."""
    return tmp_path / "project", projects.coco(tmp_path / "project", count=3)


@pytest.fixture
def convert(run_tool, tmp_path, capsys):
    """convert(project, flags...) converts into tmp_path/own and returns what was printed."""
    def run(project, *flags) -> str:
        folder, content = project
        (folder / "instances.json").write_text(json.dumps(content))
        run_tool("convert_labels", "coco", folder / "instances.json", "--images", folder / "photos", "--save_dir",
                 tmp_path / "own", *flags)
        return capsys.readouterr().out
    return run


def masks(tmp_path) -> dict:
    return {path.stem: np.array(Image.open(path)) for path in sorted((tmp_path / "own" / "masks").glob("*.png"))}


def expected(path, crowd=None) -> dict:
    """{name: mask} by pycocotools' own reader, each annotation over the ones before."""
    from pycocotools.coco import COCO
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
    result = {}
    for number, image in coco.imgs.items():
        ids = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.imgToAnns[number]:
            value = crowd if annotation["iscrowd"] and crowd is not None else IDS[annotation["category_id"]]
            ids[coco.annToMask(annotation) == 1] = value
        result[image["file_name"][:-4]] = ids
    return result


def test_masks_are_those_of_anntomask(tmp_path, project, convert):
    printed = convert(project)
    wanted = expected(project[0] / "instances.json")
    assert masks(tmp_path).keys() == wanted.keys() == {"00", "01", "02"}
    for name, mask in masks(tmp_path).items():
        assert np.array_equal(mask, wanted[name]), name
        assert set(np.unique(mask)) == {0, 1, 2, 3}
    assert (tmp_path / "own" / "labels.txt").read_text().split() == ["background", "car", "tree", "window"]
    assert "3 x images with crowds: the class of their category (--crowd class)" in printed


def test_holes_stay_open(tmp_path, project, convert):
    """Those of run lengths, here against the ring that they were made of."""
    folder, content = project
    content["annotations"] = [one for one in content["annotations"] if one["category_id"] == 90]
    convert((folder, content))
    for i, mask in enumerate(masks(tmp_path).values()):
        assert np.array_equal(mask == 3, projects.ring(centre=(20 + i, 22)))
        assert mask[22, 20 + i] == 0


def test_crowds_are_ignored(tmp_path, project, convert):
    printed = convert(project, "--crowd", "ignore")
    wanted = expected(project[0] / "instances.json", crowd=255)
    for name, mask in masks(tmp_path).items():
        assert np.array_equal(mask, wanted[name]) and (mask == 255).any()
    assert "3 x images with crowds: ignored (255)" in printed


def test_a_split_of_two_files(tmp_path, project, convert, capsys):
    folder, content = project
    (folder / "val.json").write_text(json.dumps({
        **content, "images": content["images"][2:],
        "annotations": [one for one in content["annotations"] if one["image_id"] == 1002]}))
    content["images"], content["annotations"] = content["images"][:2], [
        one for one in content["annotations"] if one["image_id"] != 1002]
    printed = convert((folder, content), "--val", folder / "val.json")
    assert "2 images to train on, 1 to evaluate (the source's own split)" in printed
    assert (tmp_path / "own" / "val.txt").read_text() == "../project/photos/02.jpg masks/val/02.png\n"
    assert (tmp_path / "own" / "train.txt").read_text().count("masks/train/0") == 2


def test_images_and_annotations_without_pixels(tmp_path, project, convert):
    folder, content = project
    for one in content["annotations"]:
        if one["image_id"] == 1000:
            one["segmentation"] = []
    content["categories"].append({"id": 100, "name": "boat"})
    content["annotations"].append({"image_id": 1001, "category_id": 2, "segmentation": [[1, 1, 9, 9]]})
    printed = convert((folder, content))
    assert "5 x annotations without a segmentation (boxes, key points): left out" in printed
    assert "1 x images without annotation: left out" in printed and list(masks(tmp_path)) == ["01", "02"]
    assert "1 x categories without a shape: classes all the same\n      boat" in printed
    assert "1 x shapes without an area (points, lines, polygons of two points): left out" in printed


def test_unlisted_category(tmp_path, project, convert):
    folder, content = project
    content["annotations"][0]["category_id"] = 5
    with pytest.raises(SystemExit, match=r"the label 'category_id 5', 1 x, first in .*annotations\[0\], is not in"):
        convert((folder, content))
    convert((folder, content), "--unknown", "ignore")
    assert (masks(tmp_path)["00"] == 255).any()


def first(content: dict, **changes) -> dict:
    """The content with its first annotation changed."""
    content["annotations"][0] = {**content["annotations"][0], **changes}
    return content


@pytest.mark.parametrize("change, words", [
    (lambda c: [c], "instances.json holds a list"),
    (lambda c: {"shapes": []}, "instances.json is no file of COCO's: it has no list `images`"),
    (lambda c: {**c, "categories": [3]}, r"categories\[0\]: it is no object"),
    (lambda c: {**c, "categories": c["categories"] + [{"id": 3, "name": "car"}]},
     r"categories\[3\]: its id 3 or name 'car' is that of an earlier one"),
    (lambda c: {**c, "images": [{"id": 1}]}, r"images\[0\]: it has no `id` and text `file_name`"),
    (lambda c: {**c, "images": c["images"] + c["images"][:1]}, r"images\[3\]: its id 1000 .* is that of an"),
    (lambda c: {**c, "images": [{**c["images"][0], "width": 0}, *c["images"][1:]]}, r"images\[0\]: its image is 0 x"),
    (lambda c: first(c, image_id=7), r"annotations\[0\]: no image has its image_id 7"),
    (lambda c: first(c, image_id=[7]), r"annotations\[0\]: no image has its image_id \[7\]"),
    (lambda c: first(c, category_id="car"), r"annotations\[0\]: its category_id 'car' is no whole number"),
    (lambda c: first(c, segmentation=[1, 2]), r"annotations\[0\]: its segmentation is neither a list of polygons"),
    (lambda c: first(c, segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "a polygon of 7 numbers; they must be pairs of x and y"),
    (lambda c: first(c, segmentation=[[1, 2, 3, 4, 5, None]]), "its points are no list of pairs of numbers"),
    (lambda c: first(c, segmentation=[[1, 2, 3, 4, 5, 1e9]]), "far outside the image of 64 x 48"),
    (lambda c: first(c, segmentation={"size": [48, 64], "counts": [5, 20]}),
     r"annotations\[0\]: its run lengths are for 25 pixels, their size 64 x 48 has 3072"),
    (lambda c: first(c, segmentation={"size": [48, 64], "counts": [3077, -5]}), "its run lengths are for 3072 pixels"),
    (lambda c: first(c, segmentation={"size": [48], "counts": [5]}), r"the size of its run lengths is \[48\]"),
    (lambda c: first(c, segmentation={"size": [48, 64], "counts": ""}), "its run lengths are for 0 pixels"),
    (lambda c: first(c, segmentation={"size": [48, 64], "counts": "é"}), "run lengths are no text of COCO's, for 'é'"),
    (lambda c: first(c, segmentation={"size": [64, 48], "counts": [3072]}),
     "its run lengths are for 48 x 64 pixels, the image has 64 x 48"),
])
def test_bad_input_ends_in_one_line_and_leaves_nothing(tmp_path, project, convert, change, words):
    folder, content = project
    with pytest.raises(SystemExit, match=words) as ended:
        convert((folder, change(content)))
    assert "\n" not in str(ended.value) and not (tmp_path / "own").exists()


def test_missing_images_and_file(tmp_path, project, convert, run_tool):
    (project[0] / "photos" / "01.jpg").unlink()
    with pytest.raises(SystemExit, match="there is no image .*01.jpg; say with --images in which folder it is, or add"):
        convert(project)
    assert "1 x annotations whose image is not there: left out" in convert(project, "--missing", "leave_out")
    with pytest.raises(SystemExit, match="error: there is no file .*nothing.json"):
        run_tool("convert_labels", "coco", tmp_path / "nothing.json", "--save_dir", tmp_path / "other")


def test_names_that_lead_out_of_the_folder(tmp_path, project, convert):
    folder, content = project
    (folder / "photos" / "01.jpg").rename(folder / "01.jpg")
    content["images"][1]["file_name"] = "../01.jpg"
    content["images"][2]["file_name"] = str(folder / "photos" / "02.jpg")
    convert((folder, content))
    assert sorted(masks(tmp_path)) == ["00", "01", "02"]


def test_decompressed():
    """Against pycocotools' compression, of masks from one run to noise."""
    from pycocotools import mask as coco_mask
    random = np.random.default_rng(0)
    for share in (0, 0.001, 0.02, 0.5, 1):
        mask = random.random((123, 457)) < share
        counts = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert decompressed(counts, "") == projects.run_lengths(mask)
    for text in ("o", "`", "0" * 3 + "\x7f"):
        with pytest.raises(DataError, match="run lengths"):
            decompressed(text, "annotations[0]")
