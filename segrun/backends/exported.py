"""An export in a runtime, as a network for a Segmenter."""

from typing import Any, List, Optional, Protocol, Tuple

import numpy as np
from numpy.typing import NDArray

from segrun import cpu
from segrun.backends import LARGE, LONGEST_REASON, form_of
from segrun.backends.onnx_runtime import OnnxRuntime
from segrun.backends.openvino_runtime import OpenVino
from segrun.backends.paddle_inference import PaddleInference
from segrun.errors import joined
from segrun.exports import Export
from segrun.network import IDS, Output, Prepared, Size
from segrun.preprocess import resize_arrays

NEAR = 1e-3     # to 0 and 1, of probabilities that a runtime has rounded


class Runtime(Protocol):
    """`requests` is how many threads may compute at a time."""
    requests: int

    def __call__(self, batch: NDArray[Any], release: bool = False) -> List[NDArray[Any]]:
        """The network's outputs for images [B, C, H, W] float32, in arrays of their own. With `release` it then frees
        what it would keep for the next images, where it can."""


class Exported:
    """A network.Network made of an export. Any number of threads may use it.

    Args:
        export: what its deploy.yaml says.
        backend: "paddle" (Paddle Inference), "onnx" (ONNX Runtime) or "openvino" (OpenVINO, on the same ONNX files).
        precision: "fp32"; "int8", of ONNX Runtime and OpenVINO; "bf16", of OpenVINO on a processor that has it; "fp16",
            of Paddle Inference on a GPU.
        device: "cpu", "gpu", "gpu:1"; None is the GPU if the runtime has one.
        threads: of the CPU; all of this process if None.
        onednn: let Paddle Inference use oneDNN on the CPU.
        verbose: let the runtime print what it does.
        throughput: many images are to come. OpenVINO then computes several at a time, each on a part of the threads;
            the others one after another, whatever is said here.

    Raises:
        ValueError, OSError: deploy.yaml or a model it names is missing or wrong, or the runtime is not installed.
    """

    def __init__(self, export: Export, backend: str = "paddle", precision: str = "fp32", device: Optional[str] = None,
                 threads: Optional[int] = None, onednn: bool = True, verbose: bool = False, throughput: bool = False):
        form, threads = form_of(backend, precision), threads or cpu.cpu_count()
        file = export.file(form.key, form.flag)
        try:
            runtime: Runtime
            if backend == "paddle":
                runtime = PaddleInference(file, export.file("params"), device, precision, threads, onednn, verbose)
            elif backend == "onnx":
                runtime = OnnxRuntime(file, device, threads, verbose)
            else:
                runtime = OpenVino(file, device, threads, precision, verbose, throughput)
        except (ValueError, OSError, MemoryError):
            raise
        except Exception as error:      # each runtime has its own, which may not name the file
            raise ValueError(f"{form.name} can't load {file}, is it damaged or cut short? "
                             f"{joined(str(error))[:LONGEST_REASON]}") from error
        self.set_runtime(export, runtime)

    @classmethod
    def of(cls, export: Export, runtime: Runtime) -> "Exported":
        """With a runtime that is there already."""
        network = cls.__new__(cls)
        network.set_runtime(export, runtime)
        return network

    def set_runtime(self, export: Export, runtime: Runtime) -> None:
        self.export, self.runtime, self.requests = export, runtime, runtime.requests
        self.channels, self.classes, self.meaning = export.channels, export.classes, export.meaning
        self.batch_size, self.pixelwise = export.batch_size, export.preprocess.pixelwise
        self.judged = False
        self.before: Tuple[int, ...] = (0, 0, 0, 0)     # the shape of the batch before
        self.least_side = export.content.get("least_side", 1)

    def prepare(self, pixels: NDArray[Any], where: str) -> Prepared:
        return self.export.prepare(pixels, where)

    def run(self, batch: NDArray[Any]) -> Output:
        """As Network.run. ValueError: what comes out does not belong to this batch."""
        images = self.export.filled(np.ascontiguousarray(batch, np.float32))
        before, self.before = self.before, images.shape
        pixels = max(shape[0] * shape[2] * shape[3] for shape in (before, images.shape))
        release = before != images.shape and pixels >= LARGE
        try:
            values, *others = self.runtime(images, release)
        except MemoryError:
            raise
        except Exception as error:      # each runtime has its own, which are no ValueErrors
            raise ValueError(f"the runtime can't run this network on images {list(images.shape)}: "
                             f"{joined(str(error))}") from error
        finally:
            if release:
                cpu.give_back()
        presence = others[0] if others and self.export.content.get("presence") else None
        # A runtime that can't take a size may hand on what it has from before: another image's.
        if values.shape[0] != len(images) or values.shape[-2:] != images.shape[-2:] or (
                presence is not None and len(presence) != len(images)):
            raise ValueError(f"the runtime gives {list(values.shape)} for images {list(images.shape)}: it can't run "
                             "this network on images of this size")
        if not self.judged:
            self.judge(values)
        if values.ndim == 3:        # an export by PaddleSeg's own tool may not say so
            self.meaning, values = IDS, values.astype(np.int32, copy=False)
        return Output(values[:len(batch)], None if presence is None else logits_of(presence[:len(batch)]))

    def judge(self, values: NDArray[Any]) -> None:
        """Raises ValueError where the first output is not what deploy.yaml says of it: pictures would be wrong."""
        said = self.export.content.get("output_op") or None
        found, low, high = "", values.min(), values.max()
        if values.ndim not in (3, 4) or (said is not None and (values.ndim == 3) != (said == "argmax")):
            found = f"an array {list(values.shape)}"
        elif said == "softmax" and not (-NEAR <= low and high <= 1 + NEAR):
            found = f"numbers from {low:.3g} to {high:.3g}"
        elif said == "none" and values.shape[1] > 1 and low >= 0 and np.abs(values.sum(axis=1) - 1).max() < NEAR:
            found = "probabilities"
        if found:
            raise ValueError(f"{self.export.path} has output_op {said}, but the network gives {found}: argmax is of "
                             "classes [B, H, W], softmax of probabilities and none of logits [B, C, H, W]")
        self.judged = True

    def resize(self, values: NDArray[Any], size: Size) -> NDArray[Any]:
        return resize_arrays(values, size)


def logits_of(probabilities: NDArray[Any]) -> NDArray[Any]:
    """float32; those of 0 and 1 are as far away as float32 knows."""
    nearest = np.finfo(np.float32).eps / 2
    inside = np.clip(probabilities.astype(np.float64), nearest, 1 - nearest)
    return np.log(inside / (1 - inside)).astype(np.float32)
