"""What is no config is told by its place, before anything is built."""

import copy

import pytest

from paddleseg_encnet.config.judging_configs import check_config

CONFIG = {
    "batch_size": 2, "iters": 3,
    "train_dataset": {"type": "CamVid", "dataset_root": "x", "mode": "train", "transforms": [
        {"type": "RandomPaddingCrop", "crop_size": [4, 4]}, {"type": "Normalize"}]},
    "val_dataset": {"type": "CamVid", "dataset_root": "x", "mode": "val", "transforms": [{"type": "Normalize"}]},
    "model": {"type": "ENCNet", "backbone": {"type": "ResNet18_vd", "output_stride": 8}, "num_codes": 4},
    "optimizer": {"type": "SGD", "momentum": 0.9, "weight_decay": 5.0e-4},
    "lr_scheduler": {"type": "PolynomialDecay", "learning_rate": 0.01, "power": 0.9, "warmup_iters": 2,
                     "warmup_start_lr": 0.001},
    "loss": {"types": [{"type": "CrossEntropyLoss"}, {"type": "SELoss"}], "coef": [1, 0.2]},
    "test_config": {"is_slide": True, "crop_size": [4, 4], "stride": [2, 2]},
}


def test_whole():
    check_config(CONFIG)


GONE = object()


@pytest.mark.parametrize("path, value, words", [
    ((), ["a"], "the config is ['a'], must be keys and values"),
    (("batch_size",), "4", "batch_size in the config is '4', must be a whole number above 0"),
    (("iters",), 0, "iters in the config is 0, must be"),
    (("model",), "ENCNet", "model in the config is 'ENCNet', must be keys and values"),
    (("model", "type"), "EncNet", "model.type in the config is 'EncNet'; there are ENet, ENCNet, EMANet and"),
    (("model",), {}, "model in the config has no type; there are "),
    (("optimizer",), {}, "optimizer in the config has no type; there are "),
    (("model", "type"), GONE, "model in the config has no type; there are "),
    (("model", "num_code"), 4, "model.num_code in the config: ENCNet has no argument num_code; there are num_codes"),
    (("model", "num_codes"), "32", "model.num_codes in the config is '32', must be a number, as 32; YAML takes it for"),
    (("model", "backbone"), GONE, "model in the config has no backbone, which ENCNet needs"),
    (("model", "backbone"), "ResNet18_vd", "model.backbone in the config is 'ResNet18_vd', must be keys and values"),
    (("train_dataset", "transforms", 0, "type"), "RandomPadingCrop", "there are RandomPaddingCrop"),
    (("train_dataset", "transforms", 0, "crop_sise"), [1, 1], "RandomPaddingCrop has no argument crop_sise; there are"),
    (("train_dataset", "transforms"), {"type": "Normalize"}, "train_dataset.transforms in the config is {'type'"),
    (("train_dataset", "mode"), 5, "train_dataset.mode in the config is 5, must be a text"),
    (("optimizer", "momentum"), "abc", "optimizer.momentum in the config is 'abc', must be a number, as 0.9"),
    (("lr_scheduler", "learning_rate"), "5e-4", "lr_scheduler.learning_rate in the config is '5e-4', must be a number; "
     "YAML takes it for a text, a number with an exponent has a dot: 5.0e-4"),
    (("lr_scheduler", "warmup_start_lr"), GONE, "lr_scheduler in the config has no warmup_start_lr, which a warm-up"),
    (("lr_scheduler", "type"), "PolyDecay", "there are PolynomialDecay"),
    (("loss", "coef", 1), "0.2", "loss.coef[1] in the config is '0.2', must be a number"),
    (("loss", "types"), GONE, "loss.types in the config is None, must be a list"),
    (("test_config", "stride"), [2], "test_config.stride in the config is [2], must be two whole numbers"),
    (("iter",), 9, "iter in the config is no key that is read; did you mean iters?"),
    (("batchsize",), 7, "batchsize in the config is no key that is read; did you mean batch_size?"),
    (("optimizer",), GONE, "the config has no optimizer, which training needs"),
    (("model",), GONE, "the config has no model, which every tool needs"),
    (("model", "backbone", "output_stride"), 7, "model.backbone.output_stride in the config is 7, must be 8, 16 or 32"),
    (("model", "num_classes"), "8", "model.num_classes in the config is '8', must be a whole number above 0; in quotes "
     "it is a text"),
    (("val_dataset", "num_classes"), 0, "val_dataset.num_classes in the config is 0, must be a whole number above 0"),
    (("optimizer", "weight_decay"), "5e-4", "optimizer.weight_decay in the config is '5e-4', must be a number; YAML "
     "takes it for a text, a number with an exponent has a dot: 5.0e-4"),
    (("lr_scheduler", "learning_rate"), 0, "lr_scheduler.learning_rate in the config is 0, must be a number above 0"),
    (("loss", "types", 0, "weight"), [-1] * 3, "loss.types[0].weight in the config is [-1, -1, -1], must be numbers "
     "from 0 on, of which one is above 0"),
    (("loss", "types", 0, "weight"), [0.0] * 3, "loss.types[0].weight in the config is [0.0, 0.0, 0.0], must be"),
    (("loss", "types", 1, "weight"), [1, "2"], "loss.types[1].weight in the config is [1, '2'], must be numbers"),
    (("loss", "coef"), [0, 0], "loss.coef in the config is [0, 0], must be numbers from 0 on, of which one is above"),
    (("test_config", "is_silde"), True, "test_config.is_silde in the config: there is no such key; there are is_slide"),
], ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None)
def test_what_is_wrong_is_told_by_its_place(path, value, words):
    config = value if not path else copy.deepcopy(CONFIG)
    if path:
        part = config
        for key in path[:-1]:
            part = part[key]
        if value is GONE:
            del part[path[-1]]
        else:
            part[path[-1]] = value
    with pytest.raises(ValueError) as error:
        check_config(config)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("key, near", [("optimiser", "optimizer"), ("losses", "loss"), ("train_data", "train_dataset"),
                                       ("test_cfg", "test_config"), ("Iters", "iters"), ("ignore_idx", "ignore_index")])
def test_a_key_that_looks_like_one_is_refused(key, near):
    with pytest.raises(ValueError, match=f"{key} in the config is no key that is read; did you mean {near}?"):
        check_config({**CONFIG, key: 1})


def test_any_other_key_is_told_and_a_users_own_is_not(logged):
    """As `mean: &mean [...]` in PaddleSeg's config of PIDNet, and `learning_rate` beside lr_scheduler in that of GloRe.
    """
    check_config({**CONFIG, "mean": [0.5], "learning_rate": {"value": 0.01}, "_sizes": [4, 4]})
    assert logged == [("warning", f"{key} in the config is no key that is read: nothing follows from it")
                      for key in ("mean", "learning_rate")]


def test_what_is_not_trained_needs_less():
    needed = {"model": CONFIG["model"], "val_dataset": CONFIG["val_dataset"]}
    check_config(needed, training=False)
    with pytest.raises(ValueError, match="the config has no train_dataset, which every tool where there is no val_"):
        check_config({"model": CONFIG["model"]}, training=False)
