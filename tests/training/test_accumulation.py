"""--accum_steps: a step from several micro-batches is that of the large batch."""

import contextlib
import json
import random
import signal

import launched
import numpy as np
import paddle
import pytest
import tiny_run
from conftest import relative_difference
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.models import losses as stock
from paddleseg.models.losses.focal_loss import MultiClassFocalLoss
from paddleseg.utils import utils
from ranks_on_cpu import assert_averaged, launch, recorded

from paddleseg_encnet.config import batch_recipe
from paddleseg_encnet.models.losses import SELoss, compute_losses
from paddleseg_encnet.runtime.devices import Precision
from paddleseg_encnet.training import accumulation, saving, training_loop
from paddleseg_encnet.training.finite import NotFinite
from segrun.stopping import Stopped

STEPS = 4


@pytest.fixture(scope="module")
def config(small_config, tmp_path_factory):
    """The quick start with the SE-loss at both places, clipped gradients, and crops that padding fills unequally: of an
    image at half its size two thirds are ignored."""
    path = tmp_path_factory.mktemp("accumulated") / "config.yml"
    path.write_text(f"""
_base_: {small_config}
train_dataset:
  transforms:
    - {{type: ResizeStepScaling, min_scale_factor: 0.5, max_scale_factor: 1.5, scale_step_size: 0.25}}
    - {{type: RandomPaddingCrop, crop_size: [64, 64]}}
    - {{type: RandomHorizontalFlip}}
    - {{type: RandomDistort}}
    - {{type: Normalize}}
model: {{use_se_loss_stage3: True}}
lr_scheduler: {{learning_rate: 0.002, warmup_start_lr: 0.0005}}
optimizer: {{grad_clip_cfg: {{name: ClipGradByGlobalNorm, clip_norm: 0.5}}}}
loss:
  types:
    - {{type: CrossEntropyLoss, weight: {[0.5 + 0.25 * i for i in range(19)]}}}
    - type: MixedLoss
      losses: [{{type: CrossEntropyLoss}}, {{type: MultiClassFocalLoss, num_class: 19}}]
      coef: [0.5, 0.5]
    - {{type: SELoss}}
    - {{type: SELoss}}
  coef: [1, 0.4, 0.2, 0.2]
""")
    return path


def comparable(model, dataset):
    """The model without what is known to differ: BatchNorm with statistics that it has gathered before, no dropout."""
    model.train()
    with paddle.no_grad():
        for _ in range(30):
            model(paddle.to_tensor(np.stack([dataset[i]["img"] for i in range(4)])))
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.layer.norm._BatchNormBase):
            layer._use_global_stats = True
        if isinstance(layer, (paddle.nn.Dropout, paddle.nn.Dropout2D)):
            layer.p = 0.0
    return model


def as_float64(model, losses: dict):
    """The network but for the Encoding layers, whose arithmetic is float32, and its losses."""
    model.to(dtype="float64")
    model.register_forward_pre_hook(lambda layer, inputs: (inputs[0].astype("float64"),))
    for loss in losses["types"]:
        if getattr(loss, "weight", None) is not None:
            loss.weight = loss.weight.astype("float64")


def trained(config, folder, batch_size: int, accum_steps: int, precise: bool = True):
    """Weights, losses by step and term, and images in their order, of a few steps."""
    utils.set_seed(3)
    builder = SegBuilder(Config(str(config)))
    model, images, losses = comparable(builder.model, builder.train_dataset), [], []
    if precise:
        as_float64(model, builder.loss)
    model.register_forward_pre_hook(lambda layer, inputs: images.append(inputs[0].numpy()))
    step = training_loop.Run.step

    def kept(run, data, stop):
        result = step(run, data, stop)
        losses.append([float(term) for term in result[0]])
        return result

    random.seed(3)      # of which train_network() draws its own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_loop.Run, "step", kept)
        if not precise:     # ReLU's gradient jumps at 0, and float32's rounding says on which side a few positions are
            patch.setattr(paddle.nn.functional, "relu", paddle.nn.functional.silu)
        training_loop.train_network(training_loop.Parts(model, builder.optimizer, builder.loss, builder.train_dataset),
                                    training_loop.Schedule(STEPS, batch_size=batch_size, accum_steps=accum_steps),
                                    str(folder))
    weights = {name: tensor.numpy() for name, tensor in model.named_parameters() if not tensor.stop_gradient}
    return weights, np.array(losses), np.concatenate(images), builder.optimizer.get_lr()


@pytest.fixture(scope="module")
def large(config, tmp_path_factory):
    return {precise: trained(config, tmp_path_factory.mktemp("large"), 4, 1, precise) for precise in (True, False)}


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("precise, close", [(True, 1e-6), (False, 3e-6)], ids=["float64", "float32"])
def test_micro_batches_are_the_large_batch(config, large, tmp_path, batch_size, precise, close):
    """In float32, Paddle's own mean of this many pixels is up to 1.5e-6 off: the rule is held to 1e-6 where that does
    not hide it. Biases began at 0: they are sums of gradients and nothing else."""
    weights, losses, images, rate = trained(config, tmp_path, batch_size, 4 // batch_size, precise)
    expected = large[precise]
    np.testing.assert_array_equal(images, expected[2])
    assert rate == expected[3] and len(images) == 4 * STEPS
    assert losses.shape == (STEPS, 5)
    np.testing.assert_allclose(losses, expected[1], rtol=close)
    for name, value in weights.items():
        assert relative_difference(value, expected[0][name]) < close, name


def test_a_plain_mean_would_not_be(config, large, tmp_path, monkeypatch):
    monkeypatch.setattr(accumulation, "divisor", lambda loss, data: paddle.ones([]))
    weights, losses, _, _ = trained(config, tmp_path, 1, 4)
    assert relative_difference(losses[0], large[True][1][0]) > 1e-3
    assert max(relative_difference(value, large[True][0][name]) for name, value in weights.items()) > 1e-4


# --- the losses, one by one ------------------------------------------------------------------------------------------

WEIGHT = [0.5, 2.0, 1.0]
EXACT = {
    "cross entropy": (3, lambda: stock.CrossEntropyLoss(ignore_index=255)),
    "weighted": (3, lambda: stock.CrossEntropyLoss(weight=WEIGHT, ignore_index=255)),
    "over all pixels": (3, lambda: stock.CrossEntropyLoss(avg_non_ignore=False)),
    "another ignore_index": (3, lambda: stock.CrossEntropyLoss(weight=WEIGHT, ignore_index=7)),
    "focal": (2, lambda: stock.FocalLoss()),
    "focal of classes": (3, lambda: MultiClassFocalLoss(3)),
    "binary": (3, lambda: stock.BCELoss()),
    "dice": (3, lambda: stock.DiceLoss()),
    "bootstrapped": (3, lambda: stock.BootstrappedCrossEntropyLoss(10, 0.5)),
    "mixed": (3, lambda: stock.MixedLoss([stock.CrossEntropyLoss(), MultiClassFocalLoss(3)], [0.7, 0.3])),
    "presence": (3, lambda: SELoss()),
}
APART = {
    "hardest pixels": lambda: stock.CrossEntropyLoss(top_k_percent_pixels=0.5),
    "lovasz": lambda: stock.LovaszSoftmaxLoss(),
    "dynamic": lambda: stock.BCELoss(weight="dynamic"),
}


class Output(paddle.nn.Layer):
    """What a network with one output has of it."""
    output_names = ("segmentation",)


def batch(classes: int):
    """Logits and labels of four images, of which 90 %, none, all but a row, and all pixels are ignored."""
    rng = np.random.default_rng(1)
    label = rng.integers(0, classes, [4, 6, 8])
    label[0][rng.random([6, 8]) < 0.9] = 255
    label[2, 1:] = 255
    label[3] = 255
    return rng.normal(size=[4, classes, 6, 8]).astype("float32"), label


def of_parts(loss, logits, label, count: int):
    """Sum of the weighted terms, and its gradient."""
    label = np.where(label == 255, getattr(loss, "ignore_index", 255), label)
    losses = {"types": [loss], "coef": [1.0]}
    logits = paddle.to_tensor(logits, stop_gradient=False)
    outputs = logits.mean(axis=[2, 3]) if isinstance(loss, SELoss) else logits
    parts = accumulation.micro_batches({"img": outputs, "label": paddle.to_tensor(label)}, count)
    total = 0
    for part, share in zip(parts, accumulation.term_factors(Output(), losses, parts)):
        terms = compute_losses(Output(), [part["img"]], {"label": part["label"].clone()}, losses)
        total = total + sum(accumulation.weighted(terms, share))
    total.backward()
    return float(total), logits.grad.numpy()


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("count", [2, 4])
def test_a_loss_of_parts_is_that_of_the_batch(name, count):
    """1e-6: a few roundings of float32. An image without labels gives PaddleSeg's EPS its say, which is counted too."""
    classes, make = EXACT[name]
    logits, label = batch(classes)
    whole, gradient = of_parts(make(), logits, label, 1)
    parts, gradient_of_parts = of_parts(make(), logits, label, count)
    assert parts == pytest.approx(whole, rel=1e-6)
    assert relative_difference(gradient_of_parts, gradient) < 1e-6
    assert ": the mean of" not in accumulation.accumulation_line(Output(), {"types": [make()]}, 1, count)


@pytest.mark.parametrize("name", APART)
def test_a_loss_that_chooses_pixels_is_named(name):
    """And gets the mean, without a guess at more."""
    loss = APART[name]()
    logits, label = batch(3)
    parts = [of_parts(loss, logits[k:k + 2], label[k:k + 2], 1)[0] for k in (0, 2)]
    assert of_parts(loss, logits, label, 2)[0] == pytest.approx(np.mean(parts), rel=1e-6)
    losses = {"types": [stock.DiceLoss(), stock.OhemCrossEntropyLoss(), loss, loss]}
    line = accumulation.accumulation_line(Output(), losses, 2, 4)
    assert f"; OhemCrossEntropyLoss, {type(loss).__name__}: the mean of the losses of the micro-batches" in line
    assert "4 micro-batches of 2" in line and "a batch of 8" in line and "BatchNorm" in line


def test_a_model_with_a_rule_of_its_own_gets_the_mean():
    class Own(paddle.nn.Layer):
        def loss_computation(self, logits, losses, data):
            return [data["label"].astype("float32").mean(), data["label"].astype("float32").max()]

    losses = {"types": [stock.CrossEntropyLoss()], "coef": [1]}
    parts = accumulation.micro_batches({"img": paddle.zeros([4, 3]), "label": paddle.arange(4)}, 2)
    terms = [accumulation.weighted(compute_losses(Own(), None, part, losses), share)
             for part, share in zip(parts, accumulation.term_factors(Own(), losses, parts))]
    assert [[float(term) for term in one] for one in terms] == [[0.25, 0.5], [1.25, 1.5]]
    assert "the model's own rule: the mean of" in accumulation.accumulation_line(Own(), losses, 2, 2)


# --- what happens around the steps -----------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def one_go(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_go")
    return folder, tiny_run.run(scenes, folder, iters=20, accum_steps=2)


def test_resumed_in_the_middle_of_an_epoch_ends_as_in_one_go(one_go, scenes, tmp_path):
    """Two steps of 2 x 2 are an epoch: step 7 is in the middle of one. The signal comes in its first micro-batch."""
    with pytest.raises(Stopped, match="iter_7") as stopped:
        tiny_run.run(scenes, tmp_path, iters=20, accum_steps=2, before_step=tiny_run.stop_at(13))
    assert stopped.value.signum == signal.SIGTERM
    state = saving.read_state(str(tmp_path / "iter_7"))
    assert (state.step, state.epoch, state.samples) == (7, 3, 4)
    second = tiny_run.run(scenes, tmp_path, iters=20, accum_steps=2, resume_model="auto", num_workers=2)
    assert second.images == one_go[1].images[14:] and len(second.images) == 26
    first, last = one_go[1].state(), second.state()
    assert first.keys() == last.keys()
    assert [name for name in first if not np.array_equal(first[name], last[name])] == []
    assert json.loads((tmp_path / "iter_20" / "state.json").read_text())["best"] == \
        json.loads((one_go[0] / "iter_20" / "state.json").read_text())["best"]


def test_checkpoints_and_learning_rate_count_steps(one_go, scenes, tmp_path):
    """The rate is in its warm-up, and the same as without micro-batches."""
    assert saving.iteration_folders(str(one_go[0])) == ["iter_10", "iter_20"]
    plain = tiny_run.run(scenes, tmp_path / "plain", iters=6, evaluate=False)
    twice = tiny_run.run(scenes, tmp_path / "twice", iters=6, evaluate=False, accum_steps=2)
    assert plain.optimizer.get_lr() == twice.optimizer.get_lr() > 0.01
    assert (len(plain.images), len(twice.images)) == (6, 12)


def test_loss_that_is_not_finite_names_the_micro_batch(scenes, tmp_path):
    class Breaks(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.entropy, self.passes = stock.CrossEntropyLoss(), 0

        def forward(self, logits, label):
            self.passes += 1
            weights.append(model.head.weight.numpy())
            return self.entropy(logits, label) * (np.nan if self.passes == 5 else 1.0)

    weights = []
    model, data, _, optimizer = tiny_run.parts(scenes)
    with pytest.raises(NotFinite, match=r"at step 3 \(segmentation nan") as broken:
        training_loop.train_network(training_loop.Parts(model, optimizer, {"types": [Breaks()], "coef": [1]}, data),
                                    training_loop.Schedule(9, 5, batch_size=2, accum_steps=2), str(tmp_path))
    order = paddle.io.DistributedBatchSampler(data, 4, shuffle=True, drop_last=True)
    order.set_epoch(1)              # two steps an epoch
    first = next(iter(order))[:2]
    assert str(broken.value).count("_leftImg8bit.png") == 2
    assert all(data.file_list[index][0] in str(broken.value) for index in first)
    assert len(weights) == 6        # of which the last four are those of one step, that was not taken
    assert not np.array_equal(weights[1], weights[2]) and np.array_equal(weights[4], weights[5])
    assert np.array_equal(model.head.weight.numpy(), weights[5])


def test_the_scaler_of_mixed_precision_steps_once(scenes, tmp_path, monkeypatch):
    class Scaler:
        def __init__(self, init_loss_scaling):
            self.calls = calls

        def scale(self, loss):
            calls.append("scale")
            return loss * 1024

        def step(self, optimizer):
            calls.append("step")
            for parameter in optimizer._parameter_list:
                if parameter.grad is not None:
                    parameter.grad.set_value(parameter.grad / 1024)
            optimizer.step()

        def update(self):
            calls.append("update")

        def state_dict(self):
            return {}

    calls = []
    monkeypatch.setattr(paddle.amp, "GradScaler", Scaler)
    monkeypatch.setattr(Precision, "context", lambda self: contextlib.nullcontext())    # the CPU has no half precision
    half = tiny_run.run(scenes, tmp_path / "half", iters=2, accum_steps=2, evaluate=False, precision=Precision("fp16"))
    assert calls == 2 * ["scale", "scale", "step", "update"]
    monkeypatch.undo()
    single = tiny_run.run(scenes, tmp_path / "single", iters=2, accum_steps=2, evaluate=False)
    # 1024 is a power of two: nothing is rounded on the way.
    assert np.array_equal(half.model.head.weight.numpy(), single.model.head.weight.numpy())


def test_two_ranks_average_what_each_has_added_up(small_config, tmp_path, one_thread):
    """BatchNorm included: as in one process that takes all micro-batches of both, one after the other."""
    def add_gradients(model, losses, batch):
        parts = accumulation.micro_batches(batch, 2)
        for part, share in zip(parts, accumulation.shares(model, losses, parts)):
            terms = compute_losses(model, model(part["img"]), part, losses)
            sum(accumulation.weighted(terms, share)).backward()
    done = launch(tmp_path, launched.__file__, "train", small_config, tmp_path, STEPS, 1)
    assert_averaged(recorded(tmp_path, done), small_config, STEPS, add_gradients)


# --- what is said ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("devices, accum_steps, scale_lr, parts", [
    (1, 4, False, ["Batch: 2 in each of 4 micro-batches, 8 in all, as in the recipe"]),
    (2, 2, False, ["Batch: 2 in each of 2 micro-batches on each of 2 devices, 8 in all, as in the recipe"]),
    (1, 8, True, ["16 in all", "it is 0.02 here", "--iters 40000"]),
    (1, 1, False, ["Batch: 2; the recipe has 8", "--accum_steps 4 has the recipe's batch here"]),
    (1, 3, False, ["6 in all; the recipe has 8", "multiplies it by 0.75"])])
def test_the_recipes_line_counts_micro_batches(devices, accum_steps, scale_lr, parts):
    config = {"batch_size": 2, "iters": 80000, "base_batch_size": 8,
              "lr_scheduler": {"type": "PolynomialDecay", "learning_rate": 0.01}}
    line = batch_recipe.settle_batch(config, devices, scale_lr, accum_steps)
    assert all(part in line for part in parts) and ("has the recipe's batch" in line) == (accum_steps == 1)


def test_the_tool_says_what_it_does(small_config, run_tool, tmp_path, capsys):
    run_tool("train", "--config", small_config, "--batch_size", 1, "--accum_steps", 4, "--iters", 2, "--log_iters", 1,
             "--save_dir", tmp_path)
    output = capsys.readouterr().out
    assert "Batch: 1 in each of 4 micro-batches, 4 in all, as in the recipe" in output
    assert "a step learns from 4 micro-batches of 1 what it would from a batch of 4, but that BatchNorm" in output
    line = next(line for line in output.splitlines() if "iter: 2/2" in line)
    cost, speed = (float(line.split(f"{key}: ")[1].split()[0].strip(",")) for key in ("batch_cost", "ips"))
    assert speed == pytest.approx(4 / cost, rel=1e-2)
    assert "epoch: 1" in line and saving.read_state(str(tmp_path / "iter_2")).samples == 8


@pytest.mark.parametrize("wrong", ["0", "-2", "two", "1.5"])
def test_a_number_of_micro_batches_that_is_none(small_config, run_tool, tmp_path, capsys, wrong):
    with pytest.raises(SystemExit) as ended:
        run_tool("train", "--config", small_config, "--accum_steps", wrong, "--save_dir", tmp_path / "out")
    assert ended.value.code == 2 and not (tmp_path / "out").exists()
    assert f"is {wrong}, must be a whole number, at least 1" in capsys.readouterr().err


def test_more_than_the_images_make(scenes, tmp_path):
    with pytest.raises(ValueError, match="8 training images make no batch of 10 on each of 1 devices; lower batch_"):
        tiny_run.run(scenes, tmp_path, accum_steps=5)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        tiny_run.run(scenes, tmp_path, accum_steps=0)
