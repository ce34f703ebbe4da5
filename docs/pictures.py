"""Makes the pictures of README and docs.

python docs/pictures.py scenes --save docs/images/scenes.jpg
python docs/pictures.py predictions --config CONFIG --model_path WEIGHTS --opts val_dataset.dataset_root=DIR \\
    --samples 5 35 65 95 --save docs/images/camvid.jpg
"""

import argparse
import os

import paddleseg_encnet  # noqa: F401

# isort: split

import numpy as np
from PIL import Image

from paddleseg_encnet import scenes
from paddleseg_encnet.config import building
from segrun import Segmenter, drawing
from segrun.palettes import CITYSCAPES, PALETTES, color_table

GAP = 6


def grid(rows) -> np.ndarray:
    """Rows of pictures [H, W, 3] of one size, with white gaps between them."""
    def join(parts, axis):
        shape = list(parts[0].shape)
        shape[axis] = GAP
        gap = np.full(shape, drawing.PAPER[0], np.uint8)
        return np.concatenate([piece for part in parts for piece in (gap, part)][1:], axis)
    return join([join(row, 1) for row in rows], 0)


def with_legend(picture: np.ndarray, palette: dict) -> np.ndarray:
    names = drawing.draw_legend(list(palette), color_table(palette), range(len(palette)), picture.shape[1])
    return drawing.stacked([picture, names])


def draw_scenes(args) -> np.ndarray:
    """A scene of each kind over its label."""
    kinds = list(scenes.KINDS)
    drawn = [scenes.render(kind, args.samples[0], split="val") for kind in kinds]
    images = [image for image, _ in drawn]
    labels = [drawing.colorize(label, color_table(CITYSCAPES)) for _, label in drawn]
    rows = [images[:2], labels[:2], images[2:], labels[2:]]
    return with_legend(grid(rows), CITYSCAPES)


def draw_predictions(args) -> np.ndarray:
    """Image, label and prediction of some validation samples, side by side."""
    dataset = building.read_config(args.config, args.opts).val_dataset
    segmenter = Segmenter(args.config, args.model_path, device="cpu", opts=args.opts, confidence=False)
    palette = PALETTES[type(dataset).__name__]
    colors = color_table(palette)
    rows = []
    for index in args.samples:
        seen, label = segmenter(dataset.file_list[index][0]), dataset[index]["label"][0]
        rows.append([seen.image, drawing.colorize(label, colors), drawing.colorize(seen.ids, colors)])
    return with_legend(grid(rows), palette)


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("picture", choices=["scenes", "predictions"])
    flags.add_argument("--config")
    flags.add_argument("--model_path")
    flags.add_argument("--opts", nargs="+")
    flags.add_argument("--samples", nargs="+", type=int, default=[0])
    flags.add_argument("--save", required=True)
    args = flags.parse_args()
    picture = draw_scenes(args) if args.picture == "scenes" else draw_predictions(args)
    os.makedirs(os.path.dirname(args.save) or ".", exist_ok=True)
    Image.fromarray(np.ascontiguousarray(picture)).save(args.save, quality=90, subsampling=0)
    print(f"{args.save}: {picture.shape[1]} x {picture.shape[0]}")
