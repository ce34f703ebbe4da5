"""EncNet-50 on a dilated backbone beside EncNet-50 with joint pyramid upsampling: training step, memory, inference.

python benchmarks/jpu.py [--size 512 1024] [--rounds 3] [--pieces step live paddle onnx int8] [--json]

The dilated network is that of configs/encnet_resnet50_cityscapes_1024x512_80k.yml, batch 1, with random weights.
FastFCN is PaddleSeg's with the settings of its own config, which keeps the backbone at stride 8: on our Encoding layer,
on its own, and on its own without the package's CPU settings, which is as pip installs it; that one is measured once.
Training steps run in processes of their own, whose peak is the memory; inference takes turns in one process, but for
FastFCN as installed. The floor is the multiplications of all convolutions, counted while the network runs, at the rate
of a large paddle.matmul in the same process; for a step three times that. int8 is calibrated on the noise that is
timed. Forms whose packages are not installed are left out, which is said.
"""

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time

import measuring

from segrun.backends import form_of

NETWORKS = {"dilated": "EncNet-50", "jpu": "EncNet-50 + JPU", "fastfcn": "FastFCN, our layer",
            "stock": "FastFCN, its layer", "installed": "FastFCN as installed"}
EXPORTS = {"paddle": form_of("paddle", "fp32"), "onnx": form_of("onnx", "fp32"), "int8": form_of("onnx", "int8")}
PIECES = ("step", "live", *EXPORTS)
NEEDED = {"onnx": ("paddle2onnx", "onnxruntime"), "int8": ("paddle2onnx", "onnxruntime", "onnx", "ml_dtypes")}


def build(which: str):
    if which == "installed":
        import zlib  # noqa: F401  or Paddle 2.6 crashes
    else:
        import paddleseg_encnet  # noqa: F401  before paddle, whose speed on a CPU it sets

    # isort: split
    import paddle
    from paddleseg.models import fastfcn
    from paddleseg.models.backbones import ResNet50_vd
    paddle.set_device("cpu")
    paddle.seed(0)
    if which == "stock":        # read once more: the package has mended the module
        spec = importlib.util.spec_from_file_location("stock_fastfcn", fastfcn.__file__)
        fastfcn = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fastfcn)
    if which in ("fastfcn", "stock", "installed"):
        return fastfcn.FastFCN(19, ResNet50_vd(output_stride=8), add_lateral=True)
    from paddleseg_encnet import ENCNet
    if which == "jpu":
        return ENCNet(19, ResNet50_vd(output_stride=32), use_jpu=True)
    return ENCNet(19, ResNet50_vd(output_stride=8), add_lateral=True)


def multiplications(network, size) -> int:
    """Of all convolutions in one forward pass of an image."""
    import paddle
    counted = []
    hooks = [layer.register_forward_post_hook(
        lambda layer, inputs, output: counted.append(output.size * layer.weight.size // layer.weight.shape[0]))
        for layer in network.sublayers() if isinstance(layer, paddle.nn.Conv2D)]
    network.eval()
    with paddle.no_grad():
        network(paddle.zeros([1, 3, *size]))
    for hook in hooks:
        hook.remove()
    return sum(counted)


def floor(network, size) -> float:
    """Seconds that the convolutions of an inference need at the rate of a large product."""
    from inference import matmul_rate
    return 2 * multiplications(network, size) / matmul_rate(time.perf_counter)


def step(which: str, height: str, width: str, rounds: str) -> dict:
    """Seconds and peak bytes of a training step: forward, losses, backward, update. The first, small, warms up."""
    network = build(which)
    import paddle
    import paddle.nn.functional as F
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, network.parameters(), weight_decay=5e-4)

    def train(*size):
        images, label = paddle.randn([1, 3, *size]), paddle.randint(0, 19, [1, *size])
        network.train()
        start = time.perf_counter()
        logits, auxiliary, classes = network(images)
        loss = F.cross_entropy(logits, label, axis=1) + 0.4 * F.cross_entropy(auxiliary, label, axis=1)
        loss = loss + 0.2 * F.binary_cross_entropy_with_logits(classes, paddle.ones([1, 19]))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        return time.perf_counter() - start

    size = int(height), int(width)
    train(64, 128)
    seconds = min(train(*size) for _ in range(int(rounds)))
    return {"seconds": seconds, "peak": measuring.peak(), "floor": 3 * floor(network, size)}


def live(which: str, height: str, width: str, rounds: str) -> dict:
    """Seconds of an inference, by network of those named with commas, and the floor of each."""
    size = int(height), int(width)
    networks = {each: build(each) for each in which.split(",")}
    import paddle
    floors = {each: floor(network, size) for each, network in networks.items()}      # puts them into evaluation mode
    images = paddle.randn([1, 3, *size])
    with paddle.no_grad():
        seconds = measuring.interleaved({each: lambda network=network: network(images)[0].numpy()
                                         for each, network in networks.items()}, int(rounds), in_a_row=1)
    return {"seconds": seconds, "floors": floors}


def exported(form: str, height: str, width: str, rounds: str) -> dict:
    """Seconds of an inference of an export, by network, and the largest relative difference from the live logits."""
    import cv2
    import numpy as np
    size = int(height), int(width)
    networks = {which: build(which) for which in ("dilated", "jpu")}
    import paddle

    from paddleseg_encnet.deployment.exporting import export_network
    from segrun.backends.exported import Exported
    from segrun.cpu import cpu_count
    from segrun.exports import Export
    image = np.random.RandomState(0).randint(0, 256, (*size, 3)).astype("uint8")
    batch = np.ascontiguousarray((image[..., ::-1].astype("float32") / 127.5 - 1).transpose(2, 0, 1)[np.newaxis])
    works, differences = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        picture = os.path.join(folder, "noise.png")
        cv2.imwrite(picture, image)
        for which, network in networks.items():
            place = os.path.join(folder, which)
            export_network(network, place, {"transforms": [{"type": "Normalize"}]}, "none", onnx=form == "onnx",
                           calibration=[picture] if form == "int8" else None)
            threads = int(os.environ.get("OMP_NUM_THREADS", cpu_count()))
            network_of_export = Exported(Export(place), EXPORTS[form].backend, EXPORTS[form].precision, "cpu", threads)

            def run(batch, network=network_of_export):
                return network.run(batch).values
            with paddle.no_grad():
                logits = network(paddle.to_tensor(batch))[0].numpy()
            differences[which] = float(np.abs(run(batch) - logits).max() / np.abs(logits).max())
            works[which] = lambda run=run: run(batch)
        seconds = measuring.interleaved(works, int(rounds), in_a_row=1)
    return {"seconds": seconds, "floor": floor(networks["jpu"], size), "differences": differences}


def lines(size, rounds: int, pieces) -> list:
    """(piece, unit, {network: number}, floor of the network with upsampling, note) of each line of the table."""
    def measured(what: str, which: str):
        alone = which == "installed"
        return measuring.child("jpu.py", what, which, *size, 1 if alone else rounds, defaults=not alone)

    found = []
    if "step" in pieces:
        steps = {which: measured("step", which) for which in NETWORKS}
        steps = {which: result for which, result in steps.items() if result}
        found.append(("training step", "s", {which: each["seconds"] for which, each in steps.items()},
                      steps["jpu"]["floor"], ""))
        found.append(("peak of the training process", "GiB",
                      {which: each["peak"] / 2 ** 30 for which, each in steps.items()}, None, ""))
    if "live" in pieces:
        result = measured("live", ",".join(which for which in NETWORKS if which != "installed"))
        alone = measured("live", "installed")
        found.append(("inference, live", "s", {**result["seconds"], **(alone["seconds"] if alone else {})},
                      result["floors"]["jpu"], f"EncNet-50's own floor {result['floors']['dilated']:.3g}"))
    for form in (form for form in EXPORTS if form in pieces):
        missing = [name for name in NEEDED.get(form, ()) if importlib.util.find_spec(name) is None]
        result = None if missing else measuring.child("jpu.py", "exported", form, *size, rounds)
        if result is None:
            print(f"left out: exported, {EXPORTS[form].name}" + (f", needs {', '.join(missing)}" if missing else ""),
                  file=sys.stderr)
            continue
        difference = max(result["differences"].values())
        found.append((f"inference, exported, {EXPORTS[form].name}", "s", result["seconds"], result["floor"],
                      "" if form == "int8" else f"logits within {difference:.0e} of live"))
    return found


def table(found: list) -> str:
    rows = [["", "unit", *NETWORKS.values(), "EncNet-50 / JPU", "as installed / our layer", "floor of JPU",
             "JPU / floor", "note"]]
    for piece, unit, numbers, least, note in found:
        ratios = (numbers["dilated"] / numbers["jpu"],
                  numbers["installed"] / numbers["fastfcn"] if "installed" in numbers else None,
                  least, numbers["jpu"] / least if least else None)
        rows.append([piece, unit, *(measuring.number(numbers.get(which)) for which in NETWORKS),
                     *map(measuring.number, ratios), note])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--size", nargs=2, type=int, default=[512, 1024], metavar=("H", "W"))
    flags.add_argument("--rounds", type=int, default=3)
    flags.add_argument("--pieces", nargs="+", choices=PIECES, default=PIECES)
    flags.add_argument("--json", action="store_true", help="print the numbers as JSON")
    flags.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.measure:
        what, *arguments = args.measure
        print(json.dumps({"step": step, "live": live, "exported": exported}[what](*arguments)))
    else:
        result = lines(args.size, args.rounds, args.pieces)
        print(json.dumps(result) if args.json else table(result))
