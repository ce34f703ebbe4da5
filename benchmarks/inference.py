"""Inference of EncNet on a CPU: exported in each form, live, PaddleSeg's network, PyTorch's, and the floor.

python benchmarks/inference.py [--size 512 1024] [--repeats 3] [--threads N | --cpu_time] [--json FILE]

EncNet-50 at output stride 8 with laterals, 19 classes, K = 32, random weights, an image of random numbers. Each piece
runs in a process of its own; the rounds go through all of them in turn, and the best time of each counts. Memory is
the largest resident size minus that before the network was made. The floor is the products of all convolutions at the
rate of a large paddle.matmul in the same rounds. Forms whose packages are not installed are left out, which is said.
"""

import argparse
import importlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from segrun.backends import form_of

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXPORTS = {"paddle": form_of("paddle", "fp32"), "onnx": form_of("onnx", "fp32"), "int8": form_of("onnx", "int8"),
           "openvino": form_of("openvino", "fp32"), "openvino-int8": form_of("openvino", "int8")}
PIECES = {**{piece: f"exported, {form.name}" for piece, form in EXPORTS.items()}, "ours": "live",
          "stock": "PaddleSeg, our CPU defaults", "stock-alone": "PaddleSeg as installed",
          "torch": "PyTorch, eager"}
MULTIPLICATIONS = 346e9 / (512 * 1024)          # a pixel, of this network


def resident(peak: bool = False) -> float:
    """MiB of this process now, or at most so far. (getrusage's peak is that of the parent, if that was larger.)"""
    with open("/proc/self/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM" if peak else "VmRSS")) / 1024


def network(stock: bool):
    import paddle
    from paddleseg.models.backbones import ResNet50_vd
    if stock:
        from paddleseg.models.encnet import ENCNet
    else:
        from paddleseg_encnet import ENCNet
    paddle.seed(1)
    options = dict(num_classes=19, add_lateral=True, num_codes=32)
    if stock:       # its ConvBNReLU and BatchNorm are what both are made of
        options["backbone_indices"] = [1, 2, 3]
    made = ENCNet(backbone=ResNet50_vd(output_stride=8), **options)
    made.eval()
    return made


def prepare(piece: str, threads: int, folder: str):
    """The work of a piece, as a function of an image, and where its packages are."""
    import numpy as np
    if piece in EXPORTS:
        # As tools/infer.py does it.
        from segrun import cpu
        cpu.prepare()
        from segrun.backends.exported import Exported
        from segrun.exports import Export
        form = EXPORTS[piece]
        importlib.import_module(form.package)
        start = resident()
        exported = Exported(Export(folder), form.backend, form.precision, "cpu", threads)
        return lambda image: exported.run(image).values, start
    if piece == "torch":
        sys.path.insert(0, str(ROOT / "tests"))
        import torch
        import torch_encnet
        torch.set_num_threads(threads)
        start = resident()
        model = torch_encnet.randomise(torch_encnet.MMSegEncNet(50, 19, lateral=True, aux=False))

        def run(image):
            with torch.no_grad():
                return model(torch.from_numpy(image))[0].numpy()
        return run, start
    if piece == "stock-alone":
        import zlib  # noqa: F401  or Paddle 2.6 crashes
    else:
        import paddleseg_encnet  # noqa: F401
    import paddle
    paddle.set_device("cpu")
    import paddleseg.models  # noqa: F401
    start = resident()
    model = network(stock=piece != "ours")

    def run(image):
        with paddle.no_grad():
            return model(paddle.to_tensor(np.asarray(image)))[0].numpy()
    return run, start


def serve(piece: str, size, threads: int, folder: str, clock):
    """In a process of its own: a line of seconds and MiB for each line that comes in."""
    import numpy as np
    run, start = prepare(piece, threads, folder)
    image = np.random.RandomState(0).uniform(-1, 1, (1, 3, *size)).astype("float32")
    for line in sys.stdin:
        begin = clock()
        output = run(image)
        seconds = clock() - begin
        if line.strip():
            np.save(line.strip(), output)
        print(f"RESULT {json.dumps([seconds, resident(peak=True) - start])}", flush=True)


class Piece:
    """A process that runs one piece when asked."""

    def __init__(self, name: str, size, threads: int, folder: str, cpu_time: bool):
        env = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")}
        if name != "stock-alone":
            env["OMP_NUM_THREADS"] = str(threads)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.name, self.output, self.seconds, self.memory = name, os.path.join(folder, f"{name}.npy"), [], 0.0
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name, "--size", *map(str, size), "--threads", str(threads),
             "--folder", folder, *(["--cpu_time"] if cpu_time else [])],
            env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def run(self):
        self.process.stdin.write("\n" if self.seconds else f"{self.output}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("RESULT "):
                seconds, self.memory = json.loads(line[7:])
                self.seconds.append(seconds)
                return
        raise RuntimeError(f"the process of {self.name} ended; python {__file__} --serve {self.name} shows why")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def matmul_rate(clock) -> float:
    """Floating point operations a second of a large product."""
    import paddle
    side = 3072
    matrix = paddle.ones([side, side])
    times = []
    for _ in range(3):
        start = clock()
        paddle.matmul(matrix, matrix)
        times.append(clock() - start)
    return 2 * side ** 3 / min(times)


def installed() -> dict:
    """Which forms and pieces can run here."""
    from importlib.util import find_spec
    onnx = all(find_spec(name) for name in ("paddle2onnx", "onnxruntime", "onnx", "ml_dtypes"))
    openvino = onnx and find_spec("openvino") is not None
    return {"paddle": True, "onnx": onnx, "int8": onnx, "openvino": openvino, "openvino-int8": openvino, "ours": True,
            "stock": True, "stock-alone": True, "torch": find_spec("torch") is not None}


def write_export(folder: str, size, onnx: bool):
    """The network's exports; int8 is calibrated on a picture of the noise that is timed, which says nothing about
    accuracy: benchmarks/export_accuracy.py measures that on a trained network."""
    import cv2
    import numpy as np

    from paddleseg_encnet.deployment.exporting import export_network
    picture = os.path.join(folder, "noise.png")
    cv2.imwrite(picture, np.random.RandomState(0).randint(0, 256, (*size, 3)).astype("uint8"))
    export_network(network(stock=False), folder, {"transforms": [{"type": "Normalize"}]}, "none", onnx=onnx,
                   calibration=[picture] if onnx else None)


def measure(size=(512, 1024), repeats: int = 3, threads: int = None, pieces=None, cpu_time: bool = False) -> dict:
    """Rows (a dict for each piece: seconds, MiB, ratio to the floor; for exports agreement and largest relative
    difference of the logits), the floor in seconds, its rate in flop/s, and what is not installed."""
    if cpu_time:
        threads = 1
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    import paddleseg_encnet  # noqa: F401  before NumPy and paddle, whose speed on a CPU, and the floor's, it sets

    # isort: split
    import numpy as np
    import paddle

    from segrun import cpu
    paddle.set_device("cpu")
    threads, clock = threads or cpu.cpu_count(), time.process_time if cpu_time else time.perf_counter
    have = installed()
    wanted = [name for name in pieces or PIECES if have[name]]
    with tempfile.TemporaryDirectory() as folder:
        if set(wanted) & set(EXPORTS):
            write_export(folder, size, onnx=bool(set(wanted) & (set(EXPORTS) - {"paddle"})))
        processes, rate = [Piece(name, size, threads, folder, cpu_time) for name in wanted], matmul_rate(clock)
        for _ in range(repeats + 1):           # the first round warms up
            for process in processes:
                process.run()
            rate = max(rate, matmul_rate(clock))
        for process in processes:
            process.close()
        floor = 2 * MULTIPLICATIONS * size[0] * size[1] / rate
        live = np.load(os.path.join(folder, "ours.npy")) if "ours" in wanted else None
        rows = []
        for process in processes:
            row = {"piece": process.name, "name": PIECES[process.name], "seconds": min(process.seconds[1:]),
                   "memory": process.memory}
            row["floor_ratio"] = row["seconds"] / floor
            if live is not None and process.name in EXPORTS:
                output = np.load(process.output)
                row["agreement"] = float((output.argmax(1) == live.argmax(1)).mean())
                row["difference"] = float(np.abs(output - live).max() / np.abs(live).max())
            rows.append(row)
    return {"rows": rows, "floor": floor, "rate": rate, "threads": threads, "size": list(size),
            "missing": [PIECES[name] for name in pieces or PIECES if not have[name]]}


def table(result: dict) -> str:
    seconds = {row["piece"]: row["seconds"] for row in result["rows"]}
    lines = [f"{'':32} {'seconds':>8} {'MiB':>6} {'of floor':>9} {'vs stock':>9} {'vs PyTorch':>11} {'agreement':>10}"]
    for row in result["rows"]:
        against = [f"{seconds[other] / row['seconds']:.1f}x" if other in seconds else "-"
                   for other in ("stock-alone", "torch")]
        agreement = f"{row['agreement']:.3%}" if "agreement" in row else "-"
        lines.append(f"{row['name']:32} {row['seconds']:8.2f} {row['memory']:6.0f} {row['floor_ratio']:9.2f} "
                     f"{against[0]:>9} {against[1]:>11} {agreement:>10}")
    lines.append(f"{'floor':32} {result['floor']:8.2f}        at {result['rate'] / 1e9:.0f} GFLOP/s, "
                 f"{result['threads']} threads, {result['size'][0]} x {result['size'][1]}")
    if result["missing"]:
        lines.append("left out, not installed: " + ", ".join(result["missing"]))
    return "\n".join(lines)


def rows():
    """Of the table of all benchmarks: stock is PaddleSeg as installed."""
    from measuring import Row
    with tempfile.TemporaryDirectory() as folder:       # in a process of its own, which leaves no gigabyte behind
        file = os.path.join(folder, "result.json")
        subprocess.run([sys.executable, __file__, "--json", file], check=True, stdout=subprocess.DEVNULL)
        with open(file, encoding="utf-8") as stream:
            result = json.load(stream)
    pieces = {row["piece"]: row for row in result["rows"]}
    for unit, key, scale in (("s", "seconds", 1), ("GiB", "memory", 1 / 1024)):
        stock, torch = (pieces[name][key] * scale if name in pieces else None for name in ("stock-alone", "torch"))
        for name in ("ours", *EXPORTS):
            if name in pieces:
                note = "R50, 512 x 1024"
                if "agreement" in pieces[name] and "int8" not in name:      # which says nothing on random weights
                    note += f"; {pieces[name]['agreement']:.3%} of the pixels as live"
                yield Row(f"Inference, {PIECES[name]}", unit, pieces[name][key] * scale, stock, torch,
                          result["floor"] if key == "seconds" else None, note)


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--size", nargs=2, type=int, default=[512, 1024], metavar=("H", "W"))
    flags.add_argument("--repeats", type=int, default=3)
    flags.add_argument("--threads", type=int, help="default: all cores; PaddleSeg as installed has its own default")
    flags.add_argument("--pieces", nargs="+", choices=list(PIECES), help="default: all")
    flags.add_argument("--cpu_time", action="store_true", help="one thread, and seconds of its CPU instead of the "
                       "clock's: fair on a machine that does other work")
    flags.add_argument("--json", metavar="FILE", help="write the numbers there too")
    flags.add_argument("--serve", choices=list(PIECES), help=argparse.SUPPRESS)
    flags.add_argument("--folder", help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.serve:
        clock = time.process_time if args.cpu_time else time.perf_counter
        serve(args.serve, args.size, args.threads, args.folder, clock)
    else:
        result = measure(args.size, args.repeats, args.threads, args.pieces, args.cpu_time)
        print(table(result))
        if args.json:
            with open(args.json, "w", encoding="utf-8") as file:
                json.dump(result, file, indent=1)
