"""EncNet-50 on CamVid from random weights, on a dilated backbone and with joint pyramid upsampling: PyTorch on a GPU.

python benchmarks/jpu_camvid.py CAMVID [--steps 1000] [--seeds 1 2 3] [--batch 16] [--device cuda] [--save_dir DIR]

The networks are those of the tests (tests/torch_encnet.py), whose weights tools/import_weights.py reads; only the
encoding layer has the square expanded. Both have the same batches of each seed: whole images at a scale of 0.5 to 2,
flipped, with other brightness, contrast and saturation; AdamW, rate 0.001 with 100 steps of warmup and polynomial
decay, bfloat16 but for losses and encoding. The last weights are scored on the whole validation images. A line of JSON
for each run; --save_dir keeps its weights.
"""

import argparse
import json
import math
import os
import pathlib
import sys
import time

import cv2
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import torch_encnet  # noqa: E402

CLASSES, VOID = 11, 11
SIZE = (360, 480)
# Those of configs/encnet_lite0_camvid_480x360.yml.
WEIGHTS = (0.34, 0.29, 1.42, 0.25, 0.66, 0.45, 1.30, 1.33, 0.58, 1.76, 2.61)


def encode(layer, x):
    """torch_encnet.Encoding.forward with [B, N, K] as its largest tensor; in float32."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.float().flatten(2).transpose(1, 2)
        squares = x.pow(2).sum(2, keepdim=True) + layer.codewords.pow(2).sum(1) - 2 * x @ layer.codewords.t()
        weights = torch.softmax(layer.scale * squares, 2)
        return weights.transpose(1, 2) @ x - weights.sum(1).unsqueeze(2) * layer.codewords


def build(kind: str, seed: int, device: str):
    torch.manual_seed(seed)
    network = torch_encnet.EncodingEncNet(50, CLASSES, lateral=kind == "dilated", fc=False, jpu=kind == "jpu")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, torch_encnet.Encoding):
            bound = 1 / math.sqrt(layer.codewords.numel())
            nn.init.uniform_(layer.codewords, -bound, bound)
            nn.init.uniform_(layer.scale, -1, 0)
        elif isinstance(layer, torch_encnet.Block):
            nn.init.zeros_(layer.bn3.weight)
    nn.init.normal_(network.head.conv6[1].weight, std=0.01)
    nn.init.normal_(network.auxlayer.conv5[4].weight, std=0.01)
    return network.to(device, memory_format=torch.channels_last)


class Photographs:
    """A split of CamVid on the device: images [B, 3, H, W] on [0, 1], RGB, and labels [B, H, W] with VOID."""

    def __init__(self, root: str, split: str, device: str):
        with open(os.path.join(root, f"{split}.txt"), encoding="utf-8") as file:
            names = [os.path.basename(line.split()[0]) for line in file if line.strip()]
        images = [cv2.imread(os.path.join(root, split, name))[..., ::-1] for name in names]
        labels = [cv2.imread(os.path.join(root, f"{split}annot", name), cv2.IMREAD_UNCHANGED) for name in names]
        self.images = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255
        self.labels = torch.from_numpy(np.stack(labels)).to(device).clamp(max=VOID).float()
        self.mean, self.std = (torch.tensor(values, device=device).view(1, 3, 1, 1)
                               for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def batch(self, random: torch.Generator, count: int):
        device = self.images.device
        chosen = torch.randint(len(self.images), (count,), generator=random).to(device)

        def uniform(low, high):
            return (low + (high - low) * torch.rand(count, generator=random)).to(device)

        scale = 2 ** uniform(-1, 1)
        turn = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
        room = (1 - 1 / scale).clamp(min=0)
        places = torch.zeros(count, 2, 3, device=device)
        places[:, 0, 2], places[:, 1, 2] = uniform(-1, 1) * room, uniform(-1, 1) * room
        places[:, 0, 0], places[:, 1, 1] = turn / scale, 1 / scale
        grid = F.affine_grid(places, (count, 3, *SIZE), align_corners=False)
        factors = [uniform(0.6, 1.4).view(count, 1, 1, 1) for _ in range(3)]
        x = self.images[chosen] * factors[0]
        for factor, axes in zip(factors[1:], ((1, 2, 3), (1,))):
            middle = x.mean(axes, keepdim=True)
            x = (x - middle) * factor + middle
        x = F.grid_sample(self.normalised(x.clamp(0, 1)), grid, align_corners=False)
        # Outside the image grid_sample has 0, which is to be void.
        y = F.grid_sample((VOID - self.labels[chosen]).unsqueeze(1), grid, mode="nearest", align_corners=False)
        return x.contiguous(memory_format=torch.channels_last), (VOID - y.squeeze(1)).round().long()

    def normalised(self, images):
        return (images - self.mean) / self.std


def loss_of(network, x, y):
    with torch.autocast(x.device.type, torch.bfloat16):
        logits, presence, auxiliary = network(x)
    weights = torch.tensor(WEIGHTS, device=x.device)
    seen = torch.stack([(y == each).flatten(1).any(1) for each in range(CLASSES)], 1).float()
    segmentation, aside = (F.cross_entropy(each.float(), y, weights, ignore_index=VOID) for each in (logits, auxiliary))
    return segmentation + 0.4 * aside + 0.2 * F.binary_cross_entropy_with_logits(presence.float(), seen)


def train(network, photographs, seed: int, steps: int, batch: int):
    random = torch.Generator().manual_seed(seed)
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW([
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": 0.05},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0}], lr=1e-3)
    network.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1, (step + 1) / 100) * (1 - step / steps) ** 0.9
        loss = loss_of(network, *photographs.batch(random, batch))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        if step % 200 == 0 or step == steps - 1:
            print(f"step {step + 1} of {steps}: loss {loss.item():.3f}", file=sys.stderr)


def scores(network, photographs) -> dict:
    """mIoU, pixel accuracy and IoU by class, in percent, on whole images."""
    network.eval()
    table = torch.zeros(CLASSES ** 2, dtype=torch.long)
    with torch.no_grad():
        for image, label in zip(photographs.images, photographs.labels.long()):
            logits = network(photographs.normalised(image[None]).contiguous(memory_format=torch.channels_last))[0]
            known = label != VOID
            pairs = label[known] * CLASSES + logits[0].argmax(0)[known]
            table += torch.bincount(pairs, minlength=CLASSES ** 2).cpu()
    table = table.view(CLASSES, CLASSES).double()
    iou = 100 * table.diag() / (table.sum(0) + table.sum(1) - table.diag())
    return {"miou": iou.mean().item(), "accuracy": 100 * (table.diag().sum() / table.sum()).item(),
            "iou": [round(each, 1) for each in iou.tolist()]}


def main(args):
    torch.backends.cudnn.benchmark = torch.backends.cuda.matmul.allow_tf32 = True
    torch.set_num_threads(os.cpu_count())
    torch_encnet.Encoding.forward = encode
    photographs = {split: Photographs(args.camvid, split, args.device) for split in ("train", "val")}
    for seed in args.seeds:
        for kind in ("dilated", "jpu"):
            network = build(kind, seed, args.device)
            start = time.time()
            train(network, photographs["train"], seed, args.steps, args.batch)
            seconds = round(time.time() - start, 1)
            print(json.dumps({"network": kind, "seed": seed, "steps": args.steps, "batch": args.batch,
                              "seconds": seconds, **scores(network, photographs["val"])}), flush=True)
            if args.save_dir:
                os.makedirs(args.save_dir, exist_ok=True)
                torch.save(network.state_dict(), os.path.join(args.save_dir, f"{kind}_{seed}.pth"))


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("camvid", help="folder with train.txt, train/, trainannot/, val.txt, val/, valannot/")
    flags.add_argument("--steps", type=int, default=1000)
    flags.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    flags.add_argument("--batch", type=int, default=16)
    flags.add_argument("--device", default="cuda")
    flags.add_argument("--save_dir", help="for the weights of each run")
    main(flags.parse_args())
