"""A loss that is infinite or no number ends the run before it reaches the weights."""

import math
from typing import List


class NotFinite(ValueError):
    """A loss is infinite or no number; says which term, at which step, with which images, and how to go on.

    Args:
        step: the step that was not taken.
        terms: value of each term of the loss on this rank, by name.
        files: images of the batch on this rank.
        ranks: those whose loss is not finite.
        advice: where to go on.
        half: whether it was computed in mixed precision.
    """

    def __init__(self, step: int, terms: dict, files: List[str], ranks: List[int], advice: str,
                 half: bool = False):
        listed = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
        if all(math.isfinite(value) for value in (*terms.values(), sum(terms.values()))):
            listed += f"; it is rank {', '.join(map(str, ranks))} whose loss is not, see its log"
        super().__init__(
            f"the loss is not finite at step {step} ({listed}); images of this step: {', '.join(files)}. {advice}; if "
            "these images and their labels are sound, with a lower learning rate or clipped gradients (grad_clip_cfg)"
            + (", or with --precision fp32, as float16 ends at 65504 (PaddleSeg's own loop leaves such a step out, and "
               "does not say so)" if half else ""))
