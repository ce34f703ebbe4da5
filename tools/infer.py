"""Runs an export:  python tools/infer.py --config output/inference_model/deploy.yaml --image_path IMAGES_OR_VIDEO

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
from paddleseg_encnet.pictures import bands  # noqa: E402
from paddleseg_encnet.prediction import inputs as given  # noqa: E402
from paddleseg_encnet.prediction.outputs import FOLDERS, Predicted, Style  # noqa: E402
from paddleseg_encnet.prediction.pipeline import Stages  # noqa: E402
from paddleseg_encnet.prediction.video import first_frame, predict_video  # noqa: E402
from paddleseg_encnet.runtime import cpu  # noqa: E402
from paddleseg_encnet.runtime.progress import Progress  # noqa: E402
from paddleseg_encnet.runtime.writing import check_place, write  # noqa: E402

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
    flags.add_argument("--image_path", required=True, help="an image, a folder, a video, or a text file with a "
                       "path a line")
    flags.add_argument("--save_dir", default="./output", help="folder for the pictures; pixel values are class "
                       "ids. Of a video, for one with overlays")
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
    flags.add_argument("--io_threads", type=int, default=1, help="threads that read the next images while the network "
                       "computes, beside one that writes (default: 1); 0: each image is read, computed and written "
                       "before the next")
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
    if args.io_threads < 0:
        raise ValueError(f"--io_threads must be at least 0, got {args.io_threads}")
    os.environ["OMP_NUM_THREADS"] = str(args.cpu_threads)
    cpu.prepare()
    if given.is_video(args.image_path):
        overlay(args)
    else:
        pictures(args)


def pictures(args):
    """Of classes, of an image, a folder or a list."""
    images, root, _ = given.find_images(args.image_path)
    names = given.output_names(images, root)
    for line in filter(None, (given.passed_over(args.image_path), given.kept_endings(names))):
        print(line)
    threads = 0 if len(images) == 1 else args.io_threads
    deployed = load(args, images[0], throughput=threads != 0)
    palette = deployed.palette()
    size = deployed.input_shape[0] if deployed.input_shape[0] > 0 else args.batch_size
    if args.benchmark:
        _, inputs, _ = zip(*next(batches(((path, *deployed.prepare(path)) for path in images), size)))
        for _ in range(WARM_UP):
            deployed.run(deployed.batch(*inputs))
    progress, times = Progress(len(images), "images"), Times(deployed.requests)

    def finish(path, classes):
        save(classes, palette, args.save_dir, names[path])
        progress.advance()
    start = time.perf_counter()
    segment(images, deployed, size, threads, times, finish)
    seconds = time.perf_counter() - start
    progress.close()
    print(f"{len(images)} pictures of classes in {args.save_dir}")
    print(times.summary(seconds, args.benchmark))


def overlay(args):
    """Of a video."""
    if args.batch_size > 1 or args.benchmark:
        raise ValueError(f"--batch_size and --benchmark are for images, {args.image_path} is a video")
    check_place(os.path.join(args.save_dir, FOLDERS["overlay"], "any.mp4"))
    frames = Frames(load(args, args.image_path, throughput=args.io_threads > 0))
    colors = np.array(frames.deployed.palette(), np.uint8).reshape(-1, 3)
    predict_video(frames, args.image_path, args.save_dir, Style([], colors), args.io_threads)


class Frames:
    """An export, as prediction/video.py asks for what it sees."""

    def __init__(self, deployed: Deployed):
        self.deployed, self.channels, self.requests = deployed, deployed.channels, deployed.requests

    def predict(self, frame: np.ndarray) -> Predicted:
        image, history = self.deployed.prepare_pixels(frame, "a frame of the video")
        output = self.deployed.run(self.deployed.batch(image))[0]
        return Predicted(bands.shown(frame), self.deployed.finish(output, history))


def load(args, first: str, throughput: bool) -> Deployed:
    how = dict(precision=args.precision, device=args.device, threads=args.cpu_threads, onednn=args.enable_mkldnn,
               verbose=args.print_detail, throughput=throughput)
    if args.backend != "auto":
        return Deployed(args.config, args.backend, **how)
    before = Images(args.config)
    size = before.input_shape[0] if before.input_shape[0] > 0 else args.batch_size
    image = before.prepare_pixels(first_frame(first), first) if given.is_video(first) else before.prepare(first)
    return fastest(args.config, np.stack([image[0]] * size), **how)


def segment(images, deployed, size, threads, times, finish):
    """Calls finish(path, classes) for each image, in order. While the network computes, `size` at a time, so many
    threads read the next images and another one finishes those before; with 0 one thing is done after the other."""
    def prepare(path):
        with times.take("preprocess"):
            return (path, *deployed.prepare(path))

    def compute(group):
        paths, inputs, histories = zip(*group)
        batch = deployed.batch(*inputs)
        with times.take("inference", len(paths)):
            return paths, deployed.run(batch), histories

    def put_away(computed):
        for path, output, history in zip(*computed):
            with times.take("postprocess"):
                finish(path, deployed.finish(output, history))

    with Stages() as stages:
        read = stages.ahead(prepare, images, threads, max(threads, size))
        # A runtime that computes one at a time does so in this thread.
        computed = stages.ahead(compute, batches(read, size), deployed.requests if deployed.requests > 1 else 0)
        for _ in stages.ahead(put_away, computed, min(threads, 1)):
            pass


def batches(prepared, size):
    """Lists of up to `size` (path, input, history), in order, of inputs of the same shape."""
    for _, equal in itertools.groupby(prepared, key=lambda item: item[1].shape):
        while group := list(itertools.islice(equal, size)):
            yield group


def save(classes, palette, save_dir, name):
    picture = Image.fromarray(classes, mode="P")
    picture.putpalette(palette)
    write(os.path.join(save_dir, f"{os.path.splitext(name)[0]}.png"), picture.save)


class Times:
    """Seconds by step, an entry for each image; of runs of the network there are so many `requests` at a time."""

    def __init__(self, requests: int = 1):
        self.requests, self.seconds = requests, {"preprocess": [], "inference": [], "postprocess": []}

    def take(self, step: str, images: int = 1):
        return Timer(self.seconds[step], images)

    def summary(self, seconds: float, detailed: bool) -> str:
        """Of all images in so many seconds."""
        inference = np.array(self.seconds["inference"])
        rate = f"{self.requests} at a time" if self.requests > 1 else f"{len(inference) / inference.sum():.2f} images/s"
        text = (f"inference: {np.median(inference) * 1000:.1f} ms an image (median), {rate}; with reading and "
                f"writing {len(inference) / seconds:.2f} images/s")
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
