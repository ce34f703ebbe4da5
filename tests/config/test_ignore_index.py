"""One `ignore_index` for a config: what takes it gets it, and what contradicts it is named."""

import copy

import cv2
import numpy as np
import paddle
import pytest
import yaml
from paddleseg.cvlibs import Config, SegBuilder

from paddleseg_encnet.config import ignore_index
from paddleseg_encnet.evaluation import evaluation_loop

PARTS = {
    "batch_size": 2, "iters": 1, "optimizer": {"type": "SGD"},
    "lr_scheduler": {"type": "PolynomialDecay", "learning_rate": 0.01},
    "model": {"type": "ENCNet", "num_classes": 3, "num_codes": 2, "mid_channels": 8,
              "backbone": {"type": "ResNet18_vd", "output_stride": 16, "in_channels": 3}},
    "train_dataset": {"type": "Dataset", "mode": "train", "num_classes": 3, "transforms": [
        {"type": "RandomRotation"}, {"type": "RandomPaddingCrop", "crop_size": [64, 64]}, {"type": "Normalize"}]},
    "val_dataset": {"type": "Dataset", "mode": "val", "num_classes": 3, "transforms": [{"type": "Normalize"}]},
    "loss": {"types": [{"type": "CrossEntropyLoss"}, {"type": "MixedLoss", "coef": [1, 1], "losses": [
        {"type": "CrossEntropyLoss"}, {"type": "DiceLoss"}]}, {"type": "SELoss"}], "coef": [1, 0.4, 0.2]}}


def config(**more) -> dict:
    return {**copy.deepcopy(PARTS), **more}


def test_every_part_that_takes_it_gets_it():
    shared = config(ignore_index=7)
    ignore_index.give_ignore_index(shared)
    train, losses = shared["train_dataset"], shared["loss"]["types"]
    assert train["ignore_index"] == shared["val_dataset"]["ignore_index"] == 7
    assert train["transforms"] == [
        {"type": "RandomRotation", "label_padding_value": 7},
        {"type": "RandomPaddingCrop", "crop_size": [64, 64], "label_padding_value": 7, "ignore_index": 7},
        {"type": "Normalize"}]
    assert losses[0]["ignore_index"] == losses[2]["ignore_index"] == 7 and "ignore_index" not in losses[1]
    assert [inner["ignore_index"] for inner in losses[1]["losses"]] == [7, 7]


def test_without_the_key_nothing_changes():
    shared = config()
    ignore_index.give_ignore_index(shared)
    assert shared == PARTS


@pytest.mark.parametrize("keys, words", [
    (("train_dataset", "ignore_index"), "is 255, but train_dataset.ignore_index is 7"),
    (("val_dataset", "ignore_index"), "is 255, but val_dataset.ignore_index is 7"),
    (("train_dataset", "transforms", 1, "label_padding_value"),
     r"is 255, but train_dataset.transforms\[1\].label_padding_value is 7"),
    (("loss", "types", 1, "losses", 0, "ignore_index"),
     r"is 255, but loss.types\[1\].losses\[0\].ignore_index is 7: take one of the two out, or make them equal")])
def test_contradiction_names_both_places(keys, words):
    shared = config(ignore_index=255)
    part = shared
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = 7
    with pytest.raises(ValueError, match=f"ignore_index in the config {words}"):
        ignore_index.give_ignore_index(shared)


def test_data_set_whose_value_is_fixed():
    fixed = {"train_dataset": {"type": "CamVid", "transforms": []}}
    with pytest.raises(ValueError, match="is 0, but train_dataset.type is CamVid, whose labels have 255 for ignored"):
        ignore_index.give_ignore_index(config(ignore_index=0, **fixed))
    ignore_index.give_ignore_index(config(ignore_index=255, **fixed))


@pytest.mark.parametrize("value", ["255", -1, 256, 2.0, True])
def test_no_value_of_a_label(value):
    with pytest.raises(ValueError, match="must be a whole number from 0 to 255"):
        ignore_index.give_ignore_index(config(ignore_index=value))


class Constant(paddle.nn.Layer):
    """Predicts class 1 everywhere."""

    def forward(self, images):
        logits = paddle.zeros([images.shape[0], 3, *images.shape[2:]])
        logits[:, 1] = 1
        return [logits]


def test_from_the_command_line_to_losses_padding_and_scores(tmp_path, run_tool):
    """Value 2 is ignored, given with --opts: a training step works, padding is 2, and pixels of 2 do not score."""
    label = np.array([[0, 1], [2, 2]], np.uint8).repeat(16, 0).repeat(16, 1)     # 32 x 32, a quarter of 0, one of 1
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros([32, 32, 3], np.uint8))
    cv2.imwrite(str(tmp_path / "label.png"), label)
    (tmp_path / "list.txt").write_text("image.png label.png\nimage.png label.png\n")
    settings = config()
    for name in ("train", "val"):
        settings[f"{name}_dataset"].update(dataset_root=str(tmp_path), **{f"{name}_path": str(tmp_path / "list.txt")})
    settings["loss"]["types"][1] = {"type": "CrossEntropyLoss"}
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump(settings))
    run_tool("train", "--config", path, "--iters", 1, "--log_iters", 1, "--do_eval", "--save_dir", tmp_path / "run",
             "--opts", "ignore_index=2")

    shared = Config(str(path), opts=["ignore_index=2"])
    ignore_index.give_ignore_index(shared.dic)
    parts = SegBuilder(shared)
    assert [loss.ignore_index for loss in parts.loss["types"]] == [2, 2, 2]
    values, counts = np.unique(parts.train_dataset[0]["label"], return_counts=True)
    assert values.tolist() == [0, 1, 2] and counts[2] > 3 * 32 * 32
    scores = evaluation_loop.evaluate(Constant(), parts.val_dataset)
    assert scores.accuracy == 0.5 and scores.class_iou[:2].tolist() == [0, 0.5]
