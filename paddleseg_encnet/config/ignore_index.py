"""One `ignore_index` for a whole config: the key beside `batch_size` reaches losses, data and scores.

    ignore_index: 255

PaddleSeg wants the number at each loss, at a data set of type Dataset and at each transform that pads labels, and takes
255 where it is missing. Scores go by the data set's. PaddleSeg's own loops do not know the key.
"""

import inspect
from typing import Iterator, Tuple

from paddleseg.cvlibs import manager

# Arguments that are this number, by whatever takes them.
ARGUMENTS = ("ignore_index", "label_padding_value")


def give_ignore_index(config: dict) -> None:
    """Sets the config's `ignore_index`, if it has one, wherever a part of it takes one and does not say which.

    Raises:
        ValueError: it is no whole number from 0 to 255, which are the values that a label's 8 bits hold; or a part of
            the config, or a data set whose value is fixed, has another.
    """
    value = config.get("ignore_index")
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
        raise ValueError(f"ignore_index in the config is {value!r}: it must be a whole number from 0 to 255, a value "
                         "that pixels of a label can have")
    for place, part, component in parts(config):
        taken = inspect.signature(component).parameters
        for argument in ARGUMENTS:
            if argument in taken and part.setdefault(argument, value) != value:
                raise ValueError(f"ignore_index in the config is {value}, but {place}.{argument} is {part[argument]}: "
                                 "take one of the two out, or make them equal")
        fixed = getattr(component, "IGNORE_INDEX", value)
        if fixed != value and "ignore_index" not in taken:
            raise ValueError(f"ignore_index in the config is {value}, but {place}.type is {part['type']}, whose labels "
                             f"have {fixed} for ignored pixels: set ignore_index to {fixed}, or take it out")


def parts(config: dict) -> Iterator[Tuple[str, dict, type]]:
    """What could take it: (name in the config, that part, its class), the data first. PaddleSeg refuses what it does
    not know when it builds it."""
    named = []
    for name in ("train_dataset", "val_dataset"):
        dataset = config.get(name) or {}
        named.append((name, dataset, manager.DATASETS))
        named += [(f"{name}.transforms[{i}]", transform, manager.TRANSFORMS)
                  for i, transform in enumerate(dataset.get("transforms") or [])]
    for i, loss in enumerate((config.get("loss") or {}).get("types", [])):
        named.append((f"loss.types[{i}]", loss, manager.LOSSES))
        named += [(f"loss.types[{i}].losses[{j}]", inner, manager.LOSSES)
                  for j, inner in enumerate(loss.get("losses") or [])]       # of a MixedLoss
    for place, part, known in named:
        component = known.components_dict.get(part.get("type"))
        if component is not None:
            yield place, part, component
