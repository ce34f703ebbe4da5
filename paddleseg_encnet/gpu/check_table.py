"""The checks, in the order in which they run: a line is a row of the page."""

from typing import List

from paddleseg_encnet.gpu import export_checks, layer_checks, rank_checks, training_checks
from paddleseg_encnet.gpu.checking import Check

CHECKS: List[Check] = [
    # The first one, as Paddle 2.6 can't forget what took the most memory.
    Check("memory of the Encoding layer, [2, 512, 64, 128]", 1, layer_checks.memory),
    Check("Paddle's own check", 0, training_checks.paddles_own),
    Check("the Encoding layer against its formula", 0, layer_checks.formula),
    Check("gradients by hand against Paddle's", 0, layer_checks.by_hand),
    Check("attention at 2048 x 1024 in mixed precision", 0, layer_checks.largest_sums),
    Check("first steps of encnet_quick_start as on the CPU", 0, training_checks.first_steps),
    Check("mixed precision, O1", 0, training_checks.half),
    Check("O2, average, micro-batches, placed codebook: killed and resumed", 0, training_checks.killed_and_resumed),
    Check("the shipped network exported, each form", 0, export_checks.forms),
    Check("the export in fp16 at 2048 x 1024", 1, export_checks.largest_image),
    Check("EncNet-101 at 1024 x 512, batch 2: memory and pace", 1, training_checks.encnet_101),
    Check("two ranks have the same weights", 0, rank_checks.in_common),
    Check("two ranks: one is killed", 0, rank_checks.killed),
    Check("two GPUs: pace against one", 2, rank_checks.pace),
]
