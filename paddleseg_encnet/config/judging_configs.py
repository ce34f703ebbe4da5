"""Is a config one that can be built? Each part is a mapping of a kind that is known, with arguments that this kind
takes and values of their type; what is not is told by its place in the config, before anything is built.

PaddleSeg builds what is there, so that a typing error ends in the middle of some function.
"""

import difflib
import inspect
import math
from typing import Any, Callable, Dict, Iterator, Tuple

import paddle
from paddleseg.cvlibs import manager
from paddleseg.utils import logger

from paddleseg_encnet.config.judging_transforms import check_transforms
from paddleseg_encnet.config.judging_values import (
    check_like,
    check_number,
    check_number_text,
    check_optional,
    check_positive,
    check_weights,
    check_whole,
    is_number,
    is_whole,
    shown_value,
    some_of,
    wrong,
)

# What PaddleSeg adds to a part: from the class of the data set, or from another part.
GIVEN = ("num_classes", "in_channels", "ignore_index")
# All that PaddleSeg or this package reads of a config.
KEYS = ("batch_size", "iters", "train_dataset", "val_dataset", "optimizer", "lr_scheduler", "loss", "distill_loss",
        "model", "test_config", "to_static_training", "ignore_index", "base_batch_size")
OF_TRAINING = ("batch_size", "iters", "train_dataset", "optimizer", "lr_scheduler", "loss")
STRIDES = (8, 16, 32)           # of backbones; of any other PaddleSeg's make 32 without a word
WEIGHTS = ("weight", "pos_weight")
WARMUP = ("warmup_iters", "warmup_start_lr")
TEXTS_OF_DATASETS = ("dataset_root", "mode", "train_path", "val_path", "test_path", "separator")
TEXTS = (*TEXTS_OF_DATASETS, "pretrained")
NUMBERS_OF_OPTIMIZERS = ("weight_decay", "momentum", "beta1", "beta2", "epsilon")
NUMBERS_OF_SCHEDULES = ("learning_rate", "end_lr", "power", "gamma", "warmup_iters", "warmup_start_lr", "decay_steps")
INFERENCE = ("is_slide", "crop_size", "stride", "aug_eval", "scales", "flip_horizontal", "flip_vertical",
             "custom_color")
ALIASES = {"adam": "Adam", "sgd": "SGD"}        # of optimisers, PaddleSeg's
CLIPS_BY_NORM = ("ClipGradByGlobalNorm", "ClipGradByNorm")

Part = Tuple[str, Any, Dict[str, type]]         # place in the config, what stands there, what it may name


def check_config(config: dict, training: bool = True) -> None:
    """
    Args:
        config: as PaddleSeg parses it.
        training: False where nothing is trained, so that what training needs may be missing.

    Raises:
        ValueError: a part is none, is missing, or has a value that it can't have; a key is none that is read.
    """
    if not isinstance(config, dict):
        raise ValueError(f"the config is {shown_value(config)}, must be keys and values")
    check_keys("the config", config)
    check_known(config)
    needed = {"model": "every tool"} if training or "val_dataset" in config else \
        {"model": "every tool", "train_dataset": "every tool where there is no val_dataset"}
    needed.update({key: "training" for key in OF_TRAINING if training})
    for key, by in needed.items():
        if key not in config:
            raise ValueError(f"the config has no {key}, which {by} needs")
    for key in ("batch_size", "iters"):
        if key in config:
            check_whole(key, config[key], least=1)
    for key in ("model", "train_dataset", "val_dataset", "optimizer", "lr_scheduler", "loss", "test_config"):
        if key in config and not isinstance(config[key], dict):
            raise wrong(key, config[key], "keys and values")
    if "loss" in config:
        check_loss_part(config["loss"])
    for place, part, known in named_parts(config):
        check_part(place, part, known)
    check_transforms(config)
    if "optimizer" in config:
        check_optimizer(config["optimizer"])
    if "lr_scheduler" in config:
        check_schedule(config["lr_scheduler"])
    check_inference(config.get("test_config") or {})


def check_keys(place: str, value: dict) -> None:
    """Raises ValueError for a mapping whose keys are no texts."""
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"{place} has the key {key!r}, which is no name")


def check_known(config: dict) -> None:
    """Raises ValueError for a key that looks like one that is read; warns of others, unless a user's own begin with _.
    PaddleSeg's configs have some to hold a list that stands in several places."""
    for key in config:
        if key in KEYS or key.startswith("_"):
            continue
        near = difflib.get_close_matches(key, KEYS, n=1)
        told = f"{key} in the config is no key that is read"
        if near:
            raise ValueError(f"{told}; did you mean {near[0]}?")
        logger.warning(f"{told}: nothing follows from it")


# --- parts: what is built by its type ---------------------------------------------------------------------------------

def named_parts(config: dict) -> Iterator[Part]:
    """Everything that PaddleSeg builds by its `type`."""
    for name in ("train_dataset", "val_dataset"):
        if config.get(name):
            yield from parts_of_dataset(name, config[name])
    if "model" in config:
        yield "model", config["model"], manager.MODELS.components_dict
        if "backbone" in config["model"]:
            yield "model.backbone", config["model"]["backbone"], manager.BACKBONES.components_dict
    for i, loss in enumerate(config.get("loss", {}).get("types", [])):
        yield f"loss.types[{i}]", loss, manager.LOSSES.components_dict
        mixed = loss.get("losses") if isinstance(loss, dict) else None
        for j, inner in enumerate(mixed or []):
            yield f"loss.types[{i}].losses[{j}]", inner, manager.LOSSES.components_dict
    if "optimizer" in config:
        yield "optimizer", config["optimizer"], manager.OPTIMIZERS.components_dict


def parts_of_dataset(name: str, dataset: dict) -> Iterator[Part]:
    for key in TEXTS_OF_DATASETS:
        value = dataset.get(key)
        if value is not None and not (isinstance(value, str) and value):
            raise wrong(f"{name}.{key}", value, "a text")
    yield name, dataset, manager.DATASETS.components_dict
    transforms = dataset.get("transforms")
    check_optional(f"{name}.transforms", transforms, list, "a list")
    for i, transform in enumerate(transforms or []):
        yield f"{name}.transforms[{i}]", transform, manager.TRANSFORMS.components_dict


def check_part(place: str, part: Any, known: Dict[str, type]) -> None:
    """A part that names its `type`, and the arguments of that."""
    if not isinstance(part, dict):
        raise wrong(place, part, "keys and values")
    check_keys(place, part)
    kind = part.get("type")
    kind = ALIASES.get(kind, kind) if isinstance(kind, str) else kind
    if not isinstance(kind, str) or kind not in known:
        raise unknown_type(place, part, known)
    if place == "optimizer" and kind == "SGD" and "momentum" in part:
        kind = "Momentum"
    check_arguments(place, kind, {key: value for key, value in part.items() if key != "type"}, known[kind])


def check_arguments(place: str, kind: str, given: dict, component: Callable) -> None:
    """Raises ValueError where a component has no such argument, lacks one, or has one of another type than its default.
    """
    try:
        parameters = inspect.signature(component).parameters
    except ValueError:      # written in C
        return
    for key in GIVEN:
        if given.get(key) is not None:
            check_whole(f"{place}.{key}", given[key], least=None if key == "ignore_index" else 1)
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
            check_like(f"{place}.{name}", given[name], parameter.default)
            if name not in TEXTS and not isinstance(parameter.default, str):
                check_number_text(f"{place}.{name}", given[name])
    check_meaning(place, given)


def check_meaning(place: str, given: dict) -> None:
    """Raises ValueError for values of the right type that PaddleSeg takes and makes something else of, or nothing."""
    stride = given.get("output_stride")
    if stride is not None and place.endswith("backbone") and stride not in STRIDES:
        raise wrong(f"{place}.output_stride", stride, "8, 16 or 32")
    if place.startswith("loss."):
        for key in WEIGHTS:
            if isinstance(given.get(key), (list, tuple)):
                check_weights(f"{place}.{key}", given[key])


def unknown_type(place: str, part: dict, known: Dict[str, type]) -> ValueError:
    there_is = f"{place}.type in the config is {shown_value(part['type'])}" if "type" in part else \
        f"{place} in the config has no type"
    return ValueError(f"{there_is}; there are {some_of(known, part.get('type'))}")


# --- losses, optimiser, schedule, inference ---------------------------------------------------------------------------

def check_loss_part(loss: dict) -> None:
    for key in ("types", "coef"):
        if not isinstance(loss.get(key), list) or not loss[key]:
            raise wrong(f"loss.{key}", loss.get(key), "a list")
    for i, factor in enumerate(loss["coef"]):
        check_number(f"loss.coef[{i}]", factor)
    check_weights("loss.coef", loss["coef"])


def check_optimizer(optimizer: dict) -> None:
    """Its numbers, and the groups of parameters that have a learning rate or weight decay of their own."""
    for key in NUMBERS_OF_OPTIMIZERS:
        if optimizer.get(key) is not None:
            check_number(f"optimizer.{key}", optimizer[key])
    groups = optimizer.get("custom_cfg") or []
    check_optional("optimizer.custom_cfg", groups, list, "a list")
    for i, group in enumerate(groups):
        place = f"optimizer.custom_cfg[{i}]"
        name = group.get("name") if isinstance(group, dict) else None
        if not isinstance(name, str) or not name:
            raise ValueError(f"{place} in the config is {shown_value(group)}, must have a name, a part of the names of "
                             "its parameters")
        for key in ("lr_mult", "weight_decay_mult"):
            if group.get(key) is not None:
                check_number(f"{place}.{key}", group[key])


def check_clipping(config: dict) -> None:
    """Paddle takes any norm: with 0 nothing is learnt, with a negative one the loss is climbed."""
    clip = (config.get("optimizer") or {}).get("grad_clip_cfg")
    if not isinstance(clip, dict) or clip.get("name") not in CLIPS_BY_NORM:
        return      # PaddleSeg says what is wrong with the rest
    norm = clip.get("clip_norm")
    if not isinstance(norm, (int, float)) or isinstance(norm, bool) or not 0 < norm < math.inf:
        raise ValueError(f"optimizer.grad_clip_cfg has clip_norm {norm!r}: it must be a number above 0, the norm that "
                         "larger gradients are scaled to, for instance 10.0")


def check_schedule(schedule: dict) -> None:
    check_keys("lr_scheduler", schedule)
    kind = schedule.get("type")
    known = {name: value for name, value in vars(paddle.optimizer.lr).items()
             if isinstance(value, type) and issubclass(value, paddle.optimizer.lr.LRScheduler)}
    if not isinstance(kind, str) or kind not in known:
        raise unknown_type("lr_scheduler", schedule, known)
    for key in NUMBERS_OF_SCHEDULES:
        if key in schedule:
            check_number(f"lr_scheduler.{key}", schedule[key])
    if "learning_rate" in schedule:
        check_positive("lr_scheduler.learning_rate", schedule["learning_rate"])
    if any(key in schedule for key in WARMUP):
        check_warmup(schedule)
    given = {key: value for key, value in schedule.items() if key not in ("type", *WARMUP)}
    if kind == "PolynomialDecay":
        given.setdefault("decay_steps", 1)      # PaddleSeg has it from `iters`
        check_whole("lr_scheduler.decay_steps", given["decay_steps"], least=1)
    check_arguments("lr_scheduler", kind, given, known[kind])


def check_warmup(schedule: dict) -> None:
    for key in (*WARMUP, "learning_rate"):
        if key not in schedule:
            raise ValueError(f"lr_scheduler in the config has no {key}, which a warm-up needs")
    check_whole("lr_scheduler.warmup_iters", schedule["warmup_iters"], least=0)


def check_inference(options: dict) -> None:
    for key in options:
        if key not in INFERENCE:
            raise ValueError(f"test_config.{key} in the config: there is no such key; there are "
                             f"{some_of(INFERENCE, key)}")
    scales = options.get("scales", 1.0)
    several = scales if isinstance(scales, list) else [scales]
    if not all(is_number(scale) and scale > 0 for scale in several):
        raise wrong("test_config.scales", scales, "numbers above 0")
    for key in ("is_slide", "aug_eval", "flip_horizontal", "flip_vertical"):
        if not isinstance(options.get(key, False), bool):
            raise wrong(f"test_config.{key}", options[key], "true or false")
    for key in ("crop_size", "stride"):
        value = options.get(key)
        if value is not None and not is_size(value):
            raise wrong(f"test_config.{key}", value, "two whole numbers, width and height")


def is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(is_whole(side) and side > 0 for side in value)
