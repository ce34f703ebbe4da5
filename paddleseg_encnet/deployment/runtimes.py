"""What runs an exported network: each is a function from images [B, C, H, W] float32 to the network's output.

One thread calls it at a time; of OpenVINO for throughput several, see Requests.
"""

import queue
from typing import Callable


def paddle_inference(model: str, params: str, device: str, precision: str, threads: int, onednn: bool,
                     verbose: bool = False) -> Callable:
    import zlib  # noqa: F401   before Paddle, whose 2.6 crashes without it

    from paddleseg_encnet.runtime import cpu
    try:
        cpu.import_paddle()
        from paddle import inference
    except ImportError as error:
        raise ValueError(f"Paddle Inference does not load ({error}); pip install "
                         "\"paddleseg_encnet[cpu]\" or \"[gpu]\", or --backend onnx") from error
    if precision == "fp16" and device == "cpu":
        raise ValueError("--precision fp16 is for a GPU; on the CPU there are fp32 and int8")
    config = inference.Config(model, params)
    if not verbose:
        config.disable_glog_info()
    if device == "gpu":
        half = inference.PrecisionType.Half if precision == "fp16" else inference.PrecisionType.Float32
        config.enable_use_gpu(256, 0, half)
    else:
        config.disable_gpu()
        config.set_cpu_math_library_num_threads(threads)
        if onednn:
            config.enable_mkldnn()
            config.set_mkldnn_cache_capacity(10)        # kernels of the last ten image sizes
        else:
            config.disable_mkldnn()
    if model.endswith(".pdmodel"):                      # Paddle 3 fails when its own format is given this option
        config.enable_memory_optim()
    with cpu.kept_threads():
        predictor = inference.create_predictor(config)
    images = predictor.get_input_handle(predictor.get_input_names()[0])

    def run(batch):
        images.reshape(batch.shape)
        images.copy_from_cpu(batch)
        with cpu.kept_threads():
            predictor.run()
        return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    return run


def onnx_runtime(model: str, device: str, threads: int, verbose: bool = False) -> Callable:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(f"ONNX Runtime does not load ({error}); pip install onnxruntime, or all that "
                         "exports need: pip install \"paddleseg_encnet[onnx]\"") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 1 if verbose else 3
    provider = {"gpu": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}[device]
    if provider not in onnxruntime.get_available_providers():
        raise ValueError(f"this onnxruntime has no {provider}; pip install onnxruntime-gpu, or --device cpu")
    session = onnxruntime.InferenceSession(model, options, providers=[provider])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def openvino(model: str, device: str, threads: int, verbose: bool = False, throughput: bool = False) -> Callable:
    try:
        from openvino import Core
    except ImportError as error:
        raise ValueError(f"OpenVINO does not load ({error}); pip install openvino, 2023.1 or later, or "
                         "\"paddleseg_encnet[openvino]\"") from error
    if device != "cpu":
        raise ValueError("--backend openvino runs on the CPU; for --device gpu there are paddle and onnx")
    # Where the processor has bfloat16, that would be its default.
    options = {"PERFORMANCE_HINT": "THROUGHPUT" if throughput else "LATENCY", "INFERENCE_NUM_THREADS": threads,
               "INFERENCE_PRECISION_HINT": "f32", "LOG_LEVEL": "LOG_INFO" if verbose else "LOG_NONE"}
    network = Core().compile_model(model, "CPU", options)
    return Requests(network, network.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") if throughput else 1)


class Requests:
    """OpenVINO's infer requests of a network: so many threads may call it at a time, each has its own; others wait."""

    def __init__(self, network, count: int):
        self.count, self.free = count, queue.SimpleQueue()
        for _ in range(count):
            self.free.put(network.create_infer_request())

    def __call__(self, batch):
        request = self.free.get()
        try:
            return request.infer([batch])[0]        # a copy: the next call overwrites the request's own
        finally:
            self.free.put(request)
