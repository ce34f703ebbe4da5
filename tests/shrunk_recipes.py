"""The configs of configs/, so small that a step takes milliseconds."""

import copy

import paddle
import published_layouts
from conftest import ROOT
from paddleseg.cvlibs.config import parse_from_yaml

# Those of the classification on CIFAR-10 are of another kind.
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yml") if not path.stem.startswith("cifar10_"))


class Narrow(paddle.nn.Layer):
    """A backbone that takes a few milliseconds: four maps of 8 channels, strides 4, 8, 8 and 8."""

    def __init__(self, output_stride, in_channels, pretrained=None):
        super().__init__()
        self.feat_channels = [8] * 4
        self.stages = paddle.nn.LayerList([paddle.nn.Conv2D(channels, 8, 3, stride, 1)
                                           for channels, stride in ((in_channels, 4), (8, 2), (8, 1), (8, 1))])

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = paddle.nn.functional.relu(stage(x))
            maps.append(x)
        return maps


def roots_of(folder, scenes) -> dict:
    """Writes a tiny data set of each kind, but for Cityscapes, which the scenes are; their folders by the type of their
    class."""
    context = published_layouts.pascal_context(folder / "VOC2010")
    return {"Cityscapes": scenes, "ADE20K": published_layouts.ade20k(folder / "ADEChallengeData2016"),
            "PascalVOC": published_layouts.pascal_voc(folder / "VOCdevkit"), "PascalContext": context,
            "PascalContext59": context, "CamVid": published_layouts.camvid(folder / "camvid"),
            "Dataset": published_layouts.facade(folder / "facade")}


def shrunk(path, roots) -> dict:
    """A config on tiny files, with its own data sets, transforms, losses, optimiser and kind of network, but a crop of
    64, a backbone that takes no time and narrow heads."""
    config = copy.deepcopy(parse_from_yaml(str(path)))      # parts that the YAML shares are parts of their own
    for name in ("train_dataset", "val_dataset"):
        config[name]["dataset_root"] = str(roots[config[name]["type"]])
        path = f"{config[name]['mode']}_path"
        if path in config[name]:
            config[name][path] = f"{config[name]['dataset_root']}/{config[name]['mode']}.txt"
        for transform in config[name]["transforms"]:
            if "crop_size" in transform:
                transform["crop_size"] = [64, 64]
    model = config["model"]
    if "backbone" in model:
        model["backbone"] = {**model["backbone"], "type": "Narrow", "pretrained": None}
    model.pop("pretrained", None)       # of a network of full width
    for width in ("mid_channels", "pp_out_channels", "aspp_out_channels"):
        if width in model:
            model[width] = 16
    return {**config, "batch_size": 2, "iters": 2}
