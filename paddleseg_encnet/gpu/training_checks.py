"""Trainings on a device: the first steps against the CPU's, mixed precision, killed and resumed, EncNet-101's needs."""

import math
import os
from typing import Any, List

import numpy as np
import paddle
import yaml

from paddleseg_encnet import scenes
from paddleseg_encnet.config.shipped_configs import find_config
from paddleseg_encnet.gpu.checking import Found, Place, child, number_after, within
from paddleseg_encnet.training.events import Stepped
from paddleseg_encnet.training.training_of_config import train
from paddleseg_encnet.weights import checkpoint

STEPS = 4
LAYER = "enc_module.encoding.0."


def config_of(place: Place, name: str = "encnet_quick_start") -> str:
    """A file with the config on scenes that are drawn here, without weights from the net; on a CPU it is a small one.
    """
    large = name != "encnet_quick_start"
    size = (128, 64) if place.small else (1024, 512) if large else (512, 256)
    data = {"dataset_root": place.path(f"scenes_{size[0]}")}
    scenes.generate(data["dataset_root"], train=8, val=2, size=size)
    content: dict = {"_base_": os.path.abspath(find_config(name)), "train_dataset": dict(data),
                     "val_dataset": dict(data)}
    if large:
        content["model"] = {"backbone": {"pretrained": None}}
    elif place.small:
        content.update(batch_size=2, model={"num_codes": 4, "mid_channels": 16})
        content["train_dataset"]["transforms"] = [{"type": "RandomPaddingCrop", "crop_size": [96, 64]},
                                                  {"type": "Normalize"}]
    path = place.path(f"{name}.yml")
    with open(path, "w", encoding="utf-8") as file:
        yaml.safe_dump(content, file)
    return path


def losses_of(place: Place, folder: str, device: str, iters: int = STEPS, **settings: Any) -> List[float]:
    """The loss of each step of the quick start, always from the same seed."""
    found: List[float] = []

    def note(event: Any) -> None:
        if isinstance(event, Stepped):
            found.append(sum(event.losses.values()))
    train(config_of(place), place.path(folder), device=device, seed=1, iters=iters, save_interval=2, log_iters=1,
          no_data_check=True, callback=note, **settings)
    return found


def apart(a: List[float], b: List[float]) -> float:
    """The largest difference of losses, as a share of the second one's."""
    return float(np.max(np.abs(np.array(a) - b) / np.abs(b)))


def first_steps(place: Place) -> Found:
    """The same seed on the device and on the CPU. Later steps drift: sums in another order, and ReLU."""
    own, cpu = (losses_of(place, f"first_{device}", device) for device in (place.device, "cpu"))
    found = within([("first step", apart(own[:1], cpu[:1]), 1e-2), ("all steps", apart(own, cpu), 5e-2)])
    return found._replace(numbers={**found.numbers, "losses": own, "losses on the CPU": cpu})


def unproved(place: Place) -> str:
    """What is to be said of mixed precision where there is none."""
    return "; a CPU casts nothing, so this is float32" if place.small else ""


def half(place: Place) -> Found:
    """--precision fp16: O1, against float32."""
    own, exact = (losses_of(place, f"half_{precision}", place.device, precision=precision)
                  for precision in ("fp16", "fp32"))
    found = within([("O1 against float32", apart(own, exact), 5e-2)])
    return Found(found.holds, found.said + unproved(place), {"O1": own, "float32": exact})


KILLED = """
import os, signal, sys
import paddleseg_encnet
from paddleseg_encnet.gpu.checking import Place
from paddleseg_encnet.gpu.training_checks import OPTIONS, config_of
from paddleseg_encnet.training.training_of_config import train

def kill(event):
    if event.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)

folder, device = sys.argv[1:]
place = Place(device, 0, folder)
train(config_of(place), place.path("killed"), device=device, seed=1, iters=4, save_interval=2, log_iters=1,
      no_data_check=True, callback=kill, **OPTIONS)
"""
OPTIONS: dict = dict(precision="fp16", amp_level="O2", use_ema=True, accum_steps=2,
                     opts=["model.codebook_start=features"])


def killed_and_resumed(place: Place) -> Found:
    """O2 with a moving average, micro-batches and a codebook that is placed: killed in its third step, and resumed from
    the second, against one in one go."""
    whole = losses_of(place, "whole", place.device, **OPTIONS)
    done = child(KILLED, place.folder, place.device)
    if done.returncode == 0 or not os.path.isdir(place.path("killed", "iter_2")):
        return Found(False, f"the run that was to be killed ended with {done.returncode}, see the log")
    resumed = losses_of(place, "killed", place.device, resume_model="auto", **OPTIONS)
    average = checkpoint.read_weights(place.path("killed", "iter_4", "ema_model.pdparams"))
    factors = checkpoint.read_weights(place.path("killed", "iter_4", "model.pdparams"))[LAYER + "scale"]
    wrong = [name for name, value in average.items() if not np.isfinite(value).all()]
    spread = float(factors.max() - factors.min())
    found = within([("steps 3 and 4", apart(resumed, whole[2:]), 2e-2), ("spread of the factors", spread, 0),
                    ("averages that are not finite", len(wrong), 0)])
    return Found(found.holds, found.said + unproved(place), {**found.numbers, "whole": whole, "resumed": resumed})


LARGE = """
import sys
import paddleseg_encnet, paddle
from paddleseg_encnet import train
config, folder, precision = sys.argv[1:]
train(config, folder, device="gpu", seed=1, iters=40, save_interval=40, log_iters=20, num_workers=4, no_data_check=True,
      precision=precision, repeats=20)
print("peak GB:", paddle.device.cuda.max_memory_allocated() / 1e9)
print("reserved GB:", paddle.device.cuda.max_memory_reserved() / 1e9)
"""


def encnet_101(place: Place) -> Found:
    """At 1024 x 512, batch 2, float32 and O1: memory; of steps 21 to 40 seconds, and the share of waiting for data.
    Predicted for a V100: 11 to 13 GB, 0.6 to 1.2 s, in O1 below 0.6 s."""
    config, said, numbers, sound = config_of(place, "encnet_cityscapes_1024x512_80k"), [], {}, True
    for precision in ("fp32", "fp16"):
        text = child(LARGE, config, place.path(f"large_{precision}"), precision).stdout
        peak, reserved, step, waiting, loss = (number_after(word, text) for word in (
            "peak GB", "reserved GB", "batch_cost", "reader_cost", "loss"))
        sound = sound and all(map(math.isfinite, (peak, reserved, step, waiting, loss))) and waiting < 0.1 * step
        said.append(f"{precision}: {peak:.1f} GB ({reserved:.1f} reserved), {step:.2f} s a step, "
                    f"{waiting / step:.0%} waiting for data")
        numbers[precision] = dict(peak_gb=peak, reserved_gb=reserved, seconds=step, waiting=waiting, loss=loss)
    return Found(sound, "; ".join(said), numbers)


def paddles_own(place: Place) -> Found:
    """paddle.utils.run_check()."""
    paddle.utils.run_check()
    views = paddle.get_flags("FLAGS_use_stride_kernel")["FLAGS_use_stride_kernel"]
    return Found(True, f"it ends; FLAGS_use_stride_kernel is {views}", {"FLAGS_use_stride_kernel": bool(views)})
