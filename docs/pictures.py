"""Makes the pictures of README and docs.

python docs/pictures.py scenes --save docs/images/scenes.jpg
python docs/pictures.py predictions --config CONFIG --model_path WEIGHTS --opts val_dataset.dataset_root=DIR \\
    --samples 5 35 65 95 --save docs/images/camvid.jpg
"""

import argparse
import os

import paddleseg_encnet  # noqa: F401

import cv2
import numpy as np
import paddle
from paddleseg.core import infer
from PIL import Image

from paddleseg_encnet import checkpoint, cli, scenes
from paddleseg_encnet.palettes import CITYSCAPES, PALETTES

GAP = 6
INK, PAPER = (30, 30, 30), 255


def grid(rows) -> np.ndarray:
    """Rows of pictures [H, W, 3] of one size, with white gaps between them."""
    def join(parts, axis):
        shape = list(parts[0].shape)
        shape[axis] = GAP
        gap = np.full(shape, PAPER, np.uint8)
        return np.concatenate([piece for part in parts for piece in (gap, part)][1:], axis)
    return join([join(row, 1) for row in rows], 0)


def colored(label: np.ndarray, palette: dict) -> np.ndarray:
    """Class ids [H, W] -> RGB [H, W, 3]; what is no class is black."""
    lut = np.zeros((256, 3), np.uint8)
    lut[:len(palette)] = list(palette.values())
    return lut[label]


def legend(palette: dict, width: int) -> np.ndarray:
    """One line, or more, of colours with their names."""
    size, line = 14, 24
    picture = np.full((line, width, 3), PAPER, np.uint8)
    x = y = 0
    for name, color in palette.items():
        (text, _), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
        if x + size + 6 + text > width:
            x, y = 0, y + line
            picture = np.concatenate([picture, np.full((line, width, 3), PAPER, np.uint8)])
        cv2.rectangle(picture, (x, y + 5), (x + size, y + 5 + size), color, -1)
        cv2.putText(picture, name, (x + size + 6, y + 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA)
        x += size + 6 + text + 16
    return picture


def with_legend(picture: np.ndarray, palette: dict) -> np.ndarray:
    width = picture.shape[1]
    return np.concatenate([picture, np.full((GAP, width, 3), PAPER, np.uint8), legend(palette, width)])


def draw_scenes(args) -> np.ndarray:
    """A scene of each kind over its label."""
    kinds = list(scenes.KINDS)
    drawn = [scenes.render(kind, args.samples[0], split="val") for kind in kinds]
    images = [image for image, _ in drawn]
    labels = [colored(label, CITYSCAPES) for _, label in drawn]
    rows = [images[:2], labels[:2], images[2:], labels[2:]]
    return with_legend(grid(rows), CITYSCAPES)


def draw_predictions(args) -> np.ndarray:
    """Image, label and prediction of some validation samples, side by side."""
    builder = cli.build(args)
    paddle.set_device("cpu")
    dataset, model = builder.val_dataset, builder.model
    checkpoint.load(model, args.model_path)
    model.eval()
    palette = PALETTES[type(dataset).__name__]
    rows = []
    for index in args.samples:
        sample = dataset[index]
        with paddle.no_grad():
            ids, _ = infer.inference(model, paddle.to_tensor(sample["img"][None]), trans_info=sample["trans_info"])
        image = cv2.imread(dataset.file_list[index][0])[..., ::-1]
        label = sample["label"][0]
        prediction = colored(ids.numpy()[0, 0].astype(np.uint8), palette)
        rows.append([image, colored(label, palette), prediction])
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
