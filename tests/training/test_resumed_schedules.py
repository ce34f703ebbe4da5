"""A run that goes on with other iters, another learning rate or power has the new schedule from its first step."""

import pytest
import tiny_run
from paddle.optimizer import SGD, lr

import paddleseg_encnet
from paddleseg_encnet.training.events import Stepped
from paddleseg_encnet.training.schedules import advance, resumed
from paddleseg_encnet.weights.checkpoint import CheckpointError

# What a schedule is made of, and of what another, which goes on from it.
SCHEDULES = {
    "longer": (lambda: lr.PolynomialDecay(0.1, 4), lambda: lr.PolynomialDecay(0.1, 8)),
    "another rate": (lambda: lr.PolynomialDecay(0.1, 8), lambda: lr.PolynomialDecay(0.02, 8)),
    "another power": (lambda: lr.PolynomialDecay(0.1, 8), lambda: lr.PolynomialDecay(0.1, 8, power=0.5)),
    "in the warm-up": (lambda: lr.LinearWarmup(lr.PolynomialDecay(0.1, 8), 6, 0.01, 0.1),
                       lambda: lr.LinearWarmup(lr.PolynomialDecay(0.2, 16), 6, 0.02, 0.2)),
    "after the warm-up": (lambda: lr.LinearWarmup(lr.PolynomialDecay(0.1, 8), 2, 0.01, 0.1),
                          lambda: lr.LinearWarmup(lr.PolynomialDecay(0.2, 16), 2, 0.02, 0.2)),
    "cosine": (lambda: lr.CosineAnnealingDecay(0.1, 4), lambda: lr.CosineAnnealingDecay(0.2, 8)),
    "steps": (lambda: lr.StepDecay(0.1, 2), lambda: lr.StepDecay(0.2, 3)),
    "pieces": (lambda: lr.PiecewiseDecay([3], [0.1, 0.01]), lambda: lr.PiecewiseDecay([6], [0.1, 0.01])),
    "exponential": (lambda: lr.ExponentialDecay(0.1, 0.9), lambda: lr.ExponentialDecay(0.2, 0.5)),
    "the same": (lambda: lr.LinearWarmup(lr.PolynomialDecay(0.1, 8), 2, 0.01, 0.1),) * 2,
}


def optimizer_of(schedule, steps=0):
    optimizer = SGD(schedule, parameters=tiny_run.Tiny().parameters())
    for _ in range(steps):
        advance(optimizer, None)
    return optimizer


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_rate_is_that_of_the_new_schedule_from_the_first_step(name):
    before, after = SCHEDULES[name]
    saved, whole, own = optimizer_of(before(), 4), optimizer_of(after(), 4), optimizer_of(after())
    own.set_state_dict({"LR_Scheduler": saved._learning_rate.state_dict()})
    resumed(own)
    for _ in range(3):
        assert own.get_lr() == whole.get_lr()
        for optimizer in (own, whole):
            advance(optimizer, None)


def rates(config, folder, **options) -> dict:
    told = []
    paddleseg_encnet.train(config, folder, seed=3, device="cpu", callback=told.append, **options)
    return {event.step: event.learning_rate for event in told if isinstance(event, Stepped)}


@pytest.mark.parametrize("options", [dict(iters=6), dict(iters=4, learning_rate=0.2),
                                     dict(iters=4, opts=["lr_scheduler.power=0.3"])], ids=str)
def test_a_training_goes_on_by_what_it_is_given_now(small_config, tmp_path, options):
    rates(small_config, tmp_path / "run", iters=2)
    whole = rates(small_config, tmp_path / "whole", **options)
    own = rates(small_config, tmp_path / "run", resume_model="auto", **options)
    assert own == {step: rate for step, rate in whole.items() if step > 2} and 0 not in own.values()


def test_fewer_steps_than_were_taken_is_one_line(scenes, tmp_path):
    tiny_run.run(scenes, tmp_path, iters=4, evaluate=False)
    with pytest.raises(CheckpointError, match="iter_4 has taken 4 steps, more than the 3 that iters asks for"):
        tiny_run.run(scenes, tmp_path, iters=3, evaluate=False, resume_model="auto")
    assert tiny_run.run(scenes, tmp_path, iters=4, evaluate=False, resume_model="auto").images == []
