"""What stops training: losses without a dimension, types that losses multiply, batches without a pixel that counts."""

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


def fails_on_types(loss: Any, height: int, width: int) -> bool:
    """Whether a loss raises TypeError for an image of one class, of this size."""
    import numpy as np
    import paddle
    place = paddle.CPUPlace()
    logit = paddle.to_tensor(np.zeros([1, 2, height, width], "float32"), place=place)
    label = paddle.to_tensor(np.zeros([1, height, width], "int64"), place=place)
    try:
        loss(logit, label)
    except TypeError:
        return True
    return False


def rmi_fails() -> bool:
    from paddleseg.models.losses import RMILoss
    return fails_on_types(RMILoss(num_classes=2), 12, 12)


def rmi_types() -> None:
    """Symptom: `TypeError: (InvalidType) Type promotion only support calculations between floating-point numbers` in
    RMILoss at the first training step.
    Cause: it multiplies float32 with truth values; Paddle 3 no longer promotes types there.
    Detected: the loss of an image of one class raises TypeError.
    """
    import paddle
    import paddle.nn.functional as F
    from paddleseg.models.losses import RMILoss
    module: Any = importlib.import_module("paddleseg.models.losses.rmi_loss")

    def forward_sigmoid(self: Any, logits: paddle.Tensor, labels: paddle.Tensor, do_rmi: bool = False) -> paddle.Tensor:
        """Of logits [B, C, H, W] and labels [B, H, W], both float32."""
        counts = labels != self.ignore_index
        mask = counts.astype("float32")
        ids = paddle.where(counts, labels, paddle.zeros_like(labels)).astype("int64")
        classes = F.one_hot(ids, self.num_classes).transpose([0, 3, 1, 2]) * mask.unsqueeze(1)
        classes.stop_gradient = True
        probabilities = F.sigmoid(logits) * mask.unsqueeze(1) + module._CLIP_MIN
        return self.rmi_lower_bound(classes, probabilities)

    RMILoss.forward_sigmoid = forward_sigmoid


def ohem_fails() -> bool:
    from paddleseg.models.losses import OhemCrossEntropyLoss
    return fails_on_types(OhemCrossEntropyLoss(min_kept=1), 1, 2)


def ohem_types() -> None:
    """Symptom: `TypeError: (InvalidType) Type promotion only support calculations between floating-point numbers` in
    OhemCrossEntropyLoss and OhemEdgeAttentionLoss, as soon as a batch has more pixels than `min_kept`.
    Cause: they add whole numbers to float32; Paddle 3 no longer promotes types there.
    Detected: the loss of two pixels of which one is kept raises TypeError.
    """
    import paddle
    import paddle.nn.functional as F
    from paddleseg.models.losses import OhemCrossEntropyLoss, OhemEdgeAttentionLoss

    def without_easy_pixels(self: Any, logit: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        """The label int64 [B, 1, H, W], with those pixels ignored whose class is found with a probability of `thresh`;
        but `min_kept` pixels are kept."""
        counts = label != self.ignore_index
        if not 0 < self.min_kept < int(counts.sum()):
            return label
        ids = paddle.where(counts, label, paddle.zeros_like(label))
        probability = paddle.take_along_axis(F.softmax(logit.detach(), axis=1), ids, 1)
        probability = paddle.where(counts, probability, paddle.full_like(probability, 2))       # the last to be kept
        hardest = float(probability.flatten().sort()[self.min_kept - 1])
        kept = counts & (probability < max(self.thresh, hardest))
        return paddle.where(kept, label, paddle.full_like(label, self.ignore_index))

    def mean_of_hard_pixels(self: Any, logit: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        label = without_easy_pixels(self, logit, label)
        mask = (label != self.ignore_index).astype("float32")
        loss = F.cross_entropy(logit, label, ignore_index=self.ignore_index, reduction="none", axis=1)
        return (loss.reshape(mask.shape) * mask).mean() / (mask.mean() + self.EPS)

    def of_pixels(self: Any, logit: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        label = label.unsqueeze(1) if label.ndim != logit.ndim else label
        return mean_of_hard_pixels(self, logit, label.astype("int64"))

    def of_edges(self: Any, logits: Any, label: paddle.Tensor) -> paddle.Tensor:
        logit, edge = logits[0], logits[1]
        label = label.unsqueeze(1) if label.ndim != logit.ndim else label
        if edge.shape != label.shape:
            raise ValueError(f"the edges have shape {list(edge.shape)}, their labels {list(label.shape)}: make them "
                             "equal")
        label = label.astype("int64")
        label = paddle.where(edge > self.edge_threshold, label, paddle.full_like(label, self.ignore_index))
        return mean_of_hard_pixels(self, logit, label)

    OhemCrossEntropyLoss.forward, OhemEdgeAttentionLoss.forward = of_pixels, of_edges


def ignored_pixels_have_a_loss() -> bool:
    import numpy as np
    import paddle
    from paddleseg.models.losses import LovaszSoftmaxLoss
    place = paddle.CPUPlace()
    logit = paddle.to_tensor(np.zeros([1, 2, 1, 1], "float32"), place=place)
    label = paddle.to_tensor(np.full([1, 1, 1], 255), place=place)
    loss = LovaszSoftmaxLoss()(logit, label)
    return loss.size != 1 or float(loss) != 0


def losses_of_nothing_are_zero() -> None:
    """Symptom: `ReshapeOp` or `only one element variable can be converted to float` in the middle of a training with
    LovaszSoftmaxLoss, ZeroDivisionError with PixelContrastCrossEntropyLoss, a loss that is no 0 with RMILoss, at a
    batch whose pixels are all ignored.
    Cause: of the pixels that count, which are none, they make an empty loss, or divide by their number; RMILoss
    measures how alike two constants are.
    Detected: LovaszSoftmaxLoss of one ignored pixel is not one number, 0.
    """
    import paddle
    from paddleseg.models import losses

    def zero_where_nothing_counts(kind: Any) -> None:
        forward = kind.forward

        @functools.wraps(forward)
        def judged(self: Any, logits: paddle.Tensor, label: paddle.Tensor, *args: Any, **kwargs: Any) -> paddle.Tensor:
            if bool((label != self.ignore_index).any()):
                return forward(self, logits, label, *args, **kwargs)
            return (logits * 0).sum()       # with a gradient, which is 0
        kind.forward = judged

    for kind in (losses.LovaszSoftmaxLoss, losses.LovaszHingeLoss, losses.RMILoss):
        zero_where_nothing_counts(kind)

    contrast = losses.PixelContrastCrossEntropyLoss.contrast_criterion

    @functools.wraps(contrast)
    def contrast_of_what_is_sampled(self: Any, feats: paddle.Tensor, *args: Any, **kwargs: Any) -> paddle.Tensor:
        try:
            return contrast(self, feats, *args, **kwargs)
        except ZeroDivisionError:       # it shares its samples out among the classes that have enough pixels
            return (feats * 0).sum()

    losses.PixelContrastCrossEntropyLoss.contrast_criterion = contrast_of_what_is_sampled
