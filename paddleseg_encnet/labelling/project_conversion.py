"""From a project to a folder that trains: masks, lists, config, and what there is to say about it."""

import os
import shlex
from typing import Callable, Dict, List, NamedTuple, Optional

import numpy as np

from paddleseg_encnet.labelling import images, mask_writing, recipe
from paddleseg_encnet.labelling.project import IGNORED, Item, Project, Rules, Tally
from segrun.commands import typed
from segrun.errors import DataError


class Converted(NamedTuple):
    """What was written."""
    names: List[str]
    pairs: List[mask_writing.MaskPair]
    pixels: np.ndarray          # [256] of each id in all masks
    beside: np.ndarray          # [256]: how many masks have it
    notes: List[str]

    def table(self) -> List[str]:
        """Each class with its share of the pixels and the masks that have it."""
        rows = [(str(i), self.names[i] if i < len(self.names) else "no class, ignored", self.beside[i],
                 100 * self.pixels[i] / self.pixels.sum()) for i in [*range(len(self.names)), IGNORED]]
        width = max(len(name) for _, name, _, _ in rows)
        return ["   id  " + "class".ljust(width) + "   masks  of all pixels"] + [
            f"  {number:>3}  {name.ljust(width)} {masks:7d}  {share:12.2f} %" for number, name, masks, share in rows]


def convert_project(project: Project, save_dir: str, bases: List[str], rules: Rules, tally: Tally,
                    split: Optional[float] = None, seed: int = 0, group: Optional[str] = None,
                    advance: Optional[Callable[[int], None]] = None) -> Converted:
    """Writes masks/, train.txt, val.txt, labels.txt and config.yml into `save_dir`, or nothing.

    Args:
        project: what a source has read.
        bases: configs that config.yml builds on.
        split: share of the images to train on; None keeps a split of the source's own, else is 0.8.
        seed: of that split.
        group: what keeps images together in it, as assign_splits() has it; a split of the source's own is left then.
        advance: called after each image with the number of all.

    Raises:
        DataError: something is there already, an image or its annotation is wrong, or the rules say to stop at it.
    """
    check_items(project.items, tally)
    own = all(item.split for item in project.items) and split is None and group is None
    splits = {item.name: item.split or "" for item in project.items} if own else \
        mask_writing.assign_splits(project.items, 0.8 if split is None else split, seed, group)
    for name in ("train", "val"):
        if name not in splits.values():
            raise DataError(f"no image is left for {name}; see --split")
    colors = mask_writing.colors_of(project.classes)
    pixels, beside, pairs = np.zeros(256, np.int64), np.zeros(256, np.int64), []
    with mask_writing.staged(save_dir) as stage:
        for item in project.items:
            mask = images.fit(item.draw(), images.read_header(item.image), rules, tally)
            counts = np.bincount(mask.ravel(), minlength=256)
            pixels, beside = pixels + counts, beside + (counts > 0)
            pair = mask_writing.MaskPair(item.image, mask_writing.mask_path(item.name), splits[item.name])
            mask_writing.write_mask(os.path.join(stage, pair.mask), mask, colors)
            pairs.append(pair)
            if advance is not None:
                advance(len(project.items))
        mask_writing.write_lists(stage, save_dir, pairs, project.classes.names)
        config = os.path.join(stage, mask_writing.CONFIG)
        _, notes = recipe.write_config(config, bases, save_dir, len(project.classes.names),
                                       mask_writing.separator(pairs, save_dir), sum(p.split == "train" for p in pairs))
    return Converted(project.classes.names, pairs, pixels, beside, notes)


def check_items(items: List[Item], tally: Tally) -> None:
    """DataError where nothing is to be converted, or two masks would have one name."""
    if not items:
        found = "; ".join(f"{one.count} x {kind}, the first: {one.examples[0]}"
                          for kind, one in tally.findings.items())
        raise DataError("no image with an annotation is left to be converted" + f" ({found})" * bool(found))
    taken: Dict[str, str] = {}
    for item in items:
        path = mask_writing.mask_path(item.name).lower()     # as file systems that don't tell A from a have it
        if path in taken:
            raise DataError(f"the masks of {taken[path]} and {item.image} would both be {path}: rename one of the "
                            "images")
        taken[path] = item.image


def project_summary(converted: Converted, save_dir: str, tally: Tally, split: Optional[float], seed: int,
                    own: bool, group: Optional[str] = None) -> List[str]:
    """What to print in the end; the last line trains.

    Args:
        own: whether the split is the source's.
    """
    counts = {name: sum(pair.split == name for pair in converted.pairs) for name in ("train", "val")}
    how = "the source's own split" if own else f"--split {0.8 if split is None else split} --seed {seed}" + \
        f" --group {group}" * (group is not None)
    masks = os.path.join(save_dir, mask_writing.MASKS)
    lines = [f"{len(converted.pairs)} masks in {masks}: {counts['train']} images to train on, {counts['val']} to "
             f"evaluate ({how})", *converted.table()]
    lines += ["found and decided:", *tally.lines()] if tally.findings else ["nothing was left to be decided"]
    config = shlex.quote(os.path.join(save_dir, mask_writing.CONFIG))
    output = shlex.quote(os.path.join("output", os.path.basename(os.path.abspath(save_dir))))
    return [*lines, *converted.notes, "check it, then train:", f"  {typed('check_data')} --config {config}",
            f"  {typed('train')} --config {config} --do_eval --use_vdl --save_dir {output}"]
