"""What a network says beside its logits: what its SE branch sees, and how small an image may be.

A network returns presence only while training; here it is read while it evaluates.
"""

from typing import List, Optional, Tuple

import paddle
from paddle.jit.dy2static.program_translator import StaticFunction


def has_branch(model: paddle.nn.Layer) -> bool:
    """Does the network predict presence, and can it be seen? Inside a graph that to_static has made it can't."""
    return (hasattr(model, "enc_module") and hasattr(model, "se_layer")
            and not isinstance(model.forward, StaticFunction))


def with_presence(model: paddle.nn.Layer, images: paddle.Tensor) -> Tuple[List[paddle.Tensor], Optional[paddle.Tensor]]:
    """What the network returns, and its presence logits [B, num_classes]; None without a branch. One thread at a time.
    """
    if not has_branch(model):
        return model(images), None
    seen = []
    hook = model.enc_module.register_forward_post_hook(
        lambda module, inputs, outputs: seen.append(model.se_layer(outputs[0])))
    try:
        return model(images), seen[0]
    finally:
        hook.remove()


def least_side(model: paddle.nn.Layer) -> int:
    """The smallest height and width of an image that the network can take, as its backbone says."""
    return getattr(getattr(model, "backbone", None), "least_side", 1)
