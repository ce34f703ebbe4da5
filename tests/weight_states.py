"""Weights of other codebases, made by hand: what the names of each are, without looking into the tables under test."""

import numpy as np
from conftest import tool
from networks import evaluating, uninitialised
from paddleseg.cvlibs import manager

from paddleseg_encnet import ENCNet, flags
from paddleseg_encnet.weights import checkpoint


class State(dict):
    """A state dict of arrays, each of which holds a number of its own."""

    def add(self, name, *shape):
        value = np.zeros(shape, "float32")
        value += len(self) + 1
        value[tuple(0 for _ in shape)] = -1         # so that a transposition is seen
        self[name] = value

    def conv(self, name, *shape, bias=False):
        self.add(f"{name}.weight", *shape)
        if bias:
            self.add(f"{name}.bias", shape[0])

    def norm(self, name, width):
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.add(f"{name}.{part}", width)
        self[f"{name}.num_batches_tracked"] = np.array(7)


def resnet18(state, prefix="", stem=("conv1", "bn1"), width=32, shortcut=(0, 1)):
    if len(stem) == 2:
        state.conv(f"{prefix}{stem[0]}", 2 * width, 3, 7, 7)
        state.norm(f"{prefix}{stem[1]}", 2 * width)
    else:
        for conv, norm, before, after in zip(stem[::2], stem[1::2], (3, width, width), (width, width, 2 * width)):
            state.conv(prefix + conv, after, before, 3, 3)
            state.norm(prefix + norm, after)
    before = 2 * width
    for stage, after in enumerate((64, 128, 256, 512)):
        for block in (0, 1):
            name = f"{prefix}layer{stage + 1}.{block}"
            state.conv(f"{name}.conv1", after, before, 3, 3)
            state.norm(f"{name}.bn1", after)
            state.conv(f"{name}.conv2", after, after, 3, 3)
            state.norm(f"{name}.bn2", after)
            if before != after:
                state.conv(f"{name}.downsample.{shortcut[0]}", after, before, 1, 1)
                state.norm(f"{name}.downsample.{shortcut[1]}", after)
            before = after
    return state


DEEP = ("stem.0", "stem.1", "stem.3", "stem.4", "stem.6", "stem.7")
DEEP_IN_CONV1 = ("conv1.0", "conv1.1", "conv1.3", "conv1.4", "conv1.6", "bn1")


def mmseg_state(classes=5, width=4, codes=3, lateral=False):
    state = resnet18(State(), "backbone.", DEEP)
    state.conv("decode_head.conv_seg", classes, width, 1, 1, bias=True)
    state.conv("decode_head.bottleneck.conv", width, 512, 3, 3)
    state.norm("decode_head.bottleneck.bn", width)
    if lateral:
        for i, before in enumerate((128, 256)):
            state.conv(f"decode_head.lateral_convs.{i}.conv", width, before, 1, 1)
            state.norm(f"decode_head.lateral_convs.{i}.bn", width)
        state.conv("decode_head.fusion.conv", width, 3 * width, 3, 3)
        state.norm("decode_head.fusion.bn", width)
    state.conv("decode_head.enc_module.encoding_project.conv", width, width, 1, 1)
    state.norm("decode_head.enc_module.encoding_project.bn", width)
    state.add("decode_head.enc_module.encoding.0.codewords", codes, width)
    state.add("decode_head.enc_module.encoding.0.scale", codes)
    state.norm("decode_head.enc_module.encoding.1", codes)
    state.conv("decode_head.enc_module.fc.0", width, width, bias=True)
    state.conv("decode_head.se_layer", classes, width, bias=True)
    state.conv("auxiliary_head.conv_seg", classes, 6, 1, 1, bias=True)
    state.conv("auxiliary_head.convs.0.conv", 6, 256, 3, 3)
    state.norm("auxiliary_head.convs.0.bn", 6)
    return state


def encoding_state(classes=5, width=4, codes=3):
    state = resnet18(State(), "pretrained.", DEEP_IN_CONV1, width=64)
    state.conv("pretrained.fc", 1000, 512, bias=True)
    state.conv("head.conv5.0", width, 512, 3, 3)
    state.norm("head.conv5.1", width)
    state.conv("head.encmodule.encoding.0", width, width, 1, 1)
    state.norm("head.encmodule.encoding.1", width)
    state.add("head.encmodule.encoding.3.codewords", codes, width)
    state.add("head.encmodule.encoding.3.scale", codes)
    state.norm("head.encmodule.encoding.4", codes)
    state.conv("head.encmodule.fc.0", width, width, bias=True)
    state.conv("head.encmodule.selayer", classes, width, bias=True)
    state.conv("head.conv6.1", classes, width, 1, 1, bias=True)
    state.conv("auxlayer.conv5.0", 6, 256, 3, 3)
    state.norm("auxlayer.conv5.1", 6)
    state.conv("auxlayer.conv5.4", classes, 6, 1, 1, bias=True)
    return state


def fastfcn_state(width=4):
    """PyTorch-Encoding's with joint pyramid upsampling, and a 1x1 convolution behind it."""
    state = encoding_state(width=width)
    state.conv("head.conv5.0", width, 4 * width, 1, 1)
    for number, before in ((5, 512), (4, 256), (3, 128)):
        state.conv(f"jpu.conv{number}.0", width, before, 3, 3)
        state.norm(f"jpu.conv{number}.1", width)
    for number in (1, 2, 3, 4):
        state.conv(f"jpu.dilation{number}.0.conv1", 3 * width, 1, 3, 3)
        state.norm(f"jpu.dilation{number}.0.bn", 3 * width)
        state.conv(f"jpu.dilation{number}.0.pointwise", width, 3 * width, 1, 1)
        state.norm(f"jpu.dilation{number}.1", width)
    return state


def without(state, *beginnings):
    return {name: value for name, value in state.items() if not name.startswith(beginnings)}


# --- what is done with them -----------------------------------------------------------------------------------------

def build(section: dict):
    """The network, or the backbone, of a config section, ready for inference."""
    section = dict(section)
    name = section.pop("type")
    with uninitialised():
        if name != "ENCNet":
            return evaluating(manager.BACKBONES[name](**section))
        return evaluating(ENCNet(backbone=build(section.pop("backbone")), **section))


def picture(height, width):
    return np.random.RandomState(1).standard_normal((1, 3, height, width)).astype("float32")


def run_import(*arguments):
    module = tool("import_weights")
    flags.run_main(module.main, module.flags(), [str(argument) for argument in arguments])


def saved(state, path):
    checkpoint.write_safetensors(dict(state), path)
    return path
