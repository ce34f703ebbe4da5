"""Do training and validation show the same scenes? Then a score tells less of what is new than it seems.

Two signs: images that look nearly the same; and names whose numbers count on through both sets, as those of the frames
of one drive, the slices of one patient. As any list of photographs may be numbered, the second is one only where images
of neighbouring numbers look more alike than others.
"""

import os
import re
from typing import Dict, List, NamedTuple, Set

import numpy as np

from paddleseg_encnet.data.findings import SharedScene, Split
from paddleseg_encnet.data.likeness import BITS, Thumbnails, near_pairs

NEAR = "images of val that look like one of train"
SEQUENCE = "sequences of images that go on from train to val"
NEAR_HINT = "copies, or frames of one scene: take them out of one of the two"
SEQUENCE_HINT = "their neighbours look alike, as frames of one drive or slices of one patient do: split by these; " \
                "convert-labels does with --group"
LEAST = 12          # images of a sequence, below which alike and not alike can't be told apart
ALIKE = 0.85        # of the bits that differ between any two of its images, those that differ between neighbours


class Numbered(NamedTuple):
    """An image with the number at one place of its name."""
    number: int
    image: str
    in_val: bool


def check_scenes(train: Split, val: Split) -> None:
    """Adds to `val` what it shares with `train`."""
    copies = {val.digests[digest] for digest in val.digests.keys() & train.digests.keys()}      # told already
    note_near(train, val, copies)
    covered: Set[str] = set()
    for name, sequence in sorted(sequences(train, val).items(), key=lambda item: (-len(item[1]), item[0])):
        if covered.isdisjoint(each.image for each in sequence) and goes_on(sequence, {**train.looks, **val.looks}):
            covered.update(each.image for each in sequence)
            note_sequence(name, sequence, val)


def note_near(train: Split, val: Split, copies: Set[str]) -> None:
    images, others = [image for image in val.looks if image not in copies], list(train.looks)
    if not images or not others:
        return
    known = Thumbnails([train.looks[image] for image in others])
    nearest: Dict[int, tuple] = {}
    for how, mirrored in (("", False), (", mirrored", True)):
        seen = Thumbnails([val.looks[image] for image in images], mirrored)
        for i, other, bits in near_pairs(seen, known):
            nearest[i] = min(nearest.get(i, (BITS, 0, "")), (bits, other, how))
    for i, (bits, other, how) in sorted(nearest.items(), key=lambda item: item[1]):
        val.add(NEAR, f"{images[i]} and {others[other]}{how} ({bits} of {BITS} bits differ)", NEAR_HINT)
        val.shared.append(SharedScene(images[i], others[other], f"nearly the same{how}"))


# --- sequences --------------------------------------------------------------------------------------------------------

def sequences(train: Split, val: Split) -> Dict[str, List[Numbered]]:
    """{name with # for its number: images of it, by number} of names that both sets have, for each of the numbers in a
    name. Its folder belongs to the name where both sets have several: else it tells the set, not the patient."""
    several = all(len({os.path.dirname(image) for image in split.looks}) > 1 for split in (train, val))
    found: Dict[str, List[Numbered]] = {}
    for split in (train, val):
        for image in split.looks:
            folder, name = os.path.split(image)
            name = f"{os.path.basename(folder)}/{name}" if several else name
            for digits in re.finditer(r"\d+", name):
                key = f"{name[:digits.start()]}#{name[digits.end():]}"
                found.setdefault(key, []).append(Numbered(int(digits.group()), image, split is val))
    return {key: sorted(images) for key, images in found.items()
            if len(images) >= LEAST and len({each.in_val for each in images}) == 2}


def goes_on(sequence: List[Numbered], looks: Dict[str, bytes]) -> bool:
    """Whether neighbours look more alike than any two images of the sequence."""
    images = Thumbnails([looks[each.image] for each in sequence])
    order = np.arange(len(images))
    random = np.random.default_rng(0)
    first, second = random.integers(0, len(images), (2, 20 * len(images)))
    apart = np.abs(first - second) > len(images) // 4
    any_two = np.median(images.distances(first[apart], second[apart]))
    return bool(np.median(images.distances(order[:-1], order[1:])) < ALIKE * any_two)


def note_sequence(name: str, sequence: List[Numbered], val: Split) -> None:
    trained, evaluated = ([each for each in sequence if each.in_val is in_val] for in_val in (False, True))

    def told(part: List[Numbered]) -> str:
        return f"{len(part)}, {os.path.basename(part[0].image)} to {os.path.basename(part[-1].image)}"
    val.add(SEQUENCE, f"{name}: in train {told(trained)}; in val {told(evaluated)}", SEQUENCE_HINT)
    for each in evaluated[::max(len(evaluated) // 3, 1)][:3]:       # a few to look at
        nearest = min(trained, key=lambda other: abs(other.number - each.number))
        val.shared.append(SharedScene(each.image, nearest.image, "one sequence"))
