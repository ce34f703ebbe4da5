"""Runs an exported network, by deployment/runtimes.py: what tools/infer.py does, for one image or a batch.

PaddleSeg is not needed, nor the package's import, only NumPy, OpenCV, Pillow, PyYAML and the runtime asked for, and
tifffile for TIFF of other than one or three channels.
"""

import os
from typing import Callable, Dict, List, Tuple

import cv2
import numpy as np
import yaml

from paddleseg_encnet.deployment.runtimes import Requests, onnx_runtime, openvino, paddle_inference
from paddleseg_encnet.pictures.reading import WrongChannels, decode

# --- what is done to an image before the network, by the names and arguments of PaddleSeg's transforms ---------------
# Each takes and returns an image [H, W, C] float32, RGB if C is 3, or [H, W] if it is 1.

INTERPOLATIONS = {"NEAREST": cv2.INTER_NEAREST, "LINEAR": cv2.INTER_LINEAR, "CUBIC": cv2.INTER_CUBIC,
                  "AREA": cv2.INTER_AREA, "LANCZOS4": cv2.INTER_LANCZOS4}


# A Resize of an image that is 1 pixel wide may ask for gigabytes: as many as OpenCV reads, by the same variable.
MOST_PIXELS = int(os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", 2 ** 30))


def normalize(image, mean=(0.5,), std=(0.5,)):
    return ((image / np.float32(255) - np.array(mean)) / np.array(std)).astype("float32")


def resize(image, target_size=(512, 512), keep_ratio=False, size_divisor=None, interp="LINEAR"):
    """To target_size (width, height), or with keep_ratio to the largest size that fits into it either way round."""
    if interp not in INTERPOLATIONS:
        raise ValueError(f"Resize has no interpolation {interp}; there are {', '.join(INTERPOLATIONS)}")
    size = list(target_size)
    if keep_ratio:
        own = image.shape[1::-1]
        scale = min(max(size) / max(own), min(size) / min(own))
        size = [round(side * scale) for side in own]
    if size_divisor:
        size = [-(-side // size_divisor) * size_divisor for side in size]
    return resized(image, tuple(size), INTERPOLATIONS[interp])


def resized(image, size: Tuple[int, int], interpolation: int = cv2.INTER_LINEAR):
    """`size`: width, height. ValueError for more than MOST_PIXELS."""
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"an image of {image.shape[1]} x {image.shape[0]} would become {size[0]} x {size[1]}, more "
                         f"than {MOST_PIXELS} pixels")
    return cv2.resize(image, size, interpolation=interpolation)


def scaled(image, scale: float):
    height, width = (int(round(side * scale)) for side in image.shape[:2])
    return resized(image, (width, height))


def resize_by_long(image, long_size):
    return scaled(image, long_size / max(image.shape[:2]))


def resize_by_short(image, short_size, max_size=1e10):
    short, long = sorted(image.shape[:2])
    if short_size / short * long > max_size:
        short_size = int(max_size / long * short)
    return scaled(image, short_size / short)


def limit_long(image, max_long=None, min_long=None):
    long = max(image.shape[:2])
    target = min(long, max_long) if max_long else long
    target = max(target, min_long) if min_long else target
    return scaled(image, target / long) if target != long else image


def padding(image, target_size, im_padding_value=127.5, label_padding_value=None):
    """Below and on the right, to target_size (width, height)."""
    height, width = image.shape[:2]
    if height > target_size[1] or width > target_size[0]:
        raise ValueError(f"an image of {width} x {height} does not fit into Padding's {target_size[0]} x "
                         f"{target_size[1]}")
    return cv2.copyMakeBorder(image, 0, target_size[1] - height, 0, target_size[0] - width, cv2.BORDER_CONSTANT,
                              value=(im_padding_value,) * 4)        # of more channels too


TRANSFORMS: Dict[str, Callable] = {
    "Normalize": normalize, "Resize": resize, "ResizeByLong": resize_by_long, "ResizeByShort": resize_by_short,
    "LimitLong": limit_long, "Padding": padding,
}


# --- an export -------------------------------------------------------------------------------------------------------

class Images:
    """What stands before and after an exported network. `channels` are those of its images.

    Args:
        config: path of the export's deploy.yaml.

    Raises:
        ValueError, OSError: it is missing or wrong.
    """

    def __init__(self, config: str):
        self.config, self.deploy = config, read_config(config)
        self.input_shape = [-1 if side is None else side for side in self.deploy.get("input_shape") or [-1] * 4]
        self.channels = self.input_shape[1] if self.input_shape[1] > 0 else 3
        self.transforms = []
        for options in self.deploy.get("transforms") or []:
            options = dict(options)
            name = options.pop("type", None)
            if name not in TRANSFORMS:
                raise ValueError(f"{config} has the transform {name}; here there are {', '.join(TRANSFORMS)}")
            self.transforms.append((name, TRANSFORMS[name], options))

    def prepare(self, path: str) -> Tuple[np.ndarray, List[tuple]]:
        """An image file -> the network's input [C, H, W] float32, and the sizes it had, for `finish`.

        Raises:
            OSError, ValueError: the image can't be read, or does not have the size or the channels that the network was
                exported for.
        """
        with open(path, "rb") as file:
            return self.prepare_pixels(self.decoded(file.read(), str(path)), str(path))

    def batch(self, *inputs: np.ndarray) -> np.ndarray:
        """What `prepare` has made of images of one size, as [B, C, H, W]; a fixed batch is filled up with the last."""
        return np.stack(inputs + inputs[-1:] * (self.input_shape[0] - len(inputs)))

    def decoded(self, data: bytes, path: str) -> np.ndarray:
        """What `prepare_pixels` takes, from the bytes of a file."""
        try:
            return decode(data, path, self.channels)
        except WrongChannels as error:
            raise ValueError(f"the image {path} has {error.found} channels, the network was exported for "
                             f"{self.channels}") from error

    def prepare_pixels(self, image: np.ndarray, where: str) -> Tuple[np.ndarray, List[tuple]]:
        """`prepare` for an image as pictures/reading.py has it for the network's channels: of three uint8 [H, W, 3],
        BGR. `where` is what an error calls it."""
        image = image.astype("float32")
        if self.channels == 3:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        history = []
        for name, transform, options in self.transforms:
            before = image.shape[:2]
            try:
                image = transform(image, **options)
            except cv2.error as error:
                raise ValueError(f"the transform {name} makes nothing of {where}, {before[1]} x {before[0]} by then: "
                                 f"{error.err}") from error
            if image.shape[:2] != before:
                history.append(("crop" if name == "Padding" else "resize", before))
        image = np.ascontiguousarray(image.reshape(*image.shape[:2], -1).transpose(2, 0, 1))
        wanted = self.input_shape
        if any(side not in (-1, own) for side, own in zip(wanted[1:], image.shape)):
            raise ValueError(f"{where} comes to the network as {image.shape[2]} x {image.shape[1]}, but that was "
                             f"exported for {wanted[3]} x {wanted[2]} (width x height); export it without "
                             "--input_shape, or with a Resize among the validation transforms")
        return image, history

    def finish(self, output: np.ndarray, history: List[tuple]) -> np.ndarray:
        """The network's output for one image, classes [H, W] or scores [C, H, W] -> classes in the image's own size,
        [H, W] uint8. ValueError for a class that such a picture has no number for."""
        output = self.in_own_size(output, history)
        classes = output.argmax(2) if output.ndim == 3 else output
        if classes.max() > 255:
            raise ValueError(f"class {classes.max()} does not fit a picture with 256 colours; tools/predict.py writes "
                             "such classes with 16 bits")
        return classes.astype("uint8")

    def in_own_size(self, output: np.ndarray, history: List[tuple]) -> np.ndarray:
        """The network's output for one image in that image's own size: classes [H, W] uint16, which take the nearest,
        or scores [H, W, C] float32, which are resized bilinearly."""
        scores = output.ndim == 3
        output = output.transpose(1, 2, 0) if scores else output.astype("uint16")
        for undo, (height, width) in reversed(history):
            if undo == "crop":
                output = output[:height, :width]
            else:
                output = cv2.resize(output, (width, height),
                                    interpolation=cv2.INTER_LINEAR if scores else cv2.INTER_NEAREST)
        return output

    def palette(self) -> List[int]:
        """R, G, B of class 0, of class 1, ...; 768 numbers. Hues where the export has no colours."""
        hues = np.array([[[47 * i % 180, 255, 255] for i in range(256)]], dtype="uint8")
        colors = cv2.cvtColor(hues, cv2.COLOR_HSV2RGB)[0]
        for i, color in enumerate((self.deploy.get("palette") or [])[:256]):
            colors[i] = color
        return colors.reshape(-1).tolist()


class Deployed(Images):
    """An exported network: `run` takes images [B, C, H, W] float32, as `prepare` makes them, and returns its output.

    Args:
        config: path of the export's deploy.yaml.
        backend: "paddle" (Paddle Inference), "onnx" (ONNX Runtime) or "openvino" (OpenVINO, on the same ONNX files).
        precision: "fp32"; "int8", ONNX Runtime unless the backend is OpenVINO; "fp16", Paddle Inference on a GPU only.
        device: "cpu" or "gpu".
        threads: of the CPU.
        onednn: let Paddle Inference use oneDNN on the CPU.
        verbose: let the runtime print what it does.
        throughput: many images are to come. OpenVINO then computes several at a time, each on a part of the threads;
            the others one after another, whatever is said here.

    `requests` is how many threads may call `run` at a time.

    Raises:
        ValueError, OSError: deploy.yaml or a model it names is missing or wrong, or the runtime is not installed.
    """

    def __init__(self, config: str, backend: str = "paddle", precision: str = "fp32", device: str = "cpu",
                 threads: int = 1, onednn: bool = True, verbose: bool = False, throughput: bool = False):
        super().__init__(config)
        if precision == "int8" or backend != "paddle":
            if precision == "fp16":
                raise ValueError(f"--backend {backend} runs fp32 and int8, not {precision}")
            flag = {"int8": "--int8 IMAGES", "onnx": "--onnx"}
            key = "int8" if precision == "int8" else "onnx"
            file = self.file(key, flag[key])
            self.run = openvino(file, device, threads, verbose, throughput) if backend == "openvino" else \
                onnx_runtime(file, device, threads, verbose)
        else:
            self.run = paddle_inference(self.file("model"), self.file("params"), device, precision, threads, onednn,
                                        verbose)
        self.requests = self.run.count if isinstance(self.run, Requests) else 1

    def file(self, key: str, flag: str = "") -> str:
        """Path of the file that deploy.yaml has under `key`; `flag` is what export.py writes it with."""
        if key not in self.deploy:
            raise ValueError(f"{self.config} names no {key} model; export it again" + (f" with {flag}" if flag else ""))
        path = os.path.join(os.path.dirname(os.path.abspath(self.config)), self.deploy[key])
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{self.config} names {self.deploy[key]}, but there is no {path}")
        return path


def read_config(path: str) -> dict:
    """What a deploy.yaml says."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no {path}; give the deploy.yaml of an export")
    with open(path, encoding="utf-8") as file:
        try:
            content = yaml.safe_load(file)
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no valid YAML: it is no text in UTF-8") from error
    if not isinstance(content, dict) or not isinstance(content.get("Deploy"), dict):
        raise ValueError(f"{path} has no section Deploy; give the deploy.yaml of an export")
    return content["Deploy"]


def write_config(path: str, deploy: dict):
    """Writes a deploy.yaml that says this."""
    with open(path, "w", encoding="utf-8") as file:
        yaml.safe_dump({"Deploy": deploy}, file, sort_keys=False, default_flow_style=None, allow_unicode=True)
