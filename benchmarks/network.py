"""A training step of ENCNet on ResNet50_vd at 1024 x 512, batch 1: ours against PaddleSeg's, and what encoding costs.

python benchmarks/network.py

Both networks run in the same loop with the same losses: once with equal threads and malloc, once as they come out of
the box, where PaddleSeg's runs with Paddle's own CPU settings. The loop is written here, for PaddleSeg's own stops at
its first log line on this Paddle. Memory is the peak of the whole process.
"""

import time

import measuring
from measuring import Row


def build(which: str):
    """ENCNet "ours" or "stock" with the settings of configs/encnet_resnet50_cityscapes_1024x512_80k.yml."""
    import paddle
    from paddleseg.models.backbones import ResNet50_vd
    if which == "ours":
        from paddleseg_encnet import ENCNet
    else:
        from paddleseg.models.encnet import ENCNet
    paddle.set_device("cpu")
    paddle.seed(0)
    return ENCNet(num_classes=19, backbone=ResNet50_vd(output_stride=8), add_lateral=True)


def step(which: str, settings: str) -> dict:
    """Seconds and peak bytes of a step: forward, losses, backward, update. The first one, at a small size, warms up."""
    prepare(settings)
    import paddle
    import paddle.nn.functional as F
    network = build(which)
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, network.parameters(), weight_decay=5e-4)

    def train(height, width):
        images = paddle.randn([1, 3, height, width])
        label = paddle.randint(0, 19, [1, height, width])
        presence = paddle.ones([1, 19])
        start = time.perf_counter()
        logits, auxiliary, classes = network(images)
        loss = sum(factor * F.cross_entropy(each, label, axis=1) for factor, each in ((1.0, logits), (0.4, auxiliary)))
        loss = loss + 0.2 * F.binary_cross_entropy_with_logits(classes, presence)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return time.perf_counter() - start

    train(64, 128)
    seconds = [train(512, 1024) for _ in range(2 if settings == "equal" else 1)]
    return {"seconds": min(seconds), "peak": measuring.peak()}


def encoding_shares() -> dict:
    """Shares of an inference that the encoding module and the Encoding layer take."""
    prepare("equal")
    import paddle
    network = build("ours")
    network.eval()
    images = paddle.randn([1, 3, 512, 1024])
    spent = {"module": 0.0, "layer": 0.0}
    for name, part in (("module", network.enc_module), ("layer", network.enc_module.encoding[0])):
        timed(part, name, spent)
    with paddle.no_grad():
        network(images)
        spent.update(module=0.0, layer=0.0)
        start = time.perf_counter()
        for _ in range(3):
            network(images)
        total = time.perf_counter() - start
    return {name: seconds / total for name, seconds in spent.items()}


def timed(part, name: str, spent: dict):
    """Adds the time of each forward pass of `part` to spent[name]."""
    began = []
    part.register_forward_pre_hook(lambda layer, inputs: began.append(time.perf_counter()))

    def ended(layer, inputs, outputs):
        spent[name] += time.perf_counter() - began.pop()
    part.register_forward_post_hook(ended)


def prepare(settings: str):
    """The package's CPU settings, or none of them."""
    if settings == "equal":
        import paddleseg_encnet  # noqa: F401
    else:
        import zlib  # noqa: F401  or Paddle 2.6 crashes


def measure(what: str, *arguments) -> dict:
    return {"step": step, "encoding_shares": encoding_shares}[what](*arguments)


def rows():
    ours = measuring.child("network.py", "step", "ours", "equal")
    equal = measuring.child("network.py", "step", "stock", "equal")
    box = measuring.child("network.py", "step", "stock", "box", defaults=False)
    note = "R50, 512 x 1024, batch 1"
    yield Row("Training step, equal threads", "s", ours["seconds"], equal["seconds"], note=note)
    yield Row("Training step, out of the box", "s", ours["seconds"], box["seconds"], note=note)
    yield Row("Training step, peak of the process", "GiB", ours["peak"] / 2 ** 30, equal["peak"] / 2 ** 30, note=note)
    shares = measuring.child("network.py", "encoding_shares")
    yield Row("Encoding module's share of an inference", "%", 100 * shares["module"], note=note)
    yield Row("Encoding layer's share of an inference", "%", 100 * shares["layer"], note=note)


if __name__ == "__main__":
    measuring.main(__doc__, rows, measure)
