"""The training loop: step, log, evaluate, save.

PaddleSeg builds what a config names; this loop runs it. Checkpoints, log lines and defaults are PaddleSeg's, and so are
the steps: ten of them give the losses and weights of paddleseg.core.train (tests/test_paddleseg_loops.py).
"""

import copy
import math
import os
import random
import time
from typing import Callable, List, NamedTuple, Optional

import numpy as np
import paddle
from paddleseg.utils import logger, train_profiler
from paddleseg.utils.ema import init_ema_params, update_ema_model

from paddleseg_encnet.data.order import Batches, seed_step
from paddleseg_encnet.evaluation.loop import evaluate
from paddleseg_encnet.models.losses import compute_losses, loss_names
from paddleseg_encnet.runtime.devices import Precision, Ranks
from paddleseg_encnet.runtime.progress import duration
from paddleseg_encnet.runtime.stopping import Stop
from paddleseg_encnet.training import resuming, saving
from paddleseg_encnet.training.dashboard import Dashboard
from paddleseg_encnet.training.finite import NotFinite
from paddleseg_encnet.weights import checkpoint
from paddleseg_encnet.weights.checkpoint import CheckpointError


class Schedule(NamedTuple):
    """How long to train and how often to do what, in steps. Defaults are PaddleSeg's."""
    iters: int
    save_interval: int = 1000
    log_iters: int = 10
    keep_checkpoint_max: int = 5
    early_stop_intervals: Optional[int] = None      # stop after so many evaluations without a better mIoU

    def check(self):
        """Raises ValueError for intervals that no step ends."""
        for name in ("save_interval", "log_iters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is a number of steps, at least 1, got {getattr(self, name)}")

    def saves_at(self, step: int) -> bool:
        return step % self.save_interval == 0 or step == self.iters


def train(model, train_dataset, optimizer, losses: dict, schedule: Schedule, save_dir: str, batch_size: int = 2,
          val_dataset=None, test_config: dict = None, precision: Precision = None, num_workers: int = 0,
          resume_model: str = None, use_ema: bool = False, use_vdl: bool = False,
          profiler_options: str = None, hyper_parameters: dict = None) -> saving.Best:
    """Trains `model` in place, leaves checkpoints in `save_dir` and returns the best score.

    Its random numbers are those of a seed that Python's generator gives, or the checkpoint; so seed before, with
    paddleseg.utils.utils.set_seed.

    Args:
        train_dataset, val_dataset: PaddleSeg datasets; without the second nothing is evaluated.
        losses: {"types": [loss, ...], "coef": [factor, ...]}, one of each for each output of the model.
        batch_size: samples a step on each rank.
        test_config: further arguments of evaluate().
        resume_model: where to go on from: a checkpoint `iter_N` or `best_model`; or the folder of a run, of which the
            newest whole checkpoint is taken; or "auto", which is `save_dir` if it holds one.
        use_ema: also evaluate and save an exponential moving average of the weights.
        use_vdl: write a VisualDL log into `save_dir`.
        hyper_parameters: {name: number or text} for that log.

    Raises:
        DataError: a sample can't be read or its label doesn't fit.
        CheckpointError: `resume_model` holds no whole checkpoint of this model.
        NotFinite: a loss is infinite or no number; the weights are those before the step.
        SaveError: a checkpoint can't be written; the earlier ones are whole.
        Stopped: SIGTERM or SIGINT came, and the step was finished and saved. A KeyboardInterrupt.
        ValueError: there are fewer images than a batch needs, or an interval is none.
    """
    schedule.check()
    precision, ranks = precision or Precision(), Ranks.join()
    found = resuming.find(resume_model, save_dir) if resume_model else None
    state = begin(found, model, optimizer, ranks, batch_size * ranks.count)
    batches = Batches(train_dataset, batch_size, num_workers, state.seed, state.epoch, state.samples)
    model, optimizer = precision.prepare(model, optimizer, state.scaler)
    tracked = {"model": model}
    if use_ema:
        tracked["ema_model"] = moving_average(model, found)
    network = ranks.distribute(model)
    saver = saving.Saver(save_dir, schedule.keep_checkpoint_max, found and found.folder, writes=ranks.first)
    board = Dashboard(save_dir if use_vdl and ranks.first else None, schedule, state, found and found.folder,
                      hyper_parameters)
    del found       # as large as model and optimiser
    meter = Meter(batches)

    def score(name: str):
        ranks.share(tracked[name])
        options = test_config or {}
        result = evaluate(tracked[name], val_dataset, precision, num_workers, losses=losses if use_vdl else None,
                          **options)
        state.scored(name, result.mean_iou)
        if name == "model":
            board.evaluated(state, result, tracked[name], val_dataset, precision, **options)

    with board, Stop() as stop:
        if not state.evaluated and val_dataset is not None:     # the run was ended in this evaluation
            save_and_evaluate(state, saver, tracked, optimizer, score, stop, ranks)
        network.train()
        while state.step < schedule.iters and state.evaluations_since_best != schedule.early_stop_intervals:
            state.step += 1
            seed_step(state.seed, state.step, ranks.rank)
            data = meter.next_batch()
            with precision.context():
                terms = compute_losses(model, network(as_model_wants(model, data["img"])), data, losses)
                loss = sum(terms)
            # Before the step, so that a loss that is not finite never reaches the weights. Here the host waits for the
            # forward pass; with several ranks all learn in the same step that one of them must stop.
            broken, stopping = ranks.where(not math.isfinite(float(loss)), stop.signum is not None)
            if broken:
                values = dict(zip(loss_names(model, len(terms)), map(float, terms)))
                raise NotFinite(state.step, values, batches.files(), broken, saver.advice())
            precision.step(loss, optimizer)
            model.clear_gradients()
            lr = optimizer.get_lr()
            advance(optimizer, loss)
            train_profiler.add_profiler_step(profiler_options)
            if use_ema:
                update_ema_model(tracked["ema_model"], model, step=state.step)
            meter.stepped(terms)

            if state.step % schedule.log_iters == 0:
                pace = meter.read()
                log(state.step, schedule.iters, pace, lr, batches.epoch, batch_size)
                board.stepped(state.step, dict(zip(loss_names(model, len(terms)), pace.losses)), lr, pace,
                              batch_size * ranks.count)

            due = schedule.saves_at(state.step)
            if due or stopping:
                state.epoch, state.samples, state.scaler = batches.epoch, batches.samples, precision.state()
                state.evaluated = val_dataset is None or not due
                save_and_evaluate(state, saver, tracked, optimizer, score, stop, ranks, stopping)
                network.train()
                meter.restart()
        if state.evaluations_since_best == schedule.early_stop_intervals:
            logger.info(f"Early stopping: {state.evaluations_since_best} evaluations without a better mIoU")
    return state.best.get("model", saving.Best())


def begin(found: Optional[resuming.Found], model, optimizer, ranks: Ranks, step_samples: int) -> saving.State:
    """Where the run begins, after filling model and optimiser from a checkpoint if one was found."""
    state = saving.State(seed=random.getrandbits(31))
    if found is not None:
        resuming.fill(found, model, optimizer)
        state = found.state or saving.State(found.step, samples=found.step * step_samples, seed=state.seed)
        logger.info(f"Resumed {found.folder} at iter {state.step}")
    places = np.zeros([ranks.count, 2], dtype=np.int64)
    places[ranks.rank] = state.step, state.seed
    places = ranks.sum(places)
    if len(set(places[:, 0])) > 1:
        raise CheckpointError(f"the ranks would go on from different steps {places[:, 0].tolist()}; every machine must "
                              "see the same checkpoints, for instance in a shared folder")
    state.seed = int(places[0, 1])
    return state


def save_and_evaluate(state: saving.State, saver: saving.Saver, tracked: dict, optimizer, score: Callable, stop: Stop,
                      ranks: Ranks, stopping: bool = False):
    """The checkpoint, then the evaluation if one is due. In this order whatever ends the evaluation costs nothing.

    Args:
        score: takes the name of a tracked network and gives its score to the state.
        stopping: end the run, with Stopped, when the checkpoint is written.
    """
    stop.saved = folder = saver.save(state, tracked, optimizer)
    ranks.meet()        # the first one writes, and none may leave before that is done
    if stopping:
        stop.end()
    if not state.evaluated:
        with stop.at_once():
            for name in tracked:
                score(name)
        state.evaluated = True
        saver.evaluated(folder, state)
        ranks.meet()
        logger.info(f"[EVAL] The model with the best validation mIoU: {state.best['model']}")


def moving_average(model, found: Optional[resuming.Found]):
    """A copy of the model for the moving average of its weights, which goes on from the checkpoint's."""
    average = frozen_copy(model)
    path = found and os.path.join(found.folder, "ema_model.pdparams")
    if path and os.path.exists(path):
        checkpoint.load(average, path)
    return average


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
    elif isinstance(schedule, paddle.optimizer.lr.CosineAnnealingDecay):
        # Told the step, Paddle computes the rate from it; else from the rate before, which may be that of other iters.
        schedule.step(schedule.last_epoch + 1)
    elif isinstance(schedule, paddle.optimizer.lr.LRScheduler):
        schedule.step()


class Pace(NamedTuple):
    """Means over the steps since the last reading."""
    losses: List[float]     # by term, weighted
    batch_cost: float       # seconds a step
    reader_cost: float      # of these, waiting for data


class Meter:
    """Hands out batches and measures what steps take and yield."""

    def __init__(self, batches):
        self.batches = iter(batches)
        self.restart()

    def restart(self):
        """Forgets everything so far, for instance the time of an evaluation."""
        self.start, self.waited, self.steps, self.sums = time.monotonic(), 0.0, 0, None

    def next_batch(self) -> dict:
        asked = time.monotonic()
        batch = next(self.batches)
        self.waited += time.monotonic() - asked
        return batch

    def stepped(self, terms: list):
        """Adds up on the device; read() reads."""
        values = [term.detach() for term in terms]
        self.sums = values if self.sums is None else [a + b for a, b in zip(self.sums, values)]
        self.steps += 1

    def read(self) -> Pace:
        losses = [float(value) / self.steps for value in self.sums]
        pace = Pace(losses, (time.monotonic() - self.start) / self.steps, self.waited / self.steps)
        self.restart()
        return pace


def log(step: int, iters: int, pace: Pace, lr: float, epoch: int, batch_size: int):
    """PaddleSeg's line."""
    logger.info(
        f"[TRAIN] epoch: {epoch + 1}, iter: {step}/{iters}, loss: {sum(pace.losses):.4f}, "
        f"lr: {lr:.6f}, batch_cost: {pace.batch_cost:.4f}, reader_cost: {pace.reader_cost:.5f}, "
        f"ips: {batch_size / pace.batch_cost:.4f} samples/sec | ETA {duration(pace.batch_cost * (iters - step))}")
