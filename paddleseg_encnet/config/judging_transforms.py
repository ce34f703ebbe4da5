"""Do the transforms of a config do what they are there for? In the validation set nothing may be random, and Normalize
has to fit the range that images have then.
"""

from typing import Any, Iterator, NamedTuple, Optional, Tuple

from paddleseg_encnet.config.in_channels import channels_of_config
from paddleseg_encnet.config.judging_values import is_number, shown_value

FULL = 255          # what Normalize of PaddleSeg divides pixels by, before mean and std
# PaddleSeg's transforms whose names do not say that they are random, and the two arguments that it draws between.
RANGES = {"ResizeStepScaling": (("min_scale_factor", 0.75), ("max_scale_factor", 1.25)),
          "ResizeRangeScaling": (("min_value", 400), ("max_value", 600))}


def check_transforms(config: dict) -> None:
    """
    Raises:
        ValueError: a transform of validation is random, or a Normalize has mean and std of another range than that of
            the pixels, or a std of 0.
    """
    for place, transform in transforms_of(config, "val_dataset"):
        if is_random(transform):
            raise ValueError(
                f"{place} in the config is {transform['type']}, which is random: what is evaluated, predicted, "
                "exported or explained has to come out the same each time, and where it was in the image; take it out "
                "there, it is for train_dataset")
    for name in ("train_dataset", "val_dataset"):
        for place, transform in transforms_of(config, name):
            if transform.get("type") == "Normalize":
                check_normalize(place, transform, channels_of_config(config) if "model" in config else 3)


def transforms_of(config: dict, dataset: str) -> Iterator[Tuple[str, dict]]:
    """(place in the config, transform) of a data set."""
    for i, transform in enumerate((config.get(dataset) or {}).get("transforms") or []):
        yield f"{dataset}.transforms[{i}]", transform


def is_random(transform: dict) -> bool:
    """Whether the same image can come out in several ways. A user's own transform is random where its name begins so.
    """
    kind: Any = transform.get("type")
    if kind in RANGES:
        low, high = (transform.get(name, default) for name, default in RANGES[kind])
        return low != high
    if kind == "Resize":
        return transform.get("interp") == "RANDOM"
    if kind == "ResizeByShort":
        sizes = transform.get("short_size")
        return isinstance(sizes, (list, tuple)) and any(size != sizes[0] for size in sizes)
    return isinstance(kind, str) and kind.startswith("Random")


# --- Normalize --------------------------------------------------------------------------------------------------------

class Scale(NamedTuple):
    """Mean and deviation of each channel, or one for all."""
    mean: Tuple[float, ...]
    std: Tuple[float, ...]

    def __str__(self) -> str:
        return f"mean: {written(self.mean)}, std: {written(self.std)}"


def scale_of(transform: dict) -> Optional[Scale]:
    """Of a Normalize; None where its values are none."""
    found = []
    for name in Scale._fields:
        values = transform.get(name, (0.5,))
        values = values if isinstance(values, (list, tuple)) else (values,)
        if not values or not all(map(is_number, values)):
            return None
        found.append(tuple(map(float, values)))
    return Scale(*found)


def check_normalize(place: str, transform: dict, channels: Any) -> None:
    """Raises ValueError for a deviation of 0, and for values of pixels from 0 to 255 where they go from 0 to 1. What
    images of other numbers of channels hold, in files of any type of number, is not known here."""
    scale = scale_of(transform)
    if scale is None:
        return      # another rule tells of the type
    if min(scale.std) <= 0:
        raise ValueError(f"{place}.std in the config is {shown_value(transform.get('std'))}: Normalize divides by it, "
                         "so that each number must be above 0")
    large = [max(map(abs, values)) > 1 for values in scale]
    if channels not in (1, 3) or not any(large):
        return
    # Of means from 0 to 255 and deviations of 1 both are of that range; deviations below 1 are not.
    divided = large[0], large[1] or large[0] and set(scale.std) == {1.0}
    meant = Scale(*(tuple(value / FULL for value in values) if by else values for values, by in zip(scale, divided)))
    raise ValueError(f"{place} in the config is Normalize with {scale}, of pixels from 0 to {FULL}: it divides by "
                     f"{FULL} first, so that they go from 0 to 1; write {meant}")


def written(values: Tuple[float, ...]) -> str:
    """As one writes it into a config."""
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"
