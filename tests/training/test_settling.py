"""Moments and running values that decay to nothing become nothing, and no weight is other for it."""

import numpy as np
import paddle
import pytest
import tiny_run

from paddleseg_encnet.training import settling

STEPS = 900
TINY = np.finfo(np.float32).tiny
OPTIMIZERS = {
    "momentum": lambda weights: paddle.optimizer.Momentum(0.1, 0.9, parameters=weights),
    "with decay": lambda weights: paddle.optimizer.Momentum(0.1, 0.9, parameters=weights, weight_decay=1e-4),
    "adamw": lambda weights: paddle.optimizer.AdamW(0.001, parameters=weights, weight_decay=0.01)}


class Silenced(paddle.nn.Layer):
    """Two channels with a BatchNorm; the second is 0 after the first step, and its weight has no gradient."""

    def __init__(self):
        super().__init__()
        self.weight = self.create_parameter([2], default_initializer=paddle.nn.initializer.Constant(0.5))
        self.norm = paddle.nn.BatchNorm1D(2)

    def forward(self, x, both):
        mask = paddle.to_tensor([1.0, float(both)])
        return self.norm(x * self.weight * mask)


def trained(kind: str, settles: bool):
    """Weights, and all moments and running values, after STEPS steps of which only the first moves both weights."""
    paddle.seed(7)
    network = Silenced()
    optimizer = OPTIMIZERS[kind]([network.weight])
    inputs = paddle.randn([4, 2])
    least = np.inf
    for step in range(1, STEPS + 1):
        ((network(inputs, step == 1) * paddle.to_tensor([[1.0], [2.0], [-1.0], [0.0]])).sum()).backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero=False)
        if settles and step % settling.EVERY == 0:
            settling.settle(network, optimizer)
        values = [each for tensors in optimizer._accumulators.values() for each in tensors.values()]
        values += settling.running_values(network)
        numbers = np.abs(np.concatenate([each.numpy().ravel() for each in values]))
        least = min(least, numbers[numbers > 0].min())
    return network.weight.numpy(), least


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_what_decays_becomes_nothing_and_no_weight_is_other_for_it(kind):
    weights, least = trained(kind, settles=False)
    settled, least_settled = trained(kind, settles=True)
    assert least < TINY <= least_settled
    np.testing.assert_array_equal(settled, weights)


def test_what_counts_stays():
    network = Silenced()
    optimizer = OPTIMIZERS["adamw"]([network.weight])
    network(paddle.randn([4, 2]), True).square().sum().backward()
    optimizer.step()
    moment = next(iter(optimizer._accumulators["moment1"].values()))
    moment.set_value(paddle.to_tensor([1e-31, -1e-33]))
    settling.settle(network, optimizer)
    assert moment.numpy().tolist() == [np.float32(1e-31), 0]


def test_a_training_does_it(scenes, tmp_path, monkeypatch):
    settled, whole = [], settling.settle
    monkeypatch.setattr(settling, "EVERY", 2)

    def counted(model, optimizer):
        settled.append(type(model).__name__)
        whole(model, optimizer)
    monkeypatch.setattr(settling, "settle", counted)
    tiny_run.run(scenes, tmp_path, iters=5, evaluate=False)
    assert settled == ["Tiny", "Tiny"]
