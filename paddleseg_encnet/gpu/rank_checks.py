"""Two ranks: what they have in common after a training, their pace, and what is said when one is lost. With fewer than
two GPUs they run on the CPU, over gloo."""

import glob
import os
import tempfile
import time
from typing import List

import numpy as np

from paddleseg_encnet.gpu.checking import Found, Place, child, number_after, within
from paddleseg_encnet.gpu.training_checks import config_of

SLOWEST_END = 120        # seconds from the start of a launch whose second rank is killed in its second step

RANK = """
import os, signal, sys
import paddleseg_encnet, paddle, numpy as np
from paddleseg_encnet.config import building
from paddleseg_encnet.runtime.devices import Ranks, select_device
from paddleseg_encnet.training.training_loop import Parts, Schedule, train_network

folder, config, device, iters, victim = sys.argv[1:]
iters, device, ranks = int(iters), select_device(device), Ranks.join()
builder = building.read_config(config, pretrained=False)
model = ranks.synchronise(builder.model, device)
builder.train_dataset.file_list *= 20       # one epoch, in which workers start but once

def kill(event):
    if ranks.rank == int(victim) and event.step == 2:
        os.kill(os.getpid(), signal.SIGKILL)

train_network(Parts(model, builder.optimizer, builder.loss, builder.train_dataset),
              Schedule(iters, iters, iters // 2, batch_size=builder.config.batch_size), folder + "/ranks",
              num_workers=0 if device == "cpu" else 4, callback=kill)
np.savez(f"{folder}/rank{ranks.rank}.npz", **{name: value.numpy() for name, value in model.state_dict().items()})
"""


def own(place: Place) -> Place:
    """Where two ranks can run."""
    return place if place.gpus > 1 else Place("cpu", 0, place.folder)


def launch(place: Place, config: str, iters: int, victim: int = -1, ranks: int = 2) -> "tuple[int, str]":
    """Exit code of a launch, and what its ranks have printed."""
    flags: List[str] = ["--gpus", ",".join(map(str, range(ranks)))] if place.gpus > 1 else \
        ["--nproc_per_node", str(ranks), "--backend", "gloo"]
    folder = tempfile.mkdtemp(prefix="log_", dir=place.folder)      # of this launch alone
    done = child(RANK, place.folder, config, place.device, iters, victim, launcher=[*flags, "--log_dir", folder])
    logs = []
    for path in sorted(glob.glob(os.path.join(folder, "workerlog.*"))):
        with open(path, encoding="utf-8", errors="replace") as file:
            logs.append(file.read())
    return done.returncode, "\n".join(logs)


def in_common(place: Place) -> Found:
    """Parameters after some steps and, on GPUs, BatchNorm's running values: on both ranks the same."""
    place = own(place)
    code, text = launch(place, config_of(place), 4 if place.small else 20)
    if code != 0:
        return Found(False, f"the launch ended with {code}: {text.strip().splitlines()[-1:]}")
    first, second = (np.load(place.path(f"rank{rank}.npz")) for rank in (0, 1))
    running = [name for name in first.files if name.endswith(("._mean", "._variance"))]
    names = [name for name in first.files if name not in running or not place.small]
    differing = sum(not np.array_equal(first[name], second[name]) for name in names)
    found = within([("tensors that differ", differing, 0)])
    return found._replace(said=f"{place.device}: {found.said}, of {len(names)}" + (
        "; over gloo each rank has running values of its own" if place.small else ""))


def pace(place: Place) -> Found:
    """EncNet-101 at 1024 x 512, 2 images on each rank: seconds a step on two GPUs against one."""
    config = config_of(place, "encnet_cityscapes_1024x512_80k")
    one, two = (number_after("batch_cost", launch(place, config, 40, ranks=ranks)[1]) for ranks in (1, 2))
    found = within([("seconds a step, two to one", two / one, 1.25)])
    return found._replace(said=f"{found.said} ({two:.2f} s and {one:.2f} s)")


def killed(place: Place) -> Found:
    """The second rank is killed: the launch ends, and says which."""
    place, start = own(place), time.monotonic()
    code, text = launch(place, config_of(place), 1000, victim=1)
    seconds = time.monotonic() - start
    named = "error: rank 1 (" in text and "is gone" in text
    return Found(code != 0 and named and seconds < SLOWEST_END, f"{place.device}: the launch ended with {code} after "
                 f"{seconds:.0f} s, and {'named it' if named else 'did not name it'}", {"seconds": seconds})
