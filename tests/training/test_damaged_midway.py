"""Files that are damaged, replaced or gone after the check at the start, a disk of data that goes away and comes back,
and a disk that is full: one clear line, nothing lost, and nothing learnt that a whole run would not learn."""

import errno
import os
import pathlib
import shutil

import numpy as np
import pytest
import tiny_run
from full_disk import full_disk
from PIL import Image

from paddleseg_encnet.data import class_shares, waiting
from paddleseg_encnet.data.reading import read_label
from paddleseg_encnet.training import saving
from segrun.errors import DataError
from segrun.raw_files import read_bytes

STEPS = 12          # of two images: three epochs


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory):
    return tiny_run.run(scenes, tmp_path_factory.mktemp("whole"), STEPS)


@pytest.fixture
def data(scenes, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(scenes, tmp_path / "disk" / "scenes"))


def same(a: tiny_run.Run, b: tiny_run.Run):
    first, second = a.state(), b.state()
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], name)


def resize(path: pathlib.Path):
    with Image.open(path) as file:
        file.resize((50, 30)).save(path)


DAMAGES = {
    "image removed": ("img", os.remove, "there is no file"),
    "label removed": ("label", os.remove, "there is no file"),
    "image cut short": ("img", lambda path: os.truncate(path, 500), "damaged, cut short or no image"),
    "label cut short": ("label", lambda path: os.truncate(path, 100), "cannot read the label"),
    "image emptied": ("img", lambda path: os.truncate(path, 0), "damaged, cut short or no image"),
    "image replaced by a text": ("img", lambda path: path.write_text("moved"), "damaged, cut short or no image"),
    "image replaced by a folder": ("img", lambda path: (os.remove(path), path.mkdir()), "Is a directory"),
    "image of another size": ("img", resize, "they must have one size"),
    "label of another size": ("label", resize, "they must have one size"),
    "label replaced by its picture": ("label", lambda path: Image.new("RGB", (128, 64)).save(path), "colour picture"),
    "label with other ids": ("label", lambda path: Image.new("L", (128, 64), 77).save(path), "with value 77"),
    "label of fractions": ("label", lambda path: Image.new("F", (128, 64)).save(path, "TIFF"), "type float32"),
    "label with 16 bits": ("label", lambda path: Image.fromarray(np.full((64, 128), 999, np.uint16)).save(path),
                           "16 bits a pixel"),
}


# With a process that reads, two of them are enough.
@pytest.mark.parametrize("name, workers", [*((name, 0) for name in DAMAGES), ("image removed", 1),
                                           ("label with other ids", 1)])
def test_a_file_damaged_between_check_and_step(name, workers, whole, data, tmp_path):
    """The run ends in that step, names the file and saves what it has reached; with the file mended it goes on as if
    nothing had been."""
    which, damage, words = DAMAGES[name]
    path = sorted((data / {"img": "leftImg8bit", "label": "gtFine"}[which] / "train").glob("*/*.png"))[3]
    kept = path.read_bytes()
    with pytest.raises(DataError, match=words) as error:
        # Step 4 ends the first epoch: what is read ahead is still whole.
        tiny_run.run(data, tmp_path / "run", STEPS, lambda step: damage(path) if step == 4 else None,
                     num_workers=workers)
    folder, = saving.iteration_folders(str(tmp_path / "run"))
    # Of two files that do not fit the label is named, and the size of its image.
    assert path.name.split("_leftImg8bit")[0] in str(error.value)
    assert f"Go on with --resume_model {tmp_path / 'run' / folder}" in str(error.value)
    assert 4 <= int(folder[5:]) < 8
    if path.is_dir():
        path.rmdir()
    path.write_bytes(kept)
    same(tiny_run.run(data, tmp_path / "run", STEPS, resume_model="auto"), whole)


def test_a_file_damaged_before_the_first_step_leaves_nothing(data, tmp_path):
    for path in (data / "leftImg8bit" / "train").glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="cut short or no image$"):
        tiny_run.run(data, tmp_path / "run", STEPS)
    assert not saving.iteration_folders(str(tmp_path / "run"))


# --- a disk that goes away -------------------------------------------------------------------------------------------

def unmount(data: pathlib.Path):
    """What is left of a disk is the folder that it was in."""
    data.parent.rename(data.parent.parent / "elsewhere")
    data.parent.mkdir()


def mount(data: pathlib.Path):
    data.parent.rmdir()
    (data.parent.parent / "elsewhere").rename(data.parent)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_disk_that_comes_back(workers, whole, data, tmp_path, said, monkeypatch):
    monkeypatch.setattr(waiting, "PAUSE", 0.05)
    is_gone, looks = waiting.is_gone, []

    def look(*arguments):
        found = is_gone(*arguments)
        looks.append(found)
        if len(looks) == 3:     # in the process that reads, where `looks` is its own
            mount(data)
        return found

    monkeypatch.setattr(waiting, "is_gone", look)
    found = tiny_run.run(data, tmp_path / "run", STEPS, lambda step: unmount(data) if step == 4 else None,
                         num_workers=workers)
    same(found, whole)
    assert data.is_dir()
    if not workers:     # else another process says it
        gone, back = (line for line in said if "The disk with the data" in line)
        assert "The disk with the data is gone; waiting for it, for up to 0:05:00" in gone
        assert "The disk with the data is there again after 0:00:0" in back


def test_a_disk_that_does_not_come_back(whole, data, tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "PAUSE", 0.05)
    monkeypatch.setattr(waiting, "LIMIT", 0.3)
    with pytest.raises(DataError, match=r"did not come back in 0:00:00\. Go on with --resume_model .*iter_4$"):
        tiny_run.run(data, tmp_path / "run", STEPS, lambda step: unmount(data) if step == 4 else None)
    mount(data)
    same(tiny_run.run(data, tmp_path / "run", STEPS, resume_model="auto"), whole)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_what_the_system_says_of_a_lost_disk_is_waited_for(number, said, tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "PAUSE", 0)
    path, tries = tmp_path / "a.png", []
    path.write_bytes(b"whole")

    def read():
        tries.append(1)
        if len(tries) < 3:
            with monkeypatch.context() as patch:
                patch.setattr("builtins.open", lambda *_: (_ for _ in ()).throw(OSError(number, os.strerror(number))))
                return read_bytes(str(path))
        return read_bytes(str(path))

    assert waiting.for_the_disk(read, [[str(path), None]]) == b"whole"
    assert len(tries) == 3 and len(said) == 2 and os.strerror(number) in said[0]


def test_one_missing_file_is_not_waited_for(said, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="there is no file .*b.png"):
        waiting.for_the_disk(lambda: read_bytes(str(tmp_path / "b.png")),
                             [[str(tmp_path / name), None] for name in ("a.png", "b.png")])
    assert not said


@pytest.mark.parametrize("before", [True, False], ids=["gone for a while", "gone for a moment"])
def test_a_disk_that_comes_back_between_two_looks(before, said, tmp_path, monkeypatch):
    """The file is looked for while the disk is gone, and the disk while it is there again."""
    monkeypatch.setattr(waiting, "PAUSE", 0)
    path, tries = tmp_path / "disk" / "a.png", []

    def read():
        tries.append(1)
        if before and len(tries) == 1:
            return read_bytes(str(path))
        try:
            return read_bytes(str(path))
        finally:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"whole")

    assert waiting.for_the_disk(read, [[str(path), None]]) == b"whole"
    assert len(tries) == 2 + before and len(said) == 2 * before


def test_what_is_wrong_with_a_file_is_read_once(said, tmp_path):
    tries = []
    (tmp_path / "a.png").write_bytes(b"no picture")

    def read():
        tries.append(1)
        return read_label(str(tmp_path / "a.png"))

    with pytest.raises(DataError, match="cannot read the label .*a.png"):
        waiting.for_the_disk(read, [[str(tmp_path / "a.png"), None]])
    assert len(tries) == 1 and not said


# --- a disk that is full ---------------------------------------------------------------------------------------------

def test_histogram_of_check_data_on_a_full_disk(small_config, run_tool, tmp_path, monkeypatch):
    draw = class_shares.draw_histogram

    def draw_on_a_full_disk(*args):
        with full_disk():       # not while the tool prints, maybe into a file
            draw(*args)

    monkeypatch.setattr(class_shares, "draw_histogram", draw_on_a_full_disk)
    with pytest.raises(SystemExit, match=f"^error: cannot write {tmp_path}/class_histogram.png: File too large$"):
        run_tool("check_data", "--config", small_config, "--save_dir", tmp_path)
    assert os.listdir(tmp_path) == []
