"""segrun/own_files.py: what the tools have written may be replaced, and nothing else."""

import os
import shutil

import pytest

from segrun import inputs, own_files, writing
from segrun.errors import DataError
from segrun.own_files import check_outputs, is_own, write_own


def put(text: str):
    def write(path: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return write


def refused(paths, inputs=()) -> str:
    with pytest.raises(FileExistsError) as error:
        check_outputs(map(str, paths), map(str, inputs))
    return str(error.value)


def test_own_files_are_replaced_and_no_others(tmp_path):
    own, other = tmp_path / "a" / "own.txt", tmp_path / "a" / "other.txt"
    check_outputs([str(own)])
    assert list(tmp_path.iterdir()) == []       # looking changes nothing
    write_own(str(own), put("one"))
    other.write_text("mine")
    check_outputs([str(own)])
    assert is_own(str(own)) and not is_own(str(other))
    assert refused([own, other]).startswith(f"{other} is there already, and these tools have not written it")
    assert other.read_text() == "mine"


def test_a_file_that_the_user_has_changed_is_the_users(tmp_path):
    path = tmp_path / "mask.txt"
    write_own(str(path), put("abc"))
    path.write_text("abd")          # of the same length
    assert str(path) in refused([path])
    path.write_text("abc")
    check_outputs([str(path)])


def test_each_content_of_several_runs_is_known(tmp_path):
    """A run that is killed between the record and the file's name leaves what was there before."""
    path = tmp_path / "x.txt"
    write_own(str(path), put("one"))
    own_files.record(str(path), str(shutil.copy(__file__, tmp_path / "two")))
    check_outputs([str(path)])
    write_own(str(path), put("three"))
    write_own(str(path), put("three"))
    lines = (tmp_path / own_files.RECORD).read_text().splitlines()
    assert len(lines) == 3 and all(line.endswith(' "x.txt"') for line in lines)


def test_a_folder_that_moves_keeps_its_record(tmp_path):
    write_own(str(tmp_path / "here" / "x.txt"), put("one"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    check_outputs([str(tmp_path / "there" / "x.txt")])
    shutil.copy(tmp_path / "here" / "x.txt", tmp_path / "y.txt")        # a mask that became a label
    assert str(tmp_path / "y.txt") in refused([tmp_path / "y.txt"])


@pytest.mark.parametrize("damage", [b"\xff\xfe no line\n", b"zz 1 \"x.txt\"\n", b"0 1 x\n", b"\n\n"])
def test_a_damaged_line_of_the_record_is_passed_over(tmp_path, damage):
    write_own(str(tmp_path / "x.txt"), put("one"))
    with open(tmp_path / own_files.RECORD, "ab") as file:
        file.write(damage)
    write_own(str(tmp_path / "y.txt"), put("two"))
    check_outputs([str(tmp_path / "x.txt"), str(tmp_path / "y.txt")])


def test_a_record_that_another_process_has_lengthened(tmp_path):
    write_own(str(tmp_path / "x.txt"), put("one"))
    (tmp_path / "z.txt").write_text("")
    with open(tmp_path / own_files.RECORD, "a") as file:
        file.write('00000000 0 "z.txt"\n')
    write_own(str(tmp_path / "y.txt"), put("two"))
    check_outputs([str(tmp_path / name) for name in ("x.txt", "y.txt", "z.txt")])


@pytest.mark.parametrize("name", ["ü 道.txt", "new\nline.txt", "quote\".txt", b"\xff.txt"])
def test_names_of_any_letters(tmp_path, name):
    path = os.path.join(str(tmp_path), os.fsdecode(name))
    write_own(path, put("one"))
    check_outputs([path])


# --- inputs ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("way", ["same", "dots", "link to the folder", "hard link", "link to the file"])
def test_an_input_is_refused_by_whatever_path(tmp_path, way):
    """Even if a tool has written it: a mask that is predicted again."""
    folder = tmp_path / "in"
    path = folder / "x.txt"
    write_own(str(path), put("one"))
    given = path
    if way == "dots":
        given = folder / ".." / "in" / "x.txt"
    elif way == "link to the folder":
        os.symlink(folder, tmp_path / "linked")
        given = tmp_path / "linked" / "x.txt"
    elif way == "hard link":
        given = tmp_path / "x.txt"
        os.link(path, given)
    elif way == "link to the file":
        given = tmp_path / "x.txt"
        os.symlink(path, given)
    assert refused([path], [given]) == (f"{given} is read, and would be replaced by what is written to {path}: give "
                                        "another folder to write into")


def test_a_link_is_no_file_of_ours(tmp_path):
    """What it leads to would stay, but the user's link would be gone."""
    (tmp_path / "file").write_text("mine")
    os.symlink(tmp_path / "file", tmp_path / "x.txt")
    assert str(tmp_path / "x.txt") in refused([tmp_path / "x.txt"])


def test_inputs_that_are_no_files_are_left_out(tmp_path):
    check_outputs([str(tmp_path / "x.txt")], ["encnet_quick_start", "", "nul\0", str(tmp_path)])


@pytest.mark.parametrize("path, kind", [("file/x.txt", NotADirectoryError), ("folder", IsADirectoryError),
                                        ("/proc/x.txt", OSError)])
def test_places_that_take_no_file(tmp_path, path, kind):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(kind, match="is a folder" if path == "folder" else "cannot write "):
        check_outputs([str(tmp_path / path)])


# --- names -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("letter", ["a", "道"])
def test_the_longest_name_is_written(tmp_path, letter):
    name = (letter * 255).encode()[:251 // len(letter.encode()) * len(letter.encode())].decode() + ".txt"
    write_own(str(tmp_path / name), put("one"))
    check_outputs([str(tmp_path / name)])
    assert sorted(os.listdir(tmp_path)) == sorted([own_files.RECORD, name])


def test_a_longer_name_is_one_files_fault(tmp_path):
    path = str(tmp_path / ("a" * 252 + ".txt"))
    check_outputs([path])
    with pytest.raises(DataError, match=f"^cannot write {path}: File name too long$"):
        writing.write(path, put("one"))
    assert os.listdir(tmp_path) == []


# --- own outputs among the images ------------------------------------------------------------------------------------

def test_own_outputs_are_left_out_of_a_folder_around_them_alone(tmp_path):
    (tmp_path / "photo.png").touch()
    own = str(tmp_path / "out" / "ids" / "photo.png")
    write_own(own, put("one"))
    found, out = [str(tmp_path / "photo.png"), own], str(tmp_path / "out")
    kept, line = inputs.without_own(found, str(tmp_path), out)
    assert kept == found[:1] and line == (f"1 of 2 images are left out, which these tools have written into {out} "
                                          f"themselves; the first: {own}")
    for path in (own, str(tmp_path / "out" / "ids"), str(tmp_path / "list.txt")):       # which name them
        assert inputs.without_own([own], path, out) == ([own], "")
    with pytest.raises(ValueError, match="^1 of 1 images are left out"):
        inputs.without_own([own], out, out)
