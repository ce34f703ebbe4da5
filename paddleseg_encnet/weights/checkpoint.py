"""Weights in and out: read a file without running anything in it, and fill a network with all of it.

``paddle.load`` unpickles, and a pickle is a program: a downloaded ``.pdparams`` does what its author
wants. ``read_weights`` interprets the same files (and PyTorch's and safetensors) with nothing but inert
records; see ``unpickle`` for the threat model. PaddleSeg skips weights that do not fit with a
warning and goes on with random numbers; ``fill_layer`` takes all or nothing unless told otherwise, and
then reports in words what it took.
"""

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from paddleseg_encnet.weights import safetensors_file
from paddleseg_encnet.weights.arrays import CheckpointError
from paddleseg_encnet.weights.files import PADDLE_NAMES, decode_weights
from paddleseg_encnet.weights.safetensors_file import write_safetensors

if TYPE_CHECKING:
    import paddle

__all__ = ["CheckpointError", "LoadReport", "PADDLE_NAMES", "fill_layer", "read_metadata", "read_weights",
           "write_safetensors"]

Shapes = Mapping[str, Tuple[Tuple[int, ...], Tuple[int, ...]]]      # the checkpoint's, the network's
_SHOWN = 5  # names of a list in a message
_BACKBONE = "backbone."


def read_weights(path: Union[str, os.PathLike], keep_names: bool = False) -> Dict[str, Any]:
    """Read a weights file; nothing that it contains is executed.

    The format is told from the content: what ``paddle.save`` writes for layers and optimisers
    (Paddle 2 and 3, pickle protocols 2 to 4), PyTorch's zip archives and its older stream, and
    safetensors. Memory: the file, its values, and a constant; a file that asks for more than four
    times its own size (plus 16 MiB) is refused.

    Args:
        path: The file.
        keep_names: Leave Paddle's table of parameter names in, a dict under ``PADDLE_NAMES``.

    Returns:
        What was saved, nested as it was: np.ndarray for tensors (C-contiguous, writable,
        owning their memory; bfloat16 as float32), None, bool, int, float, str, bytes, tuple,
        list and dict, and ``records.Record`` for the objects beside them, which are not made. Paddle's
        table of parameter names is left out, as in ``paddle.load``, unless asked for.

    Raises:
        CheckpointError: One line: the file, what was seen, where, and what to do.
    """
    return _named(path, decode_weights, _content(path), keep_names)


def read_metadata(path: Union[str, os.PathLike]) -> Dict[str, str]:
    """The texts by name that a safetensors file holds beside its tensors; ``description`` knows what they mean.

    Raises:
        CheckpointError: As of ``read_weights``; it is no safetensors file.
    """
    return _named(path, safetensors_file.header_metadata, memoryview(_content(path)))


def _content(path: Union[str, os.PathLike]) -> bytes:
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):  # a pipe or a device may never end
            raise CheckpointError(f"{path}: is {'a folder' if stat.S_ISDIR(mode) else 'not a regular file'}; "
                                  "give the path of a weights file")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: does not exist; check the path") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


def _named(path: Union[str, os.PathLike], function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns; its error names the file."""
    try:
        return function(*arguments)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


@dataclass(frozen=True)
class LoadReport:
    """What ``fill_layer`` did, by tensor names of the network and of the file. ``str()`` says it in words."""

    loaded: Tuple[str, ...]
    missing: Tuple[str, ...] = ()  # in the network only: keep their initial values
    unexpected: Tuple[str, ...] = ()  # in the file only
    wrong_shape: Tuple[str, ...] = ()  # in both: keep their initial values
    ignored: Tuple[str, ...] = ()  # in the file only, as ``ignore_extra`` allows

    def loaded_of(self, backbone: bool) -> Tuple[int, int]:
        """Tensors loaded and tensors in the network, of the backbone or else of the head.

        Args:
            backbone: Count the names that begin with ``backbone.``; else the other ones.

        Returns:
            Loaded, and all.
        """
        def count(names: Iterable[str]) -> int:
            return sum(name.startswith(_BACKBONE) == backbone for name in names)
        return count(self.loaded), count(self.loaded + self.missing + self.wrong_shape)

    def __str__(self) -> str:
        shares = {part: self.loaded_of(part == "backbone") for part in ("backbone", "head")}
        text = "loaded " + " and ".join(f"{loaded} of {total} tensors of the {part} ({loaded / total:.0%})"
                                        for part, (loaded, total) in shares.items() if total)
        for part, (_, total) in shares.items():
            if not total:
                text += f"; the network has no {part}"
        for names, what in ((self.missing + self.wrong_shape, "left as initialised"),
                            (self.unexpected, "in the file but not used"), (self.ignored, "ignored as asked")):
            if names:
                text += f"; {what}: {_listed(names)}"
        return text


def fill_layer(layer: "paddle.nn.Layer", source: Union[str, os.PathLike, dict], allow_partial: bool = False,
               ignore_extra: Sequence[str] = (), where: str = "the given weights") -> LoadReport:
    """Fill a network with the weights of a file.

    Strict unless told otherwise: each parameter and persistent buffer of ``layer`` is filled and
    each tensor of the file is used. Float types are converted to the network's; the layer is
    changed only after everything has been checked.

    Args:
        layer (paddle.nn.Layer): The network.
        source: A path, or a dict of name to np.ndarray or paddle.Tensor.
        allow_partial: For fine-tuning: take what has the right name and shape, leave the rest.
        ignore_extra: Prefixes of names that the file may hold beyond the network,
            such as the classifier ``fc.`` of a backbone trained on ImageNet.
        where: What an error calls a dict that is given as the source.

    Returns:
        What was loaded and what was not.

    Raises:
        CheckpointError: The file cannot be read; names or shapes differ (the message lists them);
            an integer tensor meets a float one; or nothing fits at all. The layer is unchanged.
    """
    if isinstance(source, dict):
        state = source
    else:
        where, state = str(source), read_weights(source)
    state = {name: _as_array(value) for name, value in state.items()}
    target = layer.state_dict(use_hook=False)       # after amp.decorate() the hooks would make copies of it
    prefixes = (ignore_extra,) if isinstance(ignore_extra, str) else tuple(ignore_extra)

    extra = [name for name in state if name not in target]
    ignored = [name for name in extra if str(name).startswith(prefixes)]
    unexpected = [name for name in extra if name not in ignored]
    missing = [name for name in target if name not in state]
    wrong_shape: List[str] = []
    matched: Dict[str, Any] = {}
    wrong_type: List[str] = []
    for name in target:
        if name not in state:
            continue
        value = state[name]
        if not isinstance(value, np.ndarray):
            wrong_type.append(f"{name} is a {type(value).__name__}, not a tensor")
        elif list(value.shape) != list(target[name].shape):
            wrong_shape.append(name)
        else:
            cast = _cast(value, target[name])
            if cast is not None:
                matched[name] = cast
            else:
                wrong_type.append(f"{name} is {value.dtype} in the file, {_type_name(target[name])} in the network")

    if wrong_type or not matched or not allow_partial and (missing or unexpected or wrong_shape):
        shapes = {name: (tuple(state[name].shape), tuple(target[name].shape)) for name in wrong_shape}
        raise CheckpointError(f"{where}: {_mismatch(state, matched, missing, unexpected, shapes, wrong_type)}")
    for name, value in matched.items():
        target[name].set_value(value)
    return LoadReport(tuple(matched), tuple(missing), tuple(map(str, unexpected)), tuple(wrong_shape),
                      tuple(map(str, ignored)))


def _type_name(tensor: Any) -> str:
    return str(tensor.dtype).rsplit(".", 1)[-1]  # "paddle.float32"


def _as_array(value: Any) -> Any:
    """A paddle.Tensor as an array (bfloat16, which NumPy lacks, as float32); anything else as it is."""
    import paddle

    if not isinstance(value, paddle.Tensor):
        return value
    return (value.astype("float32") if _type_name(value) == "bfloat16" else value).numpy()


def _cast(array: np.ndarray, tensor: "paddle.Tensor") -> Any:
    """``array`` as something that ``tensor.set_value`` takes, or None if that would change its meaning."""
    import paddle

    wanted = _type_name(tensor)
    if array.dtype.kind == "f" and wanted == "bfloat16":
        return paddle.to_tensor(array.astype("float32"), place=paddle.CPUPlace()).astype(wanted)
    if array.dtype.name == wanted or array.dtype.kind == "f" and wanted.startswith("float"):
        return array.astype(wanted, copy=False)
    if array.dtype.kind in "iu" and wanted.startswith(("int", "uint")):
        cast = array.astype(wanted)
        return cast if np.array_equal(cast, array) else None
    return None


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(str(name)[:120] for name in list(names)[:_SHOWN])
    return text if len(names) <= _SHOWN else f"{text}, … and {len(names) - _SHOWN:,} more"


def _mismatch(state: Dict[str, Any], matched: Dict[str, Any], missing: List[str], unexpected: List[str],
              shapes: Shapes, wrong_type: List[str]) -> str:
    """Words for a state that does not fit; ``shapes`` maps names to (checkpoint's, network's) shapes."""
    only_shapes = not (missing or unexpected or wrong_type)
    channels, classes = (_image_channels(shapes), _class_counts(shapes)) if only_shapes else (None, None)
    if channels:
        name, theirs, ours = channels
        reason = f"the checkpoint is of images with {theirs} channels, the network of {ours} (in_channels)"
        advice = f"set in_channels to {theirs}, or leave `pretrained` out, or train with --allow_partial, which " \
            f"takes all but {name}"
    elif classes:
        reason = f"the checkpoint has {classes[0]} classes, the network {classes[1]}"
        advice = "set num_classes to the checkpoint's, or fine-tune with --allow_partial"
    elif not matched:
        reason = "not one tensor of the checkpoint fits the network"
        nested = [key for key, value in state.items() if isinstance(value, dict) and value]
        advice = f"its tensors may be in a dict that it holds ({_listed(nested)}); pass that dict" if nested \
            else "it is of another network, or its names need converting"
    else:
        reason = "the checkpoint does not fit the network"
        advice = "use the weights of this very network, or fine-tune with --allow_partial"
    wrong = [f"{name} {theirs} in the checkpoint, {ours} in the network" for name, (theirs, ours) in shapes.items()]
    lists = [f"{what} ({len(names)}): {_listed(names)}" for what, names in (
        ("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong), ("wrong type", wrong_type)) if names]
    return f"{'; '.join([reason, *lists])}; nothing was loaded: {advice}"


def _image_channels(shapes: Shapes) -> Optional[Tuple[str, int, int]]:
    """(name, checkpoint's, network's) of the first convolution if nothing but its inputs differ in number, else None:
    those of any later one are another one's outputs, which would differ too."""
    if len(shapes) != 1:
        return None
    (name, (theirs, ours)), = shapes.items()
    same = len(theirs) == len(ours) == 4 and theirs[0] == ours[0] and theirs[2:] == ours[2:]
    return (name, theirs[1], ours[1]) if same else None


def _class_counts(shapes: Shapes) -> Optional[Tuple[int, int]]:
    """(checkpoint's, network's) number of classes if that is all the shapes differ in, else None.

    A class count changes one dimension, from the same number to the same number, in all classifiers
    and nowhere else. A layer inside a network that has another width does so too, but then the
    batch norm behind it or the backbone is concerned.
    """
    pairs = set()
    for name, (theirs, ours) in shapes.items():
        different = [(a, b) for a, b in zip(theirs, ours) if a != b]
        if len(theirs) != len(ours) or len(different) != 1 or name.startswith(_BACKBONE) \
                or name.endswith(("._mean", "._variance")):
            return None
        pairs.update(different)
    return pairs.pop() if len(pairs) == 1 else None
