"""Is a config one that can be built? Each part is a mapping of a kind that is known, with arguments that this kind
takes and values of their type; what is not is told by its place in the config, before anything is built.

PaddleSeg builds what is there, so that a typing error ends in the middle of some function.
"""

import contextlib
import difflib
import inspect
import math
import re
import traceback
from typing import Dict, Iterator, Tuple

import paddle
from paddleseg.cvlibs import SegBuilder, manager
from paddleseg.utils.utils import CachedProperty

from segrun.errors import innermost

# What PaddleSeg adds to a part: from the class of the data set, or from another part.
GIVEN = ("num_classes", "in_channels", "ignore_index")
WARMUP = ("warmup_iters", "warmup_start_lr")
TEXTS_OF_DATASETS = ("dataset_root", "mode", "train_path", "val_path", "test_path", "separator")
NUMBERS_OF_SCHEDULES = ("learning_rate", "end_lr", "power", "gamma", "warmup_iters", "warmup_start_lr", "decay_steps")
INFERENCE = ("is_slide", "crop_size", "stride", "aug_eval", "scales", "flip_horizontal", "flip_vertical",
             "custom_color")
ALIASES = {"adam": "Adam", "sgd": "SGD"}        # of optimisers, PaddleSeg's
FOREIGN = re.compile(r"[/\\](paddle|numpy)[/\\]")
TEXT_NUMBER = "; YAML takes it for a text, a number with an exponent has a dot: 5.0e-4"


def check(config: dict):
    """
    Args:
        config: as PaddleSeg parses it.

    Raises:
        ValueError: a part is none, or has a value that it can't have.
    """
    if not isinstance(config, dict):
        raise ValueError(f"the config is {shown(config)}, must be keys and values")
    check_keys("the config", config)
    for key in ("batch_size", "iters"):
        if key in config and not (is_whole(config[key]) and config[key] > 0):
            raise ValueError(f"{key} in the config is {shown(config[key])}, must be a whole number above 0")
    for key in ("model", "train_dataset", "val_dataset", "optimizer", "lr_scheduler", "loss", "test_config"):
        if key in config and not isinstance(config[key], dict):
            raise ValueError(f"{key} in the config is {shown(config[key])}, must be keys and values")
    if "loss" in config:
        check_losses(config["loss"])
    for place, part, known in named_parts(config):
        check_part(place, part, known)
    if "optimizer" in config:
        check_groups(config["optimizer"])
    if "lr_scheduler" in config:
        check_schedule(config["lr_scheduler"])
    check_inference(config.get("test_config") or {})


def check_keys(place: str, value: dict):
    """Raises ValueError for a mapping whose keys are no texts."""
    wrong = [key for key in value if not isinstance(key, str)]
    if wrong:
        raise ValueError(f"{place} has the key {wrong[0]!r}, which is no name")


def check_losses(loss: dict):
    for key in ("types", "coef"):
        if not isinstance(loss.get(key), list) or not loss[key]:
            raise ValueError(f"loss.{key} in the config is {shown(loss.get(key))}, must be a list")
    for i, factor in enumerate(loss["coef"]):
        if not is_number(factor):
            raise ValueError(f"loss.coef[{i}] in the config is {shown(factor)}, must be a number{hint(factor)}")


def named_parts(config: dict) -> Iterator[Tuple[str, dict, Dict[str, type]]]:
    """(place, part, what it may name) of everything that PaddleSeg builds by its `type`."""
    for name in ("train_dataset", "val_dataset"):
        if not config.get(name):
            continue
        for key in TEXTS_OF_DATASETS:
            if config[name].get(key) is not None and not (isinstance(config[name][key], str) and config[name][key]):
                raise ValueError(f"{name}.{key} in the config is {shown(config[name][key])}, must be a text")
        yield name, config[name], manager.DATASETS.components_dict
        transforms = config[name].get("transforms")
        if transforms is not None and not isinstance(transforms, list):
            raise ValueError(f"{name}.transforms in the config is {shown(transforms)}, must be a list")
        for i, transform in enumerate(transforms or []):
            yield f"{name}.transforms[{i}]", transform, manager.TRANSFORMS.components_dict
    if "model" in config:
        yield "model", config["model"], manager.MODELS.components_dict
        if "backbone" in config["model"]:
            yield "model.backbone", config["model"]["backbone"], manager.BACKBONES.components_dict
    for i, loss in enumerate(config.get("loss", {}).get("types", [])):
        yield f"loss.types[{i}]", loss, manager.LOSSES.components_dict
        for j, inner in enumerate(loss.get("losses") or [] if isinstance(loss, dict) else []):
            yield f"loss.types[{i}].losses[{j}]", inner, manager.LOSSES.components_dict
    if "optimizer" in config:
        yield "optimizer", config["optimizer"], manager.OPTIMIZERS.components_dict


def check_part(place: str, part, known: Dict[str, type]):
    """A part that names its `type`, and the arguments of that."""
    if not isinstance(part, dict):
        raise ValueError(f"{place} in the config is {shown(part)}, must be keys and values")
    check_keys(place, part)
    kind = part.get("type")
    kind = ALIASES.get(kind, kind) if isinstance(kind, str) else kind
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(f"{no_type(place, part)}; there are {some_of(known, kind)}")
    if place == "optimizer" and kind == "SGD" and "momentum" in part:
        kind = "Momentum"
    check_arguments(place, kind, {key: value for key, value in part.items() if key != "type"}, known[kind])


def check_arguments(place: str, kind: str, given: dict, component):
    """Raises ValueError where a component has no such argument, lacks one, or has one of another type than its default.
    """
    try:
        parameters = inspect.signature(component).parameters
    except ValueError:      # written in C
        return
    named = {name: p for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        for key in given:
            if key not in named and key not in GIVEN:
                raise ValueError(f"{place}.{key} in the config: {kind} has no argument {key}; there are "
                                 f"{some_of(named, key)}")
    for name, parameter in named.items():
        if name not in given:
            if parameter.default is parameter.empty and name not in (*GIVEN, "self"):
                raise ValueError(f"{place} in the config has no {name}, which {kind} needs")
        elif parameter.default is not parameter.empty:
            check_value(f"{place}.{name}", given[name], parameter.default)


def check_value(place: str, value, default):
    """Raises ValueError where a value is of another type than the default: a number, truth value, text or list."""
    if value is None or default is None:
        return
    wanted = next((word for word, fits in TYPES.items() if fits(default)), None)
    if wanted is None or wanted == "a list" and is_number(value):       # PaddleSeg takes one for a list in some places
        return
    if TYPES[wanted](value):
        numbers = wanted == "a list" and len(default) and all(map(is_number, default))
        if not numbers or all(item is None or is_number(item) for item in value):
            return
        wanted = "a list of numbers"
    raise ValueError(f"{place} in the config is {shown(value)}, must be {wanted}, as {shown(default)}{hint(value)}")


def check_groups(optimizer: dict):
    """The groups of parameters that have a learning rate or weight decay of their own."""
    groups = optimizer.get("custom_cfg") or []
    if not isinstance(groups, list):
        raise ValueError(f"optimizer.custom_cfg in the config is {shown(groups)}, must be a list")
    for i, group in enumerate(groups):
        name = group.get("name") if isinstance(group, dict) else group
        if not isinstance(group, dict) or not isinstance(name, str) or not name:
            raise ValueError(f"optimizer.custom_cfg[{i}] in the config is {shown(group)}, must have a name, a part of "
                             "the names of its parameters")
        for key in ("lr_mult", "weight_decay_mult"):
            if group.get(key) is not None and not is_number(group[key]):
                raise ValueError(f"optimizer.custom_cfg[{i}].{key} in the config is {shown(group[key])}, must be a "
                                 f"number{hint(group[key])}")


def check_schedule(schedule: dict):
    check_keys("lr_scheduler", schedule)
    kind = schedule.get("type")
    known = {name: value for name, value in vars(paddle.optimizer.lr).items()
             if isinstance(value, type) and issubclass(value, paddle.optimizer.lr.LRScheduler)}
    if kind not in known:
        raise ValueError(f"{no_type('lr_scheduler', schedule)}; there are {some_of(known, kind)}")
    for key in NUMBERS_OF_SCHEDULES:
        if key in schedule and not is_number(schedule[key]):
            raise ValueError(f"lr_scheduler.{key} in the config is {shown(schedule[key])}, must be a number"
                             f"{hint(schedule[key])}")
    left = {key: value for key, value in schedule.items() if key != "type" and key not in WARMUP}
    if any(key in schedule for key in WARMUP):
        for key in (*WARMUP, "learning_rate"):
            if key not in schedule:
                raise ValueError(f"lr_scheduler in the config has no {key}, which a warm-up needs")
        if not is_whole(schedule["warmup_iters"]) or schedule["warmup_iters"] < 0:
            raise ValueError(f"lr_scheduler.warmup_iters in the config is {shown(schedule['warmup_iters'])}, must be a "
                             "whole number")
    if kind == "PolynomialDecay":
        left.setdefault("decay_steps", 1)       # PaddleSeg has it from `iters`
        if not is_whole(left["decay_steps"]) or left["decay_steps"] < 1:
            raise ValueError(f"lr_scheduler.decay_steps in the config is {shown(left['decay_steps'])}, must be a whole "
                             "number above 0")
    check_arguments("lr_scheduler", kind, left, known[kind])


def check_inference(options: dict):
    for key in options:
        if key not in INFERENCE:
            raise ValueError(f"test_config.{key} in the config: there is no such key; there are "
                             f"{some_of(INFERENCE, key)}")
    scales = options.get("scales", 1.0)
    if not all(is_number(scale) and scale > 0 for scale in (scales if isinstance(scales, list) else [scales])):
        raise ValueError(f"test_config.scales in the config is {shown(scales)}, must be numbers above 0")
    for key in ("is_slide", "aug_eval", "flip_horizontal", "flip_vertical"):
        if not isinstance(options.get(key, False), bool):
            raise ValueError(f"test_config.{key} in the config is {shown(options[key])}, must be true or false")
    for key in ("crop_size", "stride"):
        value = options.get(key)
        if value is not None and not (isinstance(value, list) and len(value) == 2 and
                                      all(is_whole(side) and side > 0 for side in value)):
            raise ValueError(f"test_config.{key} in the config is {shown(value)}, must be two whole numbers, width and "
                             "height")


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


TYPES = {"true or false": lambda value: isinstance(value, bool), "a number": is_number,
         "a text": lambda value: isinstance(value, str), "a list": lambda value: isinstance(value, (list, tuple))}


def hint(value) -> str:
    """What to know of a text that is a number."""
    try:
        return TEXT_NUMBER if isinstance(value, str) and math.isfinite(float(value)) else ""
    except ValueError:
        return ""


def shown(value, longest: int = 60) -> str:
    """A value of a config, in one line and short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= longest else f"{text[:longest]}..."


def some_of(names, wanted) -> str:
    """The nearest of the names, or all if they are few."""
    near = difflib.get_close_matches(str(wanted), names, n=3, cutoff=0.5)
    listed = near or sorted(names)
    more = len(names) - len(listed[:12])
    return ", ".join(listed[:12]) + (f" and {more} more" if more else "")


def no_type(place: str, part: dict) -> str:
    return f"{place}.type in the config is {shown(part['type'])}" if "type" in part else \
        f"{place} in the config has no type"


@contextlib.contextmanager
def explained(config: dict):
    """Around a training: what Paddle says of a value of a type that it does not take, as of one in the config."""
    try:
        yield
    except TypeError as error:
        if not is_foreign(error):
            raise
        model, losses = config["model"], ", ".join(loss["type"] for loss in config["loss"]["types"])
        raise ValueError(f"the config's {model['type']}, with {losses}, can't be trained: a value in it is of the "
                         f"wrong type ({' '.join(str(error).split())})") from error


def is_foreign(error: BaseException) -> bool:
    """Whether it was raised by who knows nothing of a config."""
    return bool(FOREIGN.search(traceback.extract_tb(error.__traceback__)[-1].filename))


class Builder(SegBuilder):
    """PaddleSeg's builder, whose errors say which part of the config could not be made."""

    @CachedProperty
    def optimizer(self) -> paddle.optimizer.Optimizer:
        names = [name for name, parameter in self.model.named_parameters() if not parameter.stop_gradient]
        for i, group in enumerate(self.config.optimizer_cfg.get("custom_cfg") or []):
            if not any(group["name"] in name for name in names):
                raise ValueError(f"optimizer.custom_cfg[{i}].name in the config is {shown(group['name'])}, which is "
                                 f"part of the name of no parameter; they begin with "
                                 f"{', '.join(dict.fromkeys(name.split('.')[0] for name in names))}")
        return super().optimizer

    def build_component(self, cfg):
        try:
            return super().build_component(cfg)
        except Exception as error:
            found = innermost(error)
            meant = isinstance(found, (ValueError, OSError)) or isinstance(found, AssertionError) and str(found)
            if meant and not is_foreign(found):
                raise
            raise unmade(cfg, found) from error


def unmade(cfg: dict, error: BaseException) -> ValueError:
    options = ", ".join(f"{key}: {shown(value)}" for key, value in cfg.items() if key != "type")
    text = " ".join(str(error).split())
    return ValueError(f"{cfg.get('type')} can't be made of {options or 'nothing'} in the config "
                      f"({type(error).__name__}: {text})")
