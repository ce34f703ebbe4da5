"""Learning-rate schedules as the loop steps them, and as a resumed run finds them."""

import paddle
from paddle.optimizer.lr import CosineAnnealingDecay, LRScheduler, ReduceOnPlateau


def advance(optimizer: paddle.optimizer.Optimizer, loss: paddle.Tensor) -> None:
    """One step of the learning rate's schedule, if it has one."""
    schedule = optimizer._learning_rate
    if isinstance(schedule, ReduceOnPlateau):
        schedule.step(loss)
    elif isinstance(schedule, CosineAnnealingDecay):
        # Told the step, Paddle computes the rate from it; else from the rate before, which may be that of other iters.
        schedule.step(schedule.last_epoch + 1)
    elif isinstance(schedule, LRScheduler):
        schedule.step()


def resumed(optimizer: paddle.optimizer.Optimizer) -> None:
    """After the optimiser's state was set: the rate is that of this run's curve at the saved step, as iters, learning
    rate or power may be others than those of the saved run, whose last rate stands in the state. ReduceOnPlateau's
    follows from the losses that were seen, and stays."""
    schedule = optimizer._learning_rate
    if isinstance(schedule, LRScheduler) and not isinstance(schedule, ReduceOnPlateau):
        schedule.step(schedule.last_epoch)
