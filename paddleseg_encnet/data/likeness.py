"""How alike two images look: a thumbnail of each, and two measures of these, a second for millions of pairs.

One is a perceptual hash, a bit for each of 256 places that says whether it is brighter than the one to its left: frames
of a video differ in few bits, and unrelated photographs in 70 to 180 of 256 (CamVid, LabelMeFacade, drawn scenes).
The other is the correlation of the grey values.
"""

from typing import Iterator, Optional, Sequence, Tuple

import cv2
import numpy as np

ROWS, COLUMNS = 16, 17
BITS = ROWS * (COLUMNS - 1)
NEAR_BITS, NEAR_CORRELATION = 48, 0.95      # a copy, also one that was scaled, compressed or brightened; a next frame
FLAT = 4            # grey values: a thumbnail with less deviation shows nothing to compare
AT_ONCE = 1 << 24   # pairs whose measures are in memory together


def thumbnail(image: np.ndarray) -> Optional[bytes]:
    """Of an image [H, W, C] of any type of number; None where it shows nothing."""
    if image.dtype != np.uint8:
        image = image.astype(np.float32)        # OpenCV resizes not all others
    if image.shape[2] > 4:                      # nor more channels
        image = image.mean(2, dtype=np.float32)[..., None]
    small = cv2.resize(np.ascontiguousarray(image), (COLUMNS, ROWS), interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = small.reshape(ROWS, COLUMNS, -1).mean(2)
    if not np.isfinite(grey).all():
        return None
    if image.dtype != np.uint8:
        low, high = float(grey.min()), float(grey.max())
        grey = (grey - low) * (255 / (high - low)) if high > low else np.zeros_like(grey)
    return grey.round().astype(np.uint8).tobytes() if grey.std() >= FLAT else None


class Thumbnails:
    """Thumbnails as the numbers that are compared.

    Args:
        images: what thumbnail() gives, none of it None.
        mirrored: as if each image were.
    """

    def __init__(self, images: Sequence[bytes], mirrored: bool = False):
        grey = np.frombuffer(b"".join(images), np.uint8).reshape(-1, ROWS, COLUMNS).astype(np.float32)
        grey = grey[..., ::-1] if mirrored else grey
        self.bits = np.where(grey[..., 1:] > grey[..., :-1], 1, -1).reshape(len(grey), -1).astype(np.float32)
        flat = grey.reshape(len(grey), -1)
        flat = flat - flat.mean(1, keepdims=True)
        self.values = flat / np.linalg.norm(flat, axis=1, keepdims=True)

    def __len__(self) -> int:
        return len(self.bits)

    def distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Bits that differ, of each pair of indices."""
        return (BITS - (self.bits[first] * self.bits[second]).sum(1)) / 2


def near_pairs(images: Thumbnails, others: Thumbnails) -> Iterator[Tuple[int, int, int]]:
    """(index in `images`, index of the nearest in `others`, bits that differ) of those that are nearly the same."""
    step = max(AT_ONCE // max(len(others), 1), 1)
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        different = (BITS - images.bits[part] @ others.bits.T) / 2
        different[images.values[part] @ others.values.T < NEAR_CORRELATION] = BITS
        for i, nearest in enumerate(different.argmin(1)):
            if different[i, nearest] <= NEAR_BITS:
                yield start + i, int(nearest), int(different[i, nearest])
