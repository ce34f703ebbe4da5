"""SE-loss: does the encoded context know which classes occur in the image?

Zhang et al., CVPR 2018, section 3.2. Binary cross entropy between presence logits and the set of classes in the label;
every class weighs the same, however few pixels it has.
"""

import contextlib
import importlib
from typing import Any, Iterator, List, Optional

import paddle
import paddle.nn as nn
import paddle.nn.functional as F
from paddleseg.models.losses import MixedLoss

from paddleseg_encnet.models.encoding import NOTHING
from paddleseg_encnet.registry import register

# What a loss that is for maps raises on presence logits, each in its own way.
OF_ANOTHER_SHAPE = (ValueError, TypeError, IndexError, AttributeError, AssertionError)


def class_presence(label: paddle.Tensor, num_classes: int, ignore_index: int = 255) -> paddle.Tensor:
    """Which classes occur in each label: integer [B, ...] -> float32 [B, num_classes] of 0 and 1.

    `ignore_index` and values outside [0, num_classes) never count. One scatter for the whole batch: no loop over it,
    and nothing that makes the host wait for the device.
    """
    label = label.reshape([label.shape[0], -1]).astype("int64")                         # [B, pixels]
    counts = (label >= 0) & (label < num_classes) & (label != ignore_index)
    # One bin more than there are classes, for all pixels that do not count.
    bins = paddle.where(counts, label, paddle.full_like(label, num_classes))
    rows = paddle.arange(label.shape[0], dtype="int64").unsqueeze(1) * (num_classes + 1)
    bins = (bins + rows).flatten()
    presence = paddle.zeros([label.shape[0] * (num_classes + 1)], dtype="float32")
    presence = paddle.scatter(presence, bins, paddle.ones(bins.shape, dtype="float32"), overwrite=True)
    return presence.reshape([label.shape[0], num_classes + 1])[:, :num_classes]


class SELoss(nn.Layer):
    """Binary cross entropy of presence logits against the classes in the label, mean over B x num_classes.

    Args:
        ignore_index: label value that never counts as a class.
        weight: num_classes factors, one for each class; None weighs all alike.

    forward(logit, label): logit [B, num_classes] or [B, num_classes, 1, 1], label integer [B, H, W] or [B, 1, H, W];
    returns a float32 scalar. A label that is all ignored means "no class present", a finite loss.

    Raises:
        ValueError: the logit has another rank, or `weight` another length than there are classes.

    `takes_presence` is how a loss says that it is for presence logits; with False it is for maps.
    """

    takes_presence = True

    def __init__(self, ignore_index: int = 255, weight: Any = None):
        super().__init__()
        self.ignore_index = ignore_index
        self.weight = None if weight is None else paddle.to_tensor(weight, dtype="float32")

    def forward(self, logit: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        if logit.ndim == 4 and list(logit.shape[2:]) == [1, 1]:
            logit = logit.flatten(1)
        if logit.ndim != 2:
            raise ValueError(f"SELoss takes presence logits [B, num_classes], got shape {list(logit.shape)}; in a "
                             "config it must stand at the place of a presence output, which come last")
        num_classes = logit.shape[1]
        if self.weight is not None and len(self.weight) != num_classes:
            raise ValueError(f"SELoss has {len(self.weight)} weights for {num_classes} classes")
        presence = class_presence(label, num_classes, self.ignore_index)
        # How wrong each logit is, log(1 + exp(+-logit)). Of one that is right, the gradient is the other answer's
        # probability, a denormal number at logits around 95: below e^-40 = 4e-18, which no weight can tell from 0, it
        # is 0. (Paddle's own binary cross entropy has that, and a gradient of -0.5 or -1.5 at a logit of 0.)
        wrong = logit.astype("float32") * (1 - 2 * presence)
        terms = F.softplus(paddle.clip(wrong, min=NOTHING))
        return (terms if self.weight is None else terms * self.weight).mean()


def compute_losses(model: nn.Layer, outputs: list, data: dict, losses: dict) -> list:
    """The weighted loss terms of a batch, as PaddleSeg matches them: by position, or by the model's own rule.

    Args:
        outputs: what the model returned while training.
        data: the batch: "label" [B, H, W], "edge" where the dataset gives it.
        losses: {"types": [loss, ...], "coef": [factor, ...]}.
    """
    if hasattr(model, "loss_computation"):
        return model.loss_computation(outputs, losses, data)
    return losses_by_position(outputs, data, losses)


def has_own_rule(model: nn.Layer) -> bool:
    """Whether the model matches losses in a way that only it knows."""
    return hasattr(model, "loss_computation") and not hasattr(model, "output_names")


def losses_by_position(outputs: list, data: dict, losses: dict) -> list:
    """PaddleSeg's rule: the first loss for the first output, and so on. Arguments as above.

    Raises:
        ValueError: there are more or fewer outputs than losses.
    """
    if len(outputs) != len(losses["types"]):
        raise ValueError(f"while training the network has {len(outputs)} outputs, and loss.types in the config has "
                         f"{len(losses['types'])} losses: give loss.types and loss.coef one entry for each output")
    edges = data["edge"].astype("int64") if "edge" in data else None
    rule = importlib.import_module("paddleseg.core.train").loss_computation
    return rule(logits_list=outputs, labels=data["label"].astype("int64"), edges=edges, losses=losses)


ADVICE = ("give loss.types and loss.coef one entry for each output, in this order, or change the outputs with the "
          "model's use_aux_loss, use_se_loss and use_se_loss_stage3")


def check_losses(names: list, losses: dict) -> None:
    """Is there one loss for each output, and of its kind?

    Args:
        names: the network's outputs while training; those that predict presence begin with "SE".

    Raises:
        ValueError: an output has no loss or a loss no output; SELoss stands elsewhere than at presence logits, or
            one that is for maps there; there are more or fewer coefs than losses.
    """
    kinds = [type(loss).__name__ for loss in losses["types"]]
    said = (f"while training the network has the outputs {', '.join(names)}, and loss.types in the config is "
            f"{', '.join(kinds)}")
    if len(kinds) < len(names):
        raise ValueError(f"{said}: output {names[len(kinds)]} has no loss; {ADVICE}")
    if len(kinds) > len(names):
        raise ValueError(f"{said}: there is no output for loss {len(names) + 1}, {kinds[len(names)]}; {ADVICE}")
    for name, loss in zip(names, losses["types"]):
        presence = name.startswith("SE")
        for part in parts_of(loss):
            if takes_presence(part) not in (presence, None):
                raise ValueError(f"{said}: {type(part).__name__} does not fit output {name}, which holds "
                                 f"{'one number for each class' if presence else 'a map for each class'}; {ADVICE}")
    if len(losses["coef"]) != len(kinds):
        raise ValueError(f"{said}, but loss.coef has {len(losses['coef'])} factors: {losses['coef']}")


def parts_of(loss: nn.Layer) -> List[nn.Layer]:
    """The losses that one entry of loss.types stands for."""
    return list(loss.losses) if isinstance(loss, MixedLoss) else [loss]


def takes_presence(loss: nn.Layer) -> Optional[bool]:
    """Whether a loss is for presence logits [B, num_classes], or, with False, for maps: what it says of itself in its
    attribute `takes_presence`. PaddleSeg's are for maps. None: a user's loss that says nothing."""
    said = getattr(loss, "takes_presence", None)
    if said is None and type(loss).__module__.startswith("paddleseg."):
        return False
    return said


@contextlib.contextmanager
def misfits_named(names: list, losses: dict) -> Iterator[None]:
    """Within it, an error of the losses is followed by the names of those at presence logits that do not say whether
    they take such. Arguments as check_losses() has them.

    Raises:
        ValueError: in place of an error that a loss for maps raises on presence logits.
    """
    try:
        yield
    except OF_ANOTHER_SHAPE as error:
        unsaid = [(type(part).__name__, name) for name, loss in zip(names, losses["types"]) if name.startswith("SE")
                  for part in parts_of(loss) if takes_presence(part) is None]
        if not unsaid:
            raise
        kind, name = unsaid[0]
        raise ValueError(f"{type(error).__name__}: {error}. {kind} may not fit output {name}, which holds one number "
                         f"for each class: if it is for maps, {ADVICE}; if it is not, and the error comes from "
                         "elsewhere, takes_presence = True in its class says so") from error


def loss_names(model: nn.Layer, count: int) -> list:
    """Names of `count` loss terms: those of the model's outputs, or loss_0, loss_1, ... where it names none."""
    outputs = list(getattr(model, "output_names", ()))
    return outputs if len(outputs) == count else [f"loss_{i}" for i in range(count)]


register("LOSSES", SELoss)
register("LOSSES", SELoss, name="SECrossEntropyLoss", replaces=True)    # PaddleSeg's own EncNet config says this
