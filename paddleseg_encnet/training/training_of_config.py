"""Trains what a config names: what tools/train.py does, in one function."""

import os
import random
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import paddle
from paddleseg.utils import logger, train_profiler, utils

from paddleseg_encnet.config import batch_recipe, building
from paddleseg_encnet.config.building import Builder
from paddleseg_encnet.data import checks
from paddleseg_encnet.data.cache import cached
from paddleseg_encnet.data.class_names import classes_of_dataset
from paddleseg_encnet.runtime.devices import Precision, Ranks, select_device
from paddleseg_encnet.training import dashboard, training_loop
from paddleseg_encnet.training.events import Callback, Stepped
from paddleseg_encnet.training.saving import BEST_FOLDERS
from paddleseg_encnet.training.settings import Machine, Optimising, Saving, with_named
from paddleseg_encnet.weights import checkpoint, download, packages
from segrun.commands import command
from segrun.errors import unwrapped
from segrun.segmenter import Segmenter
from segrun.writing import check_place

Path = Union[str, "os.PathLike[str]"]


class Trained(NamedTuple):
    """What a training has left behind."""
    config: str
    opts: Optional[List[str]]
    save_dir: str
    mean_iou: float             # the best validation score; -1 where nothing was evaluated
    step: int                   # that reached it; -1 likewise
    weights: Optional[str]      # the file of that step's weights; None likewise

    def segmenter(self, **options: Any) -> Segmenter:
        """The Segmenter of the config with the best weights, and with these further arguments of Segmenter.

        Raises:
            ValueError: nothing was evaluated, so that no weights are the best.
        """
        if self.weights is None:
            raise ValueError(f"none of the weights in {self.save_dir} was evaluated, so that none is the best: train "
                             "with do_eval, or give Segmenter the config and one of the checkpoints there")
        return Segmenter(self.config, self.weights, opts=self.opts, **options)


@unwrapped
def train(config: Path, save_dir: Path = "./output", *, opts: Optional[Sequence[str]] = None, do_eval: bool = False,
          seed: Optional[int] = None, resume_model: Optional[Path] = None, no_data_check: bool = False,
          callback: Optional[Callback] = None, optimising: Optimising = Optimising(), saving: Saving = Saving(),
          machine: Machine = Machine(), **named: Any) -> Trained:
    """Trains the config's network and leaves checkpoints in `save_dir`. It does and logs what tools/train.py does and
    logs. Seed, device and threads of this process become those of the training.

    Args:
        config: a YAML file, or the name of a shipped config.
        opts: keys of the config to set, ["KEY=VALUE", ...].
        do_eval: evaluate at each checkpoint, and keep the best weights.
        seed: of all random numbers; drawn if None.
        resume_model: where to go on from: the folder of a run, a checkpoint in it, or "auto", which is `save_dir` if it
            holds a checkpoint.
        no_data_check: start without a quick look at the data.
        callback: is called with a Stepped after each step and with an Evaluated after each evaluation (events.py), on
            every rank. What it raises ends the run, and comes out of this function.
        optimising, saving, machine: the other settings (settings.py).
        named: settings by their names alone, as iters=100, use_vdl=True or device="cpu"; they come before the groups'.

    Raises:
        ValueError, OSError: what tools/train.py ends with; training/training_loop.py lists them.
        TypeError: there is no setting of a name.
        Stopped: SIGTERM or SIGINT came, and the step was finished and saved. A KeyboardInterrupt.
    """
    optimising, saving, machine = with_named((optimising, saving, machine), named)
    config, save_dir = os.fspath(config), os.fspath(save_dir)
    arithmetic = Precision(machine.precision, machine.amp_level)
    builder = building.read_config(config, opts, iters=optimising.iters, batch_size=optimising.batch_size,
                                   learning_rate=optimising.learning_rate, data_format=machine.data_format)
    settings = builder.config
    if settings.dic["model"]["type"] == "CifarResNet":
        raise ValueError(f"{config} is a classifier of images; train it with {command('train_cifar')}")
    schedule = training_loop.Schedule(settings.iters, saving.save_interval, saving.log_iters,
                                      saving.keep_checkpoint_max, optimising.early_stop_intervals, settings.batch_size,
                                      optimising.accum_steps)
    schedule.check()
    # From here on the builder makes a network that begins with random numbers.
    pretrained = builder.take_pretrained()
    pretrained_backbone = builder.take_pretrained_backbone() if optimising.allow_partial else None
    utils.show_env_info()
    utils.show_cfg_info(settings)
    seed = random.SystemRandom().getrandbits(31) if seed is None else seed
    logger.info(f"--seed {seed} gives the random numbers of this run again")
    utils.set_seed(seed)
    device, ranks = select_device(machine.device), Ranks.join()
    if ranks.first:     # which alone writes: what can't be written is said before the first step
        check_place(os.path.join(save_dir, "iter_0"))
    logger.info(batch_recipe.settle_batch(settings.dic, ranks.count, optimising.scale_lr, optimising.accum_steps))
    utils.set_cv2_num_threads(machine.num_workers)

    train_dataset, val_dataset = datasets(builder, do_eval, optimising.repeats, no_data_check)
    model = builder.model
    if pretrained is not None:
        logger.info(checkpoint.fill_layer(model, download.pretrained(pretrained),
                                          allow_partial=optimising.allow_partial))
    if pretrained_backbone is not None:
        load_what_fits(model.backbone, pretrained_backbone)
    model = ranks.synchronise(model, device)
    losses, optimizer = builder.loss, builder.optimizer
    if machine.to_static_training or settings.to_static_training:
        model = paddle.jit.to_static(model)
    listener = Listener(callback, machine.profiler_options)
    data = cached(os.fspath(machine.cache) if machine.cache else None, [train_dataset, val_dataset],
                  machine.num_workers, ranks)
    with building.explained(settings.dic, listener.raised), data as (train_dataset, val_dataset):
        parts = training_loop.Parts(model, optimizer, losses, train_dataset, val_dataset, builder.tiling().options())
        best = training_loop.train_network(
            parts, schedule, save_dir, precision=arithmetic, num_workers=machine.num_workers,
            resume_model=os.fspath(resume_model) if resume_model else None, use_ema=optimising.use_ema,
            use_vdl=saving.use_vdl,
            hyper_parameters=dashboard.hyper_parameters(settings.dic, model, schedule.step_samples * ranks.count, seed),
            callback=listener if callback or machine.profiler_options else None)
    weights = os.path.join(save_dir, BEST_FOLDERS["model"], "model.pdparams")
    return Trained(config, None if opts is None else list(opts), save_dir, best.mean_iou, best.step,
                   weights if best.step >= 0 and os.path.isfile(weights) else None)


class Listener:
    """Hands what happens to the caller's function and to PaddleSeg's profiler.

    `raised` has what the caller's function has raised, which says nothing of the config.
    """

    def __init__(self, callback: Optional[Callback], profiler_options: Optional[str]):
        self.callback, self.profiler_options = callback, profiler_options
        self.raised: List[BaseException] = []

    def __call__(self, event: Any) -> None:
        if isinstance(event, Stepped):
            train_profiler.add_profiler_step(self.profiler_options)
        if self.callback is None:
            return
        try:
            self.callback(event)
        except Exception as error:
            self.raised.append(error)
            raise


def load_what_fits(backbone: paddle.nn.Layer, pretrained: str) -> None:
    """Of the weights that a backbone's `pretrained` names; logs what they lack."""
    report = checkpoint.fill_layer(backbone, packages.pretrained_tensors(pretrained), allow_partial=True,
                                   ignore_extra=("",), where=pretrained)
    left = report.missing + report.wrong_shape
    logger.info(f"{len(report.loaded)} variables loaded into the backbone; left as initialised: {len(left)}"
                + "".join(f", {name}" for name in left[:5]))


def datasets(builder: Builder, do_eval: bool, repeats: int, no_data_check: bool) -> Tuple[Any, Any]:
    """The training set, `repeats` times over, and with `do_eval` the validation set, else None."""
    built = {} if no_data_check else checks.quick_check(builder, do_eval)
    train_dataset = built.get("train") or builder.train_dataset
    train_dataset.file_list *= repeats
    val_dataset = (built.get("val") or builder.val_dataset) if do_eval else None
    for dataset in filter(None, (train_dataset, val_dataset)):
        classes_of_dataset(dataset)     # labels.txt is first asked for by an evaluation: what is wrong is said now
    return train_dataset, val_dataset
