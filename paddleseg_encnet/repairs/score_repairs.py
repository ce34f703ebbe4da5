"""What stops evaluation: areas that cannot be counted."""

from typing import Tuple


def calculate_area_fails() -> bool:
    import paddle
    from paddleseg.utils import metrics
    one = paddle.to_tensor([[[[1]]]], dtype="int64", place=paddle.CPUPlace())
    try:
        metrics.calculate_area(one, one, num_classes=2)
    except ValueError:
        return True
    return False


def calculate_area_of_scalars() -> None:
    """Symptom: `ValueError: ... concat` at the first image of an evaluation.
    Cause: metrics.calculate_area concatenates counts that, since Paddle 2.5, have no dimension.
    Detected: one pixel of two classes raises ValueError.
    """
    import paddle
    from paddleseg.utils import metrics

    from segrun.scoring import confusion_matrix

    def calculate_area(pred: paddle.Tensor, label: paddle.Tensor, num_classes: int,
                       ignore_index: int = 255) -> Tuple[paddle.Tensor, ...]:
        """Pixels of each class in both, in the prediction and in the label: three int64 tensors [num_classes]."""
        matrix = confusion_matrix(label.numpy(), pred.numpy(), num_classes, ignore_index)
        return tuple(paddle.to_tensor(area) for area in (matrix.diagonal().copy(), matrix.sum(0), matrix.sum(1)))

    metrics.calculate_area = calculate_area
