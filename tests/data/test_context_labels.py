"""PASCAL-Context's published labels become masks that the data set reads."""

import cv2
import numpy as np
import pytest
from paddleseg.datasets import PascalContext
from paddleseg.transforms import Normalize
from scipy.io import savemat

from paddleseg_encnet.data.context_labels import CLASSES, class_ids
from paddleseg_encnet.data.samples import Checked

# Published number of some classes, their names, and their places in the list of 60 names of PaddleSeg's files.
KNOWN = {2: ("aeroplane", 1), 9: ("bag", 2), 23: ("bicycle", 6), 397: ("table", 50), 415: ("track", 51),
         458: ("wood", 59)}


@pytest.fixture
def published(tmp_path):
    """VOC2010 and trainval as published, of three images."""
    root, random = tmp_path / "VOC2010", np.random.default_rng(0)
    for folder in ("JPEGImages", "ImageSets/Main", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (tmp_path / "trainval").mkdir()
    for split, names in (("train", ["2008_000002", "2010_000001"]), ("val", ["2008_000003"])):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for name in names:
            cv2.imwrite(str(root / "JPEGImages" / f"{name}.jpg"), np.zeros([6, 8, 3], np.uint8))
            numbers = random.integers(0, 460, [6, 8]).astype(np.uint16)
            numbers[0, :len(KNOWN)] = list(KNOWN)
            savemat(str(tmp_path / "trainval" / f"{name}.mat"), {"LabelMap": numbers})
    return tmp_path


def test_ids():
    assert len(CLASSES) == len(set(CLASSES)) == 59 and list(CLASSES) == sorted(CLASSES)
    numbers = np.array([0, 1, 459, *KNOWN], np.uint16)
    assert class_ids(numbers).tolist() == [0, 0, 0] + [number for _, number in KNOWN.values()]
    every = class_ids(np.arange(460))
    assert (every > 0).sum() == 59 and set(every) == set(range(60)) and every.dtype == np.uint8
    with pytest.raises(ValueError, match="numbers from 0 to 460"):
        class_ids(np.array([0, 460]))


def test_a_folder_that_is_not_there_and_what_it_would_be(published, run_tool):
    for labels, root, words in (("trainval", "nowhere", "nowhere; it is VOC2010 of the published VOCtrainval_03"),
                                ("nowhere", "VOC2010", "nowhere; it is the published trainval.tar.gz, unpacked")):
        with pytest.raises(SystemExit, match=f"error: there is no folder .*{words}"):
            run_tool("convert_pascal_context", "--labels", published / labels, "--dataset_root", published / root)


def test_masks_and_lists_that_the_data_set_reads(published, run_tool):
    root = published / "VOC2010"
    run_tool("convert_pascal_context", "--labels", published / "trainval", "--dataset_root", root)
    for mode, names in (("train", ["2008_000002", "2010_000001"]), ("val", ["2008_000003"]),
                        ("trainval", ["2008_000002", "2008_000003", "2010_000001"])):
        dataset = PascalContext([Normalize()], str(root), mode)
        assert [path[-15:-4] for path, _ in dataset.file_list] == names
        for i in range(len(names)):
            label = Checked(dataset).read(i)["label"].squeeze()
            assert label[0, :len(KNOWN)].tolist() == [number for _, number in KNOWN.values()]
    assert not list(root.rglob("*.part"))


@pytest.mark.parametrize("lost, words", [
    ("trainval/2010_000001.mat", "there is no file .*2010_000001.mat; the published trainval.tar.gz has one"),
    ("VOC2010/ImageSets/Main/val.txt", "there is no file .*Main/val.txt; dataset_root is VOC2010")])
def test_missing_file_is_named_and_no_list_is_written(published, run_tool, lost, words, capsys):
    (published / lost).unlink()
    with pytest.raises(SystemExit, match=words):
        run_tool("convert_pascal_context", "--labels", published / "trainval", "--dataset_root", published / "VOC2010")
    assert not list((published / "VOC2010" / "ImageSets" / "Segmentation").iterdir())


def test_damaged_label_is_named(published, run_tool):
    (published / "trainval" / "2008_000003.mat").write_bytes(b"MATLAB 5.0 MAT-file, or not")
    with pytest.raises(SystemExit, match="cannot read the label .*2008_000003.mat"):
        run_tool("convert_pascal_context", "--labels", published / "trainval", "--dataset_root", published / "VOC2010")


@pytest.mark.parametrize("train, words", [
    ("", "ImageSets/Main/train.txt is empty"),
    ("2008_000003\n", "2008_000003 is in train.txt and in val.txt of .*VOC2010/ImageSets/Main")])
def test_lists_without_sense_are_refused_before_a_mask_is_written(published, run_tool, train, words):
    (published / "VOC2010" / "ImageSets" / "Main" / "train.txt").write_text(train)
    with pytest.raises(SystemExit, match=words):
        run_tool("convert_pascal_context", "--labels", published / "trainval", "--dataset_root", published / "VOC2010")
    assert not list(published.rglob("*.png"))
