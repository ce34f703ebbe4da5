"""Counting the pixels of an image of 2048 x 1024 against its label: ours against PaddleSeg's calculate_area.

python benchmarks/evaluation.py

PaddleSeg's stops on this Paddle at a concat of scalars; here it runs with stack in the place of that concat.
"""

import importlib.util

import measuring
from measuring import Row


def measure(classes: str) -> dict:
    import paddleseg_encnet  # noqa: F401  before paddle, whose threads and malloc it sets, for both

    # isort: split
    import numpy as np
    import paddle
    from paddleseg.utils import metrics

    from segrun.scoring import confusion_matrix
    paddle.set_device("cpu")
    count, random = int(classes), np.random.default_rng(0)
    label = np.kron(random.integers(0, count, (16, 32)), np.ones((64, 64), "int64"))    # patches of 64 x 64
    prediction = np.where(random.random(label.shape) < 0.1, 0, label).astype("int32")
    label[random.random(label.shape) < 0.1] = 255
    tensors = paddle.to_tensor(prediction[None]), paddle.to_tensor(label[None])

    spec = importlib.util.find_spec("paddleseg.utils.metrics")
    unrepaired = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unrepaired)

    concat = paddle.concat

    def stock():
        paddle.concat = paddle.stack
        try:
            return unrepaired.calculate_area(*tensors, count)
        finally:
            paddle.concat = concat

    matrix = confusion_matrix(label, prediction, count)
    same = [area.tolist() for area in stock()] == [matrix.diagonal().tolist(), matrix.sum(0).tolist(),
                                                   matrix.sum(1).tolist()]
    works = {"matrix": lambda: confusion_matrix(label, prediction, count),
             "area": lambda: metrics.calculate_area(*tensors, count)}
    return {**measuring.interleaved(works, rounds=5), **measuring.interleaved({"stock": stock}, 1, 1), "same": same}


def rows():
    for classes in (19, 150):
        result = measuring.child("evaluation.py", classes)
        note = f"2048 x 1024, {classes} classes" + ("" if result["same"] else ": COUNTS DIFFER")
        yield Row("Confusion matrix", "ms", 1000 * result["matrix"], 1000 * result["stock"], note=note)
        yield Row("calculate_area", "ms", 1000 * result["area"], 1000 * result["stock"], note=note)


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
