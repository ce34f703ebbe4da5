"""Is the shipped ONNX file the shipped network? Its logits beside the live network's, and what each scores on CamVid.

python benchmarks/shipped_without_paddle.py --camvid data/camvid
"""

import argparse
import pathlib

import paddleseg_encnet  # noqa: F401  before paddle, whose speed on a CPU it sets

# isort: split

import cv2
import numpy as np

from segrun import STREET, Segmenter, cpu
from segrun.backends import forms_of
from segrun.exports import Export
from segrun.loading import exported, shipped_files
from segrun.progress import Progress
from segrun.scoring import confusion_matrix, scores

NAME = "encnet_lite0_camvid"
VOID = 11       # in CamVid's label files


def main(args):
    live = Segmenter(NAME, device="cpu").network
    export = Export(shipped_files(NAME).export)
    others = {form.name: exported(export, form.backend, device="cpu", threads=cpu.cpu_count())
              for form in forms_of(export.content)}
    compare("docs/images/street.jpg", live, others, [STREET])
    images = sorted((pathlib.Path(args.camvid) / "val").glob("*.png"))
    compare(f"{len(images)} images of CamVid", live, others, images, pathlib.Path(args.camvid) / "valannot")


def compare(what, live, others, images, labels=None):
    count = len(live.classes.names)
    differences, equal = dict.fromkeys(others, 0.0), dict.fromkeys(others, 0)
    matrices = {name: np.zeros((count, count), np.int64) for name in ("live", *others)}
    pixels, largest, progress = 0, 0.0, Progress(len(images), "images")
    for path in images:
        batch = export_batch(others, path)
        wanted = np.asarray(live.run(batch).values)
        found = {"live": wanted, **{name: network.run(batch).values for name, network in others.items()}}
        largest, pixels = max(largest, float(np.abs(wanted).max())), pixels + wanted[0, 0].size
        for name, values in found.items():
            if name != "live":
                differences[name] = max(differences[name], float(np.abs(values - wanted).max()))
                equal[name] += int((values.argmax(1) == wanted.argmax(1)).sum())
            if labels:
                label = cv2.imread(str(labels / path.name), cv2.IMREAD_UNCHANGED)
                matrices[name] += confusion_matrix(label, values.argmax(1)[0], count, VOID)
        progress.advance()
    progress.close()
    print(f"{what}, {pixels:,} pixels, logits up to {largest:.1f}")
    for name in matrices:
        score = f", mIoU {100 * scores(matrices[name]).mean_iou:.3f}" if labels else ""
        beside = f": largest logit difference {differences[name]:.1e}, {equal[name]:,} pixels of the same class" \
            if name != "live" else ""
        print(f"  {name}{beside}{score}")


def export_batch(others, path) -> np.ndarray:
    """An image as all of them take it."""
    return next(iter(others.values())).export.batch_of(str(path))


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--camvid", required=True, help="folder with val/ and valannot/")
    main(flags.parse_args())
