"""Paddle Inference: an export's model and parameters."""

import os
import re
import threading
from typing import Any, List, Optional

from numpy.typing import NDArray

from segrun import cpu
from segrun.backends import LONGEST_REASON, parted
from segrun.errors import joined

# With precision "fp16" Paddle Inference takes each operation that has a kernel for it to half precision, which ends at
# 65504. These stay in float32: they are what EncNet's Encoding layer is made of, whose squares and sums over the
# positions of an image go beyond, and what its numbers pass through on their way. Convolutions, ReLU, pooling and
# resizing are not among them. Paddle 2 and 3 have names of their own.
FLOAT32_OPERATIONS = frozenset([
    "add", "batch_norm", "batch_norm_", "clip", "concat", "divide", "elementwise_add", "elementwise_div",
    "elementwise_mul", "elementwise_sub", "exp", "fill_any_like", "full_like", "matmul", "matmul_v2", "max", "mean",
    "multiply", "reduce_max", "reduce_mean", "reduce_sum", "scale", "slice", "stack", "subtract", "sum", "transpose",
    "transpose2", "unsqueeze", "unsqueeze2"])


def blamed(model: str, params: str, message: str) -> str:
    """Which of the files an error in loading them is of: both, where that can't be told."""
    if "pars" in message.replace("params", "").replace("parameters", "") or not os.path.getsize(model):
        return model
    return params if re.search("tensor|param", message, re.IGNORECASE) else f"{model} with {params}"


class PaddleInference:
    """One thread computes at a time; others wait.

    Args:
        model, params: the files.
        device: "cpu", "gpu", "gpu:1"; the GPU if there is one when it is None.
        precision: "fp32", or "fp16" on a GPU.
        threads: of the CPU.
        onednn: use oneDNN on the CPU.
        verbose: let it print what it does.

    Raises:
        ValueError: it is not installed, or has not this device or precision.
    """
    requests = 1

    def __init__(self, model: str, params: str, device: Optional[str], precision: str, threads: int,
                 onednn: bool = True, verbose: bool = False):
        import zlib  # noqa: F401   before Paddle, whose 2.6 crashes without it
        try:
            cpu.import_paddle()
            import paddle
            from paddle import inference
        except ImportError as error:
            raise ValueError(f"Paddle Inference does not load ({error}); pip install \"paddleseg_encnet[cpu]\" or "
                             "\"[gpu]\", or --backend onnx") from error
        if device is None:
            there = paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
            device = "gpu" if there else "cpu"
        kind, number = parted(device)
        if precision == "fp16" and kind == "cpu":
            raise ValueError("--precision fp16 is for a GPU; on the CPU there are fp32 and int8")
        config = inference.Config(model, params)
        if not verbose:
            config.disable_glog_info()
        if kind == "gpu":
            half = inference.PrecisionType.Half if precision == "fp16" else inference.PrecisionType.Float32
            config.enable_use_gpu(256, number, half)
            if precision == "fp16":
                # Paddle 3 looks some of them up with the name of its dialect in front.
                config.exp_disable_mixed_precision_ops({*FLOAT32_OPERATIONS,
                                                        *(f"pd_op.{name}" for name in FLOAT32_OPERATIONS)})
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(threads)
            if onednn:
                config.enable_mkldnn()
                # Kernels, and their memory of 90 bytes a pixel, of the last image size: of ten it was gigabytes.
                config.set_mkldnn_cache_capacity(1)
            else:
                config.disable_mkldnn()
        if model.endswith(".pdmodel"):                      # Paddle 3 fails when its own format is given this option
            config.enable_memory_optim()
        with cpu.kept_threads():
            try:
                self.predictor = inference.create_predictor(config)
            except MemoryError:
                raise
            except Exception as error:      # whatever its readers meet; it names no file
                raise ValueError(f"Paddle Inference can't load {blamed(model, params, str(error))}, is it damaged or "
                                 f"cut short? {joined(str(error))[:LONGEST_REASON]}") from error
        self.images = self.predictor.get_input_handle(self.predictor.get_input_names()[0])
        self.lock = threading.Lock()

    def __call__(self, batch: NDArray[Any], release: bool = False) -> List[NDArray[Any]]:
        """As exported.Runtime. There is nothing to release: its memory is malloc's."""
        with self.lock:
            self.images.reshape(batch.shape)
            self.images.copy_from_cpu(batch)
            with cpu.kept_threads():
                self.predictor.run()
            return [self.predictor.get_output_handle(name).copy_to_cpu() for name in self.predictor.get_output_names()]
