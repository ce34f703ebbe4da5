"""read_config(): a config with what overrides it, judged and completed, as the builder of all that it names."""

import contextlib
import copy
import math
import os
import re
import traceback
from typing import Any, Iterator, Mapping, Optional, Sequence, Union

import paddle
from paddleseg.cvlibs import Config, SegBuilder, config_checker, manager
from paddleseg.transforms import Compose
from paddleseg.utils.utils import CachedProperty

from paddleseg_encnet.config import ignore_index, in_channels, judging_configs
from paddleseg_encnet.config.judging_values import shown_value
from paddleseg_encnet.config.reading_configs import is_clear, reading
from segrun.errors import innermost, joined
from segrun.tiling import Tiling, asked_for

FOREIGN = re.compile(r"[/\\](paddle|numpy)[/\\]")


class Builder(SegBuilder):
    """PaddleSeg's builder of a config's model, data sets, losses and optimiser, each made when it is first asked for.
    Its errors say which part of the config could not be made."""

    @property
    def in_channels(self) -> int:
        """Of the network's images."""
        return in_channels.channels_of_config(self.config.dic)

    @property
    def preprocessing(self) -> Compose:
        """What is done to an image before the network: the transforms of validation."""
        return Compose(self.val_transforms, img_channels=self.in_channels)

    def tiling(self, inference: Optional[Mapping[str, Any]] = None) -> Tiling:
        """How images go through the network: as the flags of inference say, by their names, else as test_config says.

        Raises:
            TypeError: there is no such flag.
            ValueError: windows without a size or a step.
        """
        return asked_for(inference or {}, self.config.test_config)

    @CachedProperty
    def optimizer(self) -> paddle.optimizer.Optimizer:
        names = [name for name, parameter in self.model.named_parameters() if not parameter.stop_gradient]
        for i, group in enumerate(self.config.optimizer_cfg.get("custom_cfg") or []):
            if not any(group["name"] in name for name in names):
                raise ValueError(f"optimizer.custom_cfg[{i}].name in the config is {shown_value(group['name'])}, which "
                                 "is part of the name of no parameter; they begin with "
                                 f"{', '.join(dict.fromkeys(name.split('.')[0] for name in names))}")
        return super().optimizer

    def build_component(self, cfg: dict) -> Any:
        try:
            return super().build_component(cfg)
        except Exception as error:
            found = innermost(error)
            if is_clear(found) and not is_foreign(found):
                raise
            raise unmade(cfg, found) from error

    def take_pretrained(self) -> Optional[str]:
        """Takes `pretrained` of the whole network out of the config, and that of the backbone, which it replaces, too.
        """
        model = self.config.dic["model"]
        pretrained = model.pop("pretrained", None)
        if pretrained is not None:
            self.take_pretrained_backbone()
        return pretrained

    def take_pretrained_backbone(self) -> Optional[str]:
        """Takes `pretrained` of the backbone out of the config."""
        return self.config.dic["model"].get("backbone", {}).pop("pretrained", None)


def read_config(config: Union[str, "os.PathLike[str]"], opts: Optional[Sequence[str]] = None, *,
                iters: Optional[int] = None, batch_size: Optional[int] = None, learning_rate: Optional[float] = None,
                data_format: str = "NCHW", pretrained: bool = True) -> Builder:
    """The builder of a config.

    Args:
        config: a YAML file, or the name of a shipped config.
        opts: keys of the config to set, ["KEY=VALUE", ...].
        iters, batch_size, learning_rate: in place of the config's; what `opts` says of them comes before.
        data_format: "NHWC" for channels last, which PaddleSeg has for one model.
        pretrained: False where other weights are going to replace those that the config begins with, which need then
            neither be there nor be downloaded. Nothing is trained then, and what training needs may be missing.

    Raises:
        FileNotFoundError, ValueError: the config is missing, no YAML, a key of `opts` is not in it, `iters` or
            `batch_size` is below 1, a part of it is none that can be built (judging_configs.py), or parts of it
            contradict its `ignore_index` or its `in_channels`.
    """
    for name, value in (("iters", iters), ("batch_size", batch_size)):
        if value is not None and value < 1:         # PaddleSeg takes 0 for not given
            raise ValueError(f"{name} must be at least 1, got {value}")
    if learning_rate is not None and not 0 < learning_rate < math.inf:      # likewise
        raise ValueError(f"learning_rate must be a number above 0, got {learning_rate:g}")
    with reading(os.fspath(config)) as path:
        parsed = Config(path, opts=None if opts is None else list(opts), checker=shape_first(pretrained), iters=iters,
                        batch_size=batch_size, learning_rate=learning_rate)
        judging_configs.check_clipping(parsed.dic)
        ignore_index.give_ignore_index(parsed.dic)
        in_channels.give_in_channels(parsed.dic)
        builder = Builder(parsed)
    set_data_format(parsed.dic, data_format)
    if not pretrained:
        builder.take_pretrained()
        builder.take_pretrained_backbone()
    return builder


def num_classes(config: Config) -> int:
    """Of the network. A config may leave it to the class of its data set, as PaddleSeg's FastFCN's does."""
    dataset = config.val_dataset_cfg
    said = config.dic["model"].get("num_classes") or dataset.get("num_classes")
    return said or manager.DATASETS[dataset["type"]].NUM_CLASSES


def shape_first(training: bool = True) -> config_checker.ConfigChecker:
    """PaddleSeg's rules for a config, after ours, which know what they may take for granted.

    Args:
        training: False for a config that nothing is trained with. PaddleSeg takes the number of classes from the set to
            train on all the same, for which that of validation stands in then.
    """

    class Shape(config_checker.Rule):
        def check_and_correct(self, config: Config) -> None:
            judging_configs.check_config(config.dic, training)
            if not training and "val_dataset" in config.dic:
                config.dic.setdefault("train_dataset", copy.deepcopy(config.dic["val_dataset"]))

    checker = Config._build_default_checker()
    rules = [rule for rule in checker.rule_list if not isinstance(rule, config_checker.DefaultPrimaryRule)]
    checker.rule_list = [Shape(), *rules]
    return checker


def set_data_format(config: dict, data_format: str) -> None:
    """Channels last, which PaddleSeg has for one model."""
    if data_format == "NCHW":
        return
    if data_format != "NHWC":
        raise ValueError(f"data_format is NCHW or NHWC, got {data_format!r}")
    model = config["model"]
    if model["type"] != "DeepLabV3P":
        raise ValueError(f"--data_format {data_format} is for DeepLabV3P only, not for {model['type']}")
    for part in (model, model["backbone"], *config["loss"]["types"]):
        part["data_format"] = data_format


# --- what Paddle says of a config's values ----------------------------------------------------------------------------

@contextlib.contextmanager
def explained(config: dict, others: Sequence[BaseException] = ()) -> Iterator[None]:
    """Around a training: what Paddle says of a value of a type that it does not take, as of one in the config.

    Args:
        others: errors that have nothing to do with the config; it may fill up within.
    """
    try:
        yield
    except TypeError as error:
        if not is_foreign(error) or any(error is other for other in others):
            raise
        model, losses = config["model"], ", ".join(loss["type"] for loss in config["loss"]["types"])
        raise ValueError(f"the config's {model['type']}, with {losses}, can't be trained: a value in it is of the "
                         f"wrong type ({joined(str(error))})") from error


def is_foreign(error: BaseException) -> bool:
    """Whether it was raised by who knows nothing of a config."""
    return bool(FOREIGN.search(traceback.extract_tb(error.__traceback__)[-1].filename))


def unmade(cfg: dict, error: BaseException) -> ValueError:
    options = ", ".join(f"{key}: {shown_value(value)}" for key, value in cfg.items() if key != "type")
    text = joined(str(error))
    return ValueError(f"{cfg.get('type')} can't be made of {options or 'nothing'} in the config "
                      f"({type(error).__name__}: {text})")
