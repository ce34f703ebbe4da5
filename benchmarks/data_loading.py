"""Making a training sample: our transforms against PaddleSeg's, and against decoding its two PNGs; with a cache of
decoded images (tools/train.py --cache); and how fast four workers make batches beside a step of the smallest recipe.

python benchmarks/data_loading.py

The transforms are those of configs/_base_/cityscapes.yml, which leave a crop of 1024 x 512 of 2048 x 1024, and those of
configs/_base_/camvid.yml, 192 x 192 of 480 x 360. The images are those of CITYSCAPES_ROOT and CAMVID_ROOT, or drawn
street scenes without them. The four take turns, for all images each, with the same random numbers, in one process and
thread, whose CPU time is measured; of each crop the fastest of all repeats counts.
"""

import contextlib
import copy
import os
import pathlib
import random
import tempfile
import time
from collections import Counter

import measuring
from measuring import Row

IMAGES, CROPS, REPEATS = 8, 7, 5
CONFIGS = pathlib.Path(measuring.HERE).parent / "configs"
# Size of its images: the recipe, and where users keep them.
SETS = {(2048, 1024): ("encnet_cityscapes_1024x512_80k", "CITYSCAPES_ROOT"),
        (480, 360): ("encnet_camvid_480x360", "CAMVID_ROOT")}
SMALLEST = "encnet_camvid_240x180"      # the recipe whose step takes the least time
WORKERS = 4


class Timed:
    """A function that adds its seconds to those of a part."""

    def __init__(self, function, part: str, seconds: Counter):
        self.function, self.part, self.seconds = function, part, seconds

    def __call__(self, *args):
        start = time.thread_time()
        result = self.function(*args)
        self.seconds[self.part] += time.thread_time() - start
        return result


class Contestant:
    """Makes samples, and knows the fewest seconds of each part for each sample."""

    def __init__(self, make):
        self.seconds, self.best = Counter(), {}
        self.make = Timed(make, "all", self.seconds)

    def run(self, index: int, seed: int):
        self.seconds.clear()
        import numpy as np
        random.seed(seed)
        np.random.seed(seed)
        sample = self.make(index)
        for part, seconds in self.seconds.items():
            key = part, index, seed
            self.best[key] = min(seconds, self.best.get(key, seconds))
        return sample

    def parts(self) -> Counter:
        """Seconds by part, over all samples."""
        total = Counter()
        for (part, _, _), seconds in self.best.items():
            total[part] += seconds
        return total


def timed(transforms, seconds: Counter):
    """The same list of transforms, whose members report their time."""
    names = {"ResizeStepScaling": "scaling and cropping", "RandomPaddingCrop": "scaling and cropping",
             "NormalizeOfBytes": "Normalize", "FasterDistort": "RandomDistort"}
    return [Timed(transform, names.get(type(transform).__name__, type(transform).__name__), seconds)
            for transform in transforms]


def built(name: str, *options: str):
    """The recipe's builder and its training set."""
    import paddleseg_encnet  # noqa: F401  before paddle, whose threads and malloc it sets

    # isort: split
    from paddleseg_encnet.config import building
    builder = building.read_config(CONFIGS / f"{name}.yml", list(options))
    return builder, builder.build_component(builder.config.train_dataset_cfg)


def measure(what: str, *arguments) -> dict:
    return {"sample": sample, "feeding": feeding}[what](*arguments)


def sample(folder: str, name: str, *options: str) -> dict:
    """Milliseconds of a sample, by contestant and part, the number of crops that differ, and by how many shades of 255
    on average: hues are rounded otherwise. The cache is made in `folder`."""
    import cv2
    import numpy as np
    _, stock = built(name, *options)
    from paddleseg_encnet.data.cache import Cache
    from paddleseg_encnet.data.reading import read_image, read_label
    from paddleseg_encnet.data.transforms import CropFirst
    cv2.setNumThreads(1)
    ours = copy.copy(stock)
    ours.transforms = fast = CropFirst(stock.transforms)
    ours.file_list = ours.file_list[:IMAGES]
    kept = Cache(folder)
    ours_cached = copy.copy(ours)
    ours_cached.transforms = copy.copy(fast)
    ours_cached.transforms.reader = kept

    def decode(index):
        image, label = stock.file_list[index]
        read_image(image)
        read_label(label)

    contestants = {"floor": Contestant(decode), "stock": Contestant(stock.__getitem__),
                   "ours": Contestant(ours.__getitem__), "cached": Contestant(ours_cached.__getitem__)}
    stock.transforms.transforms = timed(stock.transforms.transforms, contestants["stock"].seconds)
    fast.scale_and_crop = Timed(fast.scale_and_crop, "scaling and cropping", contestants["ours"].seconds)
    fast.rest.transforms = timed(fast.rest.transforms, contestants["ours"].seconds)

    differ, off = set(), []
    with kept:
        kept.fill([ours])
        for seed in list(range(CROPS)) * REPEATS:
            # All images in a row, as a worker has them, so that nobody pays for the caches that another one filled.
            made = {name: [contestant.run(index, seed) for index in range(len(ours))]
                    for name, contestant in contestants.items()}
            for index, (stocks, own, from_kept) in enumerate(zip(made["stock"], made["ours"], made["cached"])):
                assert all(np.array_equal(from_kept[key], own[key]) for key in ("img", "label"))
                assert np.array_equal(own["label"], stocks["label"])
                if not np.array_equal(own["img"], stocks["img"]):
                    differ.add((index, seed))
                    off.append(127.5 * np.abs(own["img"] - stocks["img"]).mean())
    crops = CROPS * len(ours)
    return {"crops": crops, "differ": len(differ), "off": float(np.mean(off)) if off else 0.0,
            **{name: {part: 1000 * seconds / crops for part, seconds in contestant.parts().items()}
               for name, contestant in contestants.items()}}


def feeding(folder: str, name: str, *options: str) -> dict:
    """Seconds of a step, and of each of the batches that WORKERS workers deliver while nothing else is done."""
    builder, dataset = built(name, *options)
    import paddle

    from paddleseg_encnet.data.cache import cached
    from paddleseg_encnet.data.order import Batches
    from paddleseg_encnet.models.losses import compute_losses
    paddle.set_device("cpu")
    size = builder.config.batch_size
    dataset.file_list *= -(-64 * size // len(dataset))
    model, losses, optimizer = builder.model, builder.loss, builder.optimizer
    with contextlib.closing(iter(Batches(dataset, size))) as batches:
        batch = next(batches)

    def step():
        sum(compute_losses(model, model(batch["img"]), batch, losses)).backward()
        optimizer.step()
        model.clear_gradients()

    def deliver(dataset) -> float:
        """Seconds a batch of 48, after those that the workers make before anybody asks."""
        with contextlib.closing(iter(Batches(dataset, size, WORKERS))) as batches:
            for _ in range(12):
                next(batches)
            start = time.perf_counter()
            for _ in range(48):
                next(batches)
            return (time.perf_counter() - start) / 48

    model.train()
    seconds = {"step": measuring.interleaved({"step": step}, 4, 1)["step"]}
    seconds["anew"] = min(deliver(dataset) for _ in range(3))
    with cached(folder, [dataset], WORKERS) as (from_cache,):
        seconds["cached"] = min(deliver(from_cache) for _ in range(3))
    return {"batch": size, **seconds}


def rows():
    with tempfile.TemporaryDirectory() as folder:
        for size, (name, variable) in SETS.items():
            options = images_of(size, variable, folder)
            result = measuring.child("data_loading.py", "sample", os.path.join(folder, "cache"), name, *options)
            yield from rows_of("{} x {}".format(*size), result)
        result = measuring.child("data_loading.py", "feeding", os.path.join(folder, "cache"), SMALLEST, *options)
    for key, words in (("anew", ""), ("cached", ", cached")):
        yield Row(f"{result['batch']} samples by {WORKERS} workers{words}", "ms", 1000 * result[key],
                  floor=1000 * result["step"], note=f"floor: the step of {SMALLEST} that takes them")


def images_of(size: tuple, variable: str, folder: str) -> list:
    """Options of the config for the user's images, or for scenes that are drawn into the folder."""
    root = os.environ.get(variable)
    if root is not None:
        return [f"train_dataset.dataset_root={root}"]
    from paddleseg_encnet import scenes
    root = os.path.join(folder, "scenes_{}x{}".format(*size))
    scenes.generate(root, train=IMAGES, val=1, size=size)
    return [f"train_dataset.dataset_root={root}", "train_dataset.type=Cityscapes", "model.num_classes=19"]


def rows_of(size: str, result: dict):
    ours, stock, cached, floor = result["ours"], result["stock"], result["cached"]["all"], result["floor"]["all"]
    same = f"{result['crops'] - result['differ']} of {result['crops']} crops equal to PaddleSeg's bit by bit, the " \
           f"others {result['off']:.2f} shades off"
    yield Row(f"Training sample of {size}", "ms", ours["all"], stock["all"], floor=floor,
              note=f"floor: decoding the PNGs; {same}")
    yield Row("the same with --cache", "ms", cached, stock["all"], floor=floor, note="the same pixels")
    yield Row("of it, beside decoding", "ms", ours["all"] - floor, stock["all"] - floor)
    for part in ("scaling and cropping", "RandomDistort", "Normalize"):
        yield Row(f"of it, {part}", "ms", ours[part], stock[part])


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
