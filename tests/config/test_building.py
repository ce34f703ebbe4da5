"""read_config(): a config as it is, with what overrides it, and in one line what is wrong with it."""

import re

import numpy as np
import pytest
import yaml
from conftest import ROOT

from paddleseg_encnet.config import building
from segrun.errors import innermost
from segrun.segmenter import Segmenter


@pytest.fixture
def config(tmp_path):
    """config(text) -> path of a file with that text."""
    def write(text: str):
        path = tmp_path / "own.yml"
        path.write_text(text)
        return path
    return write


def test_a_shipped_config_and_its_file_are_the_same():
    named, file = (building.read_config(source).config.dic for source in (
        "encnet_quick_start", ROOT / "configs" / "encnet_quick_start.yml"))
    assert named == file


def test_what_is_given_goes_before_the_config(small_config):
    plain = building.read_config(small_config).config
    assert (plain.iters, plain.batch_size, plain.dic["model"]["num_codes"]) == (4, 2, 4)
    changed = building.read_config(small_config, ["model.num_codes=7"], iters=3, batch_size=1,
                                   learning_rate=0.5).config
    assert (changed.iters, changed.batch_size, changed.dic["model"]["num_codes"]) == (3, 1, 7)
    assert changed.dic["lr_scheduler"]["learning_rate"] == 0.5
    assert building.read_config(small_config, ["iters=9"], iters=3).config.iters == 9          # as in PaddleSeg


def test_weights_to_begin_with_are_left_out_where_others_replace_them(small_config, config):
    path = config(f"_base_: {small_config}\nmodel: {{pretrained: whole.pdparams, backbone: {{pretrained: part}}}}\n")
    model = building.read_config(path, pretrained=False).config.dic["model"]
    assert "pretrained" not in model and "pretrained" not in model["backbone"]
    builder = building.read_config(path)
    assert builder.take_pretrained() == "whole.pdparams"
    assert "pretrained" not in builder.config.dic["model"]["backbone"]      # which the whole network's replace
    partly = building.read_config(path)
    partly.config.dic["model"].pop("pretrained")
    assert partly.take_pretrained() is None and partly.take_pretrained_backbone() == "part"


def test_how_images_go_through_the_network_is_the_flags_before_the_configs(small_config, config):
    path = config(f"_base_: {small_config}\ntest_config: {{is_slide: true, crop_size: [64, 32], stride: [32, 16]}}\n")
    builder = building.read_config(path)
    assert builder.tiling().crop_size == (64, 32) and building.read_config(small_config).tiling().whole
    asked = builder.tiling({"is_slide": True, "crop_size": [32, 32], "stride": [32, 32], "aug_eval": True,
                            "scales": [0.5, 1.0]})
    assert asked.crop_size == (32, 32) and asked.scales == (0.5, 1.0)
    assert builder.preprocessing.img_channels == builder.in_channels == 3


def test_the_number_of_classes_may_be_the_data_sets(small_config):
    read = building.read_config(small_config).config
    assert building.num_classes(read) == read.dic["model"].pop("num_classes", 19) == 19
    assert building.num_classes(read) == 19


@pytest.mark.parametrize("text, words", [
    ("a: [", "is no valid YAML: "),
    ("just words", "has no keys, as model: or train_dataset:"),
    ("_base_: gone.yml\n", "needs .*gone.yml, which is not there; see _base_"),
    ("_base_: {base}\niters: 3\nbatch_size: 1\niters: 4\n", "has the key iters twice in one place, in lines 2 and 4"),
    ("_base_: {base}\nmodel: {{num_codes: 3, num_codes: 4}}\n", "has the key num_codes twice in one place"),
    ("_base_: {base}\niter: 9\n", "iter in the config is no key that is read; did you mean iters"),
    ("_base_: {base}\niters: 0\n", "iters in the config is 0, must be a whole number above 0"),
    ("_base_: {base}\nmodel: {{num_code: 3}}\n", "ENCNet has no argument num_code; there are num_codes"),
    ("_base_: {base}\nignore_index: 300\n", "ignore_index in the config is 300"),
    ("_base_: {base}\nmodel: {{backbone: {{in_channels: 4}}}}\n", "in_channels in the config is 4, but"),
    ("_base_: {base}\noptimizer: {{grad_clip_cfg: {{name: ClipGradByNorm, clip_norm: 0}}}}\n", "clip_norm 0: it must")])
def test_what_is_wrong_with_a_config(small_config, config, text, words):
    with pytest.raises((ValueError, OSError, RuntimeError)) as raised:
        building.read_config(config(text.format(base=small_config)))
    assert re.search(words, str(innermost(raised.value)))


@pytest.mark.parametrize("options, error, words", [
    (dict(iters=0), ValueError, "iters must be at least 1, got 0"),
    (dict(iters=-3), ValueError, "iters must be at least 1, got -3"),
    (dict(batch_size=-1), ValueError, "batch_size must be at least 1, got -1"),
    (dict(learning_rate=0), ValueError, "learning_rate must be a number above 0, got 0"),
    (dict(learning_rate=-0.1), ValueError, "learning_rate must be a number above 0, got -0.1"),
    (dict(learning_rate=float("nan")), ValueError, "learning_rate must be a number above 0, got nan"),
    (dict(data_format="NHWC"), ValueError, "--data_format NHWC is for DeepLabV3P only, not for ENCNet")])
def test_what_is_wrong_with_what_is_given(small_config, options, error, words):
    with pytest.raises(error, match=words):
        building.read_config(small_config, **options)


def test_a_key_twice_in_a_base_is_told_of_that_file(small_config, config, tmp_path):
    base = tmp_path / "twice.yml"
    base.write_text(f"_base_: {small_config}\niters: 3\niters: 4\n")
    with pytest.raises(ValueError, match=f"{base} has the key iters twice"):
        building.read_config(config(f"_base_: {base}\n"))


def test_a_part_that_is_repeated_loses_nothing(small_config, config):
    """As the losses of PaddleSeg's configs of KNet and UPerNet."""
    text = f"_base_: {small_config}\ntest_config: {{is_slide: false, is_slide: false}}\niters: 3\niters: 3\n"
    assert building.read_config(config(text)).config.iters == 3


def test_anchors_and_merges_are_no_keys_twice(small_config, config):
    text = f"""
_base_: {small_config}
_a: &a {{num_codes: 7}}
_b: &b {{mid_channels: 8}}
model: {{<<: *a, <<: *b}}
"""
    model = building.read_config(config(text)).config.dic["model"]
    assert (model["num_codes"], model["mid_channels"]) == (7, 8)


def test_what_predicts_needs_nothing_of_training(small_config, config, small_weights, pixels):
    """Without batch, steps, optimiser, schedule, loss and set to train on it is the same network."""
    whole = building.read_config(small_config).config.dic
    text = yaml.safe_dump({key: whole[key] for key in ("model", "val_dataset")})
    same = [Segmenter(source, small_weights, device="cpu")(pixels).ids for source in (small_config, config(text))]
    assert np.array_equal(*same)
    with pytest.raises(Exception) as raised:
        building.read_config(config(text))
    assert "the config has no batch_size, which training needs" in str(innermost(raised.value))


def test_an_override_that_is_no_key(small_config):
    with pytest.raises(Exception) as raised:
        building.read_config(small_config, ["model.num_code=3"])
    assert "num_code" in str(innermost(raised.value))


def test_channels_last_reach_network_backbone_and_losses():
    losses = yaml.safe_load((ROOT / "configs" / "_base_" / "deeplabv3.yml").read_text())["loss"]
    settings = {"model": {"type": "DeepLabV3P", "backbone": {"type": "ResNet18_vd"}}, "loss": losses}
    building.set_data_format(settings, "NHWC")
    parts = [settings["model"], settings["model"]["backbone"], *losses["types"]]
    assert [part.get("data_format") for part in parts] == ["NHWC"] * len(parts)
