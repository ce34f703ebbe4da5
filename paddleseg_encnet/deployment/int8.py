"""8-bit convolutions in ONNX that keep the accuracy: what an activation's single scale ruins stays in float32.

A convolution's weights have a scale for each output channel, a tensor of activations has one for all. Activations are
those behind a ReLU or a clip, ReLU6 of EfficientNet-Lite, which take some range of their own: before it, a depthwise
convolution's outputs reach far beyond the six units that anybody reads. Which tensors lose most all the same is
measured, by the noise that 8 bits add to each on an image; the convolutions beside the worst stay in float32, as few as
keep the drop in mIoU within a limit (Wu et al. 2020, "Integer Quantization for Deep Learning Inference", arXiv
2004.09602, which calls that partial quantization).
"""

import os
import re
import tempfile
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional

import numpy as np

from segrun.exports import Export
from segrun.progress import Progress

if TYPE_CHECKING:
    from onnxruntime.quantization import CalibrationDataReader as DataReader

CALIBRATION_IMAGES = 32


class Int8Error(ValueError):
    """What was asked of 8 bits can't be had; says why and what to do."""


class Limit(NamedTuple):
    """How much accuracy 8 bits may cost."""
    max_drop: float                             # points of mIoU
    mean_iou: Callable[[str, Export], float]    # of an ONNX file, 0 to 1, on images that it is not calibrated on
    say: Callable[[str], None]                  # a line for the user


def to_int8(model: str, path: str, export: Export, images: List[str], limit: Optional[Limit] = None) -> List[str]:
    """Writes the ONNX file `model` with 8-bit convolutions to `path`.

    Args:
        export: what is done to an image first.
        images: to measure the ranges of activations on; of many some, spread evenly.
        limit: without it all convolutions are quantised.

    Returns:
        Names of the weights whose convolutions stay in float32.

    Raises:
        Int8Error: onnxruntime's quantisation is not installed; not even one 8-bit convolution keeps the limit.
    """
    try:
        import onnxruntime
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise Int8Error(f"--int8 needs onnxruntime's quantisation, which does not load ({error}); "
                        "pip install \"paddleseg_encnet[export]\"") from error
    onnxruntime.set_default_logger_severity(3)      # warnings of unused constants, a line each
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        folded = os.path.join(folder, "folded.onnx")
        quant_pre_process(model, folded, skip_symbolic_shape=True)      # BatchNorm goes into the convolutions
        chosen = calibrating(images)
        quantise(folded, path, export, chosen, [])
        if limit is None:
            return []
        return quantise_within(limit, folded, path, export, chosen)


def calibrating(images: List[str]) -> List[str]:
    step = max(1, len(images) // CALIBRATION_IMAGES)
    return images[::step][:CALIBRATION_IMAGES]


def quantise_within(limit: Limit, folded: str, path: str, export: Export, chosen: List[str]) -> List[str]:
    """Quantises anew until the limit holds: by bisection the fewest of the convolutions, the worst first."""
    full, drop = limit.mean_iou(folded, export), 0.0

    def fits(kept: int) -> bool:
        nonlocal drop
        drop = 100 * (full - limit.mean_iou(path, export))
        limit.say(f"{kept or 'no'} convolutions in float32: {drop:+.2f} points of mIoU lost of {100 * full:.2f}")
        return drop <= limit.max_drop

    if fits(0):
        return []
    worst = by_noise(folded, path, export, chosen[0])
    few, many, now = 0, len(worst), 0       # too few; enough, as all of them are the network as it was; in the file
    while many - few > 1:
        now = (few + many) // 2
        quantise(folded, path, export, chosen, [node for node, _ in worst[:now]])
        few, many = (few, now) if fits(now) else (now, many)
    if many == len(worst):
        raise Int8Error(f"8 bits lose {drop:.2f} points of mIoU even if {now} of {len(worst)} convolutions stay in "
                        f"float32: --max_drop {limit.max_drop:g} can't be kept; leave out --int8, or allow more")
    if now != many:
        quantise(folded, path, export, chosen, [node for node, _ in worst[:many]])
    return [weight for _, weight in worst[:many]]


def quantise(folded: str, path: str, export: Export, chosen: List[str], in_float: List[str]) -> None:
    """All convolutions but the nodes named."""
    from onnxruntime import quantization
    # Unsigned activations: ReLU is then part of the convolution, which with signed ones often stays in float32. Weights
    # of 7 bits: processors without VNNI add pairs of products in 16 bits, which 8 bits can exceed.
    progress = Progress(len(chosen), "calibration images")
    quantization.quantize_static(folded, path, reader(export, chosen, progress.advance),
                                 quant_format=quantization.QuantFormat.QDQ,
                                 op_types_to_quantize=["Conv", "Relu", "Clip"], nodes_to_exclude=in_float,
                                 per_channel=True, reduce_range=True,
                                 activation_type=quantization.QuantType.QUInt8,
                                 weight_type=quantization.QuantType.QInt8)
    progress.close()


def reader(export: Export, paths: List[str], advance: Callable[[], None] = lambda: None) -> "DataReader":
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.paths = iter(paths)

        def get_next(self) -> Optional[Dict[str, np.ndarray]]:
            path = next(self.paths, None)
            if path is None:
                return None
            advance()
            return {"images": export.batch_of(path)}
    return Reader()


def by_noise(folded: str, path: str, export: Export, image: str) -> List[tuple]:
    """(node, name of its weight) of each convolution, the one with the noisiest input or output first. Both that have a
    tensor between them have its noise, so that they come to float32 together, and it with them."""
    import onnx
    from onnxruntime.quantization import qdq_loss_debug as debug
    with tempfile.TemporaryDirectory(dir=os.path.dirname(folded)) as folder:
        shown = os.path.join(folder, "shown.onnx")
        debug.modify_model_output_intermediate_tensors(path, shown)
        values = debug.create_activation_matching(debug.collect_activations(shown, reader(export, [image])))
    signal: Dict[str, float] = {
        name: debug.compute_signal_to_quantization_noice_ratio(pair["pre_qdq"], pair["post_qdq"])
        for name, pair in values.items()}
    nodes = onnx.load(folded, load_external_data=False).graph.node
    activated = {node.input[0]: node.output[0] for node in nodes if node.op_type in ("Relu", "Clip")}
    convolutions = [node for node in nodes if node.op_type == "Conv"]

    def least(node: Any) -> float:
        output = node.output[0]
        return min(signal.get(name, np.inf) for name in (node.input[0], output, activated.get(output, output)))
    return [(node.name, weight(node.input[1])) for node in sorted(convolutions, key=least)]


def weight(initializer: str) -> str:
    """Paddle's own name of a weight, from what folding has made of it."""
    found = re.search(r"(?:depthwise_)?conv2d_\d+\.w_\d+", initializer)
    return found[0] if found else initializer


def write_logits_model(model: str, path: str) -> None:
    """Writes the ONNX file `model` to `path` without the operation that makes classes or probabilities of logits."""
    import onnx
    content = onnx.load(model)
    last = [node for node in content.graph.node if node.op_type in ("ArgMax", "Softmax")][-1]
    del content.graph.output[:]
    content.graph.output.append(onnx.helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None))
    onnx.save(content, path)
