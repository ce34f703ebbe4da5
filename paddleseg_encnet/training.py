"""The training loop: step, log, evaluate, save.

PaddleSeg builds what a config names; this loop runs it. Checkpoints, log lines and defaults are PaddleSeg's, and so are
the steps: ten of them give the losses and weights of paddleseg.core.train (tests/test_paddleseg_loops.py).
"""

import copy
import time
from typing import List, NamedTuple, Optional

import paddle
from paddleseg.utils import logger, train_profiler, worker_init_fn
from paddleseg.utils.ema import init_ema_params, update_ema_model

from paddleseg_encnet import saving
from paddleseg_encnet.dashboard import Dashboard
from paddleseg_encnet.datasets import Loader
from paddleseg_encnet.devices import Precision, Ranks
from paddleseg_encnet.evaluation import evaluate
from paddleseg_encnet.losses import compute_losses, loss_names
from paddleseg_encnet.progress import duration


class Schedule(NamedTuple):
    """How long to train and how often to do what, in steps. Defaults are PaddleSeg's."""
    iters: int
    save_interval: int = 1000
    log_iters: int = 10
    keep_checkpoint_max: int = 5
    early_stop_intervals: Optional[int] = None      # stop after so many evaluations without a better mIoU

    def saves_at(self, step: int) -> bool:
        return step % self.save_interval == 0 or step == self.iters


def train(model, train_dataset, optimizer, losses: dict, schedule: Schedule, save_dir: str, batch_size: int = 2,
          val_dataset=None, test_config: dict = None, precision: Precision = None, num_workers: int = 0,
          resume_model: str = None, use_ema: bool = False, use_vdl: bool = False,
          profiler_options: str = None) -> saving.Best:
    """Trains `model` in place, leaves checkpoints in `save_dir` and returns the best score.

    Args:
        train_dataset, val_dataset: PaddleSeg datasets; without the second nothing is evaluated.
        losses: {"types": [loss, ...], "coef": [factor, ...]}, one of each for each output of the model.
        batch_size: samples a step on each rank.
        test_config: further arguments of evaluate().
        resume_model: folder `iter_N` of an earlier run to go on from.
        use_ema: also evaluate and save an exponential moving average of the weights.
        use_vdl: write a VisualDL log into `save_dir`.

    Raises:
        DataError: a sample can't be read or its label doesn't fit.
        CheckpointError: `resume_model` is no checkpoint of this model.
        ValueError: there are fewer images than a batch needs.
    """
    precision, ranks = precision or Precision(), Ranks.join()
    loader = Loader(
        train_dataset, num_workers=num_workers, worker_init_fn=worker_init_fn,
        batch_sampler=paddle.io.DistributedBatchSampler(train_dataset, batch_size, shuffle=True, drop_last=True))
    if len(loader) == 0:
        raise ValueError(f"{len(train_dataset)} training images make no batch of {batch_size} on each of {ranks.count} "
                         "devices; lower batch_size")
    step, best = 0, {}
    if resume_model is not None:
        step, best = saving.resume(resume_model, model, optimizer)
        logger.info(f"Resumed {resume_model} at iter {step}")
    model, optimizer = precision.prepare(model, optimizer)
    tracked = {"model": model}
    if use_ema:
        tracked["ema_model"] = frozen_copy(model)
    best = {name: best.get(name, saving.Best()) for name in tracked}
    network = ranks.distribute(model)
    saver = saving.Saver(save_dir, schedule.keep_checkpoint_max)
    board = Dashboard(save_dir if use_vdl and ranks.first else None)
    meter = Meter(loader)
    evaluations_since_best = 0

    network.train()
    while step < schedule.iters:
        step += 1
        data = meter.next_batch()
        with precision.context():
            terms = compute_losses(model, network(as_model_wants(model, data["img"])), data, losses)
            loss = sum(terms)
        precision.step(loss, optimizer)
        model.clear_gradients()
        lr = optimizer.get_lr()
        advance(optimizer, loss)
        train_profiler.add_profiler_step(profiler_options)
        if use_ema:
            update_ema_model(tracked["ema_model"], model, step=step)
        meter.stepped(terms)

        if step % schedule.log_iters == 0:
            pace = meter.read()
            log(step, schedule.iters, pace, lr, len(loader), batch_size)
            board.stepped(step, dict(zip(loss_names(model, len(terms)), pace.losses)), lr, pace)

        if schedule.saves_at(step):
            if val_dataset is not None:
                for name, tracked_model in tracked.items():
                    ranks.share(tracked_model)
                    result = evaluate(tracked_model, val_dataset, precision, num_workers, **(test_config or {}))
                    best[name] = best[name].updated(result.mean_iou, step)
                    if name == "model":
                        board.evaluated(step, result)
                network.train()
                logger.info(f"[EVAL] The model with the best validation mIoU: {best['model']}")
                evaluations_since_best = 0 if best["model"].step == step else evaluations_since_best + 1
            if ranks.first:
                saver.save(step, tracked, optimizer, best)
            ranks.meet()
            if evaluations_since_best == schedule.early_stop_intervals:
                logger.info(f"Early stopping: {evaluations_since_best} evaluations without a better mIoU")
                break
            meter.restart()
    board.close()
    return best["model"]


def frozen_copy(model):
    """A copy for the moving average of the weights, with PaddleSeg's start."""
    average = copy.deepcopy(model)
    average.eval()
    for parameter in average.parameters():
        parameter.stop_gradient = True
    init_ema_params(average, model)
    return average


def as_model_wants(model, images: paddle.Tensor) -> paddle.Tensor:
    """Images [B, C, H, W], with channels last for a model that was built so."""
    return images.transpose([0, 2, 3, 1]) if getattr(model, "data_format", "NCHW") == "NHWC" else images


def advance(optimizer, loss: paddle.Tensor):
    """One step of the learning rate's schedule, if it has one."""
    schedule = optimizer._learning_rate
    if isinstance(schedule, paddle.optimizer.lr.ReduceOnPlateau):
        schedule.step(loss)
    elif isinstance(schedule, paddle.optimizer.lr.LRScheduler):
        schedule.step()


class Pace(NamedTuple):
    """Means over the steps since the last reading."""
    losses: List[float]     # by term, weighted
    batch_cost: float       # seconds a step
    reader_cost: float      # of these, waiting for data


class Meter:
    """Hands out batches without end and measures what steps take and yield."""

    def __init__(self, loader):
        self.loader, self.batches = loader, iter(())
        self.restart()

    def restart(self):
        """Forgets everything so far, for instance the time of an evaluation."""
        self.start, self.waited, self.steps, self.sums = time.monotonic(), 0.0, 0, None

    def next_batch(self) -> dict:
        asked = time.monotonic()
        batch = next(self.batches, None)
        if batch is None:       # an epoch is over
            self.batches = iter(self.loader)
            batch = next(self.batches)
        self.waited += time.monotonic() - asked
        return batch

    def stepped(self, terms: list):
        """Adds up on the device: reading a loss makes the host wait for it, so that happens only in read()."""
        values = [term.detach() for term in terms]
        self.sums = values if self.sums is None else [a + b for a, b in zip(self.sums, values)]
        self.steps += 1

    def read(self) -> Pace:
        losses = [float(value) / self.steps for value in self.sums]
        pace = Pace(losses, (time.monotonic() - self.start) / self.steps, self.waited / self.steps)
        self.restart()
        return pace


def log(step: int, iters: int, pace: Pace, lr: float, steps_an_epoch: int, batch_size: int):
    """PaddleSeg's line."""
    logger.info(
        f"[TRAIN] epoch: {(step - 1) // steps_an_epoch + 1}, iter: {step}/{iters}, loss: {sum(pace.losses):.4f}, "
        f"lr: {lr:.6f}, batch_cost: {pace.batch_cost:.4f}, reader_cost: {pace.reader_cost:.5f}, "
        f"ips: {batch_size / pace.batch_cost:.4f} samples/sec | ETA {duration(pace.batch_cost * (iters - step))}")
