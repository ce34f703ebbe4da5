"""Checkpoints of a run, in PaddleSeg's layout:

    save_dir/iter_N/        model.pdparams  model.pdopt  state.json  (ema_model.pdparams)
    save_dir/best_model/    model.pdparams  state.json
    save_dir/ema_best_model/  ema_model.pdparams  state.json

`state.json` is what PaddleSeg leaves out: the step and the best scores so far, which a resumed run goes on from.
A folder is written under another name and renamed when it is complete, so that no half checkpoint is taken for a whole.
"""

import json
import os
import re
import shutil
from typing import Dict, NamedTuple, Tuple

import paddle

from paddleseg_encnet import checkpoint

# The folder for the best weights of each tracked network, by the name of its file.
BEST_FOLDERS = {"model": "best_model", "ema_model": "ema_best_model"}


class Best(NamedTuple):
    """The best validation score so far and the step that reached it."""
    mean_iou: float = -1.0
    step: int = -1

    def updated(self, mean_iou: float, step: int) -> "Best":
        return Best(mean_iou, step) if mean_iou > self.mean_iou else self

    def __str__(self):
        return f"{self.mean_iou:.4f} at iter {self.step}" if self.step >= 0 else "none yet"


class Saver:
    """Writes the checkpoints of a run and removes all but the newest `keep_max` (0 or less keeps all)."""

    def __init__(self, save_dir: str, keep_max: int = 5):
        self.save_dir, self.keep_max = save_dir, keep_max
        self.written = []

    def save(self, step: int, networks: Dict[str, paddle.nn.Layer], optimizer, best: Dict[str, Best]):
        """Writes `iter_<step>`, and the best folder of each network whose best step this is."""
        state = {"step": step, "best": {name: list(value) for name, value in best.items()}}
        files = {f"{name}.pdparams": network.state_dict() for name, network in networks.items()}
        folder = os.path.join(self.save_dir, f"iter_{step}")
        write(folder, {**files, "model.pdopt": optimizer.state_dict()}, state)
        self.written.append(folder)
        for name in networks:
            if best[name].step == step:
                write(os.path.join(self.save_dir, BEST_FOLDERS[name]),
                      {f"{name}.pdparams": files[f"{name}.pdparams"]}, state)
        while len(self.written) > self.keep_max > 0:
            shutil.rmtree(self.written.pop(0))


def write(folder: str, files: dict, state: dict):
    """Writes a checkpoint folder whole or not at all, in place of one of the same name."""
    new, old = f"{folder}.new", f"{folder}.old"
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    os.makedirs(new)
    for name, tensors in files.items():
        paddle.save(tensors, os.path.join(new, name))
    with open(os.path.join(new, "state.json"), "w") as file:
        json.dump(state, file)
    if os.path.exists(folder):
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def resume(folder: str, model: paddle.nn.Layer, optimizer) -> Tuple[int, Dict[str, Best]]:
    """Fills model and optimiser from `iter_N`; returns the step and the best scores it was saved with.

    Takes what PaddleSeg writes too: without `state.json` the step is the folder's number and no score is known.

    Raises:
        CheckpointError: the folder or a file of it is missing, damaged, or of another model.
    """
    folder = os.path.normpath(folder)
    for name in ("model.pdparams", "model.pdopt"):
        if not os.path.isfile(os.path.join(folder, name)):
            raise checkpoint.CheckpointError(f"cannot resume from {folder}: there is no {name} in it; give a folder "
                                             "iter_N of an earlier run")
    state_file = os.path.join(folder, "state.json")
    if os.path.exists(state_file):
        with open(state_file) as file:
            state = json.load(file)
        step, best = state["step"], {name: Best(*value) for name, value in state["best"].items()}
    else:
        number = re.search(r"_(\d+)$", folder)
        if number is None:
            raise checkpoint.CheckpointError(f"cannot tell the step of {folder}: its name does not end in _N, and it "
                                             "holds no state.json")
        step, best = int(number.group(1)), {}
    checkpoint.load(model, os.path.join(folder, "model.pdparams"))
    optimizer.set_state_dict(checkpoint.read(os.path.join(folder, "model.pdopt")))
    return step, best
