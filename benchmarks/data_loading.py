"""Making a training sample of 2048 x 1024: our transforms against PaddleSeg's, and against decoding its two PNGs.

python benchmarks/data_loading.py

The transforms are those of configs/_base_/cityscapes.yml, which leave a crop of 1024 x 512. The images are those of
CITYSCAPES_ROOT, or drawn street scenes without it. The three take turns, with the same random numbers, in one process
and thread, whose CPU time is measured; of each crop the fastest of all repeats counts.
"""

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
CONFIG = pathlib.Path(measuring.HERE).parent / "configs" / "encnet_cityscapes_1024x512_80k.yml"


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
             "Float32Normalize": "Normalize", "FasterDistort": "RandomDistort"}
    return [Timed(transform, names.get(type(transform).__name__, type(transform).__name__), seconds)
            for transform in transforms]


def measure(dataset_root: str) -> dict:
    """Milliseconds of a sample, by contestant and part, the number of crops that differ, and by how many shades of 255
    on average: hues are rounded otherwise."""
    import cv2
    import numpy as np
    from paddleseg.cvlibs import Config, SegBuilder

    import paddleseg_encnet  # noqa: F401
    from paddleseg_encnet.data.reading import read_image, read_label
    from paddleseg_encnet.data.transforms import CropFirst
    cv2.setNumThreads(1)
    config = Config(str(CONFIG), opts=[f"train_dataset.dataset_root={dataset_root}"])
    stock = SegBuilder(config).build_component(config.train_dataset_cfg)
    ours = copy.copy(stock)
    ours.transforms = fast = CropFirst(stock.transforms)

    def decode(index):
        image, label = stock.file_list[index]
        read_image(image)
        read_label(label)

    contestants = {"floor": Contestant(decode), "stock": Contestant(stock.__getitem__),
                   "ours": Contestant(ours.__getitem__)}
    stock.transforms.transforms = timed(stock.transforms.transforms, contestants["stock"].seconds)
    fast.scale_and_crop = Timed(fast.scale_and_crop, "scaling and cropping", contestants["ours"].seconds)
    fast.rest.transforms = timed(fast.rest.transforms, contestants["ours"].seconds)

    samples = [(index, seed) for index in range(min(IMAGES, len(stock))) for seed in range(CROPS)]
    differ, off = set(), []
    for _ in range(REPEATS):
        for sample in samples:
            made = {name: contestant.run(*sample) for name, contestant in contestants.items()}
            assert np.array_equal(made["ours"]["label"], made["stock"]["label"])
            if not np.array_equal(made["ours"]["img"], made["stock"]["img"]):
                differ.add(sample)
                off.append(127.5 * np.abs(made["ours"]["img"] - made["stock"]["img"]).mean())
    return {"crops": len(samples), "differ": len(differ), "off": float(np.mean(off)) if off else 0.0,
            **{name: {part: 1000 * seconds / len(samples) for part, seconds in contestant.parts().items()}
               for name, contestant in contestants.items()}}


def rows():
    root = os.environ.get("CITYSCAPES_ROOT")
    with tempfile.TemporaryDirectory() as folder:
        if root is None:
            from paddleseg_encnet import scenes
            root = os.path.join(folder, "scenes")
            scenes.generate(root, train=IMAGES, val=1, size=(2048, 1024))
        result = measuring.child("data_loading.py", root)
    ours, stock, floor = result["ours"], result["stock"], result["floor"]["all"]
    same = f"{result['crops'] - result['differ']} of {result['crops']} crops equal to PaddleSeg's bit by bit, the " \
           f"others {result['off']:.2f} shades off"
    yield Row("Training sample", "ms", ours["all"], stock["all"], floor=floor, note=f"floor: decoding the PNGs; {same}")
    yield Row("of it, beside decoding", "ms", ours["all"] - floor, stock["all"] - floor)
    for part in ("scaling and cropping", "RandomDistort", "Normalize"):
        yield Row(f"of it, {part}", "ms", ours[part], stock[part])


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
