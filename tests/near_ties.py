"""Classes of two implementations, runtimes, numbers of threads or batch sizes: equal but for ties.

They sum float32 numbers in another order, so that each logit is off by some roundings, and the class of a pixel is
another one where the two largest logits lie that near to each other. Where both sides run the same code on the same
threads, classes are equal to the last pixel, and tests compare them so.
"""

import functools

import numpy as np
import paddle
from paddleseg.core import infer
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.transforms import Compose

from paddleseg_encnet.weights import checkpoint
from segrun.image import read_file

# Between two logits, of the largest one: 84 times float32's 1.2e-7. A logit is the end of some twenty convolutions of
# up to 4608 products each, whose roundings mostly cancel.
ROUNDING = 1e-5
# Of the pixels may have another class. Of a network whose logits are spread evenly it is some 1e-5 of them.
MOST = 1e-3


def near_ties(scores: np.ndarray, rounding: float = ROUNDING) -> np.ndarray:
    """Which classes [C, H, W] have a score as large as the largest of their pixel, but for so much of the largest one
    of all."""
    return scores >= scores.max(axis=0) - rounding * np.abs(scores).max()


def assert_same_classes(found: np.ndarray, expected: np.ndarray, scores: np.ndarray, rounding: float = ROUNDING) -> int:
    """How many pixels differ. Where one does, both its classes have the largest score but for the rounding.

    Args:
        found, expected: class ids [H, W].
        scores: logits [C, H, W] of one of the two, or of a third implementation.
    """
    assert found.shape == expected.shape == scores.shape[1:]
    differ = np.nonzero(found != expected)
    largest = near_ties(scores, rounding)
    for ids in (found, expected):
        wrong = ~largest[(ids[differ], *differ)]
        assert not wrong.any(), (f"{wrong.sum()} of {found.size} pixels have another class and are no ties to "
                                 f"{rounding:g} of the largest logit")
    count = len(differ[0])
    assert count <= max(1, MOST * found.size), f"{count} of {found.size} pixels are ties: the logits say nothing"
    return count


@functools.lru_cache(1)
def live(config: str, weights: str) -> tuple:
    """The network, with its weights, and what it does to an image."""
    builder = SegBuilder(Config(config))
    checkpoint.fill_layer(builder.model, weights)
    builder.model.eval()
    return builder.model, Compose(builder.val_transforms)


def live_scores(config, weights, image) -> np.ndarray:
    """Logits [C, H, W] of the live network, in the image's own size, by PaddleSeg's own inference."""
    model, transforms = live(str(config), str(weights))
    data = transforms({"img": read_file(str(image)).astype("float32"), "trans_info": []})
    with paddle.no_grad():
        _, logits = infer.inference(model, paddle.to_tensor(data["img"][np.newaxis]), trans_info=data["trans_info"])
    return logits.numpy()[0]
