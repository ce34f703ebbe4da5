"""How a batch goes through a network: whole or in windows, at one scale or several, as it is and mirrored.

Sums and their order are PaddleSeg's (core/infer.py), so that a live network gives the same to the last bit.
"""

import inspect
import math
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from segrun.network import IDS, Array, Network, Output


class Tiling(NamedTuple):
    """crop_size, stride: (width, height) of windows, and of the step from one to the next; whole images if None.
    scales, flip_horizontal, flip_vertical: the mean over all of these is taken, of logits or of probabilities."""
    crop_size: Optional[Tuple[int, int]] = None
    stride: Optional[Tuple[int, int]] = None
    scales: Tuple[float, ...] = (1.0,)
    flip_horizontal: bool = False
    flip_vertical: bool = False

    @property
    def whole(self) -> bool:
        return self.crop_size is None

    @property
    def once(self) -> bool:
        """Whether nothing is averaged over scales and flips."""
        return self.scales == (1.0,) and len(self.flips()) == 1

    def options(self) -> Dict[str, Any]:
        """The flags of tools/val.py that ask for it, without those that have no effect."""
        windows: Dict[str, Any] = {}
        if self.crop_size and self.stride:
            windows = {"is_slide": True, "crop_size": list(self.crop_size), "stride": list(self.stride)}
        averaged = {} if self.once else {"aug_eval": True, "scales": list(self.scales),
                                         "flip_horizontal": self.flip_horizontal, "flip_vertical": self.flip_vertical}
        return {**windows, **averaged}

    def flips(self) -> List[Tuple[bool, bool]]:
        """(horizontally, vertically) mirrored, of each turn."""
        return [(horizontal, vertical) for vertical in (False, True)[:1 + self.flip_vertical]
                for horizontal in (False, True)[:1 + self.flip_horizontal]]


def tiling_of(is_slide: bool = False, crop_size: Optional[Sequence[int]] = None,
              stride: Optional[Sequence[int]] = None, augments: bool = False,
              scales: Union[float, Sequence[float]] = 1.0, flip_horizontal: bool = False,
              flip_vertical: bool = False) -> Tiling:
    """What the flags of these names ask for; `augments` is --aug_pred, or --aug_eval, without which scales and flips
    are not looked at.

    Raises:
        ValueError: windows without a size or a step, or so far apart that pixels are left out.
    """
    windows: Tuple[Optional[Tuple[int, int]], Optional[Tuple[int, int]]] = (None, None)
    if is_slide:
        if not (crop_size and stride):
            raise ValueError("sliding windows (--is_slide, or is_slide in test_config) need crop_size and stride, both "
                             "W H")
        if any(not 1 <= step <= side for step, side in zip(stride, crop_size)):
            raise ValueError(f"stride {stride[0]} {stride[1]} of sliding windows must be at least 1, and at most their "
                             f"crop_size {crop_size[0]} {crop_size[1]}, so that no pixel is left out")
        windows = (crop_size[0], crop_size[1]), (stride[0], stride[1])
    if not augments:
        return Tiling(windows[0], windows[1])
    several = tuple(scales) if isinstance(scales, Sequence) else (scales,)
    if not several or any(isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < math.inf
                          for scale in several):
        raise ValueError(f"scales (--scales, or scales in test_config) must be numbers above 0, got {scales}")
    return Tiling(windows[0], windows[1], several, flip_horizontal, flip_vertical)


def asked_for(flags: Mapping[str, Any], config: Optional[Mapping[str, Any]] = None) -> Tiling:
    """What flags of inference ask for, by their names, over what a config has in test_config.

    Raises:
        TypeError: there is no such flag.
        ValueError: as of tiling_of; or test_config has an unknown key.
    """
    flags = {"augments" if name in ("aug_pred", "aug_eval") else name: value for name, value in flags.items()}
    known = inspect.signature(tiling_of).parameters
    for name in flags:
        if name not in known:
            raise TypeError(f"there is no argument {name}; of inference there are is_slide, crop_size, stride, "
                            "aug_pred, scales, flip_horizontal, flip_vertical")
    options = {"augments" if name == "aug_eval" else name: value for name, value in (config or {}).items()
               if name != "custom_color"}       # of pictures
    for name in options:
        if name not in known:
            raise ValueError(f"test_config has the key {name}; there are aug_eval, {', '.join(known)}, custom_color")
    if flags.get("augments"):
        options.update({name: flags.get(name, known[name].default)
                        for name in ("augments", "scales", "flip_horizontal", "flip_vertical")})
    if flags.get("is_slide"):
        options.update({name: flags.get(name) for name in ("is_slide", "crop_size", "stride")})
    return tiling_of(**options)


def infer(network: Network, batch: Array, tiling: Tiling = Tiling()) -> Output:
    """What the network says of images [B, channels, H, W], in their size.

    Presence is the mean over scales and flips, as that of the pixels; with windows the largest of all of them, whatever
    the scale or flip: what one window holds is in the image.

    Raises:
        ValueError: as of scores_of.
    """
    height, width = batch.shape[-2:]
    total: Array = None
    presences: List[Optional[NDArray[Any]]] = []
    for scale in tiling.scales:
        scaled = network.resize(batch, (max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))))
        for flip in tiling.flips():
            turned = flipped(scaled, flip)
            seen = run_whole(network, turned, tiling) if tiling.whole else in_windows(network, turned, tiling)
            values = seen.values if tiling.once else network.resize(flipped(seen.values, flip), (height, width))
            total = values if total is None else total + values
            presences.append(seen.presence)
    count = len(presences)
    return Output(total if count == 1 else total / count, combined(presences, tiling))


def run_whole(network: Network, batch: Array, tiling: Tiling) -> Output:
    """All at once."""
    return run_padded(network, batch) if tiling.once else scores_of(network, batch)


def scores_of(network: Network, batch: Array) -> Output:
    """run_padded(). ValueError: it gives classes alone, which can't be averaged; not every export says so before."""
    output = None if network.meaning == IDS else run_padded(network, batch)
    if output is None or network.meaning == IDS:
        raise ValueError("windows, scales and flips need scores to average, and this export gives classes alone: "
                         "export it with --output_op softmax or none")
    return output


def run_padded(network: Network, batch: Array) -> Output:
    """The network on images of any size. A side that is too small for it is padded, below or on the right, with the
    last row or column, and what it says of those is cut off."""
    height, width = batch.shape[-2:]
    down, right = max(0, network.least_side - height), max(0, network.least_side - width)
    if not down and not right:
        return network.run(batch)
    output = network.run(np.pad(np.asarray(batch), [(0, 0), (0, 0), (0, down), (0, right)], mode="edge"))
    return output._replace(values=output.values[..., :height, :width])


def combined(presences: Sequence[Optional[NDArray[Any]]], tiling: Tiling) -> Optional[NDArray[Any]]:
    """Presence logits of several passes over the same images, as one."""
    known = [presence for presence in presences if presence is not None]
    if len(known) < len(presences):
        return None
    passes = np.stack(known).astype(np.float32)
    joined: NDArray[Any] = passes.mean(axis=0) if tiling.whole else passes.max(axis=0)
    return joined


def flipped(values: Array, flip: Tuple[bool, bool]) -> Array:
    """[B, C, H, W], mirrored or not."""
    if flip[0]:
        values = values[:, :, :, ::-1]
    if flip[1]:
        values = values[:, :, ::-1, :]
    return values


def in_windows(network: Network, batch: Array, tiling: Tiling) -> Output:
    """The means over all windows that show a pixel, float64 NumPy [B, C, H, W]."""
    outputs = [one_in_windows(network, batch[i:i + 1], tiling) for i in range(len(batch))]
    presences = [output.presence for output in outputs if output.presence is not None]
    return Output(np.concatenate([output.values for output in outputs]),
                  np.concatenate(presences) if presences else None)


def one_in_windows(network: Network, image: Array, tiling: Tiling) -> Output:
    """Of [1, channels, H, W]."""
    assert tiling.crop_size and tiling.stride
    seen: List[Optional[NDArray[Any]]] = []

    def logits_of(top: int, bottom: int, left: int, right: int) -> NDArray[Any]:
        output = scores_of(network, image[:, :, top:bottom, left:right])
        seen.append(output.presence)
        logits: NDArray[Any] = np.asarray(output.values)[0]
        return logits
    height, width = image.shape[-2:]
    parts = [strip.copy() for _, strip in strips(logits_of, (height, width), tiling.crop_size, tiling.stride)]
    return Output(np.concatenate(parts, axis=1)[np.newaxis], combined(seen, tiling))


# --- windows in the memory of one row of them ------------------------------------------------------------------------
# PaddleSeg adds the logits of overlapping windows in one array for the whole image, in float64 and in several copies:
# 19 classes of a 20000 x 10000 image are 30 GB a copy. Here the rows above the current windows are finished, handed
# over and forgotten.

def strips(logits_of: Callable[[int, int, int, int], NDArray[Any]], size: Tuple[int, int], crop_size: Tuple[int, int],
           stride: Tuple[int, int]) -> Iterator[Tuple[int, NDArray[Any]]]:
    """Yields (first row, logits float64 [C, rows, W]), from the top of the image to its bottom; each row stands in one
    strip, which is overwritten after it. The logits are the means of those of the windows that show a pixel.

    Args:
        logits_of: logits_of(top, bottom, left, right) returns those of a window, [C, bottom - top, right - left], or
            more, which is cut off.
        size: (height, width) of the image.
        crop_size, stride: (width, height), as PaddleSeg's flags have them.

    Raises:
        ValueError: windows this far apart leave pixels out.
    """
    (height, width), (crop_width, crop_height) = size, crop_size
    rows, columns = windows(height, crop_height, stride[1]), windows(width, crop_width, stride[0])
    held = rows[0][1] - rows[0][0]                                      # every window is as high
    sums: NDArray[Any] = np.zeros([0, held, width])     # the first window tells how many classes there are
    counts = np.zeros([held, width])
    for (top, bottom), (next_top, _) in zip(rows, rows[1:] + [(height, height)]):
        for left, right in columns:
            logits = logits_of(top, bottom, left, right)
            if not len(sums):
                sums = np.zeros([len(logits), held, width])
            sums[:, :, left:right] += logits[:, :held, :right - left]
            counts[:, left:right] += 1
        finished = next_top - top
        sums[:, :finished] /= counts[:finished]
        yield top, sums[:, :finished]
        for array in (sums.swapaxes(0, 1), counts):                     # what the next windows overlap moves up
            array[:held - finished] = array[finished:].copy()
            array[held - finished:] = 0


def windows(length: int, crop: int, stride: int) -> List[Tuple[int, int]]:
    """(start, stop) of the windows along one side of an image; the last one ends with it."""
    if stride > crop and length > crop:
        raise ValueError(f"--stride {stride} is larger than --crop_size {crop}: pixels between the windows would have "
                         "no class")
    count = 1 if length <= crop else -(-(length - crop) // stride) + 1
    stops = [min(i * stride + crop, length) for i in range(count)]
    return [(max(stop - crop, 0), stop) for stop in stops]
