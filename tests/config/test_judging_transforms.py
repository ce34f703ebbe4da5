"""Random transforms of validation, and Normalize for pixels of another range, are told before anything is read."""

import copy
import inspect
import re

import numpy as np
import pytest
from paddleseg.cvlibs import manager
from test_judging_configs import CONFIG

from paddleseg_encnet.config.judging_configs import check_config
from paddleseg_encnet.deployment.export_of_config import export
from paddleseg_encnet.evaluation.scores_of_config import score
from paddleseg_encnet.explaining.explaining_of_config import explain
from segrun.segmenter import Segmenter

# All of PaddleSeg's that give an image in several ways, and of ours.
RANDOM = [
    {"type": "RandomHorizontalFlip"}, {"type": "RandomVerticalFlip", "prob": 0.1},
    {"type": "RandomPaddingCrop", "crop_size": [8, 8]}, {"type": "RandomCenterCrop"}, {"type": "RandomNoise"},
    {"type": "RandomBlur"}, {"type": "RandomRotation"}, {"type": "RandomScaleAspect"}, {"type": "RandomDistort"},
    {"type": "RandomAffine"}, {"type": "ResizeStepScaling"},
    {"type": "ResizeStepScaling", "min_scale_factor": 0.5, "max_scale_factor": 2.0, "scale_step_size": 0.25},
    {"type": "ResizeRangeScaling"}, {"type": "Resize", "target_size": [8, 8], "interp": "RANDOM"},
    {"type": "ResizeByShort", "short_size": [8, 16]}]
FIXED = [
    {"type": "Resize", "target_size": [8, 8]}, {"type": "ResizeByLong", "long_size": 8},
    {"type": "ResizeByShort", "short_size": 8}, {"type": "LimitLong", "max_long": 8},
    {"type": "Padding", "target_size": [64, 64]}, {"type": "PaddingByAspectRatio"},
    {"type": "ResizeStepScaling", "min_scale_factor": 1.0, "max_scale_factor": 1.0}]


def config_with(transforms, dataset="val_dataset", **more) -> dict:
    config = copy.deepcopy(CONFIG)
    config[dataset]["transforms"] = transforms
    return {**config, **more}


@pytest.mark.parametrize("transform", RANDOM, ids=lambda transform: transform["type"])
def test_what_is_random_is_for_training_alone(transform):
    place = re.escape("val_dataset.transforms[1] in the config is " + transform["type"] + ", which is random")
    with pytest.raises(ValueError, match=place):
        check_config(config_with([{"type": "Normalize"}, transform]))
    check_config(config_with([transform, {"type": "Normalize"}], "train_dataset"))


@pytest.mark.parametrize("transform", FIXED, ids=lambda transform: transform["type"])
def test_what_is_not_random_stays(transform):
    check_config(config_with([transform, {"type": "Normalize"}]))


def test_every_transform_of_paddleseg_that_draws_a_number_is_known():
    """Their sources tell: what calls a random generator is refused with its defaults, or with what makes it draw."""
    draws = {name for name, kind in manager.TRANSFORMS.components_dict.items()
             if re.search(r"random\.", inspect.getsource(kind))}
    assert draws <= {transform["type"] for transform in RANDOM} | {"RandomShift"} and len(draws) > 10


def test_one_rule_for_all_that_reads_a_config(small_config, small_weights, image, tmp_path):
    """val, predict, export, explain, a Segmenter and serve, which has one, read it by the same function."""
    path = tmp_path / "own.yml"
    path.write_text(f"_base_: {small_config}\nval_dataset:\n  transforms: [{{type: RandomHorizontalFlip}}, "
                    "{type: Normalize}]\n")
    words = r"val_dataset.transforms\[0\] in the config is RandomHorizontalFlip, which is random"
    for call in (lambda: Segmenter(path, small_weights, device="cpu"),
                 lambda: score(path, small_weights, device="cpu"),
                 lambda: export(path, small_weights, tmp_path / "export"),
                 lambda: explain(path, small_weights, image, tmp_path / "pages", device="cpu")):
        with pytest.raises(ValueError, match=words):
            call()
    assert not (tmp_path / "export").exists() and not (tmp_path / "pages").exists()


# --- Normalize --------------------------------------------------------------------------------------------------------

IMAGENET = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


@pytest.mark.parametrize("given, words", [
    (IMAGENET, "write mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]"),
    ({"mean": [127.5], "std": [127.5]}, "write mean: [0.5], std: [0.5]"),
    ({"mean": [104, 117, 123], "std": [1, 1, 1]}, "std: [0.003922, 0.003922, 0.003922]"),
    ({"mean": [123.675], "std": [0.229]}, "write mean: [0.485], std: [0.229]"),
    ({"std": [58.395]}, "write mean: [0.5], std: [0.229]"),
    ({"std": [0.0]}, "transforms[0].std in the config is [0.0]: Normalize divides by it"),
    ({"std": [0.2, 0, 0.2]}, "each number must be above 0")], ids=str)
@pytest.mark.parametrize("dataset", ["train_dataset", "val_dataset"])
def test_normalize_for_pixels_to_255_is_refused_with_what_to_write(given, words, dataset):
    with pytest.raises(ValueError) as error:
        check_config(config_with([{"type": "Normalize", **given}], dataset))
    assert words in str(error.value) and f"{dataset}.transforms[0]" in str(error.value)


def test_what_is_to_be_written_does_what_was_meant():
    """The advised values make of pixels what the refused ones make of them without the division by 255."""
    with pytest.raises(ValueError) as error:
        check_config(config_with([{"type": "Normalize", **IMAGENET}]))
    mean, std = ([float(value) for value in found.split(", ")]
                 for found in re.findall(r"\[([^]]*)\]", str(error.value).split("write ")[1]))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    made = manager.TRANSFORMS["Normalize"](mean, std)({"img": pixels.astype("float32")})["img"]
    np.testing.assert_allclose(made, (pixels - IMAGENET["mean"]) / IMAGENET["std"], atol=2e-3)     # four digits


def test_bands_of_any_range_have_any_mean():
    model = {**CONFIG["model"], "backbone": {**CONFIG["model"]["backbone"], "in_channels": 2}}
    check_config(config_with([{"type": "Normalize", "mean": [12.0, 300.0], "std": [4.0, 90.0]}], model=model))
