"""How much of a codebook is used before any training, with the published start and with that on the features.

python benchmarks/codebook.py [--config CONFIG --image_path IMAGE [--opts KEY=VALUE ...]]

Without an image the features are noise as BatchNorm and ReLU leave it: the positive half of a normal distribution in
each channel. With one they are those of the config's network before training, of ImageNet weights if it names some.
"""

import argparse

import paddleseg_encnet  # noqa: F401

# isort: split

import numpy as np
import paddle

from paddleseg_encnet.models import codebook
from paddleseg_encnet.models.encoding import Encoding

CODES, WIDTHS, POSITIONS = 32, (64, 256, 512), 4096


def measured(layer: Encoding, features: paddle.Tensor) -> str:
    assignment = layer.assign(features).numpy()
    gathering = codebook.Gathering(layer.num_codes)
    gathering.add(assignment)
    use = gathering.use()
    largest = assignment.mean(axis=(0, 1)).max()
    return f"{use.used:6.1f} {use.alike:14.1f} {use.information:8.2f} {largest:12.1%}"


def features_of(config: str, image_path: str, opts) -> paddle.Tensor:
    """What the Encoding layer of the config's network is given for the image, before training."""
    from paddleseg.transforms import Compose

    from paddleseg_encnet import cli
    from paddleseg_encnet.data.reading import read_image
    builder = cli.build(argparse.Namespace(config=config, opts=opts))
    network, seen = builder.model, []
    layer = network.enc_module.encoding[0]
    layer.register_forward_pre_hook(lambda layer, inputs: seen.append(layer.flatten(inputs[0])))
    image = Compose(builder.val_transforms)({"img": read_image(image_path).astype("float32")})["img"]
    network.train()         # BatchNorm has no statistics yet but the image's
    with paddle.no_grad():
        network(paddle.to_tensor(image[np.newaxis]))
    return seen[0]


def main(args):
    paddle.set_device("cpu")
    paddle.seed(0)
    draw = np.random.default_rng(0)
    if args.image_path:
        cases = {args.image_path: features_of(args.config, args.image_path, args.opts)}
    else:
        cases = {f"noise, C = {width}": paddle.to_tensor(
            np.maximum(draw.normal(size=(1, width, POSITIONS)), 0).astype("float32")) for width in WIDTHS}
    print(f"K = {CODES}; used and at a position: codewords; I: nats, what a codeword tells of a position")
    print(f"{'':44} {'used':>6} {'at a position':>14} {'I':>8} {'the largest':>12}")
    for name, features in cases.items():
        layer = Encoding(features.shape[1], CODES)
        print(f"{name[-26:]:26} {'published start':17} {measured(layer, features)}")
        codebook.place(layer, codebook.sample(features))
        print(f"{name[-26:]:26} {'on the features':17} {measured(layer, features)}")


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--config", help="of an ENCNet")
    flags.add_argument("--image_path")
    flags.add_argument("--opts", nargs="+", metavar="KEY=VALUE")
    main(flags.parse_args())
