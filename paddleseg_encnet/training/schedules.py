"""Learning-rate schedules as the loop steps them, and all that is special about CosineAnnealingDecay."""

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
    """After the optimiser's state was set: the rate is that of this run's curve, which may be longer than the saved
    one. The others compute theirs from the step anyway."""
    schedule = optimizer._learning_rate
    if isinstance(schedule, CosineAnnealingDecay):
        schedule.step(schedule.last_epoch)
