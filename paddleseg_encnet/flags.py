"""The flags that the tools share, and their errors in one line. Only the tools, and what stands for one, import it."""

import argparse
from typing import Any, Callable, Dict, List, Optional

from paddleseg_encnet.runtime import watch
from segrun import command_line
from segrun.command_line import bare_parser, positive


def parser(description: str, example: str = "") -> argparse.ArgumentParser:
    """The flags that every tool of PaddleSeg has."""
    flags = bare_parser(description, example)
    flags.add_argument("--config", required=True, help="YAML file, or the name of a shipped config")
    flags.add_argument("--device", default="gpu", help="gpu, gpu:1, cpu, xpu ...; the CPU if there's none")
    flags.add_argument("--num_workers", type=int, default=0, help="processes that read data; 0 reads in this one")
    flags.add_argument("--opts", nargs="+", metavar="KEY=VALUE", help="set keys of the config: model.num_codes=16 ...")
    return flags


def add_training_flags(flags: argparse.ArgumentParser, save_dir: str, save_interval: int, log_iters: int,
                       keep_checkpoint_max: int) -> None:
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


def add_cache_flag(flags: argparse.ArgumentParser) -> None:
    flags.add_argument("--cache", metavar="DIR", help="keep decoded data there; ram: in memory")


def add_inference_flags(flags: argparse.ArgumentParser, augment: str) -> None:
    """The flags of sliding-window and augmented inference; `augment` is "aug_eval" or "aug_pred"."""
    flags.add_argument(f"--{augment}", action="store_true", help="average over scales and flips")
    flags.add_argument("--scales", nargs="+", type=float, default=1.0, help="scales to average over")
    flags.add_argument("--flip_horizontal", action="store_true", help="average over the mirrored image")
    flags.add_argument("--flip_vertical", action="store_true", help="average over the image upside down")
    flags.add_argument("--is_slide", action="store_true", help="cover the image with overlapping windows")
    flags.add_argument("--crop_size", nargs=2, type=int, metavar=("W", "H"), help="size of a window")
    flags.add_argument("--stride", nargs=2, type=int, metavar=("W", "H"), help="step from window to window")


def keywords(args: argparse.Namespace) -> Dict[str, Any]:
    """A tool's flags as arguments of the function that it calls."""
    return {name: value for name, value in vars(args).items() if name != "debug"}


INFERENCE = ("is_slide", "crop_size", "stride", "scales", "flip_horizontal", "flip_vertical")


def inference_of(args: argparse.Namespace, augment: str) -> Dict[str, Any]:
    """What the flags of add_inference_flags() say, by their names."""
    return {name: getattr(args, name) for name in (*INFERENCE, augment)}


def device_of(args: argparse.Namespace) -> str:
    """--device with the number of --device_id, where it has none of its own."""
    return args.device if ":" in args.device or args.device == "cpu" else f"{args.device}:{args.device_id}"


def run_main(main: Callable[[argparse.Namespace], None], flags: argparse.ArgumentParser,
             arguments: Optional[List[str]] = None) -> None:
    """command_line.run_main(), which also tells the other ranks why this one ends."""
    command_line.run_main(main, flags, arguments, watch.fail)
