"""labelme's files: masks pixel by pixel as Pillow paints them, and a decision for all that a file leaves open."""

import json
import re

import numpy as np
import projects
import pytest

IDS = {"background": 0, "car": 1, "tree": 2, "window": 3}
SQUARE = [[4, 4], [20, 4], [20, 20], [4, 20]]


@pytest.fixture
def convert(run_tool, tmp_path, capsys):
    """convert(project, flags...) converts into tmp_path/own and returns what was printed."""
    def run(project, *flags) -> str:
        run_tool("convert_labels", "labelme", project, "--save_dir", tmp_path / "own", *flags)
        return capsys.readouterr().out
    return run


@pytest.fixture
def two(tmp_path):
    """Two images with a car each; a test changes what it is about."""
    for i in range(2):
        projects.photo(tmp_path / "photos" / f"{i}.jpg", i)
        projects.labelme_json(tmp_path / "photos" / f"{i}.json", f"{i}.jpg", [projects.shape("car", SQUARE)])
    return tmp_path / "photos"


def test_masks_are_those_that_pillow_paints(tmp_path, convert):
    written = projects.labelme(tmp_path / "photos")
    printed = convert(tmp_path / "photos")
    for name, shapes in written.items():
        assert np.array_equal(projects.mask(tmp_path / "own", name), projects.paint(shapes, IDS)), name
    assert (tmp_path / "own" / "labels.txt").read_text().split() == list(IDS)
    assert "10 x images with pixels that shapes of two classes cover: the class of the last in the file" in printed
    assert "8 images to train on, 2 to evaluate (--split 0.8 --seed 0)" in printed


def test_every_kind_is_in_these_projects(tmp_path):
    kinds = {shape["shape_type"] for shape in projects.labelme(tmp_path)["00"]}
    assert kinds == {"polygon", "rectangle", "circle", "mask"}


def test_smallest_on_top_or_ignored(tmp_path, convert, two):
    inner = [[8, 8], [12, 8], [12, 12], [8, 12]]
    shapes = [projects.shape("tree", inner), projects.shape("car", SQUARE)]
    projects.labelme_json(two / "0.json", "0.jpg", shapes)
    expected = {"last": projects.paint(shapes, IDS), "smallest": projects.paint(shapes[::-1], IDS),
                "ignore": projects.paint([shapes[1], projects.shape("void", inner)], {**IDS, "void": 255})}
    assert not np.array_equal(expected["last"], expected["smallest"])
    for rule, ids in expected.items():
        assert f"0.jpg: {5 * 5} pixels" in convert(two, "--overlap", rule)
        assert np.array_equal(projects.mask(tmp_path / "own", "0"), ids), rule
        (tmp_path / "own").rename(tmp_path / rule)


def test_same_class_twice_is_no_overlap(two, convert):
    projects.labelme_json(two / "0.json", "0.jpg", [projects.shape("car", SQUARE)] * 2)
    assert "nothing was left to be decided" in convert(two)


def test_list_of_labels_gives_the_ids(tmp_path, two, convert):
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ntree\ncar\n")
    projects.labelme_json(two / "1.json", "1.jpg", [projects.shape("car", SQUARE),
                                                    projects.shape("__ignore__", SQUARE[:3])])
    convert(two, "--labels", tmp_path / "labels.txt")
    assert (tmp_path / "own" / "labels.txt").read_text().split() == ["background", "tree", "car"]
    assert set(np.unique(projects.mask(tmp_path / "own", "0"))) == {0, 2}
    assert set(np.unique(projects.mask(tmp_path / "own", "1"))) == {0, 2, 255}


def test_unknown_label(tmp_path, two, convert):
    (tmp_path / "labels.txt").write_text("background\ncar\n")
    projects.labelme_json(two / "1.json", "1.jpg", [projects.shape("car", SQUARE), projects.shape("caar", SQUARE[:3])])
    with pytest.raises(SystemExit, match="error: the label 'caar', 1 x, first in .*1.json, shape 1, is not in "
                                         ".*labels.txt: correct one of them, or add --unknown ignore or --unknown lea"):
        convert(two, "--labels", tmp_path / "labels.txt")
    assert not (tmp_path / "own").exists()
    for rule, value in (("ignore", 255), ("leave_out", 1)):
        printed = convert(two, "--labels", tmp_path / "labels.txt", "--unknown", rule)
        assert "1 x labels that are not in the list: " in printed and "'caar', 1 x, first in" in printed
        assert projects.mask(tmp_path / "own", "1")[5, 18] == value
        (tmp_path / "own").rename(tmp_path / rule)


def test_rest_is_ignored(tmp_path, two, convert):
    convert(two, "--rest", "ignore")
    assert (tmp_path / "own" / "labels.txt").read_text() == "car\n"
    assert set(np.unique(projects.mask(tmp_path / "own", "0"))) == {0, 255}


def test_list_without_background(tmp_path, two, convert):
    (tmp_path / "labels.txt").write_text("car\n")
    with pytest.raises(SystemExit, match="labels.txt leaves no class background for pixels that no shape covers: name "
                                         "it there, or add --rest ignore"):
        convert(two, "--labels", tmp_path / "labels.txt")


def test_ignored_labels(tmp_path, two, convert):
    projects.labelme_json(two / "1.json", "1.jpg", [projects.shape("mud", SQUARE)])
    convert(two, "--ignore", "mud")
    assert set(np.unique(projects.mask(tmp_path / "own", "1"))) == {0, 255}
    with pytest.raises(SystemExit, match="--ignore mood: no label is called so; there are car, mud"):
        convert(two, "--ignore", "mood")


def test_images_without_annotation(tmp_path, two, convert):
    projects.photo(two / "more" / "2.jpg", 2)
    projects.labelme_json(two / "3.json", "3.jpg", [])
    projects.photo(two / "3.jpg", 3)
    printed = convert(two)
    assert "2 x images without annotation: left out" in printed and "more/2.jpg" in printed and "3.jpg" in printed
    assert not (tmp_path / "own" / "masks" / "3.png").exists()
    (tmp_path / "own").rename(tmp_path / "first")
    assert "2 x images without annotation: all background" in convert(two, "--unannotated", "keep")
    assert not projects.mask(tmp_path / "own", "more/2").any() and not projects.mask(tmp_path / "own", "3").any()
    (tmp_path / "own").rename(tmp_path / "second")
    with pytest.raises(SystemExit, match="has no annotation"):
        convert(two, "--unannotated", "stop")


@pytest.mark.parametrize("path", ["../elsewhere/0.jpg", "..\\elsewhere\\0.jpg"])
def test_image_path_elsewhere(tmp_path, two, convert, path):
    (tmp_path / "elsewhere").mkdir()
    (two / "0.jpg").rename(tmp_path / "elsewhere" / "0.jpg")
    projects.labelme_json(two / "0.json", path, [projects.shape("car", SQUARE)])
    assert "nothing was left to be decided" in convert(two)
    lists = "".join((tmp_path / "own" / f"{split}.txt").read_text() for split in ("train", "val"))
    assert "../elsewhere/0.jpg masks/0.png\n" in lists


def test_image_path_that_leads_nowhere(tmp_path, two, convert):
    projects.labelme_json(two / "0.json", "C:\\Users\\me\\0.jpg", [projects.shape("car", SQUARE)])
    assert "1 x images not where imagePath says: found by their name" in convert(two)
    (tmp_path / "own").rename(tmp_path / "first")
    (tmp_path / "elsewhere").mkdir()
    (two / "0.jpg").rename(tmp_path / "elsewhere" / "0.jpg")
    with pytest.raises(SystemExit, match=r"0.json: there is no image C:.*; say with --images in which folder it is"):
        convert(two)
    assert "found by their name" in convert(two, "--images", tmp_path / "elsewhere")


def test_missing_image_is_left_out(tmp_path, two, convert):
    projects.labelme_json(two / "2.json", "2.jpg", [projects.shape("car", SQUARE)])
    assert "1 x annotations whose image is not there: left out" in convert(two, "--missing", "leave_out")


def test_shapes_without_an_area_or_pixel(tmp_path, two, convert):
    far = [[70, 10], [75, 10], [75, 15]]            # right of the image
    shapes = [projects.shape("tree", [[1, 1]], "point"), projects.shape("tree", [[1, 1], [9, 9]], "line"),
              projects.shape("tree", [[1, 1], [9, 9]]), projects.shape("tree", far), projects.shape("car", SQUARE)]
    projects.labelme_json(two / "0.json", "0.jpg", shapes)
    printed = convert(two)
    assert "3 x shapes without an area" in printed and "1 x shapes that cover no pixel: left out" in printed
    assert np.array_equal(projects.mask(tmp_path / "own", "0"), projects.paint(shapes[4:], {"car": 1}))


def test_names_in_folders_and_with_spaces(tmp_path, convert):
    for name in ("a b/1", "c/1"):
        projects.photo(tmp_path / "photos" / f"{name}.jpg", len(name))
        projects.labelme_json(tmp_path / "photos" / f"{name}.json", "1.jpg", [projects.shape("car", SQUARE)])
    convert(tmp_path / "photos")
    assert (tmp_path / "own" / "masks" / "a b" / "1.png").is_file()
    assert "separator: \"\\t\"" in (tmp_path / "own" / "config.yml").read_text()


GOOD = {"shapes": [], "imagePath": "0.jpg", "imageHeight": 48, "imageWidth": 64}


@pytest.mark.parametrize("text, words", [
    ("{'a': 1}", "0.json is no JSON: Expecting property name .* in line 1, column 2"),
    ("", "0.json is no JSON: Expecting value in line 1, column 1"),
    ("[" * 100000, "0.json is no JSON"),
    ("[]", "0.json holds a list, where an object with keys is expected"),
    ("null", "0.json holds null, where an object with keys is expected"),
    (json.dumps({"images": []}), "0.json is no file of labelme's: it has no list `shapes` and text `imagePath`"),
    (json.dumps({**GOOD, "imageHeight": "tall"}), "its image is 64 x 'tall'; these must be whole numbers above"),
    (json.dumps({**GOOD, "shapes": [3]}), "0.json, shape 0: it is no object with a text `label`"),
    (json.dumps({**GOOD, "shapes": [projects.shape(" ", SQUARE)]}), "shape 0: it is no object with a text `label`"),
    (json.dumps({**GOOD, "shapes": [projects.shape("a\nb", SQUARE)]}), r"no class can be called 'a\\nb'"),
    (json.dumps({**GOOD, "imageHeight": 10 ** 9, "imageWidth": 10 ** 9, "shapes": [projects.shape("a", SQUARE)]}),
     "is for 1000000000 x 1000000000 pixels, the image has 64 x 48"),
    (json.dumps({**GOOD, "shapes": [projects.shape("a", SQUARE, "heart")]}), "a shape of type 'heart'; known are poly"),
    (json.dumps({**GOOD, "shapes": [projects.shape("a", [1, 2, 3])]}), "shape 0: its points are no list of pairs"),
    (json.dumps({**GOOD, "shapes": [projects.shape("a", [[1, 2], [3, 4], [5, float("nan")]])]}), "no finite number"),
    (json.dumps({**GOOD, "shapes": [projects.shape("a", [[1, 2]], "circle")]}), "shape 0: 1 points, it needs 2"),
    (json.dumps({**GOOD, "shapes": [projects.shape("a", [[1, 2], [3, 4], [5, 600]])]}),
     "shape 0: the point 5, 600 is far outside the image of 64 x 48"),
    (json.dumps({**GOOD, "shapes": [projects.shape("a", [[1, 2], [3, 4]], "mask", mask="???")]}), "no PNG in base64"),
    (json.dumps({**GOOD, "shapes": [projects.shape("a", [[1, 2], [3, 4]], "mask",
                                                   mask=projects.as_base64(np.ones((9, 9), bool)))]}),
     r"its mask has shape \(9, 9\), its corners 1, 2 and 3, 4"),
    (json.dumps({**GOOD, "imageHeight": 96, "imageWidth": 128, "shapes": [projects.shape("a", SQUARE)]}),
     "the annotation of .*0.jpg is for 128 x 96 pixels, the image has 64 x 48: was one of them resized"),
])
def test_bad_input_ends_in_one_line_and_leaves_nothing(tmp_path, two, convert, text, words):
    (two / "0.json").write_text(text)
    with pytest.raises(SystemExit, match=words) as ended:
        convert(two)
    assert "\n" not in str(ended.value) and not (tmp_path / "own").exists()


def test_two_files_for_one_image(two, convert):
    projects.labelme_json(two / "2.json", "0.jpg", [projects.shape("car", SQUARE)])
    with pytest.raises(SystemExit, match="0.json and .*2.json both annotate .*0.jpg: keep one of them"):
        convert(two)


def test_nothing_left_says_why(tmp_path, two, convert):
    for i in range(2):
        projects.labelme_json(two / f"{i}.json", f"{i}.jpg", [projects.shape("car", [[1, 2], [3, 4]])])
    with pytest.raises(SystemExit) as ended:
        convert(two)
    assert re.fullmatch(r"error: no image with an annotation is left to be converted \(2 x shapes without an area .*: "
                        r"left out, the first: .*0.json, shape 0: polygon 'car'; 2 x images without annotation: .*, "
                        r"the first: .*0.jpg\)", ended.value.code)
    assert not (tmp_path / "own").exists()


def test_folder_without_json(tmp_path, convert):
    with pytest.raises(SystemExit, match="there is no folder .*nowhere"):
        convert(tmp_path / "nowhere")
    with pytest.raises(SystemExit, match="no .json in the folder"):
        convert(tmp_path)
