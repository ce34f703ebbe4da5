"""What is given to be predicted: which files are meant, which are passed over, and what their pictures are called."""

import os

import pytest
from kinds_of_files import folder_of_kinds
from PIL import Image

from segrun import inputs


@pytest.fixture
def folder(tmp_path):
    return folder_of_kinds(tmp_path / "in")


# --- which files it is -----------------------------------------------------------------------------------------------

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


def test_a_number_is_a_webcam_unless_a_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert inputs.is_camera("0") and inputs.is_camera("12")
    assert not inputs.is_camera("-1") and not inputs.is_camera("0.png") and not inputs.is_camera("")
    (tmp_path / "0").mkdir()
    assert not inputs.is_camera("0")


# --- what is passed over ---------------------------------------------------------------------------------------------

def test_files_that_are_no_images_are_counted_and_named(folder):
    images, root, _ = inputs.find_images(str(folder))
    assert [os.path.relpath(path, root) for path in images] == ["a.jpg", "a.png", "b/c.png", "b/moving.gif"]
    assert inputs.passed_over(str(folder)) == (
        f"4 files in {folder} are passed over, by their endings no images: 1 x .heic, 2 x .txt, 1 x no ending; the "
        f"first: {folder}/LICENCE")
    assert inputs.passed_over(str(folder / "b")).startswith("1 files in ")
    assert inputs.passed_over(str(folder / "a.png")) == inputs.passed_over("nowhere") == ""


def test_an_avif_is_an_image_where_pillow_reads_it():
    assert inputs.is_image("x.AVIF") == (".avif" in Image.registered_extensions())


# --- names of pictures -----------------------------------------------------------------------------------------------

def test_only_names_that_collide_keep_their_endings():
    names = inputs.output_names(["in/a.jpg", "in/a.png", "in/b/a.png", "in/c.jpg"], "in")
    assert names == {"in/a.jpg": "a.jpg.jpg", "in/a.png": "a.png.png", "in/b/a.png": "b/a.png", "in/c.jpg": "c.jpg"}
    assert inputs.kept_endings(names) == ("2 images differ from another in their endings alone, and what is written of "
                                          "them keeps these: a.jpg.png of in/a.jpg")
    assert inputs.kept_endings(inputs.output_names(["in/a.jpg", "in/b/a.jpg"], "in")) == ""


def test_pictures_stay_below_the_folder_they_are_saved_in():
    names = inputs.output_names(["data/a/x.png", "data/a/x.png", "/elsewhere/y.png", "other/z.png"], "data")
    assert names == {"data/a/x.png": "a/x.png", "/elsewhere/y.png": "y.png", "other/z.png": "z.png"}


def test_images_of_one_name_outside_the_lists_folder():
    with pytest.raises(ValueError, match="a/x.png and b/x.png would be written to the same pictures; move the list"):
        inputs.output_names(["a/x.png", "b/x.png"], "lists")
    with pytest.raises(ValueError, match="a/x.png and b/x.png would be written to the same pictures"):
        inputs.output_names(["a/x.png", "b/x.png"], None)


# --- linked folders --------------------------------------------------------------------------------------------------

def names_below(folder) -> list:
    return [os.path.relpath(path, folder) for path in inputs.find_images(str(folder))[0]]


def test_a_linked_folder_is_followed(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    for name in ("in/a.png", "elsewhere/b.png", "elsewhere/deep/c.png", "elsewhere/notes.txt"):
        (tmp_path / name).touch()
    os.symlink(tmp_path / "elsewhere", tmp_path / "in" / "linked")
    assert names_below(tmp_path / "in") == ["a.png", "linked/b.png", "linked/deep/c.png"]
    assert "1 files in" in inputs.passed_over(str(tmp_path / "in"))


def test_circles_of_links_end_and_each_folder_is_read_once(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("a.png", "b/c.png"):
        (tmp_path / name).touch()
    os.symlink(tmp_path, tmp_path / "b" / "up")
    os.symlink("b", tmp_path / "a link to b")           # which sorts before b
    os.symlink("itself", tmp_path / "itself")
    os.symlink(tmp_path / "nowhere", tmp_path / "broken")
    assert names_below(tmp_path) == ["a.png", "b/c.png"]
    os.symlink(tmp_path, tmp_path.parent / f"{tmp_path.name}-link")
    assert names_below(tmp_path.parent / f"{tmp_path.name}-link") == ["a.png", "b/c.png"]


# --- what may be meant -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("line, words", [
    ("a.png, l.png", "a.png,; the name ends in ',': between image and label of a list stands one space or tab alone"),
    ("A.PNG l.png", "A.PNG; is it .*a.png?"), ("a.png\tL.png", "L.png; is it .*l.png?"), ("b.png", "b.png$")])
def test_a_name_in_a_list_that_is_nearly_a_files(tmp_path, line, words):
    for name in ("a.png", "l.png"):
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text(line)
    with pytest.raises(FileNotFoundError, match=words):
        inputs.find_images(str(tmp_path / "list.txt"))


def test_a_path_in_other_letters(tmp_path):
    (tmp_path / "Street.JPG").touch()
    with pytest.raises(FileNotFoundError, match=r"street.jpg; is it .*Street.JPG\?$"):
        inputs.find_images(str(tmp_path / "street.jpg"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_list_in_any_encoding_that_says_which_it_is(tmp_path, encoding):
    (tmp_path / "é 道.png").touch()
    (tmp_path / "list.txt").write_text("é 道.png\r\n", encoding=encoding)
    assert inputs.find_images(str(tmp_path / "list.txt"))[0] == [str(tmp_path / "é 道.png")]


@pytest.mark.parametrize("encoding", ["gbk", "utf-16-le", "utf-16-be", "cp932"])
def test_a_list_in_another_encoding_is_named(tmp_path, encoding):
    (tmp_path / "list.txt").write_bytes("a.png\n道路.png\n".encode(encoding))
    with pytest.raises(ValueError, match=r"the list .*list.txt is no text in UTF-8 \(.*\); save it as UTF-8"):
        inputs.find_images(str(tmp_path / "list.txt"))
