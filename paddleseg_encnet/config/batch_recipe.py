"""The batch that a run really uses, its learning rate and the length of its schedule, beside those of the recipe.

A config's `batch_size` is that of one device, so that the batch of a step grows with the number of devices, and with
that of the micro-batches that a device adds up (--accum_steps).
`base_batch_size` beside it is the batch over all devices that its learning rate was chosen for. The linear rule
multiplies the rate by the same factor as the batch: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in
1 Hour", https://arxiv.org/abs/1706.02677.
"""

from typing import Optional

# Keys of PaddleSeg's `lr_scheduler` that are learning rates.
RATES = ("learning_rate", "warmup_start_lr", "end_lr", "eta_min", "max_learning_rate", "values")


def settle_batch(config: dict, devices: int, scale_lr: bool = False, accum_steps: int = 1) -> str:
    """Applies the linear rule to `config["lr_scheduler"]` if asked, and returns the line that tells batch and rate.

    Raises:
        ValueError: `base_batch_size` is no positive whole number, or is missing and `scale_lr` needs it.
    """
    per_device, iters, schedule = config["batch_size"], config["iters"], config["lr_scheduler"]
    batch, base = per_device * accum_steps * devices, base_batch_size(config)
    rate = float(schedule["learning_rate"]) if "learning_rate" in schedule else None
    used = batch_line(per_device, accum_steps, devices)
    if base is None:
        if scale_lr:
            raise ValueError("--scale_lr needs base_batch_size in the config: the batch, over all devices, that its "
                             "learning rate was chosen for")
        return f"{used}; learning rate {rate}; the config names no base_batch_size to compare with"
    if batch == base:
        return f"{used}, as in the recipe; learning rate {rate}"

    factor = batch / base
    same_images = f"--iters {round(iters / factor)} sees as many images as the recipe"
    if scale_lr:
        scale(schedule, factor)
        return (f"{used}; the recipe has {base} and learning rate {rate}. By the linear rule it is "
                f"{schedule.get('learning_rate')} here (--scale_lr). {same_images}")
    line = (f"{used}; the recipe has {base}, which its learning rate {rate} was chosen for. --scale_lr multiplies it "
            f"by {factor:g}, the linear rule. {same_images}")
    if accum_steps == 1 and base % batch == 0:
        line += f". --accum_steps {base // batch} has the recipe's batch here"
    return line


def batch_line(per_device: int, accum_steps: int, devices: int) -> str:
    """The batch of a step, and what it is made of."""
    line = f"Batch: {per_device}"
    if accum_steps > 1:
        line += f" in each of {accum_steps} micro-batches"
    if devices > 1:
        line += f" on each of {devices} devices"
    batch = per_device * accum_steps * devices
    return line if batch == per_device else f"{line}, {batch} in all"


def base_batch_size(config: dict) -> Optional[int]:
    base = config.get("base_batch_size")
    if base is not None and not (isinstance(base, int) and base > 0):
        raise ValueError(f"base_batch_size in the config must be a positive whole number, is {base!r}")
    return base


def scale(schedule: dict, factor: float) -> None:
    """Multiplies every learning rate of a PaddleSeg `lr_scheduler`."""
    for key in RATES:
        if isinstance(schedule.get(key), (list, tuple)):
            schedule[key] = [float(rate) * factor for rate in schedule[key]]
        elif key in schedule:
            schedule[key] = float(schedule[key]) * factor


def follow_iters(config: dict) -> None:
    """Ends a cosine with the training, whatever has set the config's `iters`."""
    if "T_max" in config["lr_scheduler"]:
        config["lr_scheduler"]["T_max"] = config["iters"]
