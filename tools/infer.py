"""Runs an export:  python tools/infer.py --config output/inference_model/deploy.yaml --image_path IMAGES_OR_VIDEO

PaddleSeg is not needed, nor Paddle with --backend onnx or openvino: NumPy, OpenCV, PyYAML, Pillow and the runtime are.
"""

import argparse
import contextlib
import os
import time
from dataclasses import replace
from typing import Any, Iterator, List, Sequence

import numpy as np
from numpy.typing import NDArray

from segrun import command_line, cpu, inputs, outputs
from segrun.backends import AUTO, BACKENDS, PRECISIONS
from segrun.backends.exported import Exported
from segrun.exports import Export
from segrun.image import WrongChannels, is_video
from segrun.loading import exported
from segrun.own_files import check_outputs
from segrun.progress import Progress
from segrun.result import Segmentation
from segrun.segmenter import Segmenter, Task, alike
from segrun.stages import Times, batches
from segrun.video import first_frame, predict_video, video_below

WARM_UP = 3


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"is {text}, must be True or False")
    return text.lower() == "true"


def flags() -> argparse.ArgumentParser:
    flags = command_line.bare_parser("Inference with an exported model",
                                     "--config output/export/deploy.yaml --save_dir output/masks\n"
                                     "--image_path data/scenes/leftImg8bit/val")
    flags.add_argument("--config", required=True, help="deploy.yaml of the export")
    flags.add_argument("--image_path", required=True, help="an image, a folder, a video, or a text file with a "
                       "path a line")
    flags.add_argument("--save_dir", default="./output", help="folder for the pictures; pixel values are class "
                       "ids. Of a video, for one with overlays")
    flags.add_argument("--batch_size", type=int, default=1, help="images at a time; only images that are equal in size "
                       "when they come to the network share a batch")
    flags.add_argument("--device", default="cpu", help="cpu, gpu, gpu:1, ...")
    flags.add_argument("--backend", choices=[*BACKENDS, AUTO],
                       help="Paddle Inference, ONNX Runtime or OpenVINO (default: the first of them that is installed "
                       "and that the export has a file for); auto: the fastest of those installed on the first image, "
                       "which deploy.yaml then remembers for this processor")
    flags.add_argument("--precision", default="fp32", choices=PRECISIONS,
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


def main(args: argparse.Namespace) -> None:
    for name in ("batch_size", "cpu_threads"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if args.io_threads < 0:
        raise ValueError(f"--io_threads must be at least 0, got {args.io_threads}")
    os.environ["OMP_NUM_THREADS"] = str(args.cpu_threads)
    cpu.prepare()
    if is_video(args.image_path):
        overlay(args)
    else:
        pictures(args)


def pictures(args: argparse.Namespace) -> None:
    """Of classes, of an image, a folder or a list."""
    images, root, _ = inputs.find_images(args.image_path)
    images, own = inputs.without_own(images, args.image_path, args.save_dir)
    names = inputs.output_names(images, root)
    written = {path: os.path.join(args.save_dir, f"{os.path.splitext(name)[0]}.png") for path, name in names.items()}
    check_outputs(written.values(), [args.image_path, args.config, *images])
    for line in filter(None, (inputs.passed_over(args.image_path), own, inputs.kept_endings(names))):
        print(line)
    threads = 0 if len(images) == 1 else args.io_threads
    network = load_export_of_flags(args, images, throughput=threads != 0)
    segmenter = Segmenter.of(network, confidence=False)
    progress, times = Progress(len(images), "images"), Times(network.requests)
    left_out: List[str] = []

    def save(seen: Segmentation) -> None:
        save_ids(seen, written[seen.source])
        progress.advance()

    def leave_out(path: str, error: Exception) -> None:
        if isinstance(error, WrongChannels):
            error = network.export.refusal(error)
        if len(images) == 1:
            raise error
        left_out.append(inputs.left_out_line(path, error))
        print(f"warning: left out: {left_out[-1]}", flush=True)
        progress.advance()

    if args.benchmark:
        warm_up(segmenter, images, args.batch_size)
    start = time.perf_counter()
    for _ in segmenter.flow(images, save, args.batch_size, threads, failed=leave_out, times=times):
        pass
    seconds = time.perf_counter() - start
    progress.close()
    print(f"{len(images) - len(left_out)} pictures of classes in {args.save_dir}")
    if len(left_out) < len(images):
        print(times.summary(seconds, args.benchmark))
    if left_out:
        raise inputs.left_out_error(left_out, len(left_out), len(images))


def warm_up(segmenter: Segmenter, images: Sequence[str], batch_size: int) -> None:
    """Runs the first batch some times, of the images that can be read."""
    def tasks() -> Iterator[Task]:
        for path in images:
            with contextlib.suppress(ValueError, OSError):      # which is told when its turn comes
                yield segmenter.prepare(segmenter.read(path, path), path, path)

    first = next(batches(tasks(), segmenter.network.batch_size or batch_size, alike), None)
    for _ in range(WARM_UP if first else 0):
        segmenter.compute(first or [])


def overlay(args: argparse.Namespace) -> None:
    """Of a video."""
    if args.batch_size > 1 or args.benchmark:
        raise ValueError(f"--batch_size and --benchmark are for images, {args.image_path} is a video")
    check_outputs([video_below(args.save_dir, args.image_path)], [args.image_path, args.config])
    network = load_export_of_flags(args, [args.image_path], throughput=args.io_threads > 0)
    predict_video(Segmenter.of(network, confidence=False), args.image_path, args.save_dir, threads=args.io_threads)


def load_export_of_flags(args: argparse.Namespace, images: Sequence[str], throughput: bool) -> Exported:
    """The export in the runtime that is asked for; --backend auto takes the first image that can be read, or the first
    frame of a video, for its choice."""
    export, sample = Export(args.config), None
    if args.backend == AUTO:
        image = first_prepared(export, images)
        sample = np.stack([image] * (export.batch_size or args.batch_size))
    return exported(export, args.backend, args.precision, args.device,
                    args.cpu_threads, sample, onednn=args.enable_mkldnn, verbose=args.print_detail,
                    throughput=throughput)


def first_prepared(export: Export, images: Sequence[str]) -> NDArray[Any]:
    """The first image that can be read, as the network takes it. Raises what the first of them raises if none can."""
    errors: List[Exception] = []
    for path in images:
        try:
            return export.prepare(first_frame(path) if is_video(path) else export.read(path), path).image
        except (ValueError, OSError) as error:
            errors.append(error)
    raise errors[0]


def save_ids(seen: Segmentation, path: str) -> None:
    """A palette image, whose pixel values are class ids; of a network of more classes too, where it shows none of them.
    """
    if seen.ids.max() > 255:
        raise ValueError(f"class {seen.ids.max()} does not fit a picture with 256 colours; tools/predict.py writes "
                         "such classes with 16 bits")
    outputs.save("palette", replace(seen, ids=seen.ids.astype(np.uint8)), path, own=True)


if __name__ == "__main__":
    command_line.run_main(main, flags())
