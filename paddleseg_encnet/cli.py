"""What the tools share: common flags, building from a config, and errors that end in one line."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import math
import os
from typing import TYPE_CHECKING, Callable, Dict, Optional, Sequence

import yaml

if TYPE_CHECKING:       # tools/infer.py runs without PaddleSeg
    from paddleseg.cvlibs import Config, SegBuilder

from paddleseg_encnet.runtime import watch
from segrun import command_line, commands
from segrun.command_line import bare_parser, positive
from segrun.errors import innermost


def parser(description: str, example: str = "") -> argparse.ArgumentParser:
    """The flags that every tool of PaddleSeg has."""
    flags = bare_parser(description, example)
    flags.add_argument("--config", required=True, help="YAML file, or the name of a shipped config")
    flags.add_argument("--device", default="gpu", help="gpu, gpu:1, cpu, xpu ...; the CPU if there's none")
    flags.add_argument("--num_workers", type=int, default=0, help="processes that read data; 0 reads in this one")
    flags.add_argument("--opts", nargs="+", metavar="KEY=VALUE", help="set keys of the config: model.num_codes=16 ...")
    return flags


def add_training_flags(flags: argparse.ArgumentParser, save_dir: str, save_interval: int, log_iters: int,
                       keep_checkpoint_max: int):
    """The flags that every training has, with these defaults."""
    flags.add_argument("--save_dir", default=save_dir, help="folder for checkpoints and the log")
    flags.add_argument("--use_vdl", action="store_true", help="write a VisualDL log into save_dir")
    flags.add_argument("--resume_model", help="go on from the newest checkpoint of a run's folder, or from one in it; "
                       "auto: of --save_dir if it has one")
    flags.add_argument("--iters", type=int, help="number of steps")
    flags.add_argument("--batch_size", type=int, help="samples at a time on each device")
    flags.add_argument("--accum_steps", type=positive, default=1, metavar="N", help="add up the gradients of N batches "
                       "for a step, as N times the devices would; whatever counts steps counts those")
    flags.add_argument("--learning_rate", type=float, help="base learning rate")
    flags.add_argument("--scale_lr", action="store_true", help="rate x batch over all devices / base_batch_size")
    flags.add_argument("--save_interval", type=int, default=save_interval, help="steps between two checkpoints")
    flags.add_argument("--log_iters", type=int, default=log_iters, help="steps between two log lines")
    flags.add_argument("--keep_checkpoint_max", type=int, default=keep_checkpoint_max,
                       help="newest checkpoints to keep; 0 keeps all")
    flags.add_argument("--seed", type=int, help="of all random numbers; drawn if not given")
    flags.add_argument("--precision", default="fp32", choices=["fp32", "fp16"], help="fp16 is mixed precision")


def add_cache_flag(flags: argparse.ArgumentParser):
    flags.add_argument("--cache", metavar="DIR", help="keep decoded data there; ram: in memory")


def add_inference_flags(flags: argparse.ArgumentParser, augment: str):
    """The flags of sliding-window and augmented inference; `augment` is "aug_eval" or "aug_pred"."""
    flags.add_argument(f"--{augment}", action="store_true", help="average over scales and flips")
    flags.add_argument("--scales", nargs="+", type=float, default=1.0, help="scales to average over")
    flags.add_argument("--flip_horizontal", action="store_true", help="average over the mirrored image")
    flags.add_argument("--flip_vertical", action="store_true", help="average over the image upside down")
    flags.add_argument("--is_slide", action="store_true", help="cover the image with overlapping windows")
    flags.add_argument("--crop_size", nargs=2, type=int, metavar=("W", "H"), help="size of a window")
    flags.add_argument("--stride", nargs=2, type=int, metavar=("W", "H"), help="step from window to window")


def keywords(args: argparse.Namespace) -> dict:
    """A tool's flags as arguments of the function that it calls."""
    return {name: value for name, value in vars(args).items() if name != "debug"}


INFERENCE = ("is_slide", "crop_size", "stride", "scales", "flip_horizontal", "flip_vertical")


def inference_of(args: argparse.Namespace, augment: str) -> dict:
    """What the flags of add_inference_flags() say, by their names."""
    return {name: getattr(args, name) for name in (*INFERENCE, augment)}


def set_data_format(config: Config, data_format: str):
    """Channels last, which PaddleSeg has for one model."""
    if data_format == "NCHW":
        return
    if data_format != "NHWC":
        raise ValueError(f"data_format is NCHW or NHWC, got {data_format!r}")
    if config.dic["model"]["type"] != "DeepLabV3P":
        raise ValueError(f"--data_format {data_format} is for DeepLabV3P only, not for {config.dic['model']['type']}")
    for part in (config.dic["model"], config.dic["model"]["backbone"], *config.dic["loss"]["types"]):
        part["data_format"] = data_format


def take_pretrained(config: Config) -> Optional[str]:
    """Takes `pretrained` of the whole network out of the config, and that of the backbone, which it replaces, too."""
    model = config.dic["model"]
    pretrained = model.pop("pretrained", None)
    if pretrained is not None:
        model.get("backbone", {}).pop("pretrained", None)
    return pretrained


def take_pretrained_backbone(config: Config) -> Optional[str]:
    """Takes `pretrained` of the backbone out of the config."""
    return config.dic["model"].get("backbone", {}).pop("pretrained", None)


def leave_out_pretrained(config: Config):
    """Weights that --model_path is going to replace need neither be there nor be downloaded."""
    model = config.dic["model"]
    for part in (model, model.get("backbone", {})):
        part.pop("pretrained", None)


def configs_folder() -> str:
    """Of the shipped configs: in the package where pip installed it, beside it in a checkout."""
    package = os.path.dirname(os.path.abspath(__file__))
    inside = os.path.join(package, "configs")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "configs")


def shipped_configs() -> Dict[str, str]:
    """The file of each shipped config, by its name."""
    folder = configs_folder()
    return {name[:-len(".yml")]: os.path.join(folder, name) for name in sorted(os.listdir(folder))
            if name.endswith(".yml")}


def find_config(config: str) -> str:
    """The file that `config` is, or the file of the shipped config that it names.

    Raises:
        FileNotFoundError: it is neither; the nearest name is offered.
    """
    shipped = shipped_configs()
    if os.path.isfile(config):
        return config
    if config in shipped:
        return shipped[config]
    near = difflib.get_close_matches(os.path.splitext(os.path.basename(config))[0].lower(), shipped, n=1)
    raise FileNotFoundError(f"there is no config {config}; " + (
        f"did you mean {near[0]}?" if near else f"{commands.command('configs')} lists those that are shipped"))


@contextlib.contextmanager
def reading(config: str):
    """Around what reads a config, with the path of its file: names it where it is no YAML, or YAML without keys, where
    what its `_base_` names is not there, or where PaddleSeg stumbles over it."""
    path = find_config(config)
    try:
        with open(path, encoding="utf-8") as file:
            if not isinstance(yaml.safe_load(file), dict):
                raise ValueError(f"the config {config} has no keys, as model: or train_dataset:; "
                                 f"{commands.command('configs')} encnet_quick_start prints one that has")
        yield path
    except yaml.YAMLError as error:
        raise ValueError(f"the config {config} is no valid YAML: {' '.join(str(error).split())}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"the config {config} is no valid YAML: it is no text in UTF-8") from error
    except FileNotFoundError as error:
        if not str(error.filename).endswith((".yml", ".yaml")):
            raise
        raise FileNotFoundError(f"the config {config} needs {error.filename}, which is not there; see _base_"
                                ) from error
    except Exception as error:
        found = innermost(error)
        if isinstance(found, (ValueError, OSError)) or isinstance(found, AssertionError) and str(found):
            raise
        raise ValueError(f"the config {config} can't be read as one: a part of it, or of a file in its _base_, is no "
                         f"mapping of keys to values ({type(found).__name__}: {' '.join(str(found).split())})"
                         ) from error


def build(args: argparse.Namespace) -> SegBuilder:
    """build_config() of the flags --config and --opts."""
    return build_config(args.config, args.opts)


def build_config(config: str, opts: Optional[Sequence[str]] = None, **overrides) -> SegBuilder:
    """PaddleSeg's builder for a config, as --config takes it, with --opts and the other flags that change it.

    Raises:
        FileNotFoundError, ValueError: the config is missing, no YAML, a key of --opts is not in it, `iters` or
            `batch_size` of the overrides is below 1, the norm that it clips gradients to is no number above 0, a part
            of it is none that can be built (data/config_checks.py), or parts of it contradict its `ignore_index` or
            its `in_channels`.
    """
    for name in ("iters", "batch_size"):    # PaddleSeg takes 0 for not given
        if overrides.get(name) is not None and overrides[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {overrides[name]}")
    from paddleseg.cvlibs import Config

    from paddleseg_encnet.data import channels, config_checks, ignore_index
    with reading(config) as path:
        read = Config(path, opts=None if opts is None else list(opts), checker=shape_first(), **overrides)
        check_clipping(read)
        ignore_index.share(read.dic)
        channels.share(read.dic)
        return config_checks.Builder(read)


def shape_first():
    """PaddleSeg's rules for a config, after ours, which know what they may take for granted."""
    from paddleseg.cvlibs import Config, config_checker

    from paddleseg_encnet.data import config_checks

    class Shape(config_checker.Rule):
        def check_and_correct(self, config):
            config_checks.check(config.dic)

    checker = Config._build_default_checker()
    return config_checker.ConfigChecker([Shape(), *checker.rule_list], allow_update=True)


def num_classes(config: Config) -> int:
    """Of the network. A config may leave it to the class of its data set, as PaddleSeg's FastFCN's does."""
    from paddleseg.cvlibs import manager
    dataset = config.val_dataset_cfg
    said = config.dic["model"].get("num_classes") or dataset.get("num_classes")
    return said or manager.DATASETS[dataset["type"]].NUM_CLASSES


def check_clipping(config: Config):
    """Paddle takes any norm: with 0 nothing is learnt, with a negative one the loss is climbed."""
    clip = (config.dic.get("optimizer") or {}).get("grad_clip_cfg")
    if not isinstance(clip, dict) or clip.get("name") not in ("ClipGradByGlobalNorm", "ClipGradByNorm"):
        return      # PaddleSeg says what is wrong with the rest
    norm = clip.get("clip_norm")
    if not isinstance(norm, (int, float)) or isinstance(norm, bool) or not 0 < norm < math.inf:
        raise ValueError(f"optimizer.grad_clip_cfg has clip_norm {norm!r}: it must be a number above 0, the norm that "
                         "larger gradients are scaled to, for instance 10.0")


def run(main: Callable, flags: argparse.ArgumentParser, arguments: Optional[list] = None):
    """command_line.run(), which also tells the other ranks why this one ends."""
    command_line.run(main, flags, arguments, watch.fail)
