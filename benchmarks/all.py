"""All benchmarks: writes docs/measured/bench_*.json, the plots, and the pages' tables. About half an hour on two cores.

python benchmarks/all.py [--quick | --only_plots]

All or nothing: it needs PyTorch and the runtimes, and says which are missing before it begins; files are written when
the last benchmark has ended well. So the rows of all tables come from one run on one machine, which each file names.
--quick prints the tables of what is installed and writes nothing.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from importlib.util import find_spec

import data_loading
import depthwise
import encoding
import evaluation
import inference
import measuring
import network
import resizing
import shipped

DOCS = os.path.join(os.path.dirname(measuring.HERE), "docs")
MEASURED = os.path.join(DOCS, "measured")
PLOTS = os.path.join(DOCS, "images", "benchmark_encoding.png")
BENCHMARKS = {
    "encoding": (encoding, "The Encoding layer, [1, 512, 64, 128], K = 32"),
    "network": (network, "A training step of EncNet-50, batch 1, and what of an inference is the Encoding layer"),
    "depthwise": (depthwise, "Depthwise convolutions"),
    "resizing": (resizing, "Bilinear resizing"),
    "evaluation": (evaluation, "Counting the pixels of one image"),
    "data_loading": (data_loading, "A training sample, 2048 x 1024 to a crop of 1024 x 512"),
    "inference": (inference, "Inference of EncNet-50, an image of 512 x 1024"),
    "shipped": (shipped, "The shipped network, EncNet on EfficientNet-Lite0, an image of 480 x 360"),
}
# What a whole run imports beside what the package needs, and the name that pip knows it by.
NEEDS = {"torch": "torch", "onnx": "onnx", "onnxruntime": "onnxruntime", "ml_dtypes": "ml_dtypes",
         "paddle2onnx": "paddle2onnx", "openvino": "openvino", "matplotlib": "matplotlib"}
VERSIONS = {"Paddle": "paddlepaddle", "PaddleSeg": "paddleseg", "PyTorch": "torch", "ONNX Runtime": "onnxruntime",
            "OpenVINO": "openvino", "NumPy": "numpy"}

# What the plots vary, one at a time, around encoding.BASE: (title, axis label, shapes).
channels, codes, height, width = encoding.BASE
SWEEPS = {
    "N": ("positions N, up to 2048 x 1024 at stride 8",
          [(channels, codes, h, 2 * h) for h in (16, 32, 64, 128)], lambda shape: shape[2] * shape[3]),
    "K": ("codewords K", [(channels, k, height, width) for k in (8, 16, 32, 64)], lambda shape: shape[1]),
    "C": ("channels C", [(c, codes, height, width) for c in (64, 128, 256, 512)], lambda shape: shape[0]),
}
# Residuals of at most this many bytes: one more step of the stock layer would take a minute and ten gigabytes.
LIMIT = 600 * 2 ** 20


def sweep() -> dict:
    """{(shape, which): result or None}; each is measured in a process of its own."""
    results = {}
    for axis, (_, shapes, value) in SWEEPS.items():
        for shape in shapes:
            c, k, h, w = shape
            for which in ("ours", "stock", "torch"):
                if (shape, which) not in results and (which == "ours" or 4 * c * k * h * w <= LIMIT):
                    results[shape, which] = measuring.child("encoding.py", which, "used", *shape)
            print(f"  {axis} = {value(shape)}", file=sys.stderr)
    return results


# Name, colour and marker of each line.
LINES = {"stock": ("PaddleSeg", "#d95f02", "o"), "torch": ("PyTorch, residuals in full", "#7570b3", "s"),
         "ours": ("ours", "#1b9e77", "D"), "floor": ("six matrix products", "#666666", "")}


def plot(results: dict, path: str):
    """Time and memory over N, K and C, log axes, to a PNG."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(2, len(SWEEPS), figsize=(12, 7), sharey="row", layout="constrained")
    for column, (title, shapes, value) in enumerate(SWEEPS.values()):
        for which, (name, colour, marker) in LINES.items():
            points = [(shape, results.get((shape, "ours" if which == "floor" else which))) for shape in shapes]
            points = [(shape, result) for shape, result in points if result]
            style = dict(label=name, color=colour, marker=marker, linestyle="--" if which == "floor" else "-")
            key = "floor both" if which == "floor" else "both"
            axes[0][column].plot([value(shape) for shape, _ in points], [1000 * result[key] for _, result in points],
                                 **style)
            if which != "floor":
                axes[1][column].plot([value(shape) for shape, _ in points],
                                     [max(result["memory"] * inputs(shape), 0.1) for shape, result in points], **style)
        for each in (axes[0][column], axes[1][column]):
            each.set_xscale("log", base=2)
            each.set_yscale("log")
            each.grid(True, color="#dddddd")
            each.set_xticks([value(shape) for shape in shapes], [str(value(shape)) for shape in shapes])
        axes[1][column].set_xlabel(title)
    axes[0][0].set_ylabel("forward + backward, ms")
    axes[1][0].set_ylabel("memory beyond input and gradient, MiB")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=len(LINES), frameon=False)
    figure.savefig(path, dpi=110)


def inputs(shape) -> float:
    """Size of the layer's input in MiB."""
    return 4 * shape[0] * shape[2] * shape[3] / 2 ** 20


def missing() -> list:
    """What pip is to install before a whole run."""
    return [package for module, package in NEEDS.items() if find_spec(module) is None]


def content(name: str, rows: list) -> dict:
    """A file of docs/measured/, as docs/tables.py takes it."""
    columns, cells = measuring.cells(rows)
    versions = [f"{name} {metadata.version(package)}" for name, package in VERSIONS.items() if installed(package)]
    return {"about": BENCHMARKS[name][1], "command": f"python benchmarks/{name}.py",
            "machine": f"{os.cpu_count()} cores of {processor()}", "processor": f"{processor()} ({platform.machine()})",
            "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
            "date": datetime.date.today().isoformat(), "columns": columns, "rows": cells}


def write(files: dict, folder: str = MEASURED):
    """{name: content} to bench_NAME.json, each whole."""
    for name, data in files.items():
        path = os.path.join(folder, f"bench_{name}.json")
        lines = [f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in data.items()
                 if key != "rows"]
        rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in data["rows"])
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write("{\n" + ",\n".join([*lines, f' "rows": [\n  {rows}\n ]']) + "\n}\n")
    for name in files:
        path = os.path.join(folder, f"bench_{name}.json")
        os.replace(f"{path}.new", path)


def installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def rewrite_pages():
    subprocess.run([sys.executable, os.path.join(DOCS, "tables.py")], check=True)


def run(quick: bool):
    """Measures everything; writes files, plots and pages unless it is quick."""
    lacking = [] if quick else missing()
    if lacking:
        sys.exit(f"error: a run that writes needs all columns: pip install {' '.join(lacking)}; or --quick, which "
                 "prints what is installed and writes nothing")
    start, files, measuring.strict = time.monotonic(), {}, not quick
    for name, (benchmark, _) in BENCHMARKS.items():
        print(f"{name} ...", file=sys.stderr)
        rows = list(benchmark.rows())       # what fails here ends the run: nothing has been written
        print(f"{measuring.table(rows)}\n")
        files[name] = content(name, rows)
    if quick:
        return
    print("sweep of the layer ...", file=sys.stderr)
    measuring.strict = False        # where memory ends, a line of the plot does
    plot(sweep(), PLOTS)
    write(files)
    rewrite_pages()
    print(f"{(time.monotonic() - start) / 60:.0f} minutes; written to docs/measured/ and the pages that name it")


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="print what is installed; write nothing")
    flags.add_argument("--only_plots", action="store_true", help="the sweep alone; the tables stay")
    args = flags.parse_args()
    if args.only_plots:
        plot(sweep(), PLOTS)
    else:
        run(args.quick)
