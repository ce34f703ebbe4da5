"""Runs an export:  python tools/infer.py --config output/inference_model/deploy.yaml --image_path IMAGE_FOLDER_OR_LIST

PaddleSeg is not needed, nor Paddle with --backend onnx or openvino: NumPy, OpenCV, PyYAML, Pillow and the runtime are.
"""

import argparse
import itertools
import os
import pathlib
import sys
import time
import types

if "paddleseg_encnet" not in sys.modules:
    # The folder of the package without what its import does: repair PaddleSeg and register EncNet in it.
    package = types.ModuleType("paddleseg_encnet")
    package.__path__ = [str(pathlib.Path(__file__).resolve().parent.parent / "paddleseg_encnet")]
    sys.modules["paddleseg_encnet"] = package

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from paddleseg_encnet import cli  # noqa: E402
from paddleseg_encnet.deployment.choosing import BACKENDS, fastest  # noqa: E402
from paddleseg_encnet.deployment.deployed import Deployed, Images  # noqa: E402
from paddleseg_encnet.prediction import inputs as given  # noqa: E402
from paddleseg_encnet.runtime import cpu  # noqa: E402
from paddleseg_encnet.runtime.progress import Progress  # noqa: E402
from paddleseg_encnet.runtime.writing import write  # noqa: E402

WARM_UP = 3


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"is {text}, must be True or False")
    return text.lower() == "true"


def flags():
    flags = cli.bare_parser("Inference with an exported model",
                            "--config output/export/deploy.yaml --save_dir output/masks\n"
                            "--image_path data/scenes/leftImg8bit/val")
    flags.add_argument("--config", required=True, help="deploy.yaml of the export")
    flags.add_argument("--image_path", required=True, help="an image, a folder, or a text file with a path a line")
    flags.add_argument("--save_dir", default="./output", help="folder for the pictures; pixel values are class ids")
    flags.add_argument("--batch_size", type=int, default=1, help="images at a time; only images that are equal in size "
                       "when they come to the network share a batch")
    flags.add_argument("--device", default="cpu", choices=["cpu", "gpu"])
    flags.add_argument("--backend", default="paddle", choices=[*BACKENDS, "auto"],
                       help="Paddle Inference, ONNX Runtime or OpenVINO; auto: the fastest of those installed on the "
                       "first image, which deploy.yaml then remembers for this processor")
    flags.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "int8"],
                       help="fp16: Paddle Inference on a GPU; int8: what export --int8 wrote, by ONNX "
                       "Runtime or OpenVINO")
    flags.add_argument("--cpu_threads", type=int, default=cpu.cpu_count(), help="default: all cores")
    flags.add_argument("--enable_mkldnn", type=boolean, default=True, metavar="True|False",
                       help="let Paddle Inference use oneDNN on the CPU (default: True)")
    flags.add_argument("--benchmark", type=boolean, default=False, metavar="True|False",
                       help=f"run the first batch {WARM_UP} times before time is taken, and say more of it")
    flags.add_argument("--print_detail", type=boolean, default=False, metavar="True|False",
                       help="let the runtime print what it does")
    return flags


def main(args):
    for name in ("batch_size", "cpu_threads"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}")
    images, root, _ = given.find_images(args.image_path)
    names = given.output_names(images, root)
    for line in filter(None, (given.passed_over(args.image_path), given.kept_endings(names))):
        print(line)
    os.environ["OMP_NUM_THREADS"] = str(args.cpu_threads)
    cpu.prepare()
    deployed = load(args, images[0])
    palette = deployed.palette()
    fixed = deployed.input_shape[0]
    progress, times = Progress(len(images), "images"), Times()
    for number, group in enumerate(batches(images, deployed, fixed if fixed > 0 else args.batch_size, times)):
        paths, inputs, histories = zip(*group)
        # A fixed batch is filled up with its last image.
        batch = np.stack(inputs + inputs[-1:] * (fixed - len(inputs)))
        for _ in range(WARM_UP if args.benchmark and number == 0 else 0):
            deployed.run(batch)
        with times.take("inference", len(paths)):
            outputs = deployed.run(batch)
        for path, output, history in zip(paths, outputs, histories):
            with times.take("postprocess"):
                save(deployed.finish(output, history), palette, args.save_dir, names[path])
            progress.advance()
    progress.close()
    print(f"{len(images)} pictures of classes in {args.save_dir}")
    print(times.summary(args.benchmark))


def load(args, first: str) -> Deployed:
    how = dict(precision=args.precision, device=args.device, threads=args.cpu_threads, onednn=args.enable_mkldnn,
               verbose=args.print_detail)
    if args.backend != "auto":
        return Deployed(args.config, args.backend, **how)
    before = Images(args.config)
    size = before.input_shape[0] if before.input_shape[0] > 0 else args.batch_size
    return fastest(args.config, np.stack([before.prepare(first)[0]] * size), **how)


def batches(images, deployed, size, times):
    """Lists of up to `size` (path, input, history), in order, of inputs of the same shape."""
    def prepared():
        for path in images:
            with times.take("preprocess"):
                image, history = deployed.prepare(path)
            yield path, image, history
    for _, equal in itertools.groupby(prepared(), key=lambda item: item[1].shape):
        while group := list(itertools.islice(equal, size)):
            yield group


def save(classes, palette, save_dir, name):
    picture = Image.fromarray(classes, mode="P")
    picture.putpalette(palette)
    write(os.path.join(save_dir, f"{os.path.splitext(name)[0]}.png"), picture.save)


class Times:
    """Seconds by step, an entry for each image."""

    def __init__(self):
        self.seconds = {"preprocess": [], "inference": [], "postprocess": []}

    def take(self, step: str, images: int = 1):
        return Timer(self.seconds[step], images)

    def summary(self, detailed: bool) -> str:
        inference = np.array(self.seconds["inference"])
        text = (f"inference: {np.median(inference) * 1000:.1f} ms an image (median), "
                f"{len(inference) / inference.sum():.2f} images/s; with reading and writing "
                f"{len(inference) / sum(map(sum, self.seconds.values())):.2f} images/s")
        if detailed:
            text += "".join(f"\n{step:12} median {np.median(values) * 1000:8.1f} ms   90 % below "
                            f"{np.percentile(values, 90) * 1000:8.1f} ms" for step, values in self.seconds.items())
        return text


class Timer:
    def __init__(self, seconds: list, images: int):
        self.seconds, self.images = seconds, images

    def __enter__(self):
        self.start = time.perf_counter()

    def __exit__(self, *error):
        self.seconds += [(time.perf_counter() - self.start) / self.images] * self.images


if __name__ == "__main__":
    cli.run(main, flags())
