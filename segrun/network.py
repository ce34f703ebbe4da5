"""What a Segmenter asks of a network, whatever computes it: an export in a runtime, or a live one.

Shape letters: B images, C classes, H x W pixels as they come to the network.
"""

from typing import Any, List, NamedTuple, Optional, Protocol, Tuple

from numpy.typing import NDArray

from segrun.classes import Classes

# An array [B, C, H, W] or [B, H, W] of the network's own library: NumPy's, or Paddle's.
Array = Any
Size = Tuple[int, int]              # height, width
LOGITS, PROBABILITIES, IDS = "logits", "probabilities", "ids"


class Output(NamedTuple):
    """What a network says of a batch.

    values: logits or probabilities [B, C, H, W], or class ids [B, H, W]; of the network's library.
    presence: float32 [B, C], NumPy, logits of each class being in the image; None where the network has none.
    """
    values: Array
    presence: Optional[NDArray[Any]] = None


class Prepared(NamedTuple):
    """An image as the network takes it.

    image: float32 [channels, H, W].
    undo: what led there from the image's own size: ("resize" or "padding", the size before it), in order.
    """
    image: NDArray[Any]
    undo: List[Tuple[str, Size]]


class Network(Protocol):
    """channels: of its images. classes: names and colours. meaning: of its values, LOGITS, PROBABILITIES or IDS.
    requests: how many threads can compute at a time; any number may ask. batch_size: the only one that it takes, else
    None. pixelwise: whether what is done to an image first works on each pixel alone. least_side: of the images that it
    can take; smaller ones are padded (tiling.py)."""
    channels: int
    classes: Classes
    meaning: str
    requests: int
    batch_size: Optional[int]
    pixelwise: bool
    least_side: int

    def prepare(self, pixels: NDArray[Any], where: str) -> Prepared:
        """An image as image.py has it, to what the network takes. ValueError, with `where`, if it can't."""

    def run(self, batch: Array) -> Output:
        """Of images [B, channels, H, W], NumPy's or of the network's library."""

    def resize(self, values: Array, size: Size) -> Array:
        """Images or scores [B, C, H, W] bilinearly, class ids [B, H, W] to the nearest; also without a change."""
