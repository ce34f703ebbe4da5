"""What test_ranks.py and stress_ranks.py run in several processes, by paddle.distributed.launch or alone:

    launched.py train CONFIG FOLDER STEPS [N]   leaves rank<R>.npz: parameters, and the samples in the order it saw
                                                them; with N at a time, and as many micro-batches as make two of them
    launched.py share CONFIG FOLDER N N ...     for N images: scores_<N>_rank<R>.npz, the pictures, written_<N>_rank<R>
    launched.py lose CONFIG FOLDER R            rank R is killed while the others wait for it
    launched.py stall CONFIG FOLDER R           rank R starts and is stopped before it connects with the others
    launched.py hang CONFIG FOLDER R            the collectives of rank R never return

Several of them, separated by --, run one after the other.
"""

import functools
import itertools
import json
import os
import pathlib
import signal
import sys
import time

import paddleseg_encnet  # noqa: F401

# isort: split

import numpy as np
import paddle
from conftest import tool
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.transforms import Compose, Normalize
from segmenters import small

from paddleseg_encnet.data.class_names import classes_of_dataset
from paddleseg_encnet.evaluation.evaluation_loop import evaluate
from paddleseg_encnet.runtime.devices import Ranks
from paddleseg_encnet.training.training_loop import Parts, Schedule, train_network
from segrun import inputs, outputs


class Recorded(paddle.io.Dataset):
    """A data set that remembers which samples it was asked for."""

    def __init__(self, dataset):
        super().__init__()
        self.dataset, self.asked = dataset, []

    def __len__(self):
        return len(self.dataset)

    def __getattr__(self, name):
        if name == "dataset":       # a copy in the making has none yet
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index):
        self.asked.append(int(index))
        return self.dataset[index]


def parts(config):
    """Model, optimiser, losses and training set without chance: no dropout, no random transform."""
    paddle.seed(1)
    builder = SegBuilder(Config(str(config)))
    for layer in builder.model.sublayers():
        if isinstance(layer, paddle.nn.Dropout):
            layer.p = 0.0
    dataset = builder.train_dataset
    dataset.transforms = Compose([Normalize()])
    return builder.model, builder.optimizer, builder.loss, dataset


def train_steps(config, folder, steps, batch_size="2"):
    model, optimizer, losses, dataset = parts(config)
    recorded, ranks = Recorded(dataset), Ranks.join()
    if ranks.rank == 1:     # ranks start from the first one's weights, whatever their own
        for parameter in model.parameters():
            parameter.set_value(parameter + 1)
    schedule = Schedule(int(steps), save_interval=int(steps), batch_size=int(batch_size),
                        accum_steps=2 // int(batch_size))
    train_network(Parts(model, optimizer, losses, recorded), schedule, str(folder / "run"))
    np.savez(folder / f"rank{ranks.rank}.npz", asked=recorded.asked,
             **{name: parameter.numpy() for name, parameter in model.named_parameters()})


def noted(paths: list, write, path, make) -> None:
    """outputs.write_own, which notes what it writes."""
    paths.append(path)
    write(path, make)


def share_images(config, folder, *numbers):
    paddle.seed(1)
    builder, ranks = SegBuilder(Config(str(config))), Ranks.join()
    model, dataset = builder.model, builder.val_dataset
    pairs, segmenter = dataset.file_list, small(model, classes=classes_of_dataset(dataset))
    predict = tool("predict")
    for number in map(int, numbers):
        dataset.file_list = pairs[:number]
        name = f"{number}_rank{ranks.rank}"
        result = evaluate(model, dataset, losses=builder.loss)
        np.savez(folder / f"scores_{name}.npz", confusion=result.confusion, **result.presence._asdict(),
                 losses=list(result.losses.values()))
        written, write = [], outputs.write_own
        outputs.write_own = functools.partial(noted, written, write)
        names = inputs.output_names([image for image, _ in dataset.file_list], None)
        predict.save_pictures(segmenter, names, {}, builder.config, str(folder / f"pictures_{number}"))
        outputs.write_own = write
        (folder / f"written_{name}").write_text(json.dumps(written))


def lose_a_rank(config, folder, victim):
    ranks = Ranks.join()
    ranks.meet()
    if ranks.rank == int(victim):
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.meet()


def stall_a_rank(config, folder, victim):
    if os.environ["PADDLE_TRAINER_ID"] == victim:
        paddle.distributed.init_parallel_env = lambda: os.kill(os.getpid(), signal.SIGSTOP)
    Ranks.join()


def hang_a_rank(config, folder, victim):
    if os.environ["PADDLE_TRAINER_ID"] == victim:
        paddle.distributed.all_reduce = lambda tensor: time.sleep(60)
    Ranks.join()
    print("joined")


if __name__ == "__main__":
    paddle.set_device("cpu")
    for separator, words in itertools.groupby(sys.argv[1:], lambda word: word == "--"):
        if not separator:
            work, config, folder, *rest = words
            {"train": train_steps, "share": share_images, "lose": lose_a_rank, "stall": stall_a_rank,
             "hang": hang_a_rank}[work](config, pathlib.Path(folder), *rest)
