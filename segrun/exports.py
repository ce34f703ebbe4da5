"""What describes an export, deploy.yaml: its files, what is done to an image first, names and colours."""

import os
from typing import Any, Dict

import numpy as np
import yaml
from numpy.typing import NDArray

from segrun.classes import Classes
from segrun.errors import DataError, joined
from segrun.image import WrongChannels, decode_image
from segrun.network import IDS, LOGITS, PROBABILITIES, Prepared
from segrun.preprocess import Preprocess
from segrun.raw_files import read_text

MEANINGS = {"argmax": IDS, "softmax": PROBABILITIES, "none": LOGITS}


class Export:
    """An export as its deploy.yaml describes it, whatever runs it: what stands before and after the network.

    Args:
        path: of the deploy.yaml, or of its folder.

    Raises:
        ValueError, OSError: it is missing or wrong.
    """

    def __init__(self, path: str):
        self.path = os.path.join(path, "deploy.yaml") if os.path.isdir(path) else path
        self.content = read_deploy(self.path)
        self.input_shape = [-1 if side is None else side for side in self.content.get("input_shape") or [-1] * 4]
        self.channels = self.input_shape[1] if self.input_shape[1] > 0 else 3
        self.batch_size = self.input_shape[0] if self.input_shape[0] > 0 else None
        self.meaning = self.meaning_of_output()
        self.classes = Classes.of_export(self.content)
        self.preprocess = Preprocess(self.content.get("transforms") or [], self.channels, self.path)

    def meaning_of_output(self) -> str:
        """An export by PaddleSeg's own tool may not say it: then it is told by the shape of what comes out."""
        said = self.content.get("output_op")
        if said and said not in list(MEANINGS):
            raise ValueError(f"{self.path} has the output_op {said!r}; there are {', '.join(MEANINGS)}")
        return MEANINGS[said] if said else LOGITS

    def file(self, key: str, flag: str = "") -> str:
        """Path of the file that deploy.yaml has under `key`; `flag` is what tools/export.py writes it with.

        Raises:
            ValueError: there is no such key, or it leads out of the folder of deploy.yaml, which may be anybody's.
            FileNotFoundError: there is no such file.
        """
        if key not in self.content:
            raise ValueError(f"{self.path} names no {key} model; export it again" + (f" with {flag}" if flag else ""))
        name = self.content[key]
        if not isinstance(name, str) or os.path.isabs(name) or os.path.splitdrive(name)[0] \
                or os.path.normpath(name).split(os.sep)[0] == os.pardir:
            raise ValueError(f"{self.path} names {name!r} as its {key}: the files of an export lie in its folder")
        path = os.path.join(os.path.dirname(os.path.abspath(self.path)), name)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{self.path} names {self.content[key]}, but there is no {path}")
        return path

    def prepare(self, pixels: NDArray[Any], where: str) -> Prepared:
        """As Network.prepare. ValueError: the image does not have the size that the network was exported for."""
        prepared = self.preprocess(pixels, where)
        found, wanted = prepared.image.shape, self.input_shape
        if any(side not in (-1, own) for side, own in zip(wanted[1:], found)):
            raise ValueError(f"{where} comes to the network as {found[2]} x {found[1]}, but that was exported for "
                             f"{wanted[3]} x {wanted[2]} (width x height); export it without --input_shape, or with a "
                             "Resize among the validation transforms")
        return prepared

    def batch_of(self, path: str) -> NDArray[Any]:
        """An image file as a batch that the network takes, [B, channels, H, W]."""
        return self.filled(self.prepare(self.read(path), path).image[np.newaxis])

    def read(self, path: str) -> NDArray[Any]:
        """What `prepare` takes, from a file."""
        with open(path, "rb") as file:
            data = file.read()
        try:
            return decode_image(data, path, self.channels)
        except WrongChannels as error:
            raise self.refusal(error) from error

    def refusal(self, error: WrongChannels) -> ValueError:
        """The error in words of an export, which has no config to be changed."""
        return ValueError(f"the image {error.path} has {error.found} channels, the network was exported for "
                          f"{self.channels}")

    def filled(self, batch: NDArray[Any]) -> NDArray[Any]:
        """A batch [B, C, H, W], filled up with its last image where the network takes but one number of images."""
        missing = (self.batch_size or 0) - len(batch)
        return np.concatenate([batch, *[batch[-1:]] * missing]) if missing > 0 else batch


def read_deploy(path: str) -> Dict[str, Any]:
    """What a deploy.yaml says."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no {path}; give the deploy.yaml of an export")
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no valid YAML: {joined(str(error))}") from error
    except DataError as error:
        raise ValueError(f"{path} is no valid YAML: it is no text in UTF-8") from error
    if not isinstance(content, dict) or not isinstance(content.get("Deploy"), dict):
        raise ValueError(f"{path} has no section Deploy; give the deploy.yaml of an export")
    said: Dict[str, Any] = content["Deploy"]
    return said


def write_deploy(path: str, content: Dict[str, Any]) -> None:
    """Writes a deploy.yaml that says this."""
    with open(path, "w", encoding="utf-8") as file:
        yaml.safe_dump({"Deploy": content}, file, sort_keys=False, default_flow_style=None, allow_unicode=True)
