"""OpenVINO: an export's ONNX file, on a CPU."""

import queue
from typing import Any, List, Optional

import numpy as np
from numpy.typing import NDArray

from segrun.backends import has_bfloat16, openvino_core, parted

# That are kept for image sizes seen before: a network has some fifty of each size, of 70 KB each. Its default is 5000.
KERNELS = 500


class OpenVino:
    """So many threads as it has infer requests compute at a time, each has its own; others wait.

    Args:
        model: the file.
        device: "cpu", or None for the same.
        precision: "bf16" computes in bfloat16, which is 16 bits with the range of float32; else float32 is not rounded.
        threads: of the CPU.
        verbose: let it print what it does.
        throughput: compute several batches at a time, each on a part of the threads.

    Raises:
        ValueError: it is not installed, another device is asked for, or the processor has no bfloat16.
    """

    def __init__(self, model: str, device: Optional[str], threads: int, precision: str = "fp32",
                 verbose: bool = False, throughput: bool = False):
        try:
            compile_model = openvino_core().compile_model
        except ImportError as error:
            raise ValueError(f"OpenVINO does not load ({error}); pip install openvino, 2023.1 or later, or "
                             "\"paddleseg_encnet[openvino]\"") from error
        if parted(device or "cpu")[0] != "cpu":
            raise ValueError("--backend openvino runs on the CPU; for --device gpu there are paddle and onnx")
        if precision == "bf16" and not has_bfloat16():
            raise ValueError("--precision bf16 needs a processor that computes in it (AVX512-BF16 or AMX): this one "
                             "would be slower than in fp32")
        # Where the processor has bfloat16, that would be its default.
        options = {"PERFORMANCE_HINT": "THROUGHPUT" if throughput else "LATENCY", "INFERENCE_NUM_THREADS": threads,
                   "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                   # CPU_DENORMALS_OPTIMIZATION is left alone: it changes the arithmetic of the whole calling thread,
                   # NumPy's too, which then warns.
                   "CPU_RUNTIME_CACHE_CAPACITY": KERNELS,
                   "LOG_LEVEL": "LOG_INFO" if verbose else "LOG_NONE"}
        self.network = network = compile_model(model, "CPU", options)
        self.requests = network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") if throughput else 1
        self.free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.requests):
            self.free.put(network.create_infer_request())

    def __call__(self, batch: NDArray[Any], release: bool = False) -> List[NDArray[Any]]:
        """As exported.Runtime."""
        request = self.free.get()
        try:
            # Copies: the next call overwrites the request's own.
            outputs = [np.array(values) for values in request.infer([batch]).values()]
            # OpenVINO before 2025 can't, and none can while another request computes.
            if release and self.requests == 1 and hasattr(self.network, "release_memory"):
                self.network.release_memory()
            return outputs
        finally:
            self.free.put(request)
