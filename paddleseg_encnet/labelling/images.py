"""The images of a project: found, measured, and masks turned as training turns the image."""

import os
from typing import Dict, List, NamedTuple, Tuple

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from paddleseg_encnet.data.reading import read_image
from paddleseg_encnet.labelling.project import Rules, Tally
from segrun.errors import DataError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
ORIENTATION, WIDTH, HEIGHT = 0x0112, 0x0100, 0x0101        # tags of EXIF and TIFF; orientation 1 is upright
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}
FOLLOWED = {"JPEG", "MPO", "PNG", "TIFF"}       # formats whose orientation OpenCV follows

Size = Tuple[int, int]      # height, width


class ImageHeader(NamedTuple):
    """What an image's header says."""
    path: str
    stored: Size
    orientation: int = 1

    @property
    def displayed(self) -> Size:
        """Its size as viewers show it, and as training reads it."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored

    def annotated(self, rules: Rules) -> Size:
        """The size to draw at where a file does not tell what it was drawn on."""
        return self.displayed if rules.exif == "displayed" else self.stored


def read_header(path: str) -> ImageHeader:
    """Reads the header; all of the image only if it is to be turned.

    Raises:
        DataError: it is no image, or OpenCV, which training reads with, does not turn it as viewers do.
    """
    try:
        with Image.open(path) as image:
            stored, orientation, kind = image.size[::-1], image.getexif().get(ORIENTATION, 1), image.format
            if isinstance(image, TiffImageFile):        # Pillow's size is that of the turned image there
                stored = (image.tag_v2[HEIGHT], image.tag_v2[WIDTH])
    except Exception as error:      # Pillow raises whatever its decoders do
        raise DataError(f"cannot read the image {path}: {error}") from error
    if orientation not in TURNS:
        return ImageHeader(path, stored)
    picture = ImageHeader(path, stored, orientation)
    if kind not in FOLLOWED or read_image(path).shape[:2] != picture.displayed:
        raise DataError(f"the image {path} is turned by its metadata (orientation {orientation}) in a way that OpenCV, "
                        "which training reads with, does not follow: save it upright, as JPEG or PNG")
    return picture


def check_size(size: Size, picture: ImageHeader) -> None:
    """Raises DataError where annotation of this size is of neither form of the image."""
    if size not in (picture.displayed, picture.stored):
        (height, width), (rows, columns) = picture.displayed, size
        raise DataError(f"the annotation of {picture.path} is for {columns} x {rows} pixels, the image has "
                        f"{width} x {height}: was one of them resized?")


def fit(mask: np.ndarray, picture: ImageHeader, rules: Rules, tally: Tally) -> np.ndarray:
    """The mask [H, W] as training sees the image.

    Raises:
        DataError: the mask is of another size than the image.
    """
    check_size((mask.shape[0], mask.shape[1]), picture)
    if picture.orientation == 1:
        return mask
    tells = picture.displayed != picture.stored
    on_stored = mask.shape == picture.stored if tells else rules.exif == "stored"
    how = "by its size it was drawn on" if tells else f"its size does not tell, --exif {rules.exif}: taken as drawn on"
    tally.add("annotations of an image that EXIF turns, " + how +
              (" the stored image: turned with it" if on_stored else " the image as displayed: left as it is"),
              f"{picture.path}, orientation {picture.orientation}")
    return np.asarray(Image.fromarray(mask).transpose(TURNS[picture.orientation])) if on_stored else mask


def below(folder: str, endings: Tuple[str, ...] = ENDINGS) -> List[str]:
    """Files with these endings in a folder and below it, sorted; relative to it, with / between folders.

    Raises:
        DataError: there is no such folder.
    """
    if not os.path.isdir(folder):
        raise DataError(f"there is no folder {folder}")
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/") for name in names
                  if name.lower().endswith(endings) and not name.startswith(".")]
    return sorted(found)


def stem(path: str) -> str:
    return os.path.splitext(path)[0]


def by_stem(files: List[str], folder: str) -> Dict[str, str]:
    """{path without its ending: path}; DataError where two files share one."""
    found: Dict[str, str] = {}
    for path in files:
        if stem(path) in found:
            raise DataError(f"{folder} has {found[stem(path)]} and {path}: which of them is annotated can't be told; "
                            "move or rename one")
        found[stem(path)] = path
    return found


def absent(text: str, rules: Rules, tally: Tally, hint: str) -> None:
    """An annotation without its image: counted or, by the rule, raised as DataError."""
    if rules.missing == "stop":
        raise DataError(f"{text}; {hint}, or add --missing leave_out")
    tally.add("annotations whose image is not there: left out", text)


def unannotated(path: str, rules: Rules, tally: Tally) -> bool:
    """Whether an image without annotation is kept, as background; counted, or raised as DataError by the rule."""
    if rules.unannotated == "stop":
        raise DataError(f"the image {path} has no annotation (--unannotated stop)")
    keep = rules.unannotated == "keep"
    tally.add("images without annotation: " + ("all background (--unannotated keep)" if keep else "left out"), path)
    return keep
