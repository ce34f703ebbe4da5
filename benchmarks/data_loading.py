"""Images a second that a core makes ready for training, by PaddleSeg's transforms and by ours, against decoding alone.

python benchmarks/data_loading.py [--dataset_root data/cityscapes] [--images 8] [--repeats 5]

The transforms are those of configs/_base_/cityscapes.yml: 2048 x 1024 to crops of 1024 x 512. Without --dataset_root
street scenes of that size are drawn. The three take turns, with the same random numbers, in one process and thread,
whose CPU time is measured; of each crop the fastest of all repeats counts.
"""

import argparse
import copy
import pathlib
import random
import tempfile
import time
from collections import Counter

import paddleseg_encnet  # noqa: F401

import cv2
import numpy as np
from paddleseg.cvlibs import Config, SegBuilder

from paddleseg_encnet import scenes
from paddleseg_encnet.reading import read_image, read_label
from paddleseg_encnet.transforms import CropFirst

CONFIG = pathlib.Path(__file__).parent.parent / "configs" / "encnet_cityscapes_1024x512_80k.yml"


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
    names = {"ResizeStepScaling": "scaling, cropping", "RandomPaddingCrop": "scaling, cropping",
             "Float32Normalize": "Normalize"}
    return [Timed(transform, names.get(type(transform).__name__, type(transform).__name__), seconds)
            for transform in transforms]


def measure(dataset_root: str, images: int, repeats: int):
    config = Config(str(CONFIG), opts=[f"train_dataset.dataset_root={dataset_root}"])
    stock = SegBuilder(config).build_component(config.train_dataset_cfg)
    ours = copy.copy(stock)
    ours.transforms = fast = CropFirst(stock.transforms)

    def decode(index):
        image, label = stock.file_list[index]
        read_image(image)
        read_label(label)

    contestants = {"decoding alone": Contestant(decode), "PaddleSeg": Contestant(stock.__getitem__),
                   "ours": Contestant(ours.__getitem__)}
    stock.transforms.transforms = timed(stock.transforms.transforms, contestants["PaddleSeg"].seconds)
    fast.scale_and_crop = Timed(fast.scale_and_crop, "scaling, cropping", contestants["ours"].seconds)
    fast.rest.transforms = timed(fast.rest.transforms, contestants["ours"].seconds)

    samples = [(index, seed) for index in range(min(images, len(stock))) for seed in range(7)]
    differ = set()
    for _ in range(repeats):
        for sample in samples:
            made = {name: contestant.run(*sample) for name, contestant in contestants.items()}
            if not all(np.array_equal(made["ours"][key], made["PaddleSeg"][key]) for key in ("img", "label")):
                differ.add(sample)

    parts = {name: contestant.parts() for name, contestant in contestants.items()}
    floor, count = parts["decoding alone"]["all"], len(samples)
    print(f"{count} crops, of which {len(differ)} differ from PaddleSeg's\n")
    print(f"{'':15} {'ms an image':>12} {'images/s a core':>16} {'of decoding alone':>18} {'ms beside decoding':>19}")
    for name, total in ((name, seconds["all"]) for name, seconds in parts.items()):
        print(f"{name:15} {1e3 * total / count:12.1f} {count / total:16.1f} {floor / total:18.0%} "
              f"{1e3 * (total - floor) / count:19.1f}")

    del parts["decoding alone"]
    for seconds in parts.values():
        seconds["decoding, the rest"] = 2 * seconds["all"] - sum(seconds.values())
    print("\nms an image by part   PaddleSeg      ours")
    for part in ("scaling, cropping", "RandomHorizontalFlip", "RandomDistort", "Normalize", "decoding, the rest"):
        print(f"{part:20}", *(f"{1e3 * seconds[part] / count:10.1f}" for seconds in parts.values()))


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--dataset_root", help="Cityscapes; drawn scenes if not given")
    flags.add_argument("--images", type=int, default=8)
    flags.add_argument("--repeats", type=int, default=5)
    args = flags.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.dataset_root is None:
            scenes.generate(folder + "/scenes", train=args.images, val=1, size=(2048, 1024))
        measure(args.dataset_root or folder + "/scenes", args.images, args.repeats)
