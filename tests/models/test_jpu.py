"""Joint pyramid upsampling against PaddleSeg's, and ENCNet with it against PaddleSeg's FastFCN, on the same weights."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from conftest import relative_difference
from networks import scrambled
from paddle.base import core
from paddleseg.cvlibs import manager
from paddleseg.models import layers
from paddleseg.models.backbones import ResNet18_vd
from paddleseg.models.fastfcn import FastFCN

from paddleseg_encnet import DilatedFCN, ENCNet
from paddleseg_encnet.models.depthwise import DepthwiseConv2D
from paddleseg_encnet.models.jpu import JPU, Separable

TOLERANCE = 1e-5        # float32 sums in another order, a few layers deep
WIDTHS = [4, 8, 12, 20]
SIZES = [(18, 26), (9, 13), (5, 7), (3, 4)]     # of the maps of an image of 65 x 97, no multiple of 32


def maps():
    random = np.random.default_rng(1)
    tensors = [paddle.to_tensor(random.normal(size=(2, width, *size)).astype("float32"))
               for width, size in zip(WIDTHS, SIZES)]
    for tensor in tensors:
        tensor.stop_gradient = False
    return tensors


@pytest.mark.parametrize("training", [True, False])
def test_equals_paddlesegs(training):
    stock = scrambled(layers.JPU(WIDTHS, width=6))
    own = JPU(WIDTHS, width=6)
    assert {name: value.shape for name, value in own.state_dict().items()} == \
        {name: value.shape for name, value in stock.state_dict().items()}
    own.set_state_dict(stock.state_dict())
    for layer in (own, stock):
        layer.train() if training else layer.eval()
    found, expected = maps(), maps()
    ours, theirs = own(found), stock(*expected)
    assert len(ours) == len(theirs) == 4
    assert all(ours[i] is found[i] for i in range(3)) and ours[3].shape == [2, own.out_channels, *SIZES[1]]
    assert relative_difference(ours[3], theirs[3]) < TOLERANCE
    if training:
        for output in (ours[3], theirs[3]):
            (output ** 2).sum().backward()
        for a, b in zip(found[1:] + own.parameters(), expected[1:] + stock.parameters()):
            if b.stop_gradient:     # running statistics
                continue
            difference = np.linalg.norm(a.grad.numpy() - b.grad.numpy())
            # Sums over all positions; those of a bias before a BatchNorm are 0 but for rounding.
            assert difference <= 10 * TOLERANCE * max(np.linalg.norm(b.grad.numpy()), 1)
        for name, value in stock.state_dict().items():      # statistics have moved alike
            assert relative_difference(own.state_dict()[name], value) < TOLERANCE


def test_a_cpu_trains_its_depthwise_convolutions_quickly():
    depthwise = [layer for layer in JPU(WIDTHS, width=6).sublayers() if getattr(layer, "_groups", 1) > 1]
    assert [layer.geometry[2] for layer in depthwise] == [1, 2, 4, 8]
    assert all(type(layer) is DepthwiseConv2D for layer in depthwise)


def test_a_branch_computes_twice_what_it_does_not_keep_and_equals_the_plain_one():
    """To the bit: the same kernels run in the same order. Statistics move once."""
    def allocated():
        return core.host_memory_stat_current_value("Allocated", 0) // 4

    def run(work):
        paddle.seed(0)
        branch = scrambled(Separable(12, 6, 2))
        x = paddle.randn([2, 12, 9, 13])
        x.stop_gradient = False
        before = allocated()
        y = work(branch, x)
        kept = allocated() - before
        (y ** 2).sum().backward()
        gradients = {name: value.grad for name, value in branch.named_parameters() if not value.stop_gradient}
        assert len(gradients) == 6
        return {"y": y, "x": x.grad, **{f"gradient of {name}": value for name, value in gradients.items()},
                **branch.state_dict()}, kept

    found, kept = run(lambda branch, x: branch(x))
    expected, kept_plainly = run(lambda branch, x: F.relu(branch.compute(x)))
    assert found.keys() == expected.keys()
    for name in found:
        assert np.array_equal(found[name], expected[name]), name
    assert found["y"].size <= kept < found["y"].size + 100      # the ReLU keeps its output
    assert kept_plainly > kept + 2 * found["x"].size


@pytest.mark.parametrize("fixed", ["depthwise_conv._conv.weight", "piontwise_conv._conv.weight"])
def test_a_branch_whose_parameter_is_fixed_learns_the_others(fixed):
    branch = scrambled(Separable(4, 6, 2))
    parameters = dict(branch.named_parameters())
    parameters[fixed].stop_gradient = True
    x = paddle.rand([2, 4, 9, 13])
    x.stop_gradient = False
    branch.before_relu(x).sum().backward()
    assert x.grad is not None and parameters[fixed].grad is None
    assert all(value.grad is not None for value in parameters.values() if not value.stop_gradient)


IMAGES = np.random.default_rng(2).normal(size=(2, 3, 65, 97)).astype("float32")


@pytest.mark.parametrize("training", [True, False])
def test_encnet_with_it_is_fastfcn(training):
    """PaddleSeg's network on a backbone of stride 32, whose layers have other names and whose first convolution behind
    the upsampling has no bias."""
    own = scrambled(ENCNet(7, ResNet18_vd(output_stride=32), num_codes=4, mid_channels=16, use_jpu=True))
    stock = FastFCN(7, ResNet18_vd(output_stride=32), num_codes=4, mid_channels=16)
    own.bottleneck._conv.bias.set_value(np.zeros([16], "float32"))
    state = {}
    for name, value in own.state_dict().items():
        part, rest = name.split(".", 1)
        state[f"{ {'jpu': 'jpu_layer', 'head': 'cls_seg'}.get(part, part)}.{rest}"] = value
    state.pop("bottleneck._conv.bias")
    assert state.keys() == stock.state_dict().keys()
    stock.set_state_dict(state)
    outputs = []
    for network in (own, stock):
        network.train() if training else network.eval()
        paddle.seed(0)      # dropout in the auxiliary head
        with paddle.no_grad():
            outputs.append(network(paddle.to_tensor(IMAGES)))
    assert len(outputs[0]) == len(outputs[1]) == (3 if training else 1)
    for ours, theirs in zip(*outputs):
        assert relative_difference(ours, theirs) < 1e-4


@pytest.mark.parametrize("backbone", ["ResNet18_vd", "ResNet18_v1b", "ResNet18_v1c", "EfficientNetLite0"])
@pytest.mark.parametrize("kind, options, count", [
    (ENCNet, dict(num_codes=4), 3), (DilatedFCN, {}, 2),
    (ENCNet, dict(num_codes=4, use_se_loss_stage3=True, add_lateral=True, backbone_indices=[0, 1, 2, 3],
                  fuse_at="first"), 4)])
def test_backbones_of_stride_32(backbone, kind, options, count):
    network = kind(5, manager.BACKBONES[backbone](output_stride=32), mid_channels=8, use_jpu=True, **options)
    sizes = []
    network.bottleneck.register_forward_post_hook(lambda layer, inputs, output: sizes.append(tuple(output.shape[2:])))
    outputs = network(paddle.to_tensor(IMAGES))
    assert sizes == [(8, 12) if "Lite" in backbone else (9, 13)]       # stride 8; how it rounds is the backbone's
    assert len(outputs) == count and outputs[0].shape == [2, 5, 65, 97]
    sum((output ** 2).mean() for output in outputs).backward()
    assert [name for name, value in network.named_parameters() if not value.stop_gradient and value.grad is None] == []


@pytest.mark.parametrize("options, words", [
    (dict(backbone_indices=[0, 1, 2]), "use_jpu replaces the backbone's last map, 3, and the head does not read it: "
     "backbone_indices [0, 1, 2] end with 2")])
def test_options_without_sense(options, words):
    with pytest.raises(ValueError) as error:
        ENCNet(5, ResNet18_vd(output_stride=32), use_jpu=True, **options)
    assert words in str(error.value)


def test_too_few_maps():
    with pytest.raises(ValueError, match="reads the backbone's last three maps, and it has 2"):
        JPU([8, 16])
