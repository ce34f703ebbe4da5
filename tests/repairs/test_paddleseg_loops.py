"""PaddleSeg's own loops run EncNet, and ours take the same steps."""

import collections
import copy
import itertools
import random

import numpy as np
import paddle
import pytest
from paddleseg import core
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.utils import utils

from paddleseg_encnet.evaluation import loop as evaluation
from paddleseg_encnet.training import loop as training


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


def test_ten_steps_give_the_same_losses_and_weights(small_config, tmp_path):
    weights, losses = [], []
    for name in ("paddleseg", "ours"):
        parts = build(small_config)
        model, data, optimizer, loss = parts.model, parts.train_dataset, parts.optimizer, parts.loss
        seen = []
        for term in loss["types"]:
            term.register_forward_post_hook(lambda layer, inputs, output: seen.append(float(output)))
        draw_alike(model, data)
        folder = str(tmp_path / name)
        if name == "paddleseg":
            core.train(model, data, optimizer=optimizer, losses=loss, iters=10, batch_size=2, save_dir=folder)
        else:
            training.train(training.Parts(model, optimizer, loss, data), training.Schedule(iters=10), folder)
        losses.append(seen)
        weights.append({key: value.numpy() for key, value in model.state_dict().items()})
    assert len(losses[0]) == 3 * 10 and losses[1] == pytest.approx(losses[0], rel=1e-5)
    for key, value in weights[1].items():           # PaddleSeg's loop counts flops at its end and leaves buffers behind
        scale = max(np.abs(value).max(), 1e-3)      # biases before a BatchNorm stay near 0
        assert np.abs(weights[0][key] - value).max() <= 1e-5 * scale, key


def test_same_scores(small_config):
    parts = build(small_config)
    mean_iou, accuracy, class_iou, precision, kappa = core.evaluate(parts.model, parts.val_dataset)
    result = evaluation.evaluate(parts.model, parts.val_dataset)
    occurs = ~np.isnan(result.class_iou)
    assert result.class_iou[occurs] == pytest.approx(class_iou[occurs], abs=1e-9)
    assert result.accuracy == pytest.approx(float(accuracy), abs=1e-9)
    assert result.kappa == pytest.approx(float(kappa), abs=1e-9)
    # PaddleSeg takes absent classes into the mean, as 0 or, in its repository version, as 1.
    assert result.mean_iou == pytest.approx(class_iou[occurs].mean(), abs=1e-9)
    assert float(mean_iou) == pytest.approx(class_iou.mean(), abs=1e-9)
    predicted = ~np.isnan(result.class_precision)
    assert result.class_precision[predicted] == pytest.approx(precision[predicted], abs=1e-9)


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
    training.train(training.Parts(parts.model, parts.optimizer, parts.loss, parts.train_dataset, parts.val_dataset),
                   training.Schedule(iters=2, log_iters=1), str(tmp_path))
    moved = [key for key, value in parts.model.state_dict().items() if np.abs(value.numpy() - before[key]).max() > 0]
    assert type(parts.model).__name__ == name and len(moved) > len(before) * 0.9
    assert (tmp_path / "best_model" / "model.pdparams").exists()
