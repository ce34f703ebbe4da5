"""How much of a codebook is used before any training, with the published start and with that on the features.

python benchmarks/codebook.py [--config CONFIG --image_path IMAGE [--opts KEY=VALUE ...]]
python benchmarks/codebook.py --config CONFIG --rates 1 1e-4 0 [--iters 60] [--opts KEY=VALUE ...]

Without an image the features are noise as BatchNorm and ReLU leave it: the positive half of a normal distribution in
each channel. With one they are those of the config's network before training, of ImageNet weights if it names some.

With --rates the network is trained from the start on the features, its factors at each of these shares of the learning
rate. "scale" is one over the mean squared distance, squared: a step of the factors is then what it would be with that
scale divided out, were they learnt as multiples of the distance's inverse.
"""

import argparse

import paddleseg_encnet  # noqa: F401

# isort: split

import numpy as np
import paddle

from paddleseg_encnet.models import codebook
from paddleseg_encnet.models.encoding import Encoding

CODES, WIDTHS, POSITIONS = 32, (64, 256, 512), 4096
TOLD = (1, 10, 25)      # steps of a training after which its codebook is told, beside every 20th


def measured(layer: Encoding, features: paddle.Tensor) -> str:
    assignment = layer.assign(features).numpy()
    statistics = codebook.CodebookStatistics(layer.num_codes)
    statistics.add(assignment)
    use = statistics.use()
    largest = assignment.mean(axis=(0, 1)).max()
    return f"{use.used:6.1f} {use.alike:14.1f} {use.information:8.2f} {largest:12.1%}"


def features_of(config: str, image_path: str, opts) -> paddle.Tensor:
    """What the Encoding layer of the config's network is given for the image, before training."""
    from paddleseg.transforms import Compose

    from paddleseg_encnet.config import building
    from paddleseg_encnet.data.reading import read_image
    builder = building.read_config(config, opts)
    network, seen = builder.model, []
    layer = network.enc_module.encoding[0]
    layer.register_forward_pre_hook(lambda layer, inputs: seen.append(layer.flatten(inputs[0])))
    image = Compose(builder.val_transforms)({"img": read_image(image_path).astype("float32")})["img"]
    network.train()         # BatchNorm has no statistics yet but the image's
    with paddle.no_grad():
        network(paddle.to_tensor(image[np.newaxis]))
    return seen[0]


def train(args, rate: str):
    """Trains some steps and prints a line for each of some of them."""
    from paddleseg.utils import utils

    from paddleseg_encnet.config import building
    from paddleseg_encnet.data.order import Batches, seed_step
    from paddleseg_encnet.models.losses import compute_losses
    utils.set_seed(0)
    opts = [*(args.opts or ()), "model.codebook_start=features"]
    builder = building.read_config(args.config, opts)
    model, losses, optimizer = builder.model, builder.loss, builder.optimizer
    layer, seen = model.enc_module.encoding[0], {}
    layer.register_forward_post_hook(lambda layer, inputs, output: seen.update(features=inputs[0].detach()))
    batches = iter(Batches(builder.train_dataset, builder.config.batch_size, 0, 0))
    model.train()
    for step in range(1, args.iters + 1):
        data = next(batches)
        seed_step(0, step, 0)
        outputs = model(data["img"])
        if step == 1:       # placed just now
            distances = codebook.squared_distances(codebook.sample(layer.flatten(seen["features"])),
                                                   layer.codewords.numpy().astype(np.float64))
            factor = float(distances.mean() ** -2 if rate == "scale" else rate)
            layer.scale.stop_gradient = factor == 0
            layer.scale.optimize_attr["learning_rate"] = factor
        sum(compute_losses(model, outputs, data, losses)).backward()
        optimizer.step()
        optimizer.clear_grad()
        optimizer._learning_rate.step()
        if step in TOLD or step % 20 == 0:
            print(f"{rate + (f' = {factor:.1e}' if rate == 'scale' else ''):26} step {step:12} "
                  f"{measured(layer, seen['features'])}", flush=True)


def main(args):
    paddle.set_device("cpu")
    print("used and at a position: codewords; I: nats, what a codeword tells of a position")
    print(f"{'':44} {'used':>6} {'at a position':>14} {'I':>8} {'the largest':>12}")
    if args.rates:
        for rate in args.rates:
            train(args, rate)
        return
    paddle.seed(0)
    draw = np.random.default_rng(0)
    if args.image_path:
        cases = {args.image_path: features_of(args.config, args.image_path, args.opts)}
    else:
        cases = {f"noise, C = {width}": paddle.to_tensor(
            np.maximum(draw.normal(size=(1, width, POSITIONS)), 0).astype("float32")) for width in WIDTHS}
    for name, features in cases.items():
        layer = Encoding(features.shape[1], CODES)
        print(f"{name[-26:]:26} {'published start':17} {measured(layer, features)}")
        codebook.place_codebook(layer, codebook.sample(features))
        print(f"{name[-26:]:26} {'on the features':17} {measured(layer, features)}")


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--config", help="of an ENCNet")
    flags.add_argument("--image_path")
    flags.add_argument("--rates", nargs="+", metavar="RATE", help="of the learning rate, or scale")
    flags.add_argument("--iters", type=int, default=60)
    flags.add_argument("--opts", nargs="+", metavar="KEY=VALUE")
    main(flags.parse_args())
