"""Sliding windows over images of any size, in the memory of one row of windows.

PaddleSeg adds the logits of overlapping windows in one array for the whole image, in float64 and in several copies: 19
classes of a 20000 x 10000 image are 30 GB a copy. Here the rows above the current windows are finished, handed over and
forgotten. Windows, sums and their order are PaddleSeg's, so that the results are equal to the last bit.
"""

from typing import Callable, Iterator, List, Tuple

import numpy as np


def strips(logits_of: Callable, size: Tuple[int, int], crop_size: Tuple[int, int],
           stride: Tuple[int, int]) -> Iterator[Tuple[int, np.ndarray]]:
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
    sums, counts = None, np.zeros([held, width])
    for (top, bottom), (next_top, _) in zip(rows, rows[1:] + [(height, height)]):
        for left, right in columns:
            logits = logits_of(top, bottom, left, right)
            if sums is None:
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
