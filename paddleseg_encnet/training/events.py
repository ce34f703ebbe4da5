"""What a training tells the function that the caller gave it."""

from typing import Callable, Dict, NamedTuple, Union

from segrun.scoring import Scores


class Stepped(NamedTuple):
    """After a step."""
    step: int                   # counts from 1
    losses: Dict[str, float]    # of this step, on this rank: the weighted terms by name, whose sum is the loss
    learning_rate: float        # that the step was made with


class Evaluated(NamedTuple):
    """After an evaluation, when the best weights are on the disk."""
    step: int
    network: str                # "model", or "ema_model": the moving average of its weights
    scores: Scores


Callback = Callable[[Union[Stepped, Evaluated]], None]
