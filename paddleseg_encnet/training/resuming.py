"""Which checkpoint a run goes on from, and filling model and optimiser from it.

Takes the checkpoints of saving.py and those that PaddleSeg writes, which have no state.json: of these the step is the
number in the folder's name, and the best score and the random numbers begin anew.
"""

import os
import re
import warnings
from typing import List, NamedTuple, Optional

import numpy as np
import paddle
from paddleseg.utils import logger

from paddleseg_encnet.training import schedules
from paddleseg_encnet.training.saving import BEST_FOLDERS, STATE, State, read_content, read_state
from paddleseg_encnet.weights import checkpoint
from paddleseg_encnet.weights.checkpoint import PADDLE_NAMES, CheckpointError

WEIGHTS, OPTIMIZER = "model.pdparams", "model.pdopt"


class Found(NamedTuple):
    """A whole checkpoint, read."""
    folder: str
    state: Optional[State]      # None: PaddleSeg wrote it
    step: int
    weights: dict
    optimizer: dict


def find(where: str, save_dir: str) -> Optional[Found]:
    """The newest whole checkpoint; a damaged one is named and passed over.

    Args:
        where: folder of a run, or one checkpoint in it (`iter_N`, `best_model`), or "auto": what `save_dir` holds, and
            None if it holds no checkpoint.

    Raises:
        CheckpointError: there is no such folder, no checkpoint in it, or none that is whole.
    """
    if where == "auto":
        where = save_dir
        folders = newest_first(where)
        if not folders:
            logger.info(f"--resume_model auto: no checkpoint in {save_dir}, the run begins at step 1")
            return None
    elif not os.path.isdir(where):
        raise CheckpointError(f"cannot resume from {where}: there is no such folder; give the folder of an earlier run "
                              "or an iter_N in it")
    else:
        where = os.path.normpath(where)
        if is_checkpoint(where):
            try:
                return read_checkpoint(where)
            except CheckpointError as error:
                run = os.path.dirname(os.path.abspath(where))
                raise CheckpointError(f"{error}. --resume_model {run} takes the newest whole one there") from error
        folders = newest_first(where)
        if not folders:
            raise CheckpointError(f"cannot resume from {where}: there is no checkpoint in it; give the folder of an "
                                  "earlier run or an iter_N in it")
    damage = []
    for folder in folders:
        try:
            return read_checkpoint(folder)
        except CheckpointError as error:
            damage.append(str(error))
            if folder != folders[-1]:
                logger.warning(f"passed over: {error}")
    raise CheckpointError(f"no checkpoint in {where} is whole: {'; '.join(damage)}. Give another folder, or begin anew "
                          "without --resume_model")


def is_checkpoint(folder: str) -> bool:
    names = os.listdir(folder)
    return STATE in names or WEIGHTS in names or OPTIMIZER in names


def newest_first(run: str) -> List[str]:
    """The checkpoints of a run that can be resumed from, by the time of their writing."""
    found = []
    for name in os.listdir(run) if os.path.isdir(run) else []:
        match = re.fullmatch(r"(iter_\d+|best_model)(\.old)?", name)
        # Under the name .old is what a crash has kept from its place.
        if match is None or match[2] and os.path.exists(os.path.join(run, match[1])):
            continue
        folder = os.path.join(run, name)
        is_best = match[1] == BEST_FOLDERS["model"]
        if is_best and not os.path.exists(os.path.join(folder, STATE)):
            continue            # PaddleSeg's: weights only
        found.append((time_of(folder), not is_best, folder))
    return [folder for *_, folder in sorted(found, reverse=True)]


def time_of(folder: str) -> float:
    """When a checkpoint was written. The best one counts as old as the iter_N that it is a copy of: if a crash came
    before the evaluation was noted there, that one is evaluated again, and what the crash has left out is made up for.
    """
    try:
        content = read_content(folder)
    except CheckpointError:     # damaged, or PaddleSeg's
        return os.path.getmtime(folder)
    original = os.path.join(os.path.dirname(folder), f"iter_{content['step']}")
    if os.path.isdir(original) and not os.path.basename(folder).startswith("iter_"):
        return min(content["time"], time_of(original))
    return content["time"]


def read_checkpoint(folder: str) -> Found:
    """Reads a checkpoint; CheckpointError if it is damaged or no checkpoint to resume from."""
    state = read_state(folder) if os.path.exists(os.path.join(folder, STATE)) else None
    for name in (WEIGHTS, OPTIMIZER):
        if not os.path.isfile(os.path.join(folder, name)):
            raise CheckpointError(f"cannot resume from {folder}: there is no {name} in it")
        if state and name not in read_content(folder)["files"]:
            raise CheckpointError(f"cannot resume from {folder}: its {STATE} does not list {name}, so that it is of "
                                  "another checkpoint")
    step = state.step if state else step_in_name(folder)
    return Found(folder, state, step, checkpoint.read_weights(os.path.join(folder, WEIGHTS), keep_names=True),
                 checkpoint.read_weights(os.path.join(folder, OPTIMIZER), keep_names=True))


def step_in_name(folder: str) -> int:
    number = re.search(r"_(\d+)$", os.path.basename(folder))
    if number is None:
        raise CheckpointError(f"cannot tell the step of {folder}: its name does not end in _N, and it holds no {STATE}")
    return int(number[1])


def fill(found: Found, model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> None:
    """Gives model and optimiser what the checkpoint holds.

    Raises:
        CheckpointError: it is of another model or optimiser.
    """
    try:
        checkpoint.fill_layer(model, {name: value for name, value in found.weights.items() if name != PADDLE_NAMES})
    except CheckpointError as error:
        raise CheckpointError(f"cannot resume from {found.folder}: {error}") from error
    values = for_this_process(found, model)
    schedule = optimizer._learning_rate
    if isinstance(schedule, paddle.optimizer.lr.LRScheduler) and "LR_Scheduler" not in values:
        raise CheckpointError(f"cannot resume from {found.folder}: its {OPTIMIZER} holds no learning rate")
    with warnings.catch_warnings():         # said of every warm-up, whose own schedule stands in it
        warnings.filterwarnings("ignore", message="There are some unused values in state_dict")
        optimizer.set_state_dict(values)
    schedules.resumed(optimizer)


def for_this_process(found: Found, model: paddle.nn.Layer) -> dict:
    """The optimiser's values under the names that they have here.

    An optimiser keeps its values by the names that Paddle counts up in each process ("conv2d_0.w_0_velocity_0"). The
    weights' file tells which parameter was called so when it was saved.
    """
    saved_names = found.weights.get(PADDLE_NAMES, {})
    parameters = {str(saved_names.get(name, tensor.name)): tensor for name, tensor
                  in model.state_dict(use_hook=False).items()}
    values = {}
    for key, value in found.optimizer.items():
        if key == "LR_Scheduler":
            values[key] = value
        elif key == "master_weights":       # float32 copies of half-precision weights, by parameter
            values[key] = {parameters[name].name: named_tensor(array, f"{parameters[name].name}_fp32_master_0")
                           for name, array in value.items() if name in parameters}
        elif isinstance(value, np.ndarray):
            owner = owner_of(key, parameters)
            if owner is None or value.size > 1 and list(value.shape) != list(parameters[owner].shape):
                raise CheckpointError(f"cannot resume from {found.folder}: {key} in its {OPTIMIZER} fits no parameter "
                                      "of this network; resume with the config that the run was started with")
            name = parameters[owner].name + key[len(owner):]
            values[name] = named_tensor(value, name)
    return values


def owner_of(key: str, parameters: dict) -> Optional[str]:
    """The parameter whose name `key` begins with."""
    end = len(key)
    while (end := key.rfind("_", 0, end)) > 0:
        if key[:end] in parameters:
            return key[:end]
    return None


def named_tensor(array: np.ndarray, name: str) -> paddle.Tensor:
    tensor = paddle.to_tensor(array)
    tensor.name = name
    return tensor
