"""What was seen in an image."""

from dataclasses import dataclass, replace
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import cv2
import numpy as np
from numpy.typing import NDArray

from segrun import drawing, outputs
from segrun.classes import Classes
from segrun.network import LOGITS
from segrun.outputs import ALPHA


class Polygon(NamedTuple):
    """One connected area of a class. outline, holes: int32 [N, 2], x and y of its corners, which are pixels."""
    id: int
    name: str
    outline: NDArray[Any]
    holes: List[NDArray[Any]]


@dataclass(repr=False, eq=False)
class Segmentation:
    """What was seen in an image, in the image's own size. Jupyter shows it as a picture with its classes below.

    image: uint8 [H, W, 3], RGB.
    ids: uint8 [H, W], the class of each pixel; uint16 where there are more than 255 classes. The largest number of the
        type is unknown.
    classes: their names and colours.
    confidence: uint8 [H, W], 0 to 255 for 0 to 100 %, the probability of that class; None where nobody asked for it,
        or an export gives classes alone (--output_op argmax).
    presence: float32 [num_classes], the probability that the SE branch gives each class to be in the image; None from
        a network without that branch, and from an export that has it not.
    label: uint8 [H, W], 255 where it has no class; None without one.
    source: what the Segmenter was called with, a path for instance.
    """
    image: NDArray[Any]
    ids: NDArray[Any]
    classes: Classes
    confidence: Optional[NDArray[Any]] = None
    presence: Optional[NDArray[Any]] = None
    label: Optional[NDArray[Any]] = None
    source: Any = None

    @property
    def names(self) -> List[str]:
        """Of class 0, of class 1, ..."""
        return self.classes.names

    @property
    def colors(self) -> NDArray[Any]:
        """uint8 [N, 3], RGB, of each id that the mask can hold."""
        return self.classes.colors_of(self.ids.dtype)

    def shares(self) -> Dict[int, float]:
        """The share of the pixels that each class has which is there, the largest first."""
        return self.classes.shares(self.ids)

    def overlay(self, alpha: float = ALPHA) -> NDArray[Any]:
        """The image under the colours of its classes, uint8 [H, W, 3], RGB; `alpha`, 0 to 1, is their weight."""
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is the weight of the classes' colours, from 0 to 1, got {alpha}")
        return drawing.draw_overlay(self.image, self.ids, self.colors, alpha)

    def save(self, path: str, kind: str = "legend", alpha: float = ALPHA) -> None:
        """Writes a picture: "overlay", "palette", "ids", "confidence", "legend" or "comparison" (docs/predict.md).

        Raises:
            ValueError: there is no such kind; or it needs a confidence that is not there.
            OSError: it can't be written; nothing is left.
        """
        outputs.save(kind, self, path, alpha)

    def to_dict(self) -> Dict[str, Any]:
        """In plain numbers and words, for JSON: size, classes with their shares of the pixels, presence."""
        seen = [{"id": i, "name": self.classes.name(i), "share": round(float(share), 6),
                 "color": self.colors[i].tolist()} for i, share in self.shares().items()]
        presence = None if self.presence is None else [
            {"id": i, "name": self.classes.name(i), "probability": round(float(value), 6)}
            for i, value in enumerate(self.presence)]
        return {"width": self.ids.shape[1], "height": self.ids.shape[0], "classes": seen, "presence": presence}

    def polygons(self) -> List[Polygon]:
        """The outlines of all connected areas (of pixels that share a side or a corner), class by class."""
        found = []
        for i in np.unique(self.ids):
            contours, tree = cv2.findContours((self.ids == i).astype(np.uint8), cv2.RETR_CCOMP,
                                              cv2.CHAIN_APPROX_SIMPLE)
            corners = [contour[:, 0] for contour in contours]
            for outer, (_, _, _, parent) in enumerate(tree[0]):
                if parent < 0:
                    holes = [corners[inner] for inner in range(len(corners)) if tree[0][inner][3] == outer]
                    found.append(Polygon(int(i), self.classes.name(int(i)), corners[outer], holes))
        return found

    def shrunk(self, side: int) -> "Segmentation":
        """The same with sides of at most so many pixels."""
        height, width = self.ids.shape
        longest = max(height, width)
        if longest <= side:
            return self
        size = max(1, width * side // longest), max(1, height * side // longest)
        image = cv2.resize(self.image, size, interpolation=cv2.INTER_AREA)

        def nearest(mask: NDArray[Any]) -> NDArray[Any]:
            smaller: NDArray[Any] = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
            return smaller
        confidence, label = (mask if mask is None else nearest(mask) for mask in (self.confidence, self.label))
        return replace(self, image=image, ids=nearest(self.ids), confidence=confidence, label=label)

    def _repr_png_(self) -> bytes:
        return outputs.legend(self, ALPHA, ".png")

    def __repr__(self) -> str:
        seen = ", ".join(f"{self.classes.name(i)} {drawing.percent(share)}" for i, share in self.shares().items())
        return f"<Segmentation of {self.ids.shape[1]} x {self.ids.shape[0]} pixels: {seen}>"


def confidence_of(scores: NDArray[Any], meaning: str) -> NDArray[Any]:
    """The probability of the largest of logits or probabilities [C, H, W], float [H, W]; needs the memory of a few of
    these."""
    largest: NDArray[Any] = scores.max(axis=0)
    if meaning != LOGITS:
        return largest
    total: NDArray[Any] = np.zeros_like(largest)
    for score in scores:
        total += np.exp(score - largest)
    probability: NDArray[Any] = 1 / total
    return probability


def sigmoid(logits: Optional[NDArray[Any]]) -> Optional[NDArray[Any]]:
    """Of presence, float32."""
    if logits is None:
        return None
    return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


def mask_of(ids: NDArray[Any], sure: Optional[NDArray[Any]],
            min_conf: float) -> Tuple[NDArray[Any], Optional[NDArray[Any]]]:
    """The mask and its confidence as uint8; what is less sure than `min_conf` becomes unknown, in place.

    Args:
        ids: uint8 or uint16 [H, W].
        sure: probabilities [H, W], or None.
    """
    if sure is None:
        return ids, None
    ids[sure < min_conf] = np.iinfo(ids.dtype).max
    return ids, np.rint(sure * 255).astype(np.uint8)
