"""PaddleSeg's own loops run EncNet, and ours take the same steps."""

import collections
import copy
import functools
import glob
import itertools
import os
import random

import numpy as np
import paddle
import pytest
from paddleseg import core
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.transforms import Compose
from paddleseg.utils import utils
from segmenters import small

from paddleseg_encnet.evaluation import evaluation_loop
from paddleseg_encnet.live import undo_of
from paddleseg_encnet.training import training_loop


def build(config) -> SegBuilder:
    utils.set_seed(0)
    return SegBuilder(Config(str(config)))


def draw_alike(model, data):
    """Makes dropout depend on the step, and augmentation on the image and how often it was seen. Else each loop takes
    its random numbers from seeds of its own."""
    steps, seen = itertools.count(), collections.Counter()

    def before_forward(layer, inputs):
        paddle.seed(next(steps))

    def before_transforms(sample):
        image = int(sample["img"].sum())
        seen[image] += 1
        random.seed(image + seen[image])
        np.random.seed(image + seen[image])
        return sample

    model.register_forward_pre_hook(before_forward)
    data.transforms.transforms.insert(0, before_transforms)


def keep_loss(kept: list, layer, inputs, output) -> None:
    kept.append(float(output))


def test_ten_steps_give_the_same_losses_and_weights(small_config, tmp_path):
    weights, losses = [], []
    for name in ("paddleseg", "ours"):
        parts = build(small_config)
        model, data, optimizer, loss = parts.model, parts.train_dataset, parts.optimizer, parts.loss
        losses.append([])
        for term in loss["types"]:
            term.register_forward_post_hook(functools.partial(keep_loss, losses[-1]))
        draw_alike(model, data)
        folder = str(tmp_path / name)
        if name == "paddleseg":
            core.train(model, data, optimizer=optimizer, losses=loss, iters=10, batch_size=2, save_dir=folder)
        else:
            training_loop.train_network(training_loop.Parts(model, optimizer, loss, data),
                                        training_loop.Schedule(iters=10), folder)
        weights.append({key: value.numpy() for key, value in model.state_dict().items()})
    assert len(losses[0]) == 3 * 10 and losses[1] == pytest.approx(losses[0], rel=1e-5)
    for key, value in weights[1].items():           # PaddleSeg's loop counts flops at its end and leaves buffers behind
        scale = max(np.abs(value).max(), 1e-3)      # biases before a BatchNorm stay near 0
        assert np.abs(weights[0][key] - value).max() <= 1e-5 * scale, key


def test_paddleseg_trains_and_evaluates_in_its_loop(small_config, tmp_path):
    parts = build(small_config)
    core.train(parts.model, parts.train_dataset, parts.val_dataset, parts.optimizer, losses=parts.loss, iters=2,
               batch_size=2, save_interval=2, log_iters=1, save_dir=str(tmp_path))
    for name in ("iter_2/model.pdparams", "iter_2/model.pdopt", "best_model/model.pdparams"):
        assert (tmp_path / name).stat().st_size > 0


def test_same_scores(small_config):
    parts = build(small_config)
    mean_iou, accuracy, class_iou, precision, kappa = core.evaluate(parts.model, parts.val_dataset)
    result = evaluation_loop.evaluate(parts.model, parts.val_dataset)
    occurs = ~np.isnan(result.class_iou)
    assert result.class_iou[occurs] == pytest.approx(class_iou[occurs], abs=1e-9)
    assert result.accuracy == pytest.approx(float(accuracy), abs=1e-9)
    assert result.kappa == pytest.approx(float(kappa), abs=1e-9)
    # PaddleSeg takes absent classes into the mean, as 0 or, in its repository version, as 1.
    assert result.mean_iou == pytest.approx(class_iou[occurs].mean(), abs=1e-9)
    assert float(mean_iou) == pytest.approx(class_iou.mean(), abs=1e-9)
    predicted = ~np.isnan(result.class_precision)
    assert result.class_precision[predicted] == pytest.approx(precision[predicted], abs=1e-9)


WAYS = [
    dict(is_slide=True, crop_size=[64, 64], stride=[32, 32]),
    dict(aug_eval=True, scales=[0.75, 1.0], flip_horizontal=True),
    dict(is_slide=True, crop_size=[64, 48], stride=[48, 32], aug_eval=True, scales=[1.0, 0.75], flip_horizontal=True,
         flip_vertical=True)]


@pytest.mark.parametrize("options", WAYS, ids=["windows", "scales and flips", "all"])
def test_same_scores_with_windows_and_augmentation(small_config, options):
    parts = build(small_config)
    _, accuracy, *_ = core.evaluate(parts.model, parts.val_dataset, **options)
    ours = evaluation_loop.evaluate(parts.model, parts.val_dataset, **options)
    assert ours.accuracy == pytest.approx(float(accuracy))


@pytest.mark.parametrize("options", [{}, *WAYS], ids=["whole", "windows", "scales and flips", "all"])
def test_logits_are_those_of_paddlesegs_inference_to_the_last_bit(resizing, options):
    """Of the same network on the same batch, whose images are resized back."""
    parts = build(resizing)
    parts.model.eval()
    flags = {key: value for key, value in options.items() if key != "aug_eval"}
    inference = core.infer.aug_inference if options.get("aug_eval") else core.infer.inference
    data = parts.val_dataset[0]
    images = paddle.to_tensor(data["img"][None])
    with paddle.no_grad():
        ids, logits = inference(parts.model, images, trans_info=data["trans_info"], **flags)
    own = small(parts.model, parts.val_dataset.transforms, **options)
    found = own.infer(images, undo_of(data["trans_info"])).values
    assert tuple(found.shape) == (1, 19, 64, 128)
    np.testing.assert_array_equal(np.asarray(found), logits.numpy())
    np.testing.assert_array_equal(own(parts.val_dataset.file_list[0][0]).ids, ids.numpy()[0, 0])


def test_paddleseg_predicts(small_config, scenes, tmp_path):
    parts = build(small_config)
    weights = str(tmp_path / "model.pdparams")
    paddle.save(parts.model.state_dict(), weights)
    images = sorted(glob.glob(f"{scenes}/leftImg8bit/val/*/*.png"))
    core.predict(parts.model, weights, Compose(parts.val_transforms), images, save_dir=str(tmp_path / "pictures"))
    assert len(os.listdir(tmp_path / "pictures" / "pseudo_color_prediction")) == len(images) == 4


STOCK_MODELS = {
    "FCN": dict(model=dict(type="FCN", backbone_indices=[-1]), coef=[1]),
    "DeepLabV3": dict(model=dict(type="DeepLabV3", backbone_indices=[3], aspp_ratios=[1, 12], aspp_out_channels=16),
                      coef=[1]),
    "PSPNet": dict(model=dict(type="PSPNet", enable_auxiliary_loss=True, pp_out_channels=16), coef=[1, 0.4]),
}


@pytest.mark.parametrize("name", STOCK_MODELS)
def test_stock_models_train_and_evaluate_in_our_loop(small_config, tmp_path, name):
    parts = build(small_config)
    config = parts.config.dic
    config["model"] = {**copy.deepcopy(STOCK_MODELS[name]["model"]), "num_classes": 19, "backbone":
                       dict(type="ResNet18_vd", output_stride=16, in_channels=3)}
    coef = STOCK_MODELS[name]["coef"]
    config["loss"] = dict(types=[dict(type="CrossEntropyLoss", ignore_index=255)] * len(coef), coef=coef)
    before = {key: value.numpy() for key, value in parts.model.state_dict().items()}
    trained = training_loop.Parts(parts.model, parts.optimizer, parts.loss, parts.train_dataset, parts.val_dataset)
    training_loop.train_network(trained, training_loop.Schedule(iters=2, log_iters=1), str(tmp_path))
    moved = [key for key, value in parts.model.state_dict().items() if np.abs(value.numpy() - before[key]).max() > 0]
    assert type(parts.model).__name__ == name and len(moved) > len(before) * 0.9
    assert (tmp_path / "best_model" / "model.pdparams").exists()
