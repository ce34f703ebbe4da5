"""Four further ideas of what a codebook could do for a network, trained as a cell of the study `codebook` is.

python benchmarks/codebook_ideas.py --config CONFIG --seeds 1 2 3 --save_dir DIR [--ideas IDEA ...] \\
    [--against output/ablation/codebook/results.csv] [--opts KEY=VALUE ...]

All begin with the codebook on the features and learn the SE-loss. What is done is left out when it is started again.
With --against the table has the differences to the study's cells too, paired by seed: seeds share data order and crops.
"""

import argparse
import csv
import math
import os
import statistics

import paddleseg_encnet

# isort: split

import paddle
import paddle.nn as nn
import paddle.nn.functional as F

from paddleseg_encnet.models import encnet

SCORES = ("mean_iou", "accuracy", "presence.mean_average_precision", "codebook_information", "codewords_used")
PAIRED = SCORES[:3]


class Normalised(encnet.EncModule):
    """e_k divided by the mass of codeword k: the mean of its residuals, whatever the image's size, as NetVLAD and VLAD
    normalise each codeword's sum. A tenth of an even share is added, so that what nobody takes says nothing."""

    def mass(self, features):
        return self.encoding[0].assign(features).mean(axis=1)                           # [B, K], sums to 1

    def residuals(self, features):
        count = features.shape[2] * features.shape[3]
        mass = self.mass(features) + 0.1 / self.num_codes
        return self.encoding[1](self.encoding[0](features) / (count * mass).unsqueeze(2))     # [B, K, C]

    def encode(self, x):
        return F.relu(self.residuals(self.encoding_project(x))).mean(axis=1)


class Masses(Normalised):
    """And the masses themselves, how much of the image is like codeword k, added by a linear map to the context."""

    def __init__(self, in_channels, num_codes, *options):
        super().__init__(in_channels, num_codes, *options)
        self.of_masses = nn.Linear(num_codes, in_channels)

    def encode(self, x):
        features = self.encoding_project(x)
        masses = self.of_masses(self.mass(features) * self.num_codes - 1)
        return F.relu(self.residuals(features)).mean(axis=1) + masses


class Every(Normalised):
    """All K x C numbers, as Deep TEN keeps them, through a linear map, BatchNorm and ReLU, in place of their mean."""

    def __init__(self, in_channels, num_codes, *options):
        super().__init__(in_channels, num_codes, *options)
        self.of_every = nn.Sequential(nn.Linear(num_codes * in_channels, in_channels, bias_attr=False),
                                      nn.BatchNorm1D(in_channels), nn.ReLU())

    def encode(self, x):
        return self.of_every(self.residuals(self.encoding_project(x)).flatten(1))


class Prior(encnet.ENCNet):
    """The log-probability of presence added to the logits of the class at each position: context with a say of its
    own, beside the attention."""

    def forward(self, images):
        maps = self.backbone(images)
        context, features = self.enc_module(self.fuse(maps))
        presence = self.se_layer(context)
        logits = self.head(self.dropout(features)) + F.log_sigmoid(presence).unsqueeze([2, 3])
        size = paddle.shape(images)[2:]
        outputs = [self.resize(logits, size)]
        return outputs + [self.resize(self.fcn_head(maps[2]), size), presence] if self.training else outputs


IDEAS = {"normalised": (Normalised, encnet.ENCNet), "masses": (Masses, encnet.ENCNet), "every": (Every, encnet.ENCNet),
         "prior": (encnet.EncModule, Prior), "masses_prior": (Masses, Prior)}


def run(args, idea: str, seed: int, folder: str) -> dict:
    """Trains and scores one, the last weights, as the study does."""
    from paddleseg.cvlibs import manager

    from paddleseg_encnet.evaluation import score_report
    encnet.EncModule, network = IDEAS[idea]
    manager.MODELS.components_dict["ENCNet"] = network
    opts = [*(args.opts or ()), "model.codebook_start=features"]
    paddleseg_encnet.train(args.config, folder, device="cpu", seed=seed, iters=args.iters, opts=opts,
                           save_interval=10 ** 9, resume_model="auto")
    last = max((name for name in os.listdir(folder) if name.startswith("iter_")), key=lambda name: int(name[5:]))
    scores = paddleseg_encnet.score(args.config, os.path.join(folder, last, "model.pdparams"), device="cpu", opts=opts)
    found = score_report.as_dict(scores, [""] * len(scores.class_iou))
    return {"idea": idea, "seed": seed, **{name: of(found, name) for name in SCORES}}


def of(found: dict, name: str):
    for key in name.split("."):
        found = found[key]
    return found


def rows(path: str) -> list:
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tell(found: list, study: list):
    """Means over the seeds, and the paired differences to the study's cells, mIoU, accuracy and presence in percent."""
    for idea in dict.fromkeys(row["idea"] for row in found):
        ours = {row["seed"]: row for row in found if row["idea"] == idea}
        means = [100 * statistics.mean(float(row[score]) for row in ours.values()) for score in PAIRED]
        print(f"{idea}: mIoU {means[0]:.2f}, pixel accuracy {means[1]:.2f}, presence AP {means[2]:.2f} over seeds "
              f"{' '.join(ours)}; I {statistics.mean(float(row[SCORES[3]]) for row in ours.values()):.2f}, used "
              f"{statistics.mean(float(row[SCORES[4]]) for row in ours.values()):.1f}")
        for cell in dict.fromkeys(row["cell"] for row in study):
            theirs = {row["seed"]: row for row in study if row["cell"] == cell}
            both = sorted(ours.keys() & theirs.keys())
            told = []
            for score in PAIRED:
                pairs = [100 * (float(ours[seed][score]) - float(theirs[seed][score])) for seed in both
                         if theirs[seed].get(score)]
                if len(pairs) > 1:
                    told.append(f"{score.split('.')[-1]} {statistics.mean(pairs):+.2f} ± "
                                f"{statistics.stdev(pairs) / math.sqrt(len(pairs)):.2f}")
            if told:
                print(f"    less {cell:16} {', '.join(told)}")


def main(args):
    path = os.path.join(args.save_dir, "ideas.csv")
    os.makedirs(args.save_dir, exist_ok=True)
    for seed in args.seeds:
        for idea in args.ideas:
            if any(row["idea"] == idea and row["seed"] == str(seed) for row in rows(path)):
                continue
            row = run(args, idea, seed, os.path.join(args.save_dir, idea, f"seed_{seed}"))
            new = not os.path.exists(path)
            with open(path, "a", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerow(row)
    tell(rows(path), rows(args.against) if args.against else [])


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--config", required=True, help="of an ENCNet with SE-loss and no others of its options")
    flags.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    flags.add_argument("--ideas", nargs="+", choices=list(IDEAS), default=list(IDEAS))
    flags.add_argument("--save_dir", required=True)
    flags.add_argument("--against", metavar="CSV", help="results of tools/ablation.py --study codebook")
    flags.add_argument("--iters", type=int)
    flags.add_argument("--opts", nargs="+", metavar="KEY=VALUE")
    main(flags.parse_args())
