"""The training loop: step, log, evaluate, save.

PaddleSeg builds what a config names; this loop runs it. Checkpoints, log lines and defaults are PaddleSeg's, and so are
the steps: ten of them give the losses and weights of paddleseg.core.train (tests/repairs/test_paddleseg_loops.py).
"""

import contextlib
import copy
import math
import os
import random
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

import numpy as np
import paddle
from paddleseg.utils import logger
from paddleseg.utils.ema import init_ema_params, update_ema_model

from paddleseg_encnet.data.order import Batches, seed_step
from paddleseg_encnet.evaluation.evaluation_loop import evaluate
from paddleseg_encnet.models.encoding import Encoding
from paddleseg_encnet.models.losses import compute_losses, loss_names
from paddleseg_encnet.runtime.devices import Precision, Ranks
from paddleseg_encnet.training import accumulation, resuming, saving, settling
from paddleseg_encnet.training.accumulation import micro_batches
from paddleseg_encnet.training.dashboard import Dashboard
from paddleseg_encnet.training.events import Callback, Evaluated, Stepped
from paddleseg_encnet.training.finite import NotFinite
from paddleseg_encnet.training.pace import Meter, Pace, log
from paddleseg_encnet.training.run_lock import alone_in
from paddleseg_encnet.training.schedules import advance
from paddleseg_encnet.weights import checkpoint
from paddleseg_encnet.weights.checkpoint import CheckpointError
from segrun.errors import DataError
from segrun.scoring import Scores
from segrun.stopping import Stop


class Parts(NamedTuple):
    """What is trained, and on what."""
    model: paddle.nn.Layer
    optimizer: paddle.optimizer.Optimizer
    losses: dict                    # {"types": [loss, ...], "coef": [factor, ...]}, one of each for each output
    train_dataset: paddle.io.Dataset
    val_dataset: Optional[paddle.io.Dataset] = None     # without it nothing is evaluated
    test_config: Optional[dict] = None                  # further arguments of evaluate()


class Schedule(NamedTuple):
    """How many steps there are, of how many samples, and after how many steps what is done. Defaults are PaddleSeg's.
    """
    iters: int
    save_interval: int = 1000
    log_iters: int = 10
    keep_checkpoint_max: int = 5
    early_stop_intervals: Optional[int] = None      # stop after so many evaluations without a better mIoU
    batch_size: int = 2             # samples that go through the network at once, on each rank
    accum_steps: int = 1            # micro-batches of so many in a step, which is then one of so many times the batch,
    # with its samples and random numbers (training/accumulation.py). Everything else counts steps.

    def check(self) -> None:
        """Raises ValueError for a run of no step, and for intervals that no step ends."""
        for name in ("iters", "save_interval", "log_iters"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is a number of steps, at least 1, got {getattr(self, name)}")
        if self.accum_steps < 1:
            raise ValueError(f"accum_steps is a number of micro-batches, at least 1, got {self.accum_steps}")

    @property
    def step_samples(self) -> int:
        """Samples of a step, on each rank."""
        return self.batch_size * self.accum_steps

    def saves_at(self, step: int) -> bool:
        return step % self.save_interval == 0 or step == self.iters


def train_network(parts: Parts, schedule: Schedule, save_dir: str, *, precision: Optional[Precision] = None,
                  num_workers: int = 0, resume_model: Optional[str] = None, use_ema: bool = False,
                  use_vdl: bool = False, hyper_parameters: Optional[dict] = None,
                  callback: Optional[Callback] = None) -> saving.BestCheckpoint:
    """Trains `parts.model` in place, leaves checkpoints in `save_dir` and returns the best score.

    Its random numbers are those of a seed that Python's generator gives, or the checkpoint; so seed before, with
    paddleseg.utils.utils.set_seed.

    Args:
        precision: float32 if None.
        num_workers: processes that read data; 0 reads in this one.
        resume_model: where to go on from: a checkpoint `iter_N` or `best_model`; or the folder of a run, of which the
            newest whole checkpoint is taken; or "auto", which is `save_dir` if it holds one.
        use_ema: also evaluate and save an exponential moving average of the weights.
        use_vdl: write a VisualDL log into `save_dir`.
        hyper_parameters: {name: number or text} for that log.
        callback: is told of each step and each evaluation (training/events.py); what it raises ends the run.

    Raises:
        DataError: a sample can't be read or its label doesn't fit.
        CheckpointError: `resume_model` holds no whole checkpoint of this model, or has taken more steps than `iters`.
        NotFinite: a loss is infinite or no number; the weights are those before the step.
        SaveError: another training is at work in `save_dir`, or a checkpoint can't be written; the earlier ones are
            whole.
        Stopped: SIGTERM or SIGINT came, and the step was finished and saved. A KeyboardInterrupt.
        ValueError: there are fewer images than a batch needs, or an interval is none.
    """
    schedule.check()
    precision, ranks = precision or Precision(), Ranks.join()
    with alone_in(save_dir) if ranks.first else contextlib.nullcontext():
        found = resuming.find(resume_model, save_dir) if resume_model else None
        state = begin(found, parts, ranks, schedule)
        batches = Batches(parts.train_dataset, schedule.step_samples, num_workers, state.seed, state.epoch,
                          state.samples)
        average = moving_average(parts.model, found) if use_ema else None   # before the model is cast: in float32
        model, optimizer = precision.prepare(parts.model, parts.optimizer, state.scaler, [Encoding])
        parts = parts._replace(model=model, optimizer=optimizer)
        tracked = {"model": model}
        if average is not None:
            tracked["ema_model"] = average
        network = ranks.distribute(model)
        saver = saving.Saver(save_dir, schedule.keep_checkpoint_max, found and found.folder, writes=ranks.first)
        board = Dashboard(save_dir if use_vdl and ranks.first else None, schedule, state, found and found.folder,
                          hyper_parameters)
        del found       # as large as model and optimiser
        if schedule.accum_steps > 1:
            logger.info(accumulation.accumulation_line(model, parts.losses, schedule.batch_size, schedule.accum_steps))
        evaluation = None if parts.val_dataset is None else dict(
            dataset=parts.val_dataset, precision=precision, num_workers=num_workers,
            losses=parts.losses if use_vdl else None, **parts.test_config or {})
        run = Run(parts, network, tracked, schedule, state, Meter(batches), saver, board, precision, ranks, evaluation,
                  callback)
        with board, contextlib.closing(run.meter), Stop() as stop:
            run.to_the_end(stop)
    return state.best.get("model", saving.BestCheckpoint())


@dataclass
class Run:
    """A training at work: all that its steps need, and the steps."""
    parts: Parts
    network: paddle.nn.Layer        # the model as all ranks train it
    tracked: Dict[str, paddle.nn.Layer]     # what is saved and scored: the model, and the moving average of its weights
    schedule: Schedule
    state: saving.State
    meter: Meter                    # hands out the batches
    saver: saving.Saver
    board: Dashboard
    precision: Precision
    ranks: Ranks
    evaluation: Optional[dict]      # arguments of evaluate(); None: nothing is evaluated
    callback: Optional[Callback] = None

    def to_the_end(self, stop: Stop) -> None:
        """Trains from where the state is until the schedule, an early stop or a signal ends it."""
        state, schedule = self.state, self.schedule
        if not state.evaluated and self.evaluation:     # the run was ended in this evaluation
            self.save_and_evaluate(stop)
        self.network.train()
        while state.step < schedule.iters and state.evaluations_since_best != schedule.early_stop_intervals:
            state.step += 1
            seed_step(state.seed, state.step, self.ranks.rank)
            terms, lr, stopping = self.step(self.next_batch(stop), stop)
            self.meter.stepped(terms)
            if state.step % schedule.log_iters == 0:
                self.tell(self.meter.read(), lr)
            if self.callback is not None:
                self.callback(Stepped(state.step, self.named(map(float, terms)), lr))
            due = schedule.saves_at(state.step)
            if due or stopping:
                self.note_place()
                state.evaluated = self.evaluation is None or not due
                self.save_and_evaluate(stop, stopping)
                self.network.train()
                self.meter.restart()
        if state.evaluations_since_best == schedule.early_stop_intervals:
            logger.info(f"Early stopping: {state.evaluations_since_best} evaluations without a better mIoU")

    def next_batch(self, stop: Stop) -> dict:
        """The batch of this step; DataError where a sample can't be read. With one rank what the steps before have
        reached is saved first; of several the others do not know, and are in their step."""
        try:
            return self.meter.next_batch()
        except DataError as error:
            self.state.step -= 1
            last = self.saver.last or ""
            if self.ranks.count > 1 or self.state.step == 0 or os.path.basename(last) == f"iter_{self.state.step}":
                raise
            logger.warning(f"{error}; the {self.state.step} steps before are being saved")
            self.note_place()
            self.state.evaluated = True
            self.save_and_evaluate(stop, stop.signum is not None)
            raise DataError(f"{error}. {self.saver.advice()}", error.kind) from error

    def note_place(self) -> None:
        """Takes down where in the data the run is, for the checkpoint."""
        batches = self.meter.batches
        self.state.epoch, self.state.samples, self.state.scaler = batches.epoch, batches.samples, self.precision.state()

    def step(self, data: dict, stop: Stop) -> Tuple[list, float, bool]:
        """One step of weights and learning rate. Returns the losses by term, the rate it was made with, and whether one
        of the ranks has got a signal to stop.

        Raises:
            NotFinite: before the step, so that a loss that is not finite never reaches the weights.
        """
        model, losses, seen = self.tracked["model"], self.parts.losses, []
        micro = micro_batches(data, self.schedule.accum_steps)
        for part, factors in zip(micro, accumulation.term_factors(model, losses, micro)):
            last = part is micro[-1]
            with contextlib.nullcontext() if last else self.ranks.apart(self.network):
                with self.precision.context():
                    terms = compute_losses(model, self.network(as_model_wants(model, part["img"])), part, losses)
                    terms = accumulation.weighted(terms, factors)
                    loss = sum(terms)
                seen.append([term.detach() for term in terms])
                if last:
                    stopping = self.meet_ranks(seen, stop)
                self.precision.backward(loss)
        optimizer = self.parts.optimizer
        self.precision.update(optimizer)
        model.clear_gradients()
        if self.state.step % settling.EVERY == 0:
            settling.settle(model, optimizer)
        terms, lr = [sum(values) for values in zip(*seen)], optimizer.get_lr()
        advance(optimizer, sum(terms))
        if "ema_model" in self.tracked:
            update_ema_model(self.tracked["ema_model"], model, step=self.state.step)
        return terms, lr, stopping

    def meet_ranks(self, seen: List[list], stop: Stop) -> bool:
        """After the last forward pass of a step, with the loss terms of each micro-batch: whether one of the ranks must
        stop. Here the host waits for the device; with several ranks all learn in the same step that one must stop.

        Raises:
            NotFinite: a loss is not, on one of the ranks.
        """
        sums = [float(sum(terms)) for terms in seen]
        broken, stopping = self.ranks.where(not math.isfinite(sum(sums)), stop.signum is not None)
        if broken:
            files = self.meter.batches.files()
            self.tracked["model"].clear_gradients()     # of the micro-batches before
            terms = [sum(map(float, values)) for values in zip(*seen)]
            size = len(files) // len(seen)
            own = [file for k, value in enumerate(sums) if not math.isfinite(value)
                   for file in files[k * size:(k + 1) * size]]
            raise NotFinite(self.state.step, self.named(terms), own or files, broken, self.saver.advice(),
                            self.precision.half)
        return bool(stopping)

    def tell(self, pace: Pace, lr: float) -> None:
        """The log line and the dashboard's points."""
        step, samples = self.state.step, self.schedule.step_samples
        log(step, self.schedule.iters, pace, lr, self.meter.batches.epoch, samples)
        self.board.stepped(step, self.named(pace.losses), lr, pace, samples * self.ranks.count)

    def named(self, terms: Iterable[float]) -> Dict[str, float]:
        """The terms of the loss by name."""
        terms = list(terms)
        return dict(zip(loss_names(self.tracked["model"], len(terms)), terms))

    def save_and_evaluate(self, stop: Stop, stopping: bool = False) -> None:
        """The checkpoint, then the evaluation if one is due. In this order whatever ends the evaluation costs nothing.
        `stopping` ends the run, with Stopped, when the checkpoint is written."""
        stop.saved = folder = self.saver.save(self.state, self.tracked, self.parts.optimizer)
        self.ranks.meet()       # the first one writes, and none may leave before that is done
        if stopping:
            stop.end()
        if not self.state.evaluated:
            with stop.at_once():
                scores = {name: self.score(name) for name in self.tracked}
            self.state.evaluated = True
            self.saver.evaluated(folder, self.state)
            self.ranks.meet()
            logger.info(f"[EVAL] The model with the best validation mIoU: {self.state.best['model']}")
            if self.callback is not None:
                for name in self.tracked:
                    self.callback(Evaluated(self.state.step, name, scores[name]))

    def score(self, name: str) -> Scores:
        """Evaluates one of the tracked networks and gives its score to the state."""
        network = self.tracked[name]
        self.ranks.broadcast_weights(network)
        result = evaluate(network, **(self.evaluation or {}))
        self.state.scored(name, result.mean_iou)
        if name == "model":
            self.board.evaluated(self.state, result, network, **self.board_arguments())
        return result

    def board_arguments(self) -> dict:
        """What the dashboard takes of evaluate()'s arguments."""
        return {key: value for key, value in (self.evaluation or {}).items() if key not in ("losses", "num_workers")}


def begin(found: Optional[resuming.Found], parts: Parts, ranks: Ranks, schedule: Schedule) -> saving.State:
    """Where the run begins, after filling model and optimiser from a checkpoint if one was found."""
    state = saving.State(seed=random.getrandbits(31))
    if found is not None:
        if found.step > schedule.iters:
            raise CheckpointError(f"{found.folder} has taken {found.step} steps, more than the {schedule.iters} that "
                                  "iters asks for: give more, or resume from an earlier checkpoint")
        step_samples = schedule.step_samples * ranks.count
        resuming.fill(found, parts.model, parts.optimizer)
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


def moving_average(model: paddle.nn.Layer, found: Optional[resuming.Found]) -> Any:
    """A copy of the model for the moving average of its weights, which goes on from the checkpoint's."""
    average = frozen_copy(model)
    path = found and os.path.join(found.folder, "ema_model.pdparams")
    if path and os.path.exists(path):
        checkpoint.fill_layer(average, path)
    return average


def frozen_copy(model: paddle.nn.Layer) -> Any:
    """For the moving average of the weights, with PaddleSeg's start."""
    average = copy.deepcopy(model)
    average.eval()
    for parameter in average.parameters():
        parameter.stop_gradient = True
    init_ema_params(average, model)
    return average


def as_model_wants(model: paddle.nn.Layer, images: paddle.Tensor) -> paddle.Tensor:
    """Images [B, C, H, W], with channels last for a model that was built so."""
    return images.transpose([0, 2, 3, 1]) if getattr(model, "data_format", "NCHW") == "NHWC" else images
