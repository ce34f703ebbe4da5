"""What stops training: losses without a dimension, types that cross entropy multiplies."""

import functools
import importlib
import inspect
from typing import Any, Callable, Optional


def train_indexes_scalars() -> bool:
    import paddle
    module = importlib.import_module("paddleseg.core.train")
    ones = paddle.to_tensor([1.0], place=paddle.CPUPlace())
    losses = {"types": [lambda logits, labels: logits.sum()], "coef": [1]}
    term = module.loss_computation([ones], ones, None, losses)[0]
    return term.ndim == 0 and "[l[0] " in inspect.getsource(module.train)


def losses_with_a_dimension() -> None:
    """Symptom: `IndexError: too many indices for array` at the first log line of PaddleSeg's train().
    Cause: it takes element 0 of each loss; since Paddle 2.5 a mean has no dimensions.
    Detected: loss_computation returns a loss without dimensions, and the source of train() takes `l[0]`.
    """
    core: Any = importlib.import_module("paddleseg.core")
    module: Any = importlib.import_module("paddleseg.core.train")

    def with_a_dimension(compute: Callable[..., list]) -> Callable[..., list]:
        @functools.wraps(compute)
        def computed(*args: Any, **kwargs: Any) -> list:
            return [loss.reshape([1]) for loss in compute(*args, **kwargs)]
        return computed

    train = module.train

    @functools.wraps(train)
    def repaired_train(model: Any, *args: Any, **kwargs: Any) -> Any:
        if hasattr(model, "loss_computation"):      # some models bring their own
            model.loss_computation = with_a_dimension(model.loss_computation)
        return train(model, *args, **kwargs)

    module.loss_computation = with_a_dimension(module.loss_computation)
    module.train = repaired_train
    core.train = repaired_train


def cross_entropy_fails() -> bool:
    import paddle
    from paddleseg.models.losses import CrossEntropyLoss
    logit = paddle.to_tensor([[[[0.0]], [[1.0]]]], place=paddle.CPUPlace())         # [1, 2, 1, 1]
    label = paddle.to_tensor([[[1]]], dtype="int64", place=paddle.CPUPlace())       # [1, 1, 1]
    try:
        CrossEntropyLoss()(logit, label)
    except TypeError:
        return True
    return False


def cross_entropy_types() -> None:
    """Symptom: `TypeError ... x: float32, y: int64` in CrossEntropyLoss at the first training step.
    Cause: it multiplies a float32 mask with int64 coefficients; Paddle 3 no longer promotes types there.
    Detected: the loss of one pixel raises TypeError.
    """
    import paddle
    import paddle.nn.functional as F
    from paddleseg.models.losses import CrossEntropyLoss

    def post_process(self: Any, logit: paddle.Tensor, label: paddle.Tensor, semantic_weights: Optional[paddle.Tensor],
                     loss: paddle.Tensor) -> paddle.Tensor:
        """Mean of the pixel losses [B, H, W]: over valid pixels, weighted by class, of the hardest share if asked."""
        valid = label != self.ignore_index
        mask = valid.astype("float32") if self.avg_non_ignore else paddle.ones(label.shape, dtype="float32")
        loss = (loss.squeeze(-1) if loss.ndim > mask.ndim else loss) * mask
        if semantic_weights is not None:
            loss = loss * semantic_weights
        if self.weight is None:
            coef = paddle.ones_like(mask)
        else:
            # An ignored label is no index; its coefficient is multiplied by the mask below.
            coef = F.embedding(paddle.where(valid, label, paddle.zeros_like(label)), self.weight.unsqueeze(1))
            coef = coef.squeeze(-1)
        if self.top_k_percent_pixels == 1.0:
            return loss.mean() / ((mask * coef).mean() + self.EPS)
        hardest, index = paddle.topk(loss.flatten(), int(self.top_k_percent_pixels * loss.size))
        return hardest.mean() / (paddle.gather(coef.flatten(), index).mean() + self.EPS)

    CrossEntropyLoss._post_process_loss = post_process
