"""What one training step needs, counted on the real network, and what follows for the step time on several V100s.

python benchmarks/scaling.py [--configs CONFIG ...] [--utilisation 0.5] [--network 10]

The counts are exact: layers report their shapes in one forward pass at the config's crop, and autograd reports every
tensor that it keeps for the backward pass. The times are a prediction from these counts and the rates below; nothing of
it was measured on a GPU.
"""

import argparse
import math
from typing import NamedTuple

import paddleseg_encnet  # noqa: F401

# isort: split

import paddle
from paddle.nn.layer.norm import _BatchNormBase

from paddleseg_encnet import Encoding
from paddleseg_encnet.config import building
from paddleseg_encnet.models.losses import compute_losses

BACKBONES = ["configs/encnet_resnet50_cityscapes_1024x512_80k.yml", "configs/encnet_cityscapes_1024x512_80k.yml"]
FLOAT = 4               # bytes
BUCKET = 25 * 2 ** 20   # bytes of gradients that DataParallel reduces together, its default


class Step(NamedTuple):
    """One step on one device."""
    batch: int
    parameters: int     # trainable numbers
    norms: int          # BatchNorm layers
    norm_channels: int  # and their channels, in all
    forward: int        # floating point operations of convolutions and matrix products, 2 for a multiply-add
    backward: int
    kept: int           # bytes of tensors kept for the backward pass, without the parameters


def operations(layer: paddle.nn.Layer, inputs, output) -> tuple:
    """(forward, backward) operations of one call of a layer: those of its convolution or matrix products.

    The backward pass of a product is two of its size, for its two operands; one where the input needs no gradient.
    """
    if isinstance(layer, paddle.nn.Conv2D):
        per_output = 2 * math.prod(layer.weight.shape[1:])
    elif isinstance(layer, paddle.nn.Linear):
        per_output = 2 * layer.weight.shape[0]
    elif isinstance(layer, Encoding):       # two products K x C x N each way around, see models/encoding.py
        per_output = 2 * 2 * (inputs[0].size // (inputs[0].shape[0] * layer.channels))
    else:
        return 0, 0
    forward = per_output * output.size
    return forward, forward * (1 if inputs[0].stop_gradient else 2)


def count(model: paddle.nn.Layer, losses: dict, height: int, width: int, classes: int, batch: int) -> Step:
    """Counts one step with images of this size. One image is run: everything counted grows as the batch."""
    totals, kept = [0, 0], {}

    def add(layer, inputs, output):
        for i, value in enumerate(operations(layer, inputs, output)):
            totals[i] += value

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor        # alive, so that no other tensor gets its place
        return tensor

    handles = [layer.register_forward_post_hook(add) for layer in model.sublayers()]
    images, label = paddle.randn([1, 3, height, width]), paddle.randint(0, classes, [1, height, width])
    model.train()
    with paddle.autograd.saved_tensors_hooks(keep, lambda tensor: tensor):
        sum(compute_losses(model, model(images), {"label": label}, losses))
    for handle in handles:
        handle.remove()
    for tensor in (*model.parameters(), label):
        kept.pop(tensor.data_ptr(), None)
    norms = [layer for layer in model.sublayers() if isinstance(layer, _BatchNormBase)]
    return Step(batch, sum(parameter.size for parameter in model.parameters() if not parameter.stop_gradient),
                len(norms), sum(norm._num_features for norm in norms), batch * totals[0], batch * totals[1],
                batch * sum(tensor.size * tensor.element_size() for tensor in kept.values()))


def count_config(path: str) -> Step:
    builder = building.read_config(path, pretrained=False)
    config = builder.config
    width, height = next(transform["crop_size"] for transform in config.train_dataset_cfg["transforms"]
                         if "crop_size" in transform)
    losses = {"coef": config.loss_cfg["coef"],
              "types": [builder.build_component(loss) for loss in config.loss_cfg["types"]]}
    model = builder.build_component(config.model_cfg)
    return count(model, losses, height, width, config.model_cfg["num_classes"], config.batch_size)


class Machines(NamedTuple):
    """Assumed rates; the defaults are those of machines with 8 V100 each."""
    peak: float = 15.7          # TFLOP/s of a V100 in float32
    utilisation: float = 0.5    # share of it that a whole step reaches, memory-bound layers included
    inside: float = 60          # GB/s of an all-reduce inside a machine, over NVLink
    network: float = 10         # GB/s between machines: 80 % of 100 Gbit/s
    each: int = 8               # GPUs of a machine
    small: float = 25e-6        # seconds of an all-reduce of a few KB inside a machine
    hop: float = 20e-6          # seconds more for each doubling of the machines


def ring(size: float, ranks: int, rate: float) -> float:
    """Seconds in which a ring adds up `size` bytes: each rank sends 2 (n - 1) / n of them, at `rate` GB/s."""
    return 2 * (ranks - 1) / ranks * size / (rate * 1e9)


def predict(step: Step, ranks: int, machines: Machines) -> tuple:
    """Predicted (seconds a step, of these computing, waiting for gradients, waiting for BatchNorm).

    Gradients are reduced while the backward pass goes on: all but the last bucket, as long as it takes. The statistics
    of each BatchNorm are waited for, forward and backward.
    """
    rate = machines.peak * machines.utilisation * 1e12
    compute = (step.forward + step.backward) / rate
    if ranks == 1:
        return compute, compute, 0.0, 0.0
    nodes = math.ceil(ranks / machines.each)
    bandwidth = machines.inside if nodes == 1 else machines.network
    gradients = FLOAT * step.parameters
    last = min(BUCKET, gradients)
    hidden = min(ring(gradients - last, ranks, bandwidth), step.backward / rate)
    exposed = ring(gradients, ranks, bandwidth) - hidden
    norms = 2 * step.norms * (machines.small + machines.hop * math.log2(nodes))
    return compute + exposed + norms, compute, exposed, norms


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--configs", nargs="+", default=BACKBONES)
    for name, default in Machines()._asdict().items():
        flags.add_argument(f"--{name}", type=type(default), default=default)
    args = flags.parse_args()
    machines = Machines(*(getattr(args, name) for name in Machines._fields))
    paddle.set_device("cpu")
    steps = {path: count_config(path) for path in args.configs}

    print("\n## One step on one GPU, counted\n")
    print(f"| | {' | '.join(path.split('/')[-1] for path in steps)} |\n| --- |{' --- |' * len(steps)}")
    for name, value in (
            ("images", lambda s: s.batch),
            ("parameters", lambda s: f"{s.parameters / 1e6:.1f} M"),
            ("parameters, gradients, momentum", lambda s: f"{3 * FLOAT * s.parameters / 1e9:.2f} GB"),
            ("activations kept for the backward pass", lambda s: f"{s.kept / 1e9:.2f} GB"),
            ("forward", lambda s: f"{s.forward / 1e12:.2f} TFLOP"),
            ("backward", lambda s: f"{s.backward / 1e12:.2f} TFLOP"),
            ("all-reduce of gradients", lambda s: f"{FLOAT * s.parameters / 1e6:.0f} MB"),
            ("all-reduces of BatchNorm, forward and backward", lambda s: 2 * s.norms),
            ("their bytes", lambda s: f"{2 * FLOAT * (2 * s.norm_channels + s.norms) / 1e3:.0f} KB")):
        print(f"| {name} | {' | '.join(str(value(step)) for step in steps.values())} |")

    print(f"\n## Predicted, not measured\n\n{machines}\n")
    for path, step in steps.items():
        print(f"{path}\n\n| V100 | batch | s a step | images/s | computing | gradients | BatchNorm | efficiency |\n"
              f"|{' --- |' * 8}")
        for ranks in (1, 4, 8, 16, 32, 64):
            seconds, *parts = predict(step, ranks, machines)
            print(f"| {ranks} | {ranks * step.batch} | {seconds:.3f} | {ranks * step.batch / seconds:.0f} | "
                  f"{' | '.join(f'{part * 1e3:.1f} ms' for part in parts)} | {parts[0] / seconds:.1%} |")
        print()
