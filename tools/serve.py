"""Serves an export over HTTP:  python tools/serve.py --config output/inference_model/deploy.yaml

POST an image's bytes to /predict; / is a page for the browser. As tools/infer.py it needs no PaddleSeg, nor Paddle with
--backend onnx or openvino, but fastapi and uvicorn.
"""

import argparse
import functools
import os

from segrun import command_line, cpu
from segrun.backends import AUTO, BACKENDS, PRECISIONS


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"is {text}, must be seconds, more than 0")
    return value


def flags() -> argparse.ArgumentParser:
    flags = command_line.bare_parser("Serves an exported network over HTTP",
                                     "--config output/export/deploy.yaml --port 8000")
    positive = command_line.positive
    flags.add_argument("--config", required=True, help="deploy.yaml of the export; with --model_path a config")
    flags.add_argument("--model_path", help="weights of a config's network, served live")
    flags.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: reachable from outside")
    flags.add_argument("--port", type=int, default=8000, help="0: any that is free, which is printed")
    flags.add_argument("--device", default="cpu", help="cpu, gpu, gpu:1, ...")
    flags.add_argument("--backend", choices=[*BACKENDS, AUTO], help="as of infer; auto: the fastest here")
    flags.add_argument("--precision", default="fp32", choices=PRECISIONS, help="as of infer")
    flags.add_argument("--cpu_threads", type=positive, default=cpu.cpu_count(), help="default: all cores")
    flags.add_argument("--sample", metavar="IMAGE", help="an image as they will come, for the first run, which warms "
                       "up, and for --backend auto (default: a grey one)")
    flags.add_argument("--max_bytes", type=positive, default=16 << 20, metavar="N", help="of a body")
    flags.add_argument("--max_pixels", type=positive, default=4 << 20, metavar="N", help="of an image")
    flags.add_argument("--queue", type=positive, default=32, metavar="N", help="requests whose body is here; more get "
                       "503")
    flags.add_argument("--queue_time", type=seconds, default=10.0, metavar="S", help="seconds to wait, then 503")
    flags.add_argument("--body_time", type=seconds, default=10.0, metavar="S", help="seconds for a body, then 408")
    flags.add_argument("--min_rate", type=positive, default=1024, metavar="N", help="bytes a second with which a body "
                       "must come, else 408")
    flags.add_argument("--allow_origin", nargs="+", default=[], metavar="ORIGIN", help="others whose pages may "
                       "ask, and by whose names the service is known: https://example.org")
    return flags


def main(args: argparse.Namespace) -> None:
    os.environ["OMP_NUM_THREADS"] = str(args.cpu_threads)
    # OpenCV and tifffile then refuse what a header has hidden too; they ask for it when they are imported.
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(args.max_pixels)
    cpu.prepare()
    cpu.use_one_arena()
    try:
        from segrun.service import limits, served_network, server
    except ImportError as error:
        if (error.name or "").split(".")[0] not in ("fastapi", "starlette", "uvicorn", "h11"):
            raise
        raise ValueError(f"the service needs fastapi and uvicorn ({error}); pip install \"paddleseg_encnet[serve]\"") \
            from error
    if args.max_pixels > limits.MOST_PIXELS:
        raise ValueError(f"--max_pixels can be at most {limits.MOST_PIXELS}, got {args.max_pixels}")
    if args.model_path:
        load = functools.partial(served_network.load_live, args.config, args.model_path, args.device)
    else:
        load = functools.partial(served_network.load_export, args.config, args.sample,
                                 backend=args.backend, device=args.device,
                                 precision=args.precision, threads=args.cpu_threads)
    asked = limits.Limits(args.max_bytes, args.max_pixels, args.queue, args.queue_time, args.body_time,
                           args.min_rate)
    server.serve(load, args.host, args.port, asked, functools.partial(print, flush=True), args.allow_origin)


if __name__ == "__main__":
    command_line.run_main(main, flags())
