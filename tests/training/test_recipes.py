"""Every config in configs/ builds, and takes steps on files in the layout of its data set, which are read rightly."""

import copy
import shutil

import cv2
import numpy as np
import paddle
import published_layouts
import pytest
import yaml
from conftest import ROOT
from paddleseg.cvlibs import Config, SegBuilder, manager
from paddleseg.cvlibs.config import parse_from_yaml
from paddleseg.datasets import ADE20K, PascalContext, PascalVOC
from paddleseg.transforms import Compose, Normalize, RandomPaddingCrop, RandomRotation, ResizeStepScaling
from PIL import Image
from shrunk_recipes import CONFIGS, Narrow, roots_of, shrunk

from paddleseg_encnet import PascalContext59
from paddleseg_encnet.config import building
from paddleseg_encnet.data.samples import Checked
from paddleseg_encnet.data.transforms import CropFirst
from segrun.errors import DataError


@pytest.fixture(scope="module")
def roots(tmp_path_factory, scenes):
    return roots_of(tmp_path_factory.mktemp("published"), scenes)


@pytest.fixture
def small(roots, tmp_path, monkeypatch):
    """small("encnet_...", key=value) -> path of that config, shrunk, with these top-level keys."""
    monkeypatch.setitem(manager.BACKBONES.components_dict, "Narrow", Narrow)

    def write(name, **more):
        path = tmp_path / "small.yml"
        path.write_text(yaml.safe_dump({**shrunk(ROOT / "configs" / f"{name}.yml", roots), **more}))
        return path
    return write


def builder(path, *opts) -> SegBuilder:
    """As the tools build."""
    return building.read_config(path, list(opts) or None)


# --- the configs -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_builds_as_it_is(path):
    parts = building.read_config(path, pretrained=False)
    with paddle.LazyGuard():        # numbers are not drawn: of a ResNet-101 that takes seconds
        model = parts.model
    assert [loss.ignore_index for loss in parts.loss["types"]] == [255] * len(parts.loss["coef"])
    settings, (network, backbone, *_) = parts.config.dic["model"], path.stem.replace("_jpu", "").split("_")
    assert type(model).__name__.lower().replace("dilated", "") == network
    if backbone.startswith("resnet"):
        assert settings["backbone"]["type"].lower() == f"{backbone}_vd"
        assert settings["backbone"]["output_stride"] == (32 if "_jpu" in path.stem else 8)
    if backbone == "lite0":
        assert settings["backbone"]["type"] == "EfficientNetLite0"
    if "_jpu" in path.stem:
        assert model.use_jpu and not model.add_lateral and settings["backbone"]["output_stride"] == 32
    for mode in ("train", "val"):       # a data set of lists has its number of classes from the config
        data = parts.config.dic[f"{mode}_dataset"]
        count = data.get("num_classes") or getattr(parts, f"{mode}_dataset_class").NUM_CLASSES
        assert settings["num_classes"] == count


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_config_takes_steps_and_is_evaluated(small, run_tool, tmp_path, name):
    """The data check at the start finds nothing wrong, losses are finite, and there is a score, so that the first is
    the best."""
    run_tool("train", "--config", small(name), "--do_eval", "--save_dir", tmp_path)
    for folder in ("iter_2", "best_model"):
        assert (tmp_path / folder / "model.pdparams").stat().st_size > 0


@pytest.mark.parametrize("name, images, batch, epochs", [
    ("ade20k", 20210, 16, 120), ("pascal_voc12aug", 10582, 16, 50), ("pascal_context", 4998, 16, 80)])
def test_epochs_as_iterations(name, images, batch, epochs):
    config = parse_from_yaml(str(ROOT / "configs" / "_base_" / f"{name}.yml"))
    assert config["base_batch_size"] == batch and config["iters"] == images // batch * epochs
    names = [path.stem for path in CONFIGS if f"_{name.replace('pascal_voc', 'voc')}_" in path.stem]
    assert names and all(name.endswith(f"_{round(config['iters'] / 1000)}k") for name in names)


def test_backbone_learns_at_a_tenth(small):
    """The rates of the PASCAL and ADE20K recipes, in the optimiser: a step moves weights by rate x gradient."""
    parts = SegBuilder(Config(str(small("encnet_resnet50_pascal_context_480x480_25k"))))
    model, optimizer = parts.model, parts.optimizer
    weights = {"backbone": model.backbone.stages[0].weight, "head": model.head.weight}
    before = {name: weight.numpy() for name, weight in weights.items()}
    sum(weight.sum() for weight in weights.values()).backward()
    optimizer.step()
    for name, rate in (("backbone", 0.001), ("head", 0.01)):
        # The gradient is 1; the weight decay, 1e-4 of a weight, is less than the tolerance.
        assert before[name] - weights[name].numpy() == pytest.approx(np.full(before[name].shape, rate), rel=1e-3)


# --- the data sets, against what was written -------------------------------------------------------------------------

def labels(dataset):
    return [np.asarray(Checked(dataset).read(i)["label"]).squeeze() for i in range(len(dataset))]


@pytest.mark.parametrize("mode", ["train", "val"])
def test_ade20k_counts_from_one_and_is_sorted(roots, mode):
    dataset = ADE20K([Normalize()], str(roots["ADE20K"]), mode)
    assert dataset.file_list == sorted(dataset.file_list) and len(dataset) == len(published_layouts.NAMES[mode])
    for (_, path), label in zip(dataset.file_list, labels(dataset)):
        written = np.array(Image.open(path)).astype(int)
        assert written.min() == 0 and written.max() == 150
        assert np.array_equal(label, np.where(written == 0, 255, written - 1))


def test_pascal_voc_reads_indices_borders_and_the_labels_of_sbd(roots):
    dataset = PascalVOC([Normalize()], str(roots["PascalVOC"]), "trainaug")
    assert [path.rsplit("/", 2)[-2] for _, path in dataset.file_list] == ["SegmentationClass"] * 2 + \
        ["SegmentationClassAug"] * 2
    for (_, path), label in zip(dataset.file_list, labels(dataset)):
        assert np.array_equal(label, np.array(Image.open(path)))
        assert set(np.unique(label)) == {*range(21), *([] if "Aug" in path else [255])}


@pytest.mark.parametrize("mode", ["train", "val"])
def test_pascal_context_with_and_without_background(roots, mode):
    root = str(roots["PascalContext"])
    with_background, without = PascalContext([Normalize()], root, mode), PascalContext59([Normalize()], root, mode)
    assert (with_background.num_classes, without.num_classes) == (60, 59)
    assert with_background.file_list == without.file_list
    for all_60, of_59 in zip(labels(with_background), labels(without)):
        assert set(np.unique(all_60)) == set(range(60)) and of_59.dtype == np.uint8
        assert np.array_equal(of_59, np.where(all_60 == 0, 255, all_60.astype(int) - 1))


@pytest.mark.parametrize("dataset, mode, words", [
    (ADE20K, "train", "there is no folder .*nowhere.*; set dataset_root"),
    (PascalVOC, "trainaug", "there is no folder .*nowhere.*; set dataset_root"),
    (PascalContext, "val", "there is no folder .*nowhere.*; set dataset_root"),
    (PascalContext59, "val", "there is no folder .*nowhere.*; set dataset_root")])
def test_missing_folder_is_named_and_nothing_is_downloaded(monkeypatch, tmp_path, dataset, mode, words):
    for module in ("ade", "voc"):
        monkeypatch.setattr(f"paddleseg.datasets.{module}.download_file_and_uncompress", lambda **options: 1 / 0)
    with pytest.raises(DataError, match=words):
        dataset([Normalize()], str(tmp_path / "nowhere"), mode)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dataset, mode, lost, words", [
    (PascalVOC, "trainaug", "aug.txt", r"there is no file .*VOC2012/ImageSets/Segmentation/aug.txt; .*voc_augment.py"),
    (PascalVOC, "val", "val.txt", r"there is no file .*/val.txt; dataset_root is the folder that holds VOC2012"),
    (PascalContext59, "train", "train_context.txt", r"no file .*/train_context.txt; .*convert_pascal_context.py"),
    (ADE20K, "train", "ADE_train_a2.png", r"no label for 1 of 4 images, the first one .*ADE_train_a2.jpg")])
def test_missing_file_is_named(roots, tmp_path, dataset, mode, lost, words):
    root = tmp_path / "copy"
    shutil.copytree(roots[dataset.__name__], root)
    next(root.rglob(lost)).unlink()
    with pytest.raises(DataError, match=words):
        dataset([Normalize()], str(root), mode)


def test_stray_files_are_no_images(roots, tmp_path):
    shutil.copytree(roots["ADE20K"], tmp_path / "copy")
    (tmp_path / "copy" / "images" / "training" / ".DS_Store").touch()
    assert len(ADE20K([], str(tmp_path / "copy"))) == 4


# --- the paper's augmentation ----------------------------------------------------------------------------------------

def test_padding_is_zero_for_the_network_and_ignored_by_the_loss(roots):
    """After rotation and crop: where the picture ends, the image is 0 and the label 255; inside, neither colour nor
    class is touched. White pictures of class 0 show which is which."""
    config = parse_from_yaml(str(ROOT / "configs" / "_base_" / "ade20k.yml"))
    transforms = [manager.TRANSFORMS[item.pop("type")](**item)
                  for item in copy.deepcopy(config["train_dataset"]["transforms"])]
    kinds = [type(transform) for transform in transforms]
    assert kinds[:3] == [ResizeStepScaling, RandomRotation, RandomPaddingCrop] and kinds[-1] is Normalize
    compose = CropFirst(Compose(transforms))
    assert compose.crop is None         # rotation comes between: PaddleSeg's transforms, one after the other
    np.random.seed(0)
    for _ in range(5):
        sample = compose({"img": np.full([200, 200, 3], 255, "float32"), "label": np.zeros([200, 200], "uint8"),
                          "gt_fields": ["label"], "trans_info": []})
        image, label = sample["img"], sample["label"]
        assert image.shape == (3, 480, 480) and set(np.unique(label)) <= {0, 255}
        assert 0 < (label == 255).sum() < label.size
        # At the edge of a rotated picture the image is interpolated, the label not: off by less than a pixel.
        inside = cv2.erode((label == 0).astype("uint8"), np.ones([5, 5]), borderValue=0) == 1
        outside = cv2.erode((label == 255).astype("uint8"), np.ones([5, 5]), borderValue=0) == 1
        assert (image[:, inside] == 1).all() and (image[:, outside] == 0).all()
