"""Checkpoints of a run, in PaddleSeg's layout:

    save_dir/iter_N/          model.pdparams  model.pdopt  state.json  (ema_model.pdparams)
    save_dir/best_model/      the same, of the best step
    save_dir/ema_best_model/  ema_model.pdparams

`state.json` is what PaddleSeg leaves out: where the run was, its best scores, and the size and checksum of each file
that belongs to the checkpoint. A folder is written under another name, synced to the disk, and renamed when it is
complete; a crash at any moment leaves each checkpoint whole, or recognisably damaged.
"""

import contextlib
import json
import os
import re
import shutil
import time
import zlib
from dataclasses import asdict, dataclass, field
from typing import Dict, Iterable, Iterator, List, Optional

import paddle
from paddleseg.utils import logger

from paddleseg_encnet.weights.checkpoint import CheckpointError

# The folder for the best weights of each tracked network, by the name of its file.
BEST_FOLDERS = {"model": "best_model", "ema_model": "ema_best_model"}
STATE = "state.json"


class SaveError(OSError):
    """A checkpoint can't be written, or must not be; says which is the last whole one."""


@dataclass(frozen=True)
class BestCheckpoint:
    """The best validation score so far and the step that reached it."""
    mean_iou: float = -1.0
    step: int = -1

    def updated(self, mean_iou: float, step: int) -> "BestCheckpoint":
        return BestCheckpoint(mean_iou, step) if mean_iou > self.mean_iou else self

    def __str__(self) -> str:
        return f"{self.mean_iou:.4f} at iter {self.step}" if self.step >= 0 else "none yet"


@dataclass
class State:
    """Where a run is. With weights and optimiser it is all that the rest of the run depends on."""
    step: int = 0
    epoch: int = 0
    samples: int = 0                    # taken of this epoch, by all ranks together
    seed: int = 0                       # of every random number (data/order.py)
    best: Dict[str, BestCheckpoint] = field(default_factory=dict)
    evaluations_since_best: int = 0
    evaluated: bool = True              # False: this step's evaluation was due, but not yet done
    scaler: dict = field(default_factory=dict)      # of mixed precision

    def scored(self, name: str, mean_iou: float) -> None:
        """Takes the score of a tracked network at this step."""
        self.best[name] = self.best.get(name, BestCheckpoint()).updated(mean_iou, self.step)
        if name == "model":
            is_best = self.best[name].step == self.step
            self.evaluations_since_best = 0 if is_best else self.evaluations_since_best + 1


class Saver:
    """Writes the checkpoints of a run and removes all but the newest `keep_max` (0 or less keeps all).

    Args:
        save_dir: folder of the run.
        resumed: checkpoint that the run goes on from; None if it begins.
        writes: whether this process writes; of several ranks the first one does.

    `last` is the newest whole checkpoint, None if there is none.
    """

    def __init__(self, save_dir: str, keep_max: int = 5, resumed: Optional[str] = None, writes: bool = True):
        self.save_dir = save_dir
        self.keep_max = keep_max
        self.last = resumed
        self.writes = writes
        self.written: List[str] = []
        if not writes:
            return
        tidy(save_dir)
        earlier = [os.path.join(save_dir, name) for name in iteration_folders(save_dir)]
        if resumed is not None and os.path.dirname(os.path.abspath(resumed)) == os.path.abspath(save_dir):
            self.written = earlier
        elif earlier:
            logger.warning(f"{save_dir} holds checkpoints of an earlier run, the last one {earlier[-1]}; this run "
                           "begins anew and replaces those of the same names")

    def save(self, state: State, networks: Dict[str, paddle.nn.Layer], optimizer: paddle.optimizer.Optimizer) -> str:
        """Writes `iter_<step>`, removes the oldest checkpoints beyond keep_max, and returns the new one's path.

        Raises:
            SaveError: the disk is full or fails, or a weight is not finite. The earlier checkpoints stay as they are.
        """
        folder = os.path.join(self.save_dir, f"iter_{state.step}")
        if self.writes:
            files = {f"{name}.pdparams": network.state_dict() for name, network in networks.items()}
            broken = not_finite(files["model.pdparams"])
            if broken:
                raise SaveError(f"after step {state.step} {len(broken)} weights are not finite, the first one "
                                f"{broken[0]}; they are not saved. {self.advice()}")
            with self.whole_or_nothing(folder) as new:
                for name, tensors in {**files, "model.pdopt": optimizer_state(optimizer)}.items():
                    paddle.save(tensors, os.path.join(new, name))
                write_state(new, state, [*files, "model.pdopt"])
            if folder in self.written:
                self.written.remove(folder)
            self.written.append(folder)
            while len(self.written) > self.keep_max > 0:
                remove(self.written.pop(0))
        self.last = folder
        return folder

    def evaluated(self, folder: str, state: State) -> None:
        """Notes in the checkpoint that its evaluation is done, after a copy to the best folder of each network whose
        best step this is. In this order a crash in between makes a resumed run evaluate again, and nothing is missing.
        """
        if not self.writes:
            return
        listed = sorted(read_content(folder)["files"])
        for name, best in state.best.items():
            if best.step != state.step:
                continue
            files = listed
            if name != "model":
                files = [file for file in files if file == f"{name}.pdparams"]
            with self.whole_or_nothing(os.path.join(self.save_dir, BEST_FOLDERS[name])) as new:
                for file in files:
                    shutil.copyfile(os.path.join(folder, file), os.path.join(new, file))
                write_state(new, state, files)
        with self.explained(folder):
            write_state(folder, state, listed)

    def advice(self) -> str:
        """How to go on after an error."""
        return f"Go on with --resume_model {self.last}" if self.last else "No checkpoint was written yet"

    @contextlib.contextmanager
    def explained(self, folder: str) -> Iterator[None]:
        """Turns the system's error while writing into one that says what is left."""
        try:
            yield
        except OSError as error:
            raise SaveError(f"cannot write the checkpoint {folder}: {error.strerror or error}. Make room. "
                            f"{self.advice()}") from error

    @contextlib.contextmanager
    def whole_or_nothing(self, folder: str) -> Iterator[str]:
        """A new folder to write into, that takes the place of `folder` when it is complete and on the disk."""
        new = f"{folder}.new"
        with self.explained(folder):
            try:
                shutil.rmtree(new, ignore_errors=True)
                os.makedirs(new)
                yield new
                for name in os.listdir(new):
                    sync(os.path.join(new, name))
                sync(new)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
            replace(folder, new)


def optimizer_state(optimizer: paddle.optimizer.Optimizer) -> dict:
    """The optimiser's values, those included that were loaded and that it will ask for in its first step: Paddle 2.6
    leaves them out of state_dict()."""
    return {**optimizer._accumulators_holder, **optimizer.state_dict()}


def write_state(folder: str, state: State, files: Iterable[str]) -> None:
    """Writes state.json with the sizes and checksums of the files that belong to the checkpoint, in place of an older
    one. OSError: one of them is not there."""
    content = {**asdict(state), "time": time.time(),
               "files": {name: fingerprint(os.path.join(folder, name)) for name in files}}
    content["crc32"] = crc32_of(content)
    path = os.path.join(folder, STATE)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    sync(f"{path}.new")
    os.replace(f"{path}.new", path)
    sync(folder)


def read_state(folder: str) -> State:
    """The state of a checkpoint of ours, all of whose files are there and as they were written.

    Raises:
        CheckpointError: it is damaged; says which file, and what was seen.
    """
    content = read_content(folder)
    for name, written in content["files"].items():
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise CheckpointError(f"{folder} is damaged: its {name} is gone")
        seen = fingerprint(path)
        if seen["bytes"] != written["bytes"]:
            raise CheckpointError(f"{folder} is damaged: its {name} has {seen['bytes']:,} bytes, {written['bytes']:,} "
                                  "were written")
        if seen != written:
            raise CheckpointError(f"{folder} is damaged: its {name} is not what was written (checksum)")
    values = {name: value for name, value in content.items() if name in State.__dataclass_fields__}
    values["best"] = {name: BestCheckpoint(**best) for name, best in values["best"].items()}
    return State(**values)


def read_content(folder: str) -> dict:
    """state.json as it was written, without a look at the other files; CheckpointError if it is damaged."""
    path = os.path.join(folder, STATE)
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        if content.pop("crc32") == crc32_of(content):
            return content
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder} is damaged: its {STATE} can't be read ({type(error).__name__})") from error
    raise CheckpointError(f"{folder} is damaged: its {STATE} is not what was written (checksum)")


def fingerprint(path: str) -> dict:
    """Size and CRC-32 of a file. Against damage, not against forgery: reading executes nothing in any case."""
    size = crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            size += len(chunk)
            crc = zlib.crc32(chunk, crc)
    return {"bytes": size, "crc32": crc}


def crc32_of(content: dict) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def not_finite(tensors: Dict[str, paddle.Tensor]) -> List[str]:
    """Names of tensors that hold an infinity or no number."""
    return [name for name, tensor in tensors.items()
            if paddle.is_floating_point(tensor) and not bool(paddle.isfinite(tensor).all())]


def iteration_folders(save_dir: str) -> List[str]:
    """Names `iter_N` in a folder, by N."""
    names = os.listdir(save_dir) if os.path.isdir(save_dir) else []
    return sorted((name for name in names if re.fullmatch(r"iter_\d+", name)), key=lambda name: int(name[5:]))


def replace(folder: str, new: str) -> None:
    """Renames a complete folder to its place; a checkpoint that stands there is out of the way for that moment."""
    old = f"{folder}.old"
    if os.path.exists(folder):
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
    os.rename(new, folder)
    sync(os.path.dirname(os.path.abspath(folder)))
    shutil.rmtree(old, ignore_errors=True)


def remove(folder: str) -> None:
    """Removes a checkpoint; none of the moments in between looks like a checkpoint."""
    removed = f"{folder}.removed"
    shutil.rmtree(removed, ignore_errors=True)
    os.rename(folder, removed)
    shutil.rmtree(removed, ignore_errors=True)


def tidy(save_dir: str) -> None:
    """Clears up what a crash in replace() or remove() has left."""
    for name in os.listdir(save_dir) if os.path.isdir(save_dir) else []:
        leftover = re.fullmatch(r"(iter_\d+|best_model|ema_best_model)\.(new|old|removed)", name)
        if leftover is None:
            continue
        path = os.path.join(save_dir, name)
        place = os.path.join(save_dir, leftover[1])
        if leftover[2] == "old" and not os.path.exists(place):
            os.rename(path, place)
        else:
            shutil.rmtree(path, ignore_errors=True)


def sync(path: str) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    if os.path.isdir(path) and not hasattr(os, "O_DIRECTORY"):      # Windows can't open a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
