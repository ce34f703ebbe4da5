"""What a labelling project is, whichever tool it comes from; what is decided where it is in doubt; what was found."""

from typing import Callable, Dict, List, NamedTuple, Optional

import numpy as np

from paddleseg_encnet.data.findings import Finding, listing

IGNORED = 255       # the id of pixels that no loss and no score looks at


class Rules(NamedTuple):
    """What becomes of what a file leaves open. Each is a flag of tools/convert_labels.py."""
    rest: str = "background"        # pixels that no shape covers: "background", a class, or "ignore"
    overlap: str = "last"           # shapes of two classes on a pixel: the "last" in the file, the "smallest", "ignore"
    unknown: str = "stop"           # labels or colours that are no class: "stop", "ignore", or of shapes "leave_out"
    unannotated: str = "leave_out"  # images without annotation: "leave_out", "keep" as background, "stop"
    missing: str = "stop"           # annotation whose image is not there: "stop", "leave_out"
    exif: str = "displayed"         # what annotation of a turned image was drawn on if sizes don't tell; or "stored"
    crowd: str = "class"            # COCO's crowds: pixels of their "class", "ignore"
    similar: str = "keep"           # labels that differ in case, width or spaces alone: "keep" apart, "join", "stop"
    foreign: str = "stop"           # JSON files that are none of labelme's: "stop", "leave_out"
    tolerance: int = 0              # how far, in each of R, G and B, a colour may be from that of its class


class Item(NamedTuple):
    """An image and how its mask is made."""
    name: str                           # of the mask, below masks/ and without ending; with / between folders
    image: str                          # path
    draw: Callable[[], np.ndarray]      # -> uint8 [H, W] of class ids, of the image as displayed or as stored
    split: Optional[str] = None         # "train" or "val" where the source has a split of its own


class LabelClasses(NamedTuple):
    """Class names in the order of their ids, labels that become 255, and colours for the masks."""
    names: List[str]
    ignored: frozenset = frozenset()
    colors: Optional[Dict[str, tuple]] = None       # RGB of each name, where the source has them

    def id(self, label: str) -> Optional[int]:
        """255 for a label that is ignored, None for one that is not known."""
        if label in self.ignored:
            return IGNORED
        return self.names.index(label) if label in self.names else None


class Project(NamedTuple):
    classes: LabelClasses
    items: List[Item]


class Tally:
    """What was found, counted by kind and with the first names of each. A kind ends with what was decided."""

    def __init__(self) -> None:
        self.findings: Dict[str, Finding] = {}

    def add(self, kind: str, example: str) -> None:
        self.findings.setdefault(kind, Finding()).add(example, "")

    def lines(self) -> List[str]:
        return listing(self.findings)
