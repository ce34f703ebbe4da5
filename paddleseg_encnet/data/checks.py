"""What is wrong with the data of a config: every file is looked at before a training run meets it.

looking.py reads, judging.py says what is wrong, findings.py keeps and reports it.
"""

import inspect
import os
import random
import tempfile
import time
from typing import Callable, Iterator, List, Optional, Sequence, Tuple

from paddleseg.cvlibs import SegBuilder
from paddleseg.utils import logger

from paddleseg_encnet.data.datasets import Stem, match
from paddleseg_encnet.data.findings import Split
from paddleseg_encnet.data.judging import (
    IN_BOTH,
    MAY_BE_MEANT,
    check_both,
    check_list,
    check_scales,
    check_values,
    note,
    note_passed_over,
)
from paddleseg_encnet.data.looking import as_read, check_headers, look_at_all, look_at_sample
from segrun.commands import command
from segrun.errors import DataError, innermost, joined
from segrun.progress import Progress
from segrun.raw_files import read_lines

AT_LEAST = 10       # files that a quick look takes in, however long they take


def check_data(builder: SegBuilder, num_workers: int = 0) -> List[Split]:
    """Looks at every file of `train_dataset` and `val_dataset`, with progress on stderr."""
    splits = build_all(builder)
    for split in splits:
        if split.dataset is not None:
            check_list(split)
            note_passed_over(split)
            count = len(split.dataset)
            note_all(split, range(count), num_workers)
            split.looked_at = f"{count} of {count} samples looked at"
            check_values(split)
    if len(splits) == 2:
        check_both(*splits)
        check_scales(*splits)
    return splits


def quick_check(builder: SegBuilder, with_val: bool, seconds: float = 1.0) -> dict:
    """For the start of training: file headers, and then samples, for `seconds` each in each data set.

    Returns:
        {"train": the data set, "val": with `with_val`, that of validation}, so that nobody has to build them again.

    Raises:
        DataError: something is wrong; it names the first file of each kind. Images in both sets are only warned of.
    """
    splits = build_all(builder, ("train", "val") if with_val else ("train",))
    for split in splits:        # what the builder says where it builds them itself
        builder.show_msg(f"{split.name}_dataset", getattr(builder.config, f"{split.name}_dataset_cfg"))
    for split in splits:
        if split.dataset is not None:
            check_list(split)
            order = random.Random(0).sample(range(len(split.dataset)), len(split.dataset))
            headers, samples = look_quickly(split, order, seconds)
            split.looked_at = f"{headers} of {len(order)} file headers and {samples} samples looked at"
            check_values(split)
            logger.info(f"Data for {split.name}: {split.looked_at}; {command('check_data')} looks at all")
    if len(splits) == 2 and all(split.dataset is not None for split in splits):
        both = {pair[0] for pair in splits[0].dataset.file_list} & {pair[0] for pair in splits[1].dataset.file_list}
        if both:
            logger.warning(f"{len(both)} {IN_BOTH}, for instance {min(both)}")
        check_scales(*splits)
    for split in splits:
        for kind in MAY_BE_MEANT:
            if kind in split.findings:
                finding = split.findings.pop(kind)
                logger.warning(f"{split.name}: {finding.count} {kind}, for instance {finding.examples[0]} (hint: "
                               f"{finding.hint})")
    found = [f"{split.name}: {finding.examples[0]}"
             + (f", and {finding.count - 1} more {kind}" if finding.count > 1 else "")
             + (f" (hint: {finding.hint})" if finding.hint else "")
             for split in splits for kind, finding in split.findings.items()]
    if found:
        raise DataError("; ".join(found) + f". {command('check_data')} looks at all files; "
                        "--no_data_check trains anyway")
    return {split.name: split.dataset for split in splits}


def build_all(builder: SegBuilder, names: Sequence[str] = ("train", "val")) -> List[Split]:
    """The splits that the config names, built; where that fails, with the reason and without a dataset."""
    return [build(builder, name) for name in names if getattr(builder.config, f"{name}_dataset_cfg")]


def build(builder: SegBuilder, name: str) -> Split:
    split, options = Split(name), dict(getattr(builder.config, f"{name}_dataset_cfg"))

    def pair_what_can_be(images: List[str], labels: List[str], stem: Stem) -> List[List[str]]:
        """Notes what is alone, so that the rest is looked at too."""
        pairs, lonely_images, lonely_labels = match(images, labels, stem)
        for kind, paths in ((f"images without a label like {labels[0]}", lonely_images),
                            (f"labels without an image like {images[0]}", lonely_labels)):
            for path in paths:
                split.add(kind, f"{path} is alone", "the other file is missing, or has another name")
        return pairs

    list_key = f"{options.get('mode', name)}_path"
    with tempfile.TemporaryDirectory() as folder:
        path = options.get(list_key)
        try:
            if path and os.path.isfile(path):
                good = list(good_lines(split, path, options.get("separator", " ")))
                if split.findings:
                    options[list_key] = os.path.join(folder, "good_lines.txt")
                    with open(options[list_key], "w", encoding="utf-8") as file:
                        file.writelines(good)
            if takes_pair(builder, options.get("type")):
                options["pair"] = pair_what_can_be
            dataset = builder.build_component(options)
        except Exception as error:
            split.add("data sets that cannot be built", joined(str(innermost(error))))
            return split
    if len(dataset) == 0:
        split.add("data sets without images", f"{path or options.get('dataset_root')} names no image",
                  "an empty list, or another dataset_root")
    else:
        split.dataset = dataset
    return split


def takes_pair(builder: SegBuilder, kind: Optional[str]) -> bool:
    """Whether a kind of data set has its files paired by a function that it is given (datasets.Pair)."""
    if kind is None:
        return False
    init = builder.load_component_class(kind).__init__
    return "pair" in inspect.signature(init, follow_wrapped=False).parameters       # what a repair wraps has none


def good_lines(split: Split, path: str, separator: str) -> Iterator[str]:
    """The lines of a list of files that are pairs. The others are noted: PaddleSeg says only that there is one."""
    for number, line in enumerate(read_lines(path), 1):
        parts = line.strip().split(separator)
        if len(parts) == 2 and all(parts):
            yield f"{line}\n"
        else:
            what = f"{len(parts)} parts: {line.strip()!r}" if line.strip() else "nothing"
            split.add("lines of a list that are not `image label`", f"{path}, line {number}, has {what}",
                      f"names may not contain the separator, which is {separator!r}; set `separator` to another, "
                      "and take out empty lines")


def note_all(split: Split, indices: Sequence[int], num_workers: int) -> None:
    """Looks at these samples, in this process or in `num_workers` others, and judges each."""
    progress = Progress(len(indices), f"{split.name} images")
    for index, seen in zip(indices, look_at_all(as_read(split.dataset), indices, num_workers)):
        note(split, index, seen)
        progress.advance()
    progress.close()


def look_quickly(split: Split, order: List[int], seconds: float) -> Tuple[int, int]:
    """Headers, then samples, in this order until the time is over, but some at least; returns how many. Faulty files
    are noted once."""
    dataset, faulty = as_read(split.dataset), set()
    channels = getattr(split.dataset.transforms, "img_channels", 3)

    def until_late(work: Callable[[int], None]) -> int:
        end = time.monotonic() + seconds
        for done, index in enumerate(order, 1):
            work(index)
            if done >= AT_LEAST and time.monotonic() > end:
                return done
        return len(order)

    def header(index: int) -> None:
        try:
            image, label = split.dataset.file_list[index][:2]
            check_headers(image, label, channels)
        except DataError as error:
            faulty.add(index)
            split.add(error.kind, str(error))

    def sample(index: int) -> None:
        if index not in faulty:
            note(split, index, look_at_sample(dataset, index))
    return until_late(header), until_late(sample)
