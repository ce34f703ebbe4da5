"""Data that is wrong ends in an error that names the file; pairs are matched by name; void is ignored."""

import gc
import multiprocessing
import os
import shutil

import cv2
import numpy as np
import pytest
from paddleseg.datasets import Cityscapes
from paddleseg.transforms import Normalize, Resize, ResizeByLong

from paddleseg_encnet import CamVid
from paddleseg_encnet.data.class_names import class_names
from paddleseg_encnet.data.samples import Checked, Loader
from segrun.errors import DataError


@pytest.fixture
def root(tmp_path):
    """A CamVid of two training images and one validation image, 8 x 6 pixels."""
    random = np.random.default_rng(0)
    for mode, names in (("train", ["b", "a"]), ("val", ["c"])):
        for folder in (mode, f"{mode}annot"):
            (tmp_path / folder).mkdir()
        for name in names:
            cv2.imwrite(str(tmp_path / mode / f"{name}.png"), random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
            cv2.imwrite(str(tmp_path / f"{mode}annot" / f"{name}.png"), random.integers(0, 12, (6, 8), dtype=np.uint8))
    return tmp_path


def write_label(root, name, label):
    cv2.imwrite(str(root / "trainannot" / f"{name}.png"), np.asarray(label, np.uint8))


def test_camvid_reads_pairs_and_ignores_void(root):
    dataset = CamVid([Normalize()], str(root))
    assert [[path[-5:] for path in pair] for pair in dataset.file_list] == [["a.png"] * 2, ["b.png"] * 2]
    sample = Checked(dataset)[0]
    on_disk = cv2.imread(str(root / "trainannot" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert (on_disk == 11).any()
    assert np.array_equal(sample["label"], np.where(on_disk == 11, 255, on_disk))
    assert sample["img"].shape == (3, 6, 8) and sample["img"].dtype == np.float32


def test_camvid_for_validation_has_paddlesegs_extra_axis(root):
    assert Checked(CamVid([Normalize()], str(root), mode="val")).read(0)["label"].shape == (1, 6, 8)


@pytest.mark.parametrize("lost, words", [
    ("trainannot/b.png", "no label for 1 of 2 images, the first one .*train/b.png"),
    ("train/a.png", "no image for 1 of 2 labels, the first one .*trainannot/a.png")])
def test_missing_half_of_a_pair_is_named(root, lost, words):
    (root / lost).unlink()
    with pytest.raises(DataError, match=words):
        CamVid([], str(root))


def test_missing_folder_is_named_with_what_to_do(tmp_path):
    with pytest.raises(DataError, match="no folder .*nowhere.*train_dataset.dataset_root=DIR"):
        CamVid([], str(tmp_path / "nowhere"))


@pytest.mark.parametrize("lost", ["gtFine", "leftImg8bit"])
def test_cityscapes_missing_half_of_a_pair_is_named(scenes, tmp_path, lost):
    root = tmp_path / "copy"
    shutil.copytree(scenes, root)
    file = sorted((root / lost / "train").glob("*/*.png"))[1]
    file.unlink()
    other = "gtFine" if lost == "leftImg8bit" else "leftImg8bit"
    stem = file.name.rsplit("_", 1 if lost == "leftImg8bit" else 2)[0]
    with pytest.raises(DataError, match=f"the first one .*{other}.*{stem}"):
        Cityscapes([], str(root), mode="train")


def test_resized_validation_image_keeps_its_label(root):
    sample = Checked(CamVid([Resize(target_size=(4, 3)), Normalize()], str(root), mode="val")).read(0)
    assert sample["img"].shape == (3, 3, 4) and sample["label"].shape == (1, 6, 8)


def test_resized_training_image_and_label(root):
    """PaddleSeg remembers the image's first size here too; the label is resized with it."""
    sample = Checked(CamVid([ResizeByLong(long_size=4), Normalize()], str(root))).read(0)
    assert sample["img"].shape == (3, 3, 4) and sample["label"].shape == (3, 4)


def test_class_names(scenes, root):
    assert class_names(Cityscapes([], str(scenes), mode="val"))[13] == "car"
    assert class_names(CamVid([], str(root))) == ["sky", "building", "pole", "road", "pavement", "tree", "sign",
                                                  "fence", "car", "pedestrian", "bicyclist"]


def test_the_real_camvid(camvid):
    for mode, count in (("train", 367), ("val", 101)):
        dataset = Checked(CamVid([Normalize()], str(camvid), mode=mode))
        assert len(dataset) == count
        sample = dataset.read(count - 1)
        assert sample["img"].shape == (3, 360, 480) and set(np.unique(sample["label"])) <= {*range(11), 255}


class Dropped:
    """In a reference cycle, as an iterator is that an exception's traceback holds; notes who finalises it."""

    def __init__(self, note):
        self.note, self.itself = note, self

    def __del__(self):
        with self.note.open("a") as file:
            file.write(f"{os.getpid()} ")


@pytest.mark.parametrize("end", ["all are taken", "one is taken", "an error"])
def test_no_worker_outlives_its_use(root, end):
    dataset = CamVid([Normalize()], str(root))
    if end == "an error":
        dataset.file_list[0] = [str(root / "missing.png"), dataset.file_list[0][1]]
    before = set(multiprocessing.active_children())
    batches, caught = iter(Loader(dataset, batch_size=1, num_workers=2)), None
    try:
        next(batches)
        assert len(set(multiprocessing.active_children()) - before) == 2
        if end == "all are taken":
            list(batches)
    except DataError as error:
        caught = error          # whose traceback holds all that was in use
    assert (caught is not None) == (end == "an error")
    del batches
    assert set(multiprocessing.active_children()) == before


def test_workers_do_not_finalise_what_their_parent_dropped(root, tmp_path):
    forked, note = [gc.collect], tmp_path / "finalised by"
    os.register_at_fork(after_in_child=lambda: [act() for act in forked])
    gc.disable()        # until the workers are there
    try:
        Dropped(note)
        list(Loader(CamVid([Normalize()], str(root)), batch_size=1, num_workers=1))
    finally:
        gc.enable()
        forked.clear()
    assert note.read_text().split() == [str(os.getpid())]


def test_transforms_that_no_prediction_undoes_are_named(tmp_path):
    """It was said of the label that it is of another size than its image."""
    from paddleseg.datasets import Dataset
    from paddleseg.transforms import Normalize, RandomPaddingCrop
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 6, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "l.png"), np.zeros((4, 6), np.uint8))
    (tmp_path / "list.txt").write_text("a.png l.png\n")
    data = Dataset("val", str(tmp_path), [RandomPaddingCrop([3, 3]), Normalize()], 2,
                   val_path=str(tmp_path / "list.txt"))
    words = r"val \(RandomPaddingCrop, Normalize\) make 3 x 3 of the image .*a.png of 6 x 4"
    with pytest.raises(DataError, match=words):
        Checked(data).read(0)


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_different_sizes_in_a_batch(tmp_path, workers):
    """The loop waited for ever for the thread that could not make a batch of them."""
    from paddleseg.datasets import Dataset
    for i, size in enumerate(((4, 6), (5, 6))):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((*size, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"l{i}.png"), np.zeros(size, np.uint8))
    (tmp_path / "list.txt").write_text("0.png l0.png\n1.png l1.png\n")
    data = Dataset("train", str(tmp_path), [Normalize()], 2, train_path=str(tmp_path / "list.txt"))
    with pytest.raises(DataError, match="different sizes, 6 x 4 and 6 x 5: let the transforms end with a crop"):
        list(Loader(data, batch_size=2, num_workers=workers))
