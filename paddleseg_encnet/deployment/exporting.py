"""Deployment: a trained network as files that run without its code.

    DIR/model.json or model.pdmodel, model.pdiparams    Paddle Inference; which of the two is what Paddle itself writes
    DIR/model.onnx                                      ONNX, if asked for
    DIR/model_int8.onnx                                 ONNX with 8-bit convolutions, if asked for
    DIR/deploy.yaml                                     names them; transforms, class names, colours
"""

import contextlib
import os
import tempfile
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F

from paddleseg_encnet.deployment.half_weights import halve
from paddleseg_encnet.deployment.int8 import Limit, to_int8, write_logits_model
from paddleseg_encnet.models.presence import has_branch, least_side, with_presence
from paddleseg_encnet.models.resizing import interpolate, resizing_by
from segrun import own_files
from segrun.backends import forms_of
from segrun.backends.exported import Exported
from segrun.exports import Export, read_deploy, write_deploy

OUTPUT_OPS = ("argmax", "softmax", "none")
FILES = ("deploy.yaml", "model.json", "model.pdmodel", "model.pdiparams", "model.pdiparams.info", "model.onnx",
         "model_int8.onnx")
OPSET = 13                  # the oldest with per-channel quantisation


class ExportError(ValueError):
    """A form can't be written here; says why and what to do."""


def export_network(network: nn.Layer, save_dir: str, deploy: dict, output_op: str = "argmax",
                   input_shape: Optional[List[int]] = None, onnx: bool = False, calibration: Optional[List[str]] = None,
                   in_channels: int = 3, limit: Optional[Limit] = None, half_weights: bool = False) -> None:
    """Writes the files above into `save_dir`, all of them or none; other files there are left alone.

    Args:
        network: images [B, in_channels, H, W] -> a list that starts with logits [B, C, H, W]. It is left in evaluation
            mode.
        deploy: what else `deploy.yaml` says: `transforms` as in a config, `class_names`, `palette`.
        output_op: what comes out: "argmax" classes [B, H, W] int32, "softmax" probabilities or "none" logits
            [B, C, H, W] float32.
        input_shape: [B, in_channels, H, W], -1 where any size goes; any batch and size if None.
        onnx: write `model.onnx`.
        calibration: images to measure the range of each tensor on; writes `model_int8.onnx`.
        limit: what accuracy that may cost; convolutions that cost more stay in float32.
        half_weights: store the weights of `model.onnx` in half precision; it is computed in float32.

    Raises:
        ExportError: the network can't be converted, or a package for that is not installed.
    """
    shape = list(input_shape or [-1, in_channels, -1, -1])
    if len(shape) != 4 or any(side != -1 and side < 1 for side in shape):
        raise ExportError(f"--input_shape takes batch, channels, height, width, each at least 1, or -1 for any; got "
                          f"{' '.join(map(str, shape))}")
    if shape[1] not in (-1, in_channels):
        raise ExportError(f"--input_shape has {shape[1]} channels, the network takes {in_channels} (in_channels)")
    shape[1] = in_channels
    parent = os.path.dirname(os.path.realpath(save_dir))
    os.makedirs(parent, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".export-") as folder:
        model = trace(network, os.path.join(folder, "model"), output_op, shape, in_three_dimensions)
        info = {"model": model, "params": "model.pdiparams", **deploy, "input_shape": shape, "output_op": output_op,
                "output_dtype": "int32" if output_op == "argmax" else "float32"}
        if has_branch(network):
            info["presence"] = True
        if least_side(network) > 1:
            info["least_side"] = least_side(network)
        if onnx or calibration:
            with tempfile.TemporaryDirectory(dir=folder) as plain:
                model = trace(network, os.path.join(plain, "model"), output_op, shape, interpolate)
                to_onnx(os.path.join(plain, model), os.path.join(folder, "model.onnx"))
            info["onnx"] = "model.onnx"
        config = os.path.join(folder, "deploy.yaml")
        write_deploy(config, info)
        if calibration:
            info["int8"] = "model_int8.onnx"
            kept = to_int8(os.path.join(folder, "model.onnx"), os.path.join(folder, info["int8"]), Export(config),
                           calibration, limit)
            if kept:
                info["float32_convolutions"] = layers_of_weights(kept, network)
            if not onnx:
                os.remove(os.path.join(folder, info.pop("onnx")))
        if half_weights and onnx:
            halve(os.path.join(folder, info["onnx"]))
            info["half_weights"] = True
        write_deploy(config, info)
        move(folder, save_dir)


def move(folder: str, save_dir: str) -> None:
    """Moves an export to its place, as files of a tool. deploy.yaml goes first and comes last: without it nothing is an
    export."""
    os.makedirs(save_dir, exist_ok=True)
    for name in FILES:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(save_dir, name))
    for name in sorted(os.listdir(folder), key=lambda name: name == "deploy.yaml"):
        target = os.path.join(save_dir, name)
        own_files.record(target, os.path.join(folder, name))
        os.replace(os.path.join(folder, name), target)


# --- Paddle ----------------------------------------------------------------------------------------------------------

class WithOutputOp(nn.Layer):
    """A network whose first output is what `output_op` makes of its logits; the second, where it has an SE branch, the
    probability of each class to be in the image, [B, num_classes]."""

    def __init__(self, network: nn.Layer, output_op: str):
        super().__init__()
        self.network, self.output_op = network, output_op

    def forward(self, images: paddle.Tensor) -> Union[paddle.Tensor, Tuple[paddle.Tensor, paddle.Tensor]]:
        outputs, presence = with_presence(self.network, images)
        if self.output_op == "argmax":
            first = paddle.argmax(outputs[0], axis=1, dtype="int32")
        elif self.output_op == "softmax":
            first = F.softmax(outputs[0], axis=1)
        else:
            first = outputs[0]
        return first if presence is None else (first, F.sigmoid(presence))


def trace(network: nn.Layer, path: str, output_op: str, shape: List[int], resizing: Callable) -> str:
    """Writes `path`.json or .pdmodel, and .pdiparams; returns the name of the first. `resizing` is what the network
    resizes by, in place of F.interpolate."""
    network = WithOutputOp(without_sync(network), output_op)
    network.eval()
    images = paddle.static.InputSpec([None if side == -1 else side for side in shape], "float32", "images")
    with resizing_by(resizing):
        paddle.jit.save(paddle.jit.to_static(network, input_spec=[images], full_graph=True), path)
    return next(os.path.basename(path + end) for end in (".json", ".pdmodel") if os.path.exists(path + end))


def in_three_dimensions(x: paddle.Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                        align_corners: bool = False, align_mode: int = 0,
                        data_format: str = "NCHW", name: Optional[str] = None) -> paddle.Tensor:
    """F.interpolate, bilinear resizing as trilinear resizing of a volume of depth 1: the same numbers.

    Symptom: Paddle Inference 3.3 stops with `ConvertPirAttribute2RuntimeAttribute not support ... DoubleAttribute`.
    Cause: oneDNN is on by default and has a kernel for bilinear_interp, whose attribute `scale` has become a list of
    doubles, which the way to oneDNN's kernels can't pass on, not even empty. It has none for trilinear_interp, so that
    operation stays with Paddle, and the convolutions with oneDNN. (Matrix products would be as good, but with oneDNN
    a product of a 4-D tensor behind a convolution with a matrix comes out wrong, without an error.) An ONNX file is
    made of a trace without this, as its runtimes resize faster in two dimensions.
    """
    if mode.lower() != "bilinear" or data_format != "NCHW":
        return interpolate(x, size, scale_factor, mode, align_corners, align_mode, data_format, name)
    if size is not None:
        size = [1, size[0], size[1]]
    elif isinstance(scale_factor, (list, tuple)):
        scale_factor = [1.0, *scale_factor]
    elif scale_factor is not None:
        scale_factor = [1.0, scale_factor, scale_factor]
    return interpolate(x.unsqueeze(2), size, scale_factor, "trilinear", align_corners, align_mode, "NCDHW").squeeze(2)


def without_sync(network: nn.Layer) -> nn.Layer:
    """The network with BatchNorm in place of SyncBatchNorm, which needs the other GPUs; changed in place."""
    for parent in network.sublayers(include_self=True):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.SyncBatchNorm):
                plain = nn.BatchNorm(layer._num_features, momentum=layer._momentum, epsilon=layer._epsilon)
                plain.set_state_dict(layer.state_dict())
                setattr(parent, name, plain)
    return network


# --- ONNX ------------------------------------------------------------------------------------------------------------

def to_onnx(model: str, path: str) -> None:
    """Converts a traced model to an ONNX file."""
    try:
        import paddle2onnx
    except (ImportError, ValueError) as error:      # ValueError: it does not like this Paddle's version
        reason = str(error).split(". ")[0]
        wanted = "paddleseg_encnet[export]" if model.endswith(".json") else "paddle2onnx<2"     # 2 asks for Paddle 3
        raise ExportError(f"ONNX needs a paddle2onnx for this Paddle ({reason}); pip install \"{wanted}\"") from error
    try:
        # Without a file to save to: its optimiser comes with saving, and installs packages.
        content = paddle2onnx.export(model, os.path.splitext(model)[0] + ".pdiparams", None, opset_version=OPSET,
                                     enable_onnx_checker=True, verbose=False)
    except (Exception, SystemExit) as error:        # the converter exits on an operation that it does not know
        raise ExportError(f"paddle2onnx could not convert the network ({type(error).__name__}: {error}); its own lines "
                          "above say where; nothing was written") from error
    if not content:
        raise ExportError("paddle2onnx could not convert the network and does not say why; nothing was written")
    with open(path, "wb") as file:
        file.write(content)


def layers_of_weights(weights: List[str], network: nn.Layer) -> List[str]:
    """Layers by their names in the network, from Paddle's names of their weights."""
    layers = {weight.name: name.rpartition(".")[0] for name, weight in network.named_parameters()}
    return [layers.get(weight, weight) for weight in weights]


# --- is it the same network? -----------------------------------------------------------------------------------------

class Agreement(NamedTuple):
    """How near an exported form is to the live network."""
    difference: float       # largest, of any logit
    largest: float          # live logit
    pixels: float           # share of equal classes

    def __str__(self) -> str:
        return (f"largest logit difference {self.difference:.1e} (largest logit {self.largest:.1f}), "
                f"{self.pixels:.3%} of the pixels agree")


def verify_export(network: nn.Layer, save_dir: str, image: str, threads: int = 1) -> Dict[str, Agreement]:
    """Runs each form of an export, and the live network, on an image. An export of classes or probabilities is traced
    and converted once more without its output operation, to have logits to compare; int8 has it cut off."""
    export_ = Export(save_dir)
    info, batch = export_.content, export_.batch_of(image)
    network.eval()
    with paddle.no_grad():
        live = network(paddle.to_tensor(batch))[0].numpy()
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        if info["output_op"] == "none":
            folder = save_dir
        else:
            export_network(network, folder, {"transforms": info["transforms"]}, "none", info["input_shape"],
                           "onnx" in info, in_channels=export_.channels, half_weights="half_weights" in info)
            if "int8" in info:
                write_logits_model(os.path.join(save_dir, info["int8"]), os.path.join(folder, info["int8"]))
                described = read_deploy(os.path.join(folder, "deploy.yaml"))
                write_deploy(os.path.join(folder, "deploy.yaml"), {**described, "int8": info["int8"]})
        for form in forms_of(info):
            how: Dict[str, Any] = dict(backend=form.backend, precision=form.precision, device="cpu", threads=threads)
            logits = Exported(Export(folder), **how).run(batch).values
            output = Exported(export_, **how).run(batch).values
            classes = output if info["output_op"] == "argmax" else output.argmax(1)
            result[form.name] = Agreement(float(np.abs(logits - live).max()), float(np.abs(live).max()),
                                          float((classes == live.argmax(1)).mean()))
    return result
