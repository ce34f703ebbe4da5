"""Any batch through one training step: what is ignored is ignored, and micro-batches add up to the batch."""

import numpy as np
import paddle
import paddle.nn.functional as F
from hypothesis import strategies as st
from paddleseg.models.losses import CrossEntropyLoss
from rules import labels, rule, seeds, sides

from paddleseg_encnet.models.losses import SELoss, compute_losses
from paddleseg_encnet.runtime.devices import Precision, Ranks
from paddleseg_encnet.training import saving, training_loop
from segrun.stopping import Stop


class Small(paddle.nn.Layer):
    """EncNet's outputs from two convolutions, without BatchNorm, which sees what is computed together."""
    output_names = ("segmentation", "stage3", "SE")

    def __init__(self, classes: int, seed: int):
        super().__init__()
        paddle.seed(seed)
        self.first, self.stage3 = paddle.nn.Conv2D(3, 4, 3, padding=1), paddle.nn.Conv2D(4, classes, 1)
        self.head, self.presence = paddle.nn.Conv2D(4, classes, 3, padding=1), paddle.nn.Linear(4, classes)

    def forward(self, images):
        features = F.relu(self.first(images))
        return [self.head(features), self.stage3(features), self.presence(features.mean(axis=[2, 3]))]


def losses(weight=None) -> dict:
    return {"types": [CrossEntropyLoss(weight=weight), CrossEntropyLoss(), SELoss()], "coef": [1, 0.4, 0.2]}


@st.composite
def batches(draw):
    """(images float32 [B, 3, H, W], labels uint8 [B, H, W], number of classes)."""
    count, size = draw(st.sampled_from([1, 2, 4, 6])), (draw(sides(12)), draw(sides(12)))
    classes = draw(st.integers(2, 6))
    values = np.random.default_rng(draw(seeds())).uniform(-1, 1, (count, 3, *size)).astype("float32")
    return values, np.stack([draw(labels(size, classes)) for _ in range(count)]), classes


def step(model, images, label, terms: dict, accum_steps: int = 1) -> dict:
    """One step of the training's loop; the weights after it."""
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
    nothing = dict.fromkeys(("meter", "saver", "board", "evaluation"))
    schedule = training_loop.Schedule(1, batch_size=len(images) // accum_steps, accum_steps=accum_steps)
    parts = training_loop.Parts(model, optimizer, terms, None)
    run = training_loop.Run(parts, model, {"model": model}, schedule, saving.State(1), precision=Precision(),
                            ranks=Ranks.join(), **nothing)
    model.train()
    found, _, stopping = run.step({"img": paddle.to_tensor(images), "label": paddle.to_tensor(label)}, Stop())
    assert not stopping and all(np.isfinite(float(term)) for term in found)
    return {name: value.numpy() for name, value in model.state_dict().items()}


@rule(batch=batches(), seed=seeds())
def test_rule_a_step_keeps_weights_finite_and_ignored_images_change_nothing(batch, seed):
    images, label, classes = batch
    seed %= 2 ** 31
    before = {name: value.numpy() for name, value in Small(classes, seed).state_dict().items()}
    after = step(Small(classes, seed), images, label, losses())
    assert all(np.isfinite(value).all() for value in after.values())
    if (label == 255).all():
        # Nothing but the presence of no class is learnt from it.
        np.testing.assert_array_equal(after["head.weight"], before["head.weight"])
        np.testing.assert_array_equal(after["stage3.weight"], before["stage3.weight"])
    else:
        assert any((after[name] != before[name]).any() for name in after)


@rule(batch=batches(), seed=seeds())
def test_rule_what_is_predicted_at_ignored_pixels_is_ignored(batch, seed):
    """Neither loss nor gradient depends on it, and the loss is the mean over the others, written out in float64."""
    images, label, classes = batch
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(label), classes, *label.shape[1:])).astype("float32")
    other = np.where((label == 255)[:, np.newaxis], 50 * random.normal(size=logits.shape), logits).astype("float32")
    found, gradients = [], []
    for values in (logits, other):
        tensor = paddle.to_tensor(values, stop_gradient=False)
        terms = compute_losses(Small(classes, 0), [tensor], {"label": paddle.to_tensor(label)},
                               {"types": [CrossEntropyLoss()], "coef": [1]})
        terms[0].backward()
        found.append(float(terms[0]))
        gradients.append(tensor.grad.numpy())
    assert found[0] == found[1]
    np.testing.assert_array_equal(gradients[0], gradients[1])
    ignored = np.broadcast_to((label == 255)[:, np.newaxis], logits.shape)
    assert (gradients[0][ignored] == 0).all()
    seen = label != 255
    if not seen.any():
        assert found[0] == 0
        return
    wide = logits.astype(np.float64)
    log = wide - wide.max(1, keepdims=True)
    log -= np.log(np.exp(log).sum(1, keepdims=True))
    own = np.take_along_axis(log, np.where(seen, label, 0).astype(int)[:, np.newaxis], 1)[:, 0]
    # PaddleSeg divides the mean over all pixels by the share of those that count, plus 1e-8; float32 has 7 digits.
    assert abs(found[0] + own[seen].mean()) < 1e-5 * (1 + abs(own[seen].mean()))


@rule(batch=batches(), seed=seeds(), weighted=st.booleans())
def test_rule_micro_batches_add_up_to_the_batch(batch, seed, weighted):
    images, label, classes = batch
    seed %= 2 ** 31
    weight = [1 + i for i in range(classes)] if weighted else None
    whole = step(Small(classes, seed), images, label, losses(weight))
    parts = step(Small(classes, seed), images, label, losses(weight), accum_steps=len(images))
    for name in whole:      # float32 sums in another order
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-6, err_msg=name)
