"""ResNet V1b and V1c: sizes, dilations, names and errors. What they compute is compared in test_convert.py."""

import paddle
import pytest
from networks import evaluating, uninitialised
from paddleseg.cvlibs import manager

from paddleseg_encnet.models import backbones
from paddleseg_encnet.weights import checkpoint


def backbone(depth=18, deep_stem=True, **arguments):
    with uninitialised():
        return evaluating(backbones.ResNet(depth, deep_stem, **arguments))


@pytest.mark.parametrize("version", ["v1b", "v1c"])
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_registered(depth, version):
    assert manager.BACKBONES[f"ResNet{depth}_{version}"].__name__ == f"ResNet{depth}_{version}"


@pytest.mark.parametrize("name, deep", [("ResNet18_v1b", False), ("ResNet18_v1c", True)])
def test_builder_makes_the_version_that_it_is_named_after(name, deep):
    with uninitialised():
        made = manager.BACKBONES[name](output_stride=16, in_channels=4)
    assert isinstance(made, backbones.ResNet)
    assert made.stem[0].weight.shape == ([32, 4, 3, 3] if deep else [64, 4, 7, 7])


@pytest.mark.parametrize("output_stride, sizes", [
    (8, [(17, 25), (9, 13), (9, 13), (9, 13)]),
    (16, [(17, 25), (9, 13), (5, 7), (5, 7)]),
    (32, [(17, 25), (9, 13), (5, 7), (3, 4)]),
])
def test_output_stride(output_stride, sizes):
    network = backbone(output_stride=output_stride)
    maps = network(paddle.zeros([1, 3, 65, 97]))
    assert [tuple(x.shape[2:]) for x in maps] == sizes
    assert [x.shape[1] for x in maps] == network.feat_channels == [64, 128, 256, 512]


def test_bottleneck_widths():
    assert backbone(50).feat_channels == [256, 512, 1024, 2048]


def dilations(network, stage):
    return [block.conv2._dilation[0] for block in getattr(network, f"layer{stage}")]


@pytest.mark.parametrize("first, output_stride, stage3, stage4", [
    ("half", 8, [1, 2, 2, 2, 2, 2], [2, 4, 4]),
    ("full", 8, [2, 2, 2, 2, 2, 2], [4, 4, 4]),
    ("half", 16, [1, 1, 1, 1, 1, 1], [1, 2, 2]),
    ("full", 16, [1, 1, 1, 1, 1, 1], [2, 2, 2]),
    ("half", 32, [1, 1, 1, 1, 1, 1], [1, 1, 1]),
])
def test_dilation(first, output_stride, stage3, stage4):
    network = backbone(50, output_stride=output_stride, first_block_dilation=first)
    assert dilations(network, 2) == [1, 1, 1, 1]
    assert dilations(network, 3) == stage3
    assert dilations(network, 4) == stage4


@pytest.mark.parametrize("width, shapes", [(32, [[32, 3, 3, 3], [32, 32, 3, 3], [64, 32, 3, 3]]),
                                           (64, [[64, 3, 3, 3], [64, 64, 3, 3], [128, 64, 3, 3]])])
def test_deep_stem_widths(width, shapes):
    stem = backbone(stem_width=width).stem
    assert [stem[i].weight.shape for i in (0, 3, 6)] == shapes


def test_names():
    names = set(backbone(18).state_dict())
    assert {"stem.0.weight", "stem.7._variance", "layer1.0.conv1.weight", "layer1.0.bn1._mean",
            "layer2.0.downsample.0.weight", "layer2.0.downsample.1.bias"} <= names
    assert "layer1.0.downsample.0.weight" not in names      # same shape in and out
    assert len(names) == 110


@pytest.mark.parametrize("arguments, words", [
    (dict(depth=20), "depth must be one of 18, 34, 50, 101, 152; is 20"),
    (dict(output_stride=4), "output_stride must be one of 8, 16, 32; is 4"),
    (dict(first_block_dilation=1), "first_block_dilation must be one of half, full; is 1"),
])
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        backbone(**arguments)


def test_pretrained_takes_all_or_nothing(tmp_path):
    first = backbones.ResNet(18, deep_stem=True)
    path = str(tmp_path / "backbone.pdparams")
    paddle.save(first.state_dict(), path)
    second = backbone(pretrained=path)
    for name, value in first.state_dict().items():
        assert (value.numpy() == second.state_dict()[name].numpy()).all(), name
    with pytest.raises(checkpoint.CheckpointError, match="does not fit"):
        backbone(depth=34, pretrained=path)


def test_gradient_reaches_every_parameter():
    network = backbones.ResNet(18, deep_stem=True, output_stride=32)
    sum(x.mean() for x in network(paddle.rand([2, 3, 32, 32]))).backward()
    for name, parameter in network.named_parameters():
        assert parameter.stop_gradient or parameter.grad is not None, name       # running statistics have none
