"""Which images a step sees, and every random number of it, as a function of the seed and the place in the run.

Nothing here remembers a random state: a sample's augmentation depends on (seed, epoch, index in the data set), a step's
dropout on (seed, step, rank). So a resumed run goes on exactly where it was, with any number of worker processes, and
does not read the images it has already seen. The order of the images is PaddleSeg's: DistributedBatchSampler's.
"""

import hashlib
import random
from typing import Any, Iterator, List

import numpy as np
import paddle
from paddle.io import Dataset

from paddleseg_encnet.data.samples import Checked, Loader


def derived_seed(*key: int) -> int:
    """A seed in [0, 2**32) for the place in the run that these numbers name; neighbours have nothing in common."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=4).digest(), "little")


def seed_step(seed: int, step: int, rank: int) -> None:
    """Makes what the network draws in this step (dropout) depend on these three."""
    paddle.seed(derived_seed(seed, step, rank))


class Drawn(Checked):
    """Samples by (epoch, index): the same image is augmented in another way in each epoch, and always in that way."""

    def __init__(self, dataset: Dataset, seed: int):
        super().__init__(dataset)
        self.seed = seed

    def read(self, draw: Any) -> dict:
        epoch, index = draw
        # The transforms take from both of these generators.
        key = derived_seed(self.seed, epoch, index)
        random.seed(key)
        np.random.seed(key)
        return super().read(index)


class Batches:
    """Batches without end, from any place of the data order on.

    Args:
        dataset: PaddleSeg dataset in mode "train".
        batch_size: samples in a batch, on each rank.
        num_workers: processes that read data; 0 reads in this one.
        seed: of the augmentations.
        epoch, samples: where to begin: how many samples all ranks together have taken of this epoch.

    `epoch` and `samples` go on with each batch. A batch count per epoch or number of ranks other than at the time of
    saving keeps the place; only the order of what is left of the epoch may then differ.

    Raises:
        ValueError: there are fewer images than a batch needs.
        DataError: while iterating, a sample can't be read or its label doesn't fit.
    """

    def __init__(self, dataset: Dataset, batch_size: int, num_workers: int = 0, seed: int = 0, epoch: int = 0,
                 samples: int = 0):
        self.dataset, self.num_workers = dataset, num_workers
        self.sampler = paddle.io.DistributedBatchSampler(dataset, batch_size, shuffle=True, drop_last=True)
        self.step_samples = batch_size * self.sampler.nranks
        if len(self) == 0:
            raise ValueError(f"{len(dataset)} training images make no batch of {batch_size} on each of "
                             f"{self.sampler.nranks} devices; lower batch_size or accum_steps")
        self.drawn = Drawn(dataset, seed)
        full, self.samples = divmod(samples, len(self) * self.step_samples)
        self.epoch = epoch + full
        self.draws: List[tuple] = []        # (epoch, index) of each sample of the last batch

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[dict]:
        while True:
            self.sampler.set_epoch(self.epoch)
            batches = [[(self.epoch, index) for index in batch] for batch in self.sampler]
            batches = batches[self.samples // self.step_samples:]
            loader = Loader(self.drawn, batch_sampler=batches, num_workers=self.num_workers)
            # The loader comes first: it ends its processes when it is asked for a batch that is not there.
            for batch, self.draws in zip(loader, batches):
                self.samples += self.step_samples
                yield batch
            self.epoch, self.samples = self.epoch + 1, 0

    def files(self) -> List[str]:
        """The images of the last batch."""
        return [str(self.dataset.file_list[index][0]) for _, index in self.draws]
