"""Is a value of a config a number, a text, a list; and how an error shows it."""

import difflib
import math
from typing import Any, Callable, Collection, Dict, Optional, Sequence

TEXT_WHOLE = "; in quotes it is a text"
TEXT_NUMBER = "; YAML takes it for a text, a number with an exponent has a dot: 5.0e-4"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


TYPES: Dict[str, Callable[[Any], bool]] = {
    "true or false": lambda value: isinstance(value, bool), "a number": is_number,
    "a text": lambda value: isinstance(value, str), "a list": lambda value: isinstance(value, (list, tuple))}


def check_like(place: str, value: Any, default: Any) -> None:
    """Raises ValueError where a value is of another type than the default: a number, truth value, text or list."""
    if value is None or default is None:
        return
    wanted = next((word for word, fits in TYPES.items() if fits(default)), None)
    if wanted is None or wanted == "a list" and is_number(value):       # PaddleSeg takes one for a list in some places
        return
    if TYPES[wanted](value):
        numbers = wanted == "a list" and len(default) and all(map(is_number, default))
        if not numbers or all(item is None or is_number(item) for item in value):
            return
        wanted = "a list of numbers"
    raise wrong(place, value, f"{wanted}, as {shown_value(default)}{hint(value)}")


def check_number(place: str, value: Any) -> None:
    if not is_number(value):
        raise wrong(place, value, f"a number{hint(value)}")


def check_number_text(place: str, value: Any) -> None:
    """Raises ValueError for a text that is a number, where PaddleSeg names no type."""
    if hint(value):
        raise wrong(place, value, f"a number{hint(value)}")


def check_positive(place: str, value: Any) -> None:
    if not is_number(value) or value <= 0:
        raise wrong(place, value, "a number above 0")


def check_weights(place: str, values: Sequence[Any]) -> None:
    """Raises ValueError for factors of a loss by which something is climbed, or nothing is learnt."""
    if not all(map(is_number, values)) or min(values, default=0) < 0 or max(values, default=0) == 0:
        raise wrong(place, values, "numbers from 0 on, of which one is above 0")


def check_whole(place: str, value: Any, least: Optional[int]) -> None:
    """Raises ValueError for what is no whole number from `least`, 0 or 1, on; None: from anywhere."""
    if not is_whole(value) or least is not None and value < least:
        hinted = hint(value) and TEXT_WHOLE
        raise wrong(place, value, "a whole number" + " above 0" * (least == 1) + hinted)


def check_optional(place: str, value: Any, kind: type, wanted: str) -> None:
    """Raises ValueError for what is there and of another type."""
    if value is not None and not isinstance(value, kind):
        raise wrong(place, value, wanted)


def wrong(place: str, value: Any, wanted: str) -> ValueError:
    """The error that tells where a value stands, what it is and what it must be."""
    return ValueError(f"{place} in the config is {shown_value(value)}, must be {wanted}")


def hint(value: Any) -> str:
    """What to know of a text that is a number."""
    try:
        return TEXT_NUMBER if isinstance(value, str) and math.isfinite(float(value)) else ""
    except ValueError:
        return ""


def shown_value(value: Any, longest: int = 60) -> str:
    """A value of a config, in one line and short."""
    text = " ".join(repr(value).split())
    return text if len(text) <= longest else f"{text[:longest]}..."


def some_of(names: Collection[str], wanted: Any) -> str:
    """The nearest of the names, or all if they are few."""
    near = difflib.get_close_matches(str(wanted), names, n=3, cutoff=0.5)
    listed = near or sorted(names)
    more = len(names) - len(listed[:12])
    return ", ".join(listed[:12]) + (f" and {more} more" if more else "")
