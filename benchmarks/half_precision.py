"""EncNet-50 in PyTorch under torch.autocast at 2048 x 1024: codes in half precision, in float32, and all in float32.

python benchmarks/half_precision.py --save_json half_precision.json

For a GPU without Paddle: it shows on real hardware why the Encoding layer, its BatchNorm, ReLU and mean are float32
here whatever casts the network around them (docs/scaling.md). The network is the one of the parity tests; its layer
builds residuals in full, so that at 2048 x 1024 each of its tensors takes 2 GiB for an image. Codewords lie at zero,
one takes every position, and channels have the mean of --mean: a code is then that times the number of positions.
Needs PyTorch alone.

On a CPU, where half precision is slow: --device cpu --size 64 32 --mean 3000 --steps 1
"""

import argparse
import json
import pathlib
import sys
import time

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))

from torch_encnet import MMSegEncNet, randomise  # noqa: E402

CLASSES = 19
WAYS = {"all in float32": None, "codes in half precision": True, "codes in float32": False}


class Context(torch.nn.Module):
    """Encoding, BatchNorm, ReLU of the network's head. `half` hands codes on in half precision, as they would come out
    of a layer that returns its input's type; else none of the three is cast. `seen` has the codes' largest number."""

    def __init__(self, parts: torch.nn.Sequential, half: bool):
        super().__init__()
        self.layer, self.norm, self.relu = parts
        self.half_codes = half
        self.seen = {}

    def forward(self, x):
        kind = x.device.type
        with torch.autocast(kind, enabled=False):
            codes = self.layer(x.float())
            self.seen["largest code"] = float(codes.detach().abs().max())
            if not self.half_codes:
                return self.relu(self.norm(codes))
        return self.relu(self.norm(codes.to(torch.float16)))


def network_of(args, half: bool) -> MMSegEncNet:
    torch.manual_seed(0)
    network = randomise(MMSegEncNet(50, CLASSES, lateral=True)).train()
    module = network.decode_head.enc_module
    with torch.no_grad():
        module.encoding[0].codewords.zero_()
        module.encoding[0].scale.fill_(-1.0)[0] = -1e-6
        module.encoding_project.bn.weight.fill_(0.1)
        module.encoding_project.bn.bias.fill_(args.mean)
    module.encoding = Context(module.encoding, half)
    return network.to(args.device)


def train(args, half) -> dict:
    """Some steps on one random image, with loss scaling in mixed precision; half None is float32."""
    network = network_of(args, bool(half))
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)
    mixed = half is not None
    scaler = torch.amp.GradScaler(args.device, init_scale=1024.0, enabled=mixed)
    width, height = args.size
    images = torch.randn(args.batch_size, 3, height, width, device=args.device)
    label = torch.randint(0, CLASSES, (args.batch_size, height, width), device=args.device)
    presence = torch.ones(args.batch_size, CLASSES, device=args.device)
    attention = []
    network.decode_head.enc_module.fc.register_forward_hook(
        lambda layer, inputs, gamma: attention.append(bool(torch.isfinite(gamma.detach()).all())))
    losses, start = [], time.perf_counter()
    for _ in range(args.steps):
        with torch.autocast(args.device, dtype=torch.float16, enabled=mixed):
            logits, classes, auxiliary = network(images)
        loss = sum(factor * F.cross_entropy(each.float(), label) for factor, each in ((1.0, logits), (0.4, auxiliary)))
        loss = loss + 0.2 * F.binary_cross_entropy_with_logits(classes.float(), presence)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    found = {"losses": losses, "attention finite": attention,
             "largest code": network.decode_head.enc_module.encoding.seen["largest code"],
             "seconds a step": (time.perf_counter() - start) / args.steps}
    if args.device == "cuda":
        found["peak GB"] = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
    return found


def flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    flags.add_argument("--size", nargs=2, type=int, default=[2048, 1024], metavar=("W", "H"))
    flags.add_argument("--mean", type=float, default=2.3, help="of the channels that are encoded")
    flags.add_argument("--batch_size", type=int, default=1)
    flags.add_argument("--steps", type=int, default=5)
    flags.add_argument("--save_json", metavar="FILE")
    return flags


def main() -> None:
    args = flags().parse_args()
    name = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    print(f"{name}, PyTorch {torch.__version__}, {args.size[0]} x {args.size[1]}, batch {args.batch_size}")
    found = {}
    for way, half in WAYS.items():
        found[way] = result = train(args, half)
        print(f"{way}: largest code {result['largest code']:.0f}, attention finite in "
              f"{sum(result['attention finite'])} of {args.steps} steps, losses "
              + ", ".join(f"{loss:.4f}" for loss in result["losses"]))
    if args.save_json:
        content = {"device": name, "torch": torch.__version__, "flags": vars(args), "found": found}
        pathlib.Path(args.save_json).write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
