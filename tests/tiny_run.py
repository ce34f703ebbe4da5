"""A training run of milliseconds a step, for tests of what happens around the steps. As a script it is one process of
its own, or one of several ranks:  tiny_run.py SCENES SAVE_DIR ITERS [--term STEP RANK] [--resume] [--workers N]
[--use_vdl] [--halt STEP]
"""

import os
import pathlib
import signal
import sys
import zlib
from typing import Callable, List, NamedTuple

import paddleseg_encnet  # noqa: F401

# isort: split

import numpy as np
import paddle
from paddleseg import transforms
from paddleseg.datasets import Cityscapes
from paddleseg.models.losses import CrossEntropyLoss
from paddleseg.utils import utils

from paddleseg_encnet.training import training_loop
from segrun.stopping import Stopped


class Tiny(paddle.nn.Layer):
    """A network with all that a checkpoint must bring back: weights, statistics, dropout."""
    output_names = ("segmentation",)

    def __init__(self, width: int = 8):
        super().__init__()
        self.features = paddle.nn.Sequential(
            paddle.nn.Conv2D(3, width, 3, padding=1), paddle.nn.BatchNorm2D(width), paddle.nn.ReLU(),
            paddle.nn.Dropout(0.2))
        self.head = paddle.nn.Conv2D(width, 19, 1)

    def forward(self, images):
        return [self.head(self.features(images))]


class Run(NamedTuple):
    """What a run has left behind."""
    model: Tiny
    optimizer: paddle.optimizer.Optimizer
    images: List[int]       # checksum of the augmented images of each step
    best: object

    def state(self) -> dict:
        """All numbers of model and optimiser, without the names that differ from process to process."""
        values = {name: tensor.numpy() for name, tensor in self.model.state_dict().items()}
        velocities = self.optimizer._accumulators["velocity"]
        for name, parameter in self.model.named_parameters():
            if not parameter.stop_gradient:
                values[f"velocity of {name}"] = velocities[parameter.name].numpy()
        values["learning rate"] = self.optimizer.get_lr()
        return values


def parts(scenes, width: int = 8, iters: int = 40):
    """Model, data sets and optimiser. The learning rate is still in its warm-up at step 17."""
    utils.set_seed(5)
    augment = [transforms.ResizeStepScaling(0.75, 1.5, 0.25), transforms.RandomPaddingCrop([32, 32]),
               transforms.RandomHorizontalFlip(), transforms.RandomDistort(), transforms.Normalize()]
    model = Tiny(width)
    decay = paddle.optimizer.lr.PolynomialDecay(0.05, iters, end_lr=0)
    warmup = paddle.optimizer.lr.LinearWarmup(decay, 20, 0.01, 0.05)
    optimizer = paddle.optimizer.Momentum(warmup, parameters=model.parameters(), weight_decay=1e-4)
    return (model, Cityscapes(augment, str(scenes), "train"),
            Cityscapes([transforms.Normalize()], str(scenes), "val"), optimizer)


def run(scenes, save_dir, iters: int = 40, before_step: Callable[[int], None] = None, loss=None, evaluate: bool = True,
        width: int = 8, save_interval: int = 10, keep: int = 5, log_iters: int = 1000, accum_steps: int = 1,
        early_stop_intervals: int = None, test_config: dict = None, **options) -> Run:
    """Trains; `before_step(n)` is called in the n-th step that this call takes, after its batch was read."""
    model, data, val, optimizer = parts(scenes, width)
    images = []

    def see(layer, inputs):
        if layer.training:
            images.append(zlib.crc32(inputs[0].numpy().tobytes()))
            if before_step is not None:
                before_step(len(images))

    model.register_forward_pre_hook(see)
    losses = {"types": [loss or CrossEntropyLoss(ignore_index=255)], "coef": [1]}
    best = training_loop.train_network(
        training_loop.Parts(model, optimizer, losses, data, val if evaluate else None, test_config),
        training_loop.Schedule(iters, save_interval, log_iters, keep, early_stop_intervals, batch_size=2,
                               accum_steps=accum_steps), str(save_dir), **options)
    return Run(model, optimizer, images, best)


def stop_at(step: int, signum=signal.SIGTERM) -> Callable[[int], None]:
    """A `before_step` that signals this process."""
    return lambda n: os.kill(os.getpid(), signum) if n == step else None


def launch(scenes, save_dir: pathlib.Path, *more) -> tuple:
    """Twelve steps on two ranks over gloo; exit code and what each rank has printed."""
    import ranks_on_cpu
    folder = save_dir.parent
    done = ranks_on_cpu.launch(folder, __file__, scenes, save_dir, 12, *more, threads="1")
    return done.returncode, [(folder / "log" / f"workerlog.{rank}").read_text() for rank in (0, 1)]


if __name__ == "__main__":
    paddle.set_device("cpu")
    scenes, save_dir, iters, *more = sys.argv[1:]
    rank = paddle.distributed.ParallelEnv().rank
    hook = None
    if "--term" in more and int(more[more.index("--term") + 2]) == rank:
        hook = stop_at(int(more[more.index("--term") + 1]))
    if "--halt" in more:        # until a signal ends it or lets it go on
        hook = stop_at(int(more[more.index("--halt") + 1]), signal.SIGSTOP)
    try:
        done = run(scenes, save_dir, int(iters), hook, resume_model="auto" if "--resume" in more else None,
                   num_workers=int(more[more.index("--workers") + 1]) if "--workers" in more else 0,
                   use_vdl="--use_vdl" in more, log_iters=1 if "--use_vdl" in more else 1000)
    except Stopped as stopped:
        print(stopped)
        sys.exit(128 + stopped.signum)
    print("images", rank, *done.images)
    np.savez(f"{save_dir}/rank_{rank}.npz", **done.state())
