"""Each way in which data go wrong is told by tools/check_data.py, and by training before its first step."""

import re
import shutil

import cv2
import numpy as np
import paddle
import pytest
import yaml
from conftest import ROOT
from paddleseg.cvlibs import Config, SegBuilder, manager
from paddleseg.datasets import Cityscapes, Dataset
from paddleseg.models.losses import CrossEntropyLoss
from PIL import Image

from paddleseg_encnet.data import checks
from paddleseg_encnet.data.checks import check_data, quick_check
from paddleseg_encnet.data.class_shares import class_weights
from paddleseg_encnet.data.label_values import likely_cause
from paddleseg_encnet.data.looking import as_read, look_at_sample
from paddleseg_encnet.data.samples import Checked, Loader
from segrun.errors import DataError

SIZE = (24, 32)


class Set:
    """A data set of four training and two validation images in the layout of PaddleSeg's Dataset, and its config."""

    def __init__(self, root, classes=3, dataset="Dataset", more=""):
        self.root, self.random = root, np.random.default_rng(0)
        self.classes = classes
        for split, count in (("train", 4), ("val", 2)):
            names = [f"{split}{i}" for i in range(count)]
            (root / f"{split}.txt").write_text("".join(f"{name}.png {name}_label.png\n" for name in names))
            for name in names:
                self.image(name, self.random.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
                self.label(name, self.random.integers(0, classes, SIZE))
        self.config = root / "config.yml"
        self.config.write_text(f"""
_base_: {ROOT}/configs/_base_/encnet.yml
batch_size: 2
iters: 1
train_dataset: {{type: Dataset, dataset_root: {root}, train_path: {root}/train.txt, num_classes: {classes}, mode: train,
  transforms: [{{type: RandomPaddingCrop, crop_size: [32, 24]}}, {{type: Normalize}}]}}
val_dataset: {{type: Dataset, dataset_root: {root}, val_path: {root}/val.txt, num_classes: {classes}, mode: val,
  transforms: [{{type: Normalize}}]}}
optimizer: {{type: SGD}}
lr_scheduler: {{type: PolynomialDecay, learning_rate: 0.01}}
model: {{num_classes: {classes}, backbone: {{type: ResNet18_vd, output_stride: 16}}, num_codes: 2, mid_channels: 8}}
""")

    def image(self, name, pixels):
        cv2.imwrite(str(self.root / f"{name}.png"), pixels)

    def label(self, name, ids):
        Image.fromarray(np.asarray(ids, np.uint8)).save(self.root / f"{name}_label.png")

    def builder(self):
        return SegBuilder(Config(str(self.config)))

    def findings(self, **options):
        return [line for split in check_data(self.builder(), **options) for line in split.lines()]


@pytest.fixture
def data(tmp_path):
    return Set(tmp_path)


def one_value(data, value):
    label = np.zeros(SIZE)
    label[5, 7:10] = value
    data.label("train2", label)


def with_16_bits(data):
    """As labelling tools write them, in a PNG."""
    for name in ("train0", "train1", "train2", "train3", "val0", "val1"):
        ids = np.array(Image.open(data.root / f"{name}_label.png"))
        Image.fromarray(ids.astype(np.uint16)).save(data.root / f"{name}_label.png")


def ids_with(*values):
    return lambda data: [data.label(name, np.resize(values, SIZE))
                         for name in ("train0", "train1", "train2", "train3", "val0", "val1")]


def as_file(write):
    return lambda data: write(data.root / "train2_label.png", data.random.integers(0, 3, SIZE).astype(np.uint8))


def cut(file, share):
    def act(data):
        raw = (data.root / file).read_bytes()
        (data.root / file).write_bytes(raw[:int(len(raw) * share)])
    return act


def as_cut_jpeg(data):
    """Keeps its name: OpenCV looks at the content."""
    raw = cv2.imencode(".jpg", data.random.integers(0, 256, (*SIZE, 3), dtype=np.uint8))[1].tobytes()
    (data.root / "train2.png").write_bytes(raw[:-len(raw) // 4])


SEEN_BY_TRAINING = [
    ("missing image", lambda data: (data.root / "train2.png").unlink(), "there is no file .*train2.png"),
    ("missing label", lambda data: (data.root / "train2_label.png").unlink(), "there is no file .*train2_label.png"),
    ("no image", lambda data: (data.root / "train2.png").write_bytes(b"text"), "image .*train2.png: "),
    ("empty label", lambda data: (data.root / "train2_label.png").write_bytes(b""), "label .*train2_label.png: "),
    ("pixels of a PNG cut short", cut("train2.png", 0.9), "image .*train2.png: it is damaged, cut short"),
    ("pixels of a JPEG cut short", as_cut_jpeg, "image .*train2.png: it is cut short"),
    ("pixels of a label cut short", cut("train2_label.png", 0.6), "label .*train2_label.png: .*truncated"),
    ("another size", lambda data: data.label("train2", np.zeros((23, 32))), "train2_label.png is 32 x 23, .* 32 x 24"),
    ("turned", lambda data: data.label("train2", np.zeros((32, 24))), "train2_label.png .*EXIF"),
    ("colour", as_file(lambda path, ids: Image.fromarray(np.stack([ids * 80] * 3, -1)).save(path)),
     "train2_label.png has shape .*colour"),
    ("16 bits", as_file(lambda path, ids: Image.fromarray(ids.astype(np.uint16) + 298).save(path)),
     "train2_label.png has 16 bits a pixel and values up to 300.*8 bits"),
    ("fractions", as_file(lambda path, ids: Image.fromarray(ids / np.float32(2)).save(path, format="TIFF")),
     "train2_label.png has pixels of type float32"),
    ("a value", lambda data: one_value(data, 77), r"train2_label.png.* 77.*neither a class \(0 to 2\)"),
]


@pytest.mark.parametrize("name, spoil, words", SEEN_BY_TRAINING, ids=[row[0] for row in SEEN_BY_TRAINING])
def test_a_fault_of_a_file(data, name, spoil, words):
    """Three times the same file is named: by the check, before the first step, and when training reads it."""
    spoil(data)
    assert any(re.search(words, line) for line in data.findings())
    with pytest.raises(DataError, match=words):
        quick_check(data.builder(), with_val=False)
    with pytest.raises(DataError, match=words):
        Checked(data.builder().train_dataset).read(2)


@pytest.mark.parametrize("workers", [1, 2])
def test_faults_pass_from_worker_processes(data, workers):
    as_cut_jpeg(data)
    with pytest.raises(DataError, match="train2.png: it is cut short"):
        list(Loader(data.builder().train_dataset, batch_size=2, num_workers=workers))


def test_value_count_and_first_position(data):
    one_value(data, 77)
    assert any("train2_label.png: 77 in 3 pixels, the first at row 5, column 7: " in line for line in data.findings())


SETS = [
    ("0 and 255", 3, ids_with(0, 255), "divide the masks by 255"),
    ("one class short", 3, ids_with(0, 1, 2, 3), "num_classes is one short.*it is 4"),
    ("ids from 1", 3, ids_with(1, 2, 3), "ids begin at 1: subtract 1"),
    ("ADE20K as a list", 150, ids_with(0, 1, 150), "ADE20K's files.*use the type ADE20K"),
    ("PASCAL-Context", 59, ids_with(0, 1, 59), "it is 60; .*PASCAL-Context, subtract 1"),
    ("grey picture", 3, ids_with(*range(0, 250, 7)), "grey or smoothed"),
    ("other ids", 3, ids_with(0, 1, 2, 9), "num_classes is 10, or"),
    ("all ignored", 3, ids_with(255), "hold 255 alone"),
    ("one class", 1, ids_with(0), "num_classes is 1, .* hold class 0 alone: there is nothing to learn.*num_classes 2"),
    ("one class, and ignored", 1, ids_with(0, 255), "there is nothing to learn"),
    ("two classes, told to be one", 1, ids_with(0, 1), "num_classes is one short.*it is 2"),
]


@pytest.mark.parametrize("name, classes, spoil, words", SETS, ids=[row[0] for row in SETS])
def test_a_fault_of_all_labels_is_explained(tmp_path, name, classes, spoil, words):
    data = Set(tmp_path, classes)
    spoil(data)
    assert re.search(words, " ".join(data.findings()))
    with pytest.raises(DataError, match=words):
        quick_check(data.builder(), with_val=False)


@pytest.mark.parametrize("values, dataset, files, words", [
    ([19, 24, 33], "Cityscapes", (), "labelIds"), ([24], "Dataset", ["x_gtFine_labelIds.png"], "labelIds"),
    ([254], "ADE20K", (), "subtracts 1"), ([254], "PascalContext59", (), "subtracts 1"),
    ([19], "PascalContext", (), "off by one"),
    ([25], "CamVid", (), "CamVid has ids"), ([7], "Dataset", ["mask.jpg"], "JPEG"),
    ([255], "Dataset", (), "ignore_index")])
def test_likely_causes(values, dataset, files, words):
    assert words in likely_cause(values, {0, 1, *values}, 19, 254 if 255 in values else 255, dataset, files)


# --- data sets of PaddleSeg ------------------------------------------------------------------------------------------

def built(config, train, val=None):
    """The builder of the set's config with other data sets."""
    builder = SegBuilder(Config(str(config)))
    builder.config.dic["train_dataset"] = {"transforms": [], **train}
    builder.config.dic["val_dataset"] = {"transforms": [], **(val or train), "mode": "val"}
    return builder


def lines_of(builder):
    return "\n".join(line for split in check_data(builder) for line in split.lines())


@pytest.mark.parametrize("ids, words", [((0, 1, 150), None), ((0, 149, 255), "254 in .*subtracts 1")])
def test_ade20k_is_judged_after_its_minus_1(data, ids, words):
    for split, folder in (("train", "training"), ("val", "validation")):
        for kind in ("images", "annotations"):
            (data.root / kind / folder).mkdir(parents=True)
        cv2.imwrite(str(data.root / "images" / folder / f"{split}.jpg"), data.random.integers(0, 256, (*SIZE, 3)))
        cv2.imwrite(str(data.root / "annotations" / folder / f"{split}.png"), np.resize(ids, SIZE))
    lines = lines_of(built(data.config, {"type": "ADE20K", "dataset_root": str(data.root), "mode": "train"}))
    assert "wrong" not in lines.replace("nothing wrong", "") if words is None else re.search(words, lines, re.DOTALL)


@pytest.mark.parametrize("last, words", [(20, None), (21, "21 in .*neither a class .0 to 20.")])
def test_pascal_voc_is_judged_by_palette_indices(data, last, words):
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (data.root / "VOC2012" / folder).mkdir(parents=True)
    for split in ("train", "val"):
        (data.root / "VOC2012/ImageSets/Segmentation" / f"{split}.txt").write_text(f"{split}\n")
        cv2.imwrite(str(data.root / "VOC2012/JPEGImages" / f"{split}.jpg"), data.random.integers(0, 256, (*SIZE, 3)))
        label = Image.fromarray(np.resize([0, last, 255], SIZE).astype(np.uint8))
        label.putpalette(data.random.integers(0, 256, 768, dtype=np.uint8).tobytes())
        label.save(data.root / "VOC2012/SegmentationClass" / f"{split}.png")
    lines = lines_of(built(data.config, {"type": "PascalVOC", "dataset_root": str(data.root), "mode": "train"}))
    assert "wrong" not in lines.replace("nothing wrong", "") if words is None else re.search(words, lines)


def test_optic_disc_with_0_and_255(data):
    for split in ("train", "val"):
        shutil.copy(data.root / f"{split}.txt", data.root / f"{split}_list.txt")
    ids_with(0, 255)(data)
    lines = lines_of(built(data.config, {"type": "OpticDiscSeg", "dataset_root": str(data.root), "mode": "train"}))
    assert lines.count("divide the masks by 255") == 2


@pytest.fixture
def city(scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "city")
    return tmp_path / "city"


def test_cityscapes_lists_all_that_is_alone_and_looks_at_the_rest(city, data):
    images = sorted((city / "leftImg8bit/train").glob("*/*.png"))
    labels = sorted((city / "gtFine/train").glob("*/*.png"))
    for file in (labels[0], labels[3], images[5]):
        file.unlink()
    Image.fromarray(np.full((64, 128), 33, np.uint8)).save(labels[6])
    lines = lines_of(built(data.config, {"type": "Cityscapes", "dataset_root": str(city), "mode": "train"}))
    assert f"{images[0]} is alone" in lines and f"{images[3]} is alone" in lines and f"{labels[5]} is alone" in lines
    assert f"{labels[6]}: 33 in 8192 pixels" in lines and "labelIds" in lines and "5 of 5 samples" in lines


class NightCity(Cityscapes):
    """As users derive data sets, with a constructor that knows no `pair`."""

    def __init__(self, transforms, dataset_root, mode="train"):
        super().__init__(transforms, dataset_root, mode)


def test_a_users_data_set_that_takes_no_pairing_is_told_of_the_first_that_is_alone(city, data, monkeypatch):
    monkeypatch.setitem(manager.DATASETS.components_dict, "NightCity", NightCity)
    options = {"type": "NightCity", "dataset_root": str(city), "mode": "train"}
    assert "8 of 8 samples" in lines_of(built(data.config, options))
    lost = min((city / "gtFine/train").glob("*/*.png"))
    lost.unlink()
    assert "no label for 1 of 8 images" in lines_of(built(data.config, options))


def test_pairs_of_a_check_are_no_others_of_training(city, data):
    """Where one file is alone, the check goes on, and what it was given stays with it."""
    min((city / "gtFine/train").glob("*/*.png")).unlink()
    options = {"type": "Cityscapes", "dataset_root": str(city), "mode": "train"}
    assert "7 of 7 samples" in lines_of(built(data.config, options))
    with pytest.raises(DataError, match="no label for 1 of 8 images"):
        Cityscapes([], str(city))


# --- lists and sets --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("line, words", [
    ("\n", "train.txt, line 5, has nothing"),
    ("a b c.png d.png\n", "train.txt, line 5, has 4 parts: 'a b c.png d.png'")])
def test_a_bad_line_of_a_list_is_numbered(data, line, words):
    with open(data.root / "train.txt", "a") as file:
        file.write(line)
    report = " ".join(data.findings())
    assert words in report and "4 of 4 samples" in report       # the others are looked at all the same
    with pytest.raises(DataError, match=words):
        quick_check(data.builder(), with_val=False)


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_set(data, split):
    (data.root / f"{split}.txt").write_text("")
    assert f"{split}.txt names no image" in " ".join(data.findings())
    with pytest.raises(DataError, match=f"{split}.txt names no image"):
        quick_check(data.builder(), with_val=True)


def test_a_missing_root_is_told_for_both_sets(data):
    data.config.write_text(data.config.read_text().replace(f"dataset_root: {data.root}", "dataset_root: /nowhere"))
    assert " ".join(data.findings()).count("/nowhere") == 2


def test_an_image_of_train_in_val_under_another_name_and_format(data):
    image = cv2.imread(str(data.root / "train1.png"))
    cv2.imwrite(str(data.root / "val1.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    lines = data.findings()
    assert any(line.endswith(f"{data.root}/val1.png is {data.root}/train1.png") for line in lines)
    assert sum("that are in train and in val" in line for line in lines) == 1
    quick_check(data.builder(), with_val=True)      # does not keep anyone from training


def test_what_transforms_make_of_colours_is_not_looked_at(data):
    """Nor does a look take random numbers: otherwise an image in both sets would look like two."""
    data.config.write_text(data.config.read_text().replace("{type: Normalize}", "{type: RandomDistort, hue_prob: 1}, "
                                                           "{type: Normalize}"))
    shutil.copy(data.root / "train1.png", data.root / "val0.png")
    state = np.random.get_state()[1].tolist()
    assert any("in train and in val" in line for line in data.findings())
    assert np.random.get_state()[1].tolist() == state


def test_pairs_by_position_are_noticed(data):
    lines = [f"{image}.png {label}.png\n" for image, label in zip("abc", "bca")]
    for name in "abc":
        shutil.copy(data.root / "train0.png", data.root / f"{name}.png")
        (data.root / "labels").mkdir(exist_ok=True)
        data.label(f"labels/{name}", np.zeros(SIZE))
        (data.root / f"labels/{name}_label.png").rename(data.root / f"labels/{name}.png")
    (data.root / "train.txt").write_text("".join(lines).replace(" ", " labels/"))
    assert any("a.png is paired with" in line and "labels/b.png" in line for line in data.findings())


def test_a_quick_look_ends_when_its_time_is_over(data):
    (data.root / "train.txt").write_text("train0.png train0_label.png\n" * 300)
    split = checks.build(data.builder(), "train")
    assert checks.look_quickly(split, range(300), seconds=0) == (checks.AT_LEAST,) * 2
    assert checks.look_quickly(split, range(300), seconds=600) == (300, 300)


def test_jpeg_labels(data):
    cv2.imwrite(str(data.root / "train0_label.jpg"), np.zeros(SIZE, np.uint8))
    (data.root / "train.txt").write_text("train0.png train0_label.jpg\n")
    assert any("train0_label.jpg is a JPEG" in line for line in data.findings())


def test_masks_with_16_bits_are_those_with_8(data):
    def seen():
        builder, quick = data.builder(), data.builder()
        quick_check(quick, with_val=True)
        splits = check_data(builder)
        labels = [Checked(dataset).read(i)["label"] for dataset in (builder.train_dataset, builder.val_dataset)
                  for i in range(2)]
        np.random.seed(0)
        return [split.lines() for split in splits], [split.pixels for split in splits], labels
    np.random.seed(0)
    before = seen()
    with_16_bits(data)
    after = seen()
    assert before[0] == after[0] and before[1] == after[1] and "nothing wrong" in after[0][0][0]
    for label, expected in zip(after[2], before[2]):
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, expected)


def test_images_of_16_bits_that_are_nearly_black(data, error_of, tmp_path):
    """Twelve bits that no file says to be twelve: they come to the network as 0 to 15."""
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            data.image(f"{split}{i}", data.random.integers(0, 200, (*SIZE, 3), dtype=np.uint16) * 16)
    data.image("train2", np.full((*SIZE, 3), 4080, np.uint16))
    lines = data.findings()
    assert any(line.endswith(f"4 images, the largest value 4080 of 65535, in {data.root}/train2.png") for line in lines)
    assert any("are they of 12 bits? Multiply their numbers by 16, or save them with 8 bits" in line for line in lines)
    error = error_of("train", "--config", data.config, "--save_dir", tmp_path / "run")
    assert "largest value 4080 of 65535" in error
    data.image("train1", np.full((*SIZE, 3), 60000, np.uint16))       # so the others are of a night
    data.image("val1", np.full((*SIZE, 3), 2 ** 14, np.uint16))
    assert not any("of 65535" in line for line in data.findings())


def test_pictures_that_a_set_without_a_list_passes_over(data, tmp_path):
    root = tmp_path / "camvid"
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir(parents=True)
        cv2.imwrite(str(root / split / f"{split}.png"), data.random.integers(0, 256, (*SIZE, 3)))
        cv2.imwrite(str(root / f"{split}annot" / f"{split}.png"), np.zeros(SIZE))
    for name in ("a.gif", "b.PNG", "notes.txt", ".hidden.jpg"):
        (root / "train" / name).touch()
    lines = lines_of(built(data.config, {"type": "CamVid", "dataset_root": str(root), "mode": "train"}))
    assert f"  2 pictures are passed over, as the data set takes other endings; the first: {root}/train/a.gif" in lines
    assert lines.count("passed over") == 1 and lines.count("nothing wrong") == 2


def test_many_equal_faults_are_summed_up_and_all_kinds_are_told(data):
    lines = "train0.png train0_label.png\n" * 300
    (data.root / "train.txt").write_text(lines + "lost.png lost.png\ntrain1.png train1_label.png\n")
    data.label("train0", np.full(SIZE, 9))
    cut("train1.png", 0.5)(data)
    report = data.findings(num_workers=2)
    assert "  300 x labels with values that are no class" in report and "      and 295 more" in report
    assert "  1 x files that do not exist" in report and "  1 x images that cannot be read" in report
    assert len(report) < 20


@pytest.mark.parametrize("train, val, words", [
    ("{type: Normalize}", "", r"Normalize of train: mean \[0.5, 0.5, 0.5\] std \[0.5, 0.5, 0.5\]; of val: none"),
    ("", "{type: Normalize}", "Normalize of train: none; of val: mean"),
    ("{type: Normalize, mean: [0.1], std: [0.2]}", "{type: Normalize}", "of train: mean .0.1, 0.1, 0.1. .*; of val: m"),
    ("{type: Normalize, mean: [0.5], std: [0.5]}", "{type: Normalize, mean: [0.5, 0.5, 0.5]}", None)])
def test_sets_that_are_scaled_in_two_ways(data, train, val, words):
    text = data.config.read_text().replace("{type: RandomPaddingCrop, crop_size: [32, 24]}, {type: Normalize}", train)
    data.config.write_text(text.replace("[{type: Normalize}]}\noptimizer", f"[{val}]}}\noptimizer"))
    found = " ".join(data.findings())
    if words is None:
        assert "scales" not in found
        quick_check(data.builder(), with_val=True)
        return
    assert re.search(words, found)
    with pytest.raises(DataError, match=words):
        quick_check(data.builder(), with_val=True)
    quick_check(data.builder(), with_val=False)     # nothing is evaluated


# --- classes and the tools -------------------------------------------------------------------------------------------

def test_class_weights_by_hand(tmp_path):
    """Labelled are 1, 1, 1 and 3/4 of four labels; of these class 0 has 1/2, 1, 1 and 1/4, class 1 has 1/2 of the
    first, class 2 has 1/2 of the last, and class 3 nothing."""
    data = Set(tmp_path, classes=4)
    for name, ids in (("train0", (0, 1)), ("train1", (0, 0)), ("train2", (0, 0)), ("train3", (0, 2, 2, 255))):
        data.label(name, np.resize(ids, SIZE))
    train = check_data(data.builder())[0]
    area = SIZE[0] * SIZE[1]
    assert [train.pixels[value] for value in (0, 1, 2, 255)] == [2.75 * area, area / 2, area / 2, area / 4]
    frequency = [2.75 / 3.75, 1 / 2, 2 / 3]
    assert class_weights(train) == pytest.approx([2 / 3 / frequency[0], 2 / 3 / frequency[1], 1, 1], abs=1e-3)


def test_the_tool_on_good_data(data, run_tool, tmp_path, capsys):
    run_tool("check_data", "--config", data.config, "--save_dir", tmp_path / "out")
    output = capsys.readouterr().out
    assert "train: 4 of 4 samples looked at, nothing wrong" in output
    line = re.search(r"^weight: \[.*\]$", output, re.MULTILINE).group()
    loss = CrossEntropyLoss(**yaml.safe_load(line))
    assert np.isfinite(float(loss(paddle.zeros([1, 3, *SIZE]), paddle.zeros([1, *SIZE], "int64"))))
    picture = cv2.imread(str(tmp_path / "out" / "class_histogram.png"))
    blue, orange = (180, 119, 31), (14, 127, 255)       # the bars of train and val
    assert all((picture == color).all(-1).sum() > 1000 for color in (blue, orange))


def test_the_tool_on_wrong_data(data, error_of, tmp_path, capsys):
    one_value(data, 77)
    error = error_of("check_data", "--config", data.config, "--save_dir", tmp_path / "out")
    assert error.startswith("error: the data have 1 kind of fault: labels with values that are no")
    assert "train2_label.png: 77 in 3 pixels" in capsys.readouterr().out


def test_the_same_fault_in_both_sets_is_one_kind(data, error_of, tmp_path):
    for name in ("train2", "val0"):
        Image.fromarray(np.full(SIZE, 300, np.uint16)).save(data.root / f"{name}_label.png")
    (data.root / "val1.png").write_bytes(b"no image")
    error = error_of("check_data", "--config", data.config, "--save_dir", tmp_path / "out")
    assert error == (
        "error: the data have 2 kinds of fault: labels with 16 bits a pixel and values above 255 (train and val), "
        "images that cannot be read (val); see above")


@pytest.mark.parametrize("flag, words", [((), "train: .*77 in 3 pixels.*--no_data_check"),
                                         (("--no_data_check",), "train2_label.png has 3 pixels with value 77")])
def test_training_ends_in_one_line(data, error_of, tmp_path, flag, words):
    one_value(data, 77)
    error = error_of("train", "--config", data.config, "--save_dir", tmp_path / "run", "--batch_size", 4, *flag)
    assert re.search(words, error)
    assert not (tmp_path / "run" / "iter_1").exists()


@pytest.mark.parametrize("flag", ([], ["--no_data_check"]))
def test_training_builds_each_data_set_once(data, run_tool, tmp_path, monkeypatch, flag):
    """And it is the list of the config that it reads, not one that the check has made."""
    read, init = [], Dataset.__init__

    def counted(self, *args, **options):
        read.append(options[f"{options['mode']}_path"])
        init(self, *args, **options)
    monkeypatch.setattr(Dataset, "__init__", counted)
    run_tool("train", "--config", data.config, "--save_dir", tmp_path / "run", "--batch_size", 4, "--do_eval", *flag)
    assert read == [str(data.root / "train.txt"), str(data.root / "val.txt")]


def test_a_quick_look_leaves_the_transforms_of_training_alone(data):
    class Counting:
        calls = 0

        def __call__(self, sample):
            self.calls += 1
            return sample

    builder = data.builder()
    counting = Counting()
    builder.train_dataset.transforms.transforms.append(counting)
    assert look_at_sample(as_read(builder.train_dataset), 0).fault is None and counting.calls == 0
