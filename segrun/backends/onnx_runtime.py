"""ONNX Runtime: an export's ONNX file."""

from typing import Any, List, Optional

from numpy.typing import NDArray

from segrun.backends import parted


class OnnxRuntime:
    """Any number of threads may call it.

    Args:
        model: the file.
        device: "cpu", "gpu", "gpu:1"; None is the GPU if this package has one that starts.
        threads: of the CPU.
        verbose: let it print what it does.

    Raises:
        ValueError: it is not installed, has not this device, or can't start it.
    """
    requests = 1        # a second one at a time would not be faster: one takes all threads

    def __init__(self, model: str, device: Optional[str], threads: int, verbose: bool = False):
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError(f"ONNX Runtime does not load ({error}); pip install onnxruntime, or "
                             "\"paddleseg_encnet[onnx]\"") from error
        there = onnxruntime.get_available_providers()
        kind, number = parted(device or ("gpu" if "CUDAExecutionProvider" in there else "cpu"))
        provider = {"gpu": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}[kind]
        if provider not in there:
            raise ValueError(f"this onnxruntime has no {provider}; pip install onnxruntime-gpu, or --device cpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # "session.set_denormal_as_zero" is left alone: it changes the arithmetic of the whole calling thread, NumPy's
        # too, which then warns.
        options.log_severity_level = 1 if verbose else 3
        self.session = onnxruntime.InferenceSession(
            model, options, providers=[provider], provider_options=[{"device_id": number}] if kind == "gpu" else None)
        # Without the libraries of CUDA and cuDNN that it was built for it runs on the CPU, and says so to nobody.
        if provider not in self.session.get_providers():
            if device is not None:
                raise ValueError(f"this onnxruntime has {provider}, but could not start it, and would run on the CPU: "
                                 "it needs the CUDA and cuDNN that it was built for (--print_detail True shows what is "
                                 "missing); or --device cpu")
            kind = "cpu"
        self.name = self.session.get_inputs()[0].name
        self.shrinking = onnxruntime.RunOptions()
        if kind == "cpu":
            self.shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def __call__(self, batch: NDArray[Any], release: bool = False) -> List[NDArray[Any]]:
        """As exported.Runtime."""
        outputs: List[NDArray[Any]] = self.session.run(None, {self.name: batch}, self.shrinking if release else None)
        return outputs
