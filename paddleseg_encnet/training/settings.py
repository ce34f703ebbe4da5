"""What can be set of a training, in groups. tools/train.py explains each; it has a flag of each name."""

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple


@dataclass(frozen=True)
class Optimising:
    """How long, with what batches and learning rate. None is what the config says."""
    iters: Optional[int] = None             # steps
    batch_size: Optional[int] = None        # samples at a time on each device
    accum_steps: int = 1                    # micro-batches of `batch_size` in a step
    learning_rate: Optional[float] = None
    scale_lr: bool = False                  # learning rate x batch over all devices / base_batch_size
    repeats: int = 1                        # times that an epoch goes through the data
    early_stop_intervals: Optional[int] = None      # evaluations without a better mIoU before stopping
    use_ema: bool = False                   # also evaluate and save a moving average of the weights
    allow_partial: bool = False             # take what fits of the config's `pretrained`


@dataclass(frozen=True)
class Saving:
    """What is written, and how often, in steps."""
    save_interval: int = 1000               # between two checkpoints, each with its evaluation
    log_iters: int = 10                     # between two log lines
    keep_checkpoint_max: int = 5            # newest checkpoints to keep; 0 keeps all
    use_vdl: bool = False                   # write a VisualDL log


@dataclass(frozen=True)
class Machine:
    """On what, and how it reads and computes there."""
    device: Optional[str] = None            # "cpu", "gpu", ...; the GPU if there is one when it is None
    num_workers: int = 0                    # processes that read data; 0 reads in this one
    cache: Optional[str] = None             # folder to keep decoded images and labels in, or "ram"
    precision: str = "fp32"                 # or "fp16", mixed precision
    amp_level: str = "O1"                   # of mixed precision, or "O2"
    data_format: str = "NCHW"               # or "NHWC", which PaddleSeg has for one model
    to_static_training: bool = False
    profiler_options: Optional[str] = None  # of paddleseg/utils/train_profiler.py


def with_named(groups: Sequence[Any], named: Dict[str, Any]) -> Tuple[Any, ...]:
    """The groups, with what is given by the name of a field in place of what they have there.

    Raises:
        TypeError: no group has a field of that name.
    """
    fields = [{field.name for field in dataclasses.fields(group)} for group in groups]
    known = set().union(*fields)
    for name in named:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(f"train() got an unexpected keyword argument '{name}'"
                            + (f"; did you mean {near[0]}?" if near else ""))
    return tuple(dataclasses.replace(group, **{name: named[name] for name in own & named.keys()})
                 for group, own in zip(groups, fields))
