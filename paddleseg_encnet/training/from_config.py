"""Trains what a config names: what tools/train.py does, in one function."""

import os
import random
from typing import Optional, Sequence, Union

import paddle
from paddleseg.cvlibs import SegBuilder
from paddleseg.utils import logger, utils

from paddleseg_encnet import cli
from paddleseg_encnet.data import checks, config_checks
from paddleseg_encnet.data.cache import cached
from paddleseg_encnet.runtime.devices import Precision, Ranks, select_device
from paddleseg_encnet.training import dashboard, loop, recipe
from paddleseg_encnet.training.saving import Best
from paddleseg_encnet.weights import checkpoint, download, packages
from segrun.commands import command
from segrun.errors import unwrapped
from segrun.tiling import asked_for


@unwrapped
def train(config: Union[str, os.PathLike], save_dir: Union[str, os.PathLike] = "./output", *, do_eval: bool = False,
          device: Optional[str] = None, opts: Optional[Sequence[str]] = None, iters: Optional[int] = None,
          batch_size: Optional[int] = None, accum_steps: int = 1, learning_rate: Optional[float] = None,
          scale_lr: bool = False, seed: Optional[int] = None, resume_model: Optional[str] = None, num_workers: int = 0,
          use_vdl: bool = False, use_ema: bool = False, save_interval: int = 1000, log_iters: int = 10,
          keep_checkpoint_max: int = 5, early_stop_intervals: Optional[int] = None, precision: str = "fp32",
          amp_level: str = "O1", allow_partial: bool = False, data_format: str = "NCHW", repeats: int = 1,
          to_static_training: bool = False, no_data_check: bool = False, profiler_options: Optional[str] = None,
          cache: Union[str, os.PathLike, None] = None) -> Best:
    """Trains the config's network and leaves checkpoints in `save_dir`. The arguments are the flags of tools/train.py,
    which explains them, by their names, with the same defaults but one: `device` None is the GPU if there is one. What
    is logged is what that logs. Seed, device and threads of this process become those of the training.

    Returns:
        The best validation score, `mean_iou`, and its `step`; both -1 without `do_eval`.

    Raises:
        ValueError, OSError: what tools/train.py ends with; training/loop.py lists them.
        Stopped: SIGTERM or SIGINT came, and the step was finished and saved. A KeyboardInterrupt.
    """
    path, arithmetic = os.fspath(config), Precision(precision, amp_level)
    builder = cli.build_config(path, opts, learning_rate=learning_rate, iters=iters, batch_size=batch_size)
    config = builder.config
    if config.dic["model"]["type"] == "CifarResNet":
        raise ValueError(f"{path} is a classifier of images; train it with {command('train_cifar')}")
    cli.set_data_format(config, data_format)
    pretrained = cli.take_pretrained(config)
    pretrained_backbone = cli.take_pretrained_backbone(config) if allow_partial else None
    utils.show_env_info()
    utils.show_cfg_info(config)
    seed = random.SystemRandom().getrandbits(31) if seed is None else seed
    logger.info(f"--seed {seed} gives the random numbers of this run again")
    utils.set_seed(seed)
    device, ranks = select_device(device), Ranks.join()
    logger.info(recipe.settle(config.dic, ranks.count, scale_lr, accum_steps))
    utils.set_cv2_num_threads(num_workers)

    train_dataset, val_dataset = datasets(builder, do_eval, repeats, no_data_check)
    model = builder.model
    if pretrained is not None:
        logger.info(checkpoint.load(model, download.pretrained(pretrained), allow_partial=allow_partial))
    if pretrained_backbone is not None:
        load_what_fits(model.backbone, pretrained_backbone)
    model = ranks.synchronise(model, device)
    losses, optimizer = builder.loss, builder.optimizer
    if to_static_training or config.to_static_training:
        model = paddle.jit.to_static(model)
    data = cached(cache and os.fspath(cache), [train_dataset, val_dataset], num_workers, ranks)
    with config_checks.explained(config.dic), data as (train_dataset, val_dataset):
        return loop.train(
            model, train_dataset, optimizer, losses,
            loop.Schedule(config.iters, save_interval, log_iters, keep_checkpoint_max, early_stop_intervals),
            os.fspath(save_dir), config.batch_size, val_dataset,
            asked_for({}, config.test_config).options(), arithmetic, num_workers,
            resume_model and os.fspath(resume_model), use_ema, use_vdl, profiler_options,
            dashboard.hyper_parameters(config.dic, model, config.batch_size * accum_steps * ranks.count, seed),
            accum_steps)


def load_what_fits(backbone: paddle.nn.Layer, pretrained: str):
    """Of the weights that a backbone's `pretrained` names; logs what they lack."""
    report = checkpoint.load(backbone, packages.weights(pretrained), allow_partial=True, ignore_extra=("",),
                             where=pretrained)
    left = report.missing + report.wrong_shape
    logger.info(f"{len(report.loaded)} variables loaded into the backbone; left as initialised: {len(left)}"
                + "".join(f", {name}" for name in left[:5]))


def datasets(builder: SegBuilder, do_eval: bool, repeats: int, no_data_check: bool) -> tuple:
    """The training set, `repeats` times over, and with `do_eval` the validation set, else None."""
    built = {} if no_data_check else checks.quick_check(builder, do_eval)
    train_dataset = built.get("train") or builder.train_dataset
    train_dataset.file_list *= repeats
    return train_dataset, (built.get("val") or builder.val_dataset) if do_eval else None
