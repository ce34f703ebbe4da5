"""One pass over a data set: presence by the SE branch and losses against slow NumPy; the table, files, flags of val.py.
"""

import csv
import json
import os
import pathlib

import cv2
import numpy as np
import paddle
import pytest
from conftest import relative_difference
from near_ties import MOST, near_ties
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.datasets import Dataset
from paddleseg.models.losses import CrossEntropyLoss
from paddleseg.transforms import Resize
from paddleseg.utils import utils
from segmenters import visible

from paddleseg_encnet.data.class_names import class_names
from paddleseg_encnet.evaluation import confusion, score_report
from paddleseg_encnet.evaluation.evaluation_loop import evaluate, loss_of
from paddleseg_encnet.models.losses import class_presence
from segrun import writing
from segrun.scoring import presence_scores, scores


@pytest.fixture(scope="module")
def parts(small_config):
    """The tiny network with random weights, its data and losses."""
    utils.set_seed(3)
    builder = SegBuilder(Config(str(small_config)))
    builder.model.eval()
    return builder.model, builder.val_dataset, builder.loss


def look(model, image: np.ndarray) -> np.ndarray:
    """Presence logits [num_classes] of an image [3, H, W], by the network's parts."""
    with paddle.no_grad():
        features = model.fuse(model.backbone(paddle.to_tensor(np.ascontiguousarray(image[None]))))
        return model.se_layer(model.enc_module.encode(features)).numpy()[0]


def same_presence(found, expected) -> bool:
    return all(np.allclose(a, b, rtol=1e-6, equal_nan=True) for a, b in zip(found, expected))


# How the presence logits of an image follow from those of its parts.
WAYS = {
    "whole": ({}, lambda model, image: look(model, image)),
    "flipped": (dict(aug_eval=True, flip_horizontal=True, flip_vertical=True),
                lambda model, image: np.mean([look(model, image[:, ::y, ::x]) for x in (1, -1) for y in (1, -1)], 0)),
    "windows": (dict(is_slide=True, crop_size=[64, 64], stride=[32, 64]),
                lambda model, image: np.max([look(model, image[:, :, x:x + 64]) for x in (0, 32, 64)], 0)),
    "windows, flipped": (
        dict(is_slide=True, crop_size=[64, 64], stride=[64, 64], aug_eval=True, flip_horizontal=True),
        lambda model, image: np.max([look(model, view[:, :, x:x + 64]) for view in (image, image[:, :, ::-1])
                                     for x in (0, 64)], 0)),
}


@pytest.mark.parametrize("way", WAYS)
def test_presence_and_losses_equal_slow_ones(parts, way):
    model, dataset, losses = parts
    options, rule = WAYS[way]
    found = evaluate(model, dataset, losses=losses, **options)
    samples = [dataset[i] for i in range(len(dataset))]
    logits = np.array([rule(model, sample["img"]) for sample in samples])
    present = np.array([[(sample["label"] == c).any() for c in range(19)] for sample in samples])
    assert same_presence(found.presence, presence_scores(present, logits))
    assert 0 < (logits > 0).mean() < 1 and 0 < present.mean() < 1
    # Losses are float32, so 1e-5 of them.
    coefs = losses["coef"]
    slow = coefs[2] * np.mean(np.logaddexp(0, np.where(present, -logits, logits)))
    assert found.losses["SE"] == pytest.approx(slow, rel=1e-5)
    if way == "whole":
        terms = []
        for sample in samples:
            with paddle.no_grad():
                maps = model(paddle.to_tensor(sample["img"][None]))[0].numpy()[0].astype(np.float64)
            label = sample["label"][0]
            counts = label != 255
            right = np.take_along_axis(maps, np.where(counts, label, 0)[None], 0)[0]
            terms.append((np.log(np.exp(maps).sum(0)) - right)[counts].mean())
        assert found.losses["segmentation"] == pytest.approx(coefs[0] * np.mean(terms), rel=1e-5)


def test_several_images_at_a_time(parts):
    model, dataset, losses = parts
    one, three = (evaluate(model, dataset, losses=losses, batch_size=count) for count in (1, 3))   # 3 + 1 of 4 images
    ties = 0
    for sample in dataset:
        with paddle.no_grad():
            logits = model(paddle.to_tensor(sample["img"][None]))[0].numpy()[0]
        ties += int((near_ties(logits).sum(axis=0) > 1).sum())
    assert ties <= MOST * one.confusion.sum()
    # A pixel of another class leaves one count and comes to another.
    assert np.abs(one.confusion.astype(int) - three.confusion).sum() <= 2 * ties
    assert one.confusion.sum() == three.confusion.sum() and same_presence(one.presence, three.presence)
    assert three.losses == pytest.approx(one.losses, rel=1e-5)


def test_the_pixels_tell_what_the_se_loss_takes_for_present(parts):
    model, dataset, _ = parts
    labels = paddle.to_tensor(np.concatenate([dataset[i]["label"] for i in range(len(dataset))]))
    expected = class_presence(labels, 19).numpy().sum(0)
    assert evaluate(model, dataset).presence.class_images.tolist() == expected.tolist()


def test_evaluation_leaves_no_hook_behind_even_after_an_error(parts):
    model, dataset, _ = parts
    evaluate(model, dataset)
    with pytest.raises(TypeError):
        evaluate(model, dataset, nonsense=1)
    assert not model.enc_module._forward_post_hooks


def test_network_without_an_se_branch_has_no_presence(small_config):
    builder = SegBuilder(Config(str(small_config)))
    builder.config.dic["model"]["use_se_loss"] = False
    types, coef = builder.config.dic["loss"]["types"][:2], [1, 0.4]
    builder.config.dic["loss"] = dict(types=types, coef=coef)
    result = evaluate(builder.model, builder.val_dataset, losses=builder.loss)
    assert result.presence is None and list(result.losses) == ["segmentation"]
    assert "SE" not in score_report.class_table(result, class_names(builder.val_dataset))


def test_network_in_a_static_graph_is_evaluated_without_presence(parts):
    model, dataset, losses = parts
    alive = evaluate(model, dataset)
    forward = model.forward
    try:
        result = evaluate(paddle.jit.to_static(model, full_graph=True), dataset, losses=losses)
    finally:
        model.forward = forward
    assert result.presence is None and list(result.losses) == ["segmentation"]
    assert relative_difference(result.confusion, alive.confusion) < 1e-2    # a rounding may tip a pixel


def test_losses_have_the_names_that_the_network_gives_them(parts):
    """PaddleSeg's networks name none; one with a rule of its own, as MaskFormer has, is left alone."""
    class Stock(paddle.nn.Layer):
        def forward(self, images):
            return [images.mean(axis=1, keepdim=True).tile([1, 19, 1, 1])]

    class OwnRule(Stock):
        def loss_computation(self, logits_list, losses, data):
            raise AssertionError("its rule needs outputs that an evaluation has not")

    _, dataset, losses = parts
    one = {key: values[:1] for key, values in losses.items()}
    result = evaluate(Stock(), dataset, losses=one)
    assert result.losses == {"loss_0": pytest.approx(np.log(19), rel=1e-5)}     # all classes have one logit
    assert evaluate(OwnRule(), dataset, losses=one).losses == evaluate(Stock(), dataset).losses == {}


def test_loss_of_channels_last_takes_the_logits_so():
    """PaddleSeg's inference turns them to channels first, as all else wants them."""
    random = np.random.default_rng(0)
    logits = paddle.to_tensor(random.normal(size=(1, 5, 6, 7)).astype("float32"))
    label = paddle.to_tensor(random.integers(0, 5, (1, 1, 6, 7)))
    first, last = ({"types": [CrossEntropyLoss(data_format=order)], "coef": [2]} for order in ("NCHW", "NHWC"))
    assert loss_of(last, logits, label) == pytest.approx(loss_of(first, logits, label), rel=1e-6)


# --- splits ----------------------------------------------------------------------------------------------------------

def test_any_split_is_evaluated_with_its_labels_as_they_are(small_config, parts):
    """In the modes "train" and "test" PaddleSeg resizes labels too, and predictions have the images' own size."""
    matrices = []
    for mode in ("val", "test"):
        builder = SegBuilder(Config(str(small_config)))
        dataset = builder.val_dataset
        dataset.mode = mode
        dataset.transforms.transforms.insert(0, Resize(target_size=(64, 32)))
        matrices.append(evaluate(parts[0], dataset).confusion)
        assert dataset.mode == mode
    assert matrices[0].sum() > 4 * 64 * 100
    np.testing.assert_array_equal(*matrices)


def test_split_without_labels_says_so(error_of, small_config, small_weights, scenes, tmp_path):
    lists = tmp_path / "test.txt"
    images = sorted((scenes / "leftImg8bit" / "val").glob("*/*.png"))
    lists.write_text("".join(f"{image}\n" for image in images))
    config = tmp_path / "unlabelled.yml"
    config.write_text(f"""
_base_: {small_config}
val_dataset: {{type: Dataset, dataset_root: {tmp_path}, num_classes: 19, mode: test, test_path: {lists},
              transforms: [{{type: Normalize}}], _inherited_: False}}
""")
    error = error_of("val", "--config", config, "--model_path", small_weights)
    assert f"4 of 4 images have no label, the first one {images[0]}" in error


def test_names_of_own_data_come_from_labels_txt(tmp_path, said):
    (tmp_path / "val.txt").write_text("a.png b.png\n")
    own = Dataset("val", str(tmp_path), [], 3, val_path=str(tmp_path / "val.txt"))
    assert class_names(own) == ["0", "1", "2"]
    (tmp_path / "labels.txt").write_text("background\nroof, flat\nÖlfleck\n", encoding="utf-8")
    assert class_names(own) == ["background", "roof, flat", "Ölfleck"]
    (tmp_path / "labels.txt").write_text("roof\n")
    assert class_names(own) == ["0", "1", "2"]
    assert "labels.txt names 1 classes, the data set has 3" in said[-1]


# --- table and files -------------------------------------------------------------------------------------------------

#                         predicted  0  1  2  3
CONFUSION = np.array([[6, 1, 0, 1], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
NAMES = ["road", "tree; high", "bird", "Ölfleck"]


def test_table_shows_what_is_absent_and_only_predicted():
    lines = score_report.class_table(scores(CONFUSION), NAMES).splitlines()
    assert lines[0].split() == ["class", "IoU", "accuracy", "precision", "F1", "share"]
    assert lines[1].split() == ["road", "0.7500", "0.7500", "1.0000", "0.8571", "0.8000"]
    assert lines[3].split() == ["bird", "-", "-", "-", "-", "0.0000", "absent"]
    assert lines[4].split() == ["Ölfleck", "0.0000", "-", "0.0000", "0.0000", "0.0000"]
    assert len({len(line) for line in lines[:3]}) == 1, "columns stand below each other"
    assert lines[5:] == [
        "mIoU and Dice are means over 3 of 4 classes, mAcc over 2.",
        "Absent, in no label and no prediction, so in no mean: 1 of 4 classes.",
        "Only predicted, in no label: 1 of 4 classes. Their IoU and F1 are 0 and count; they have no accuracy."]


def test_table_has_the_se_branch_where_there_is_one():
    presence = presence_scores(np.array([[1, 1, 0, 0]]), np.array([[2.0, -1.0, -1.0, 1.0]]))
    lines = score_report.class_table(scores(CONFUSION, presence), NAMES).splitlines()
    assert lines[0].endswith("images   SE precision   SE recall    SE AP")
    assert lines[1].split()[-4:] == ["1", "1.0000", "1.0000", "1.0000"]
    assert lines[2].split()[-4:] == ["1", "-", "0.0000", "1.0000"]
    assert lines[4].split()[-4:] == ["0", "0.0000", "-", "-"]
    assert lines[-1] == "Means of SE: precision 0.5000, recall 0.5000, AP 1.0000."


def test_json_and_csv_hold_what_was_scored(tmp_path):
    presence = presence_scores(np.array([[1, 1, 0, 0]]), np.array([[2.0, -1.0, -1.0, 1.0]]))
    result = scores(CONFUSION, presence, {"segmentation": float("inf"), "SE": 0.5})
    score_report.write_json(str(tmp_path / "scores.json"), result, NAMES, {"images": 1})
    found = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert found["images"] == 1 and found["losses"] == {"segmentation": None, "SE": 0.5}
    for name in ("mean_iou", "accuracy", "mean_accuracy", "frequency_weighted_iou", "kappa", "mean_dice"):
        assert found[name] == getattr(result, name)
    assert found["presence"] == dict(mean_precision=0.5, mean_recall=0.5, mean_average_precision=1.0)
    assert found["confusion"] == CONFUSION.tolist()
    bird = dict(id=2, iou=None, accuracy=None, precision=None, f1=None, share=0.0, images=0, se_precision=None,
                se_recall=None, se_ap=None)
    assert found["classes"][2] == {**bird, "class": "bird"}

    score_report.write_class_csv(str(tmp_path / "scores.csv"), result, NAMES)
    with open(tmp_path / "scores.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == NAMES and rows[2]["iou"] == "" and float(rows[0]["iou"]) == 0.75


def test_pairs_that_are_confused_most():
    matrix = np.array([[90, 5, 5], [0, 50, 10], [0, 0, 0]])
    assert confusion.confused_pairs(matrix, 2) == [(1, 2, 10 / 160, 10 / 60), (0, 1, 5 / 160, 5 / 100)]
    assert len(confusion.confused_pairs(matrix, 9)) == 3
    assert confusion.confused_pairs(np.diag([1, 0]), 9) == []


@pytest.mark.parametrize("classes", [1, 4, confusion.NUMBERED + 1])
def test_picture_shows_right_pixels_in_blue_wrong_ones_in_orange(tmp_path, classes):
    matrix = np.diag(np.full(classes, 10))
    if classes > 1:
        matrix[1, 0], matrix[2] = 90, 0
    confusion.draw_confusion(str(tmp_path / "a.png"), matrix, [f"class {i}" for i in range(classes)])
    pixels = cv2.imread(str(tmp_path / "a.png")).reshape(-1, 3).astype(int)
    blue, red = pixels[:, 0], pixels[:, 2]
    assert (blue > red + 60).sum() > 100
    grey = (blue == red) & (blue > 225) & (blue < 235)
    assert (red > blue + 100).any() == (classes > 1) and (grey.sum() > 500) == (classes > 1)


def test_file_is_written_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "new" / "a.json"
    writing.write(str(path), lambda to: pathlib.Path(to).write_text("first"))

    def broken(to):
        pathlib.Path(to).write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        writing.write(str(path), broken)
    assert path.read_text() == "first" and os.listdir(path.parent) == ["a.json"]


# --- the tool --------------------------------------------------------------------------------------------------------

def test_val_writes_all_its_files_from_one_process_or_two_workers(run_tool, small_config, small_weights, tmp_path,
                                                                  said):
    found = []
    for workers in (0, 2):
        folder = tmp_path / str(workers)
        run_tool("val", "--config", small_config, "--model_path", small_weights, "--num_workers", workers,
                 "--save_json", folder / "scores.json", "--save_csv", folder / "scores.csv",
                 "--save_confusion", folder / "confusion.png")
        found.append([(folder / name).read_text() for name in ("scores.json", "scores.csv")])
        assert visible(folder) == ["confusion.png", "scores.csv", "scores.json"]
    assert found[0] == found[1]
    values = json.loads(found[0][0])
    assert values["images"] == 4 and values["classes"][0]["class"] == "road" and len(values["classes"]) == 19
    output = "\n".join(said)
    assert f"mIoU: {values['mean_iou']:.4f}" in output and f"FWIoU: {values['frequency_weighted_iou']:.4f}" in output
    assert "traffic light" in output and "SE AP" in output


@pytest.mark.parametrize("flag, path, words", [
    ("--save_json", "a file/scores.json", "cannot write"),
    ("--save_csv", "", "is a folder"),
    ("--save_confusion", "confusion.tiff", "must end in .png")])
def test_val_refuses_before_it_evaluates(error_of, small_config, small_weights, tmp_path, said, flag, path, words):
    (tmp_path / "a file").write_text("")
    error = error_of("val", "--config", small_config, "--model_path", small_weights, flag, tmp_path / path)
    assert words in error
    assert not any("Start evaluating" in line for line in said)
    assert os.listdir(tmp_path) == ["a file"]
