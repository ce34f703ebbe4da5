"""What files tell that their pixels don't: labels that are JPEG inside, orientations that image and label do not share,
damage that a decoder passes over.
"""

import contextlib
import io
import os
import sys
import tempfile
from typing import Iterator, List, NamedTuple, Optional

from PIL import Image

from paddleseg_encnet.data.label_values import JPEG
from segrun.raw_files import read_bytes

ORIENTATION = 274       # a tag of EXIF; 1 is upright
JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
PNG_MARKS = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")        # where a PNG can hold one
LOSSY = ("JPEG", "MPO", "JPEG2000")
# What libjpeg says of a file that it goes on to read.
COMPLAINTS = ("Corrupt JPEG", "Premature end of JPEG", "Invalid SOS", "Inconsistent progression", "Invalid JPEG")

JPEG_LABELS = "labels that are JPEG"
TURNED = "images that EXIF turns and their labels not, or otherwise, where no size tells which was drawn on"
DAMAGED = "images that are damaged where the decoder goes on with grey or shifted pixels"
TURNED_HINT = "training turns each as its file says: where the labels were drawn on the image as it is stored, they " \
              "are of other places; look at one, and save image and label upright. convert-labels --exif turns labels"
DAMAGED_HINT = "get the file again, or take it out"


class Doubt(NamedTuple):
    """As a finding has it."""
    kind: str
    message: str
    hint: str


def doubts_of(image: str, label: Optional[str], complaint: str) -> List[Doubt]:
    """What there is to say of a sample that was read.

    Args:
        label: path of the label, or None where it has no file.
        complaint: what the decoder said of the image.
    """
    found = [Doubt(DAMAGED, f"{image}: {complaint}", DAMAGED_HINT)] if complaint else []
    if label is None or label.endswith((".npy", ".npz")):
        return found
    label_data = read_bytes(label)
    kind = format_of(label_data)
    if kind in LOSSY and not label.lower().endswith((".jpg", ".jpeg")):      # which their names tell
        found.append(Doubt(JPEG_LABELS, f"{label} is a {kind}, whatever its name says", JPEG))
    image_data = read_bytes(image)
    turns = [orientation_of(data) for data in (image_data, label_data)]
    if turns[0] != turns[1] and not size_tells(image_data, turns[0]):
        found.append(Doubt(TURNED, f"{image} has orientation {turns[0]}, its label {label} {turns[1]}", TURNED_HINT))
    return found


def format_of(data: bytes) -> Optional[str]:
    """As Pillow calls it; None where it does not know it."""
    if data.startswith(PNG_START):
        return "PNG"
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as picture:      # reads headers, and has said it
        return picture.format
    return None


def orientation_of(data: bytes) -> int:
    """Which way up a file says that it is; 1 where it says nothing."""
    if data.startswith(PNG_START) and not any(mark in data for mark in PNG_MARKS):
        return 1            # Pillow would decode all of it to look for them
    with contextlib.suppress(Exception), Image.open(io.BytesIO(data)) as picture:
        said = picture.getexif().get(ORIENTATION, 1)
        return said if said in range(1, 9) else 1
    return 1


def size_tells(image: bytes, orientation: int) -> bool:
    """Whether a label of the size of the turned image can only be one of the turned image."""
    with contextlib.suppress(Exception), Image.open(io.BytesIO(image)) as picture:
        return orientation >= 5 and picture.size[0] != picture.size[1]
    return False


class Complaint:
    """What libjpeg has said, in one line; empty where nothing."""
    text = ""


@contextlib.contextmanager
def listening(path: str) -> Iterator[Complaint]:
    """Within it what libjpeg says of an image goes into a Complaint and not to the user, who would not know of which.
    It says it on the process's stderr and nowhere else. What others say there comes out afterwards."""
    complaint = Complaint()
    with open(path, "rb") as file:
        if not file.read(3).startswith(JPEG_START):
            yield complaint
            return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as said:
            os.dup2(said.fileno(), 2)
            try:
                yield complaint
            finally:
                sys.stderr.flush()
                os.dup2(kept, 2)
                said.seek(0)
                lines = said.read().decode(errors="replace").splitlines()
                complaint.text = "; ".join(line.strip() for line in lines if line.startswith(COMPLAINTS))
                for line in lines:
                    if not line.startswith(COMPLAINTS):
                        print(line, file=sys.stderr)
    finally:
        os.close(kept)
