"""What the SE branch says of an image. A network returns it only while training; here it is read while it evaluates."""

import contextlib
from typing import Iterator, List, Optional

import paddle
from paddle.jit.dy2static.program_translator import StaticFunction


def has_branch(model: paddle.nn.Layer) -> bool:
    """Does the network predict presence, and can it be seen? Inside a graph that to_static has made it can't."""
    return (hasattr(model, "enc_module") and hasattr(model, "se_layer")
            and not isinstance(model.forward, StaticFunction))


@contextlib.contextmanager
def presence_logits(model: paddle.nn.Layer) -> Iterator[Optional[List[paddle.Tensor]]]:
    """Gives a list to which each forward pass appends its presence logits [B, num_classes]; None without a branch."""
    if not has_branch(model):
        yield None
        return
    seen = []
    hook = model.enc_module.register_forward_post_hook(
        lambda module, inputs, outputs: seen.append(model.se_layer(outputs[0])))
    try:
        yield seen
    finally:
        hook.remove()


def take(seen: List[paddle.Tensor], windows: bool) -> paddle.Tensor:
    """Empties the list of a batch's forward passes, and makes of them its presence logits, float32 [B, num_classes].

    The mean over scales and flips, as PaddleSeg takes it of the logits of pixels. With sliding windows the maximum over
    all of them, of all scales and flips: what one window holds is in the image.
    """
    passes = paddle.stack(seen).astype("float32")
    seen.clear()
    return passes.max(axis=0) if windows else passes.mean(axis=0)
