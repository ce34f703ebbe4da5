"""Numbers in half precision: half as large, and enough for weights."""

import numpy as np


def half(value: np.ndarray) -> np.ndarray:
    """As float16, unless it holds integers or a number that is too large for it."""
    if value.dtype.kind != "f":
        return value
    with np.errstate(over="ignore"):
        halved = value.astype("float16")
    return halved if np.array_equal(np.isfinite(halved), np.isfinite(value)) else value
