"""How much of its codebook a network uses over a data set, read while it is evaluated."""

import contextlib
from typing import Iterator, Optional

import paddle
from paddle.jit.dy2static.program_translator import StaticFunction
from paddleseg.utils import logger

from paddleseg_encnet.models.codebook import CodebookStatistics, CodebookUse, assign_to_mean
from paddleseg_encnet.runtime.devices import Ranks

COLLAPSED = 0.05        # nats


@contextlib.contextmanager
def codebook_statistics(model: paddle.nn.Layer) -> Iterator[Optional[CodebookStatistics]]:
    """Gives what gathers the assignments of each forward pass; None without a codebook, or inside a graph that
    to_static has made, where it can't be seen."""
    encoding = getattr(getattr(model, "enc_module", None), "encoding", None)
    if encoding is None or isinstance(model.forward, StaticFunction):
        yield None
        return
    layer = encoding[0]
    found = CodebookStatistics(layer.num_codes)
    hook = layer.register_forward_post_hook(lambda layer, inputs, output: found.add(
        layer.assign(inputs[0]).numpy(), assign_to_mean(layer, inputs[0]).numpy()))
    try:
        yield found
    finally:
        hook.remove()


def use_over_ranks(statistics: Optional[CodebookStatistics], ranks: Ranks) -> Optional[CodebookUse]:
    """What was gathered, of all ranks together; a collapsed codebook, of which the scores say nothing, is warned of."""
    if statistics is None:
        return None
    statistics.sums = ranks.sum(statistics.sums)
    use = statistics.use()
    if use.information < COLLAPSED:
        logger.warning("the codebook has collapsed: all positions have one mixture of codewords, which tells "
                       f"{use.information:.3f} nats of them (below {COLLAPSED}), so that the context is hardly more "
                       "than a mean of the features. Train with codebook_start: features under model, see "
                       "docs/codebook.md")
    return use
