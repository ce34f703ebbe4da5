"""What stands around a network's tensors in a file: dicts, prefixes of names, averaged copies, an image's mean.

Trainers wrap networks in others, and each wrapper puts its word before all names: `model.module.backbone.conv1.weight`.
Which words there are nobody knows; they are taken off until a network is found.
"""

import collections
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from paddleseg_encnet.weights.arrays import CheckpointError

State = Dict[str, np.ndarray]
Fits = Callable[[State], bool]      # whether a network that is known has these names

WRAPPERS = ("state_dict", "model", "model_state_dict", "network", "net", "module", "weights")
AVERAGED = re.compile(r"ema(_|$)|\w*_ema(_|$)")     # a dict's key, or the first word of a name
# mmengine's mean and standard deviation of images; class weights of a loss, counts of a metric.
BESIDE = re.compile(r"(data_preprocessor|criterion|loss\w*|\w*metrics?)\.")
COUNTERS = ("steps", "n_averaged", "num_updates")   # of those that average
# Both exchange the two when they save, so that who loads the file gets the averaged ones.
EXCHANGING = ("mmengine_version", "mmcv_version")


class Held(NamedTuple):
    """tensors: by the names that a network gives them. averaged: of the same kind, empty if there are none. notes: what
    was left out, in words."""
    tensors: State
    averaged: State
    notes: Tuple[str, ...]


def unwrap(checkpoint: Any, fits: Fits) -> Held:
    """The arrays of a file by name, without what is around them. What belongs to no network stays, under its own name.

    Raises:
        CheckpointError: there are no arrays in it, or averages alone.
    """
    held = _unwrap(checkpoint, fits)
    if not held.tensors:
        raise CheckpointError("there are averaged weights alone: --ema takes them")
    return held


def _unwrap(checkpoint: Any, fits: Fits) -> Held:
    outer = checkpoint if isinstance(checkpoint, dict) else {}
    # Averaged weights beside, or in, the dict that holds the others.
    dicts = [value for key, value in outer.items() if is_averaged(key) and isinstance(value, dict)]
    averaged = next(filter(None, map(_arrays, dicts)), {})
    state = _arrays({key: value for key, value in outer.items() if not is_averaged(key) or not isinstance(value, dict)})
    if not state and not averaged:
        raise CheckpointError("there are no tensors in this file")
    found = _peeled(state, fits)
    if averaged:
        found = found._replace(averaged=averaged)
    notes = []
    if found.averaged:
        count = len(found.averaged)
        notes.append(f"{count} tensors under ema are left out: " + (
            "mmengine and mmcv save the averaged ones under the usual names, which are taken" if exchanged(outer) else
            "averaged weights, which --ema takes"))
    if found.beside:
        notes.append(f"left out, as no part of the network: {', '.join(found.beside)}")
    return Held(found.tensors, _peeled(found.averaged, fits).tensors if found.averaged else {}, tuple(notes))


def take_averaged(checkpoint: Dict[str, Any], fits: Fits) -> Tuple[Dict[str, Any], str]:
    """The same file with the averaged weights in the place of the others, and what was done, in words. What was not
    averaged, often the batch norms' statistics, stays as it is.

    Raises:
        CheckpointError: there are none.
    """
    held = _unwrap(checkpoint, fits)
    if not held.averaged:
        raise CheckpointError("there are no averaged weights in this file: nothing is called ema")
    if held.tensors and exchanged(checkpoint):
        return checkpoint, "mmengine and mmcv save the averaged weights under the usual names: those are taken"
    tensors = {**held.tensors, **held.averaged}
    rest = {key: value for key, value in checkpoint.items() if key == "meta"}
    kept = sum(name not in held.averaged and not name.endswith(".num_batches_tracked") for name in tensors)
    note = f"{len(held.averaged)} averaged tensors are taken" + (
        f"; {kept}, which the file has no averages of, are those of the training" if kept else "")
    return {**rest, "state_dict": tensors}, note


def is_averaged(name: Any) -> bool:
    return isinstance(name, str) and bool(AVERAGED.match(name.split(".")[0]))


def exchanged(checkpoint: Dict[str, Any]) -> bool:
    meta = checkpoint.get("meta")
    return isinstance(meta, dict) and any(key in meta for key in EXCHANGING)


def _arrays(wrapped: Dict[Any, Any]) -> State:
    """The arrays of a dict, or of one that it holds."""
    state = wrapped
    for _ in WRAPPERS:      # one in another, each once: a file can be made to hold itself
        state = next((state[key] for key in WRAPPERS if isinstance(state.get(key), dict)), state)
    return {name: value for name, value in state.items() if isinstance(name, str) and isinstance(value, np.ndarray)}


class _Peeled(NamedTuple):
    tensors: State
    averaged: State
    beside: List[str]


def _peeled(state: State, fits: Fits) -> _Peeled:
    """Takes the first words off the names until they fit. Where they never do, nothing is taken off."""
    others: State = {}          # not under the word that most names begin with
    averaged: State = {}
    beside: List[str] = []
    inner: Optional[State] = state
    path = ""
    while inner is not None:
        inner, here = _without_averaged(inner)
        averaged.update(here)
        beside += [path + name for name in inner if BESIDE.match(name)]
        inner = {name: value for name, value in inner.items() if not BESIDE.match(name) and name not in COUNTERS}
        if fits(inner):
            return _Peeled({**others, **inner}, averaged, beside)
        word = _commonest_word(inner)
        others.update({path + name: value for name, value in inner.items() if not name.startswith(f"{word}.")})
        path += f"{word}."
        averaged = {name[len(word) + 1:] if name.startswith(f"{word}.") else name: value
                    for name, value in averaged.items()}
        inner = {name[len(word) + 1:]: value for name, value in inner.items() if name.startswith(f"{word}.")} \
            if word else None
    return _Peeled(state, {}, [])


def _commonest_word(state: State) -> str:
    words = collections.Counter(name.split(".")[0] for name in state if "." in name)
    return words.most_common(1)[0][0] if words else ""


def _without_averaged(state: State) -> Tuple[State, State]:
    """What is no average, and the averages by the names of what they are averages of: mmcv's are called
    ema_backbone_conv1_weight, others' ema_backbone.conv1.weight or model_ema.backbone.conv1.weight."""
    plain = {name: value for name, value in state.items() if not is_averaged(name)}
    flat = {f"ema_{name.replace('.', '_')}": name for name in plain}
    averaged = {}
    for name, value in state.items():
        if name in plain:
            continue
        if name in flat:
            averaged[flat[name]] = value
        elif name.startswith("ema_") and name[len("ema_"):] in plain:
            averaged[name[len("ema_"):]] = value
        else:
            averaged[name.split(".", 1)[-1]] = value
    return plain, averaged
