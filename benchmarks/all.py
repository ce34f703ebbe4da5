"""All benchmarks: prints one table, and writes it with plots to docs/benchmarks.md. About half an hour on two cores.

python benchmarks/all.py [--quick]

Every number is measured in this run. A row's figures come from one run of its benchmark, so that their ratios hold on
any machine; the figures themselves belong to the machine named in the page.
"""

import argparse
import os
import platform
import sys
import time
from importlib import metadata

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
PLOTS = os.path.join(DOCS, "images", "benchmark_encoding.png")
BENCHMARKS = {"encoding.py": encoding, "network.py": network, "depthwise.py": depthwise, "resizing.py": resizing,
              "evaluation.py": evaluation, "data_loading.py": data_loading, "inference.py": inference,
              "shipped.py": shipped}

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


def page(table: str, minutes: float) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("paddlepaddle", "paddleseg", "torch", "numpy")
                         if installed(name))
    return f"""# Benchmarks

    make bench

prints this table and writes this page; it took {minutes:.0f} minutes. Measured on {os.cpu_count()} cores of
{processor()} ({platform.machine()}), Python {platform.python_version()}, {versions}.
Other work on the machine moves single figures by some ten percent; compare within a row, whose figures were measured in
turns.

{table}

*Stock* is PaddleSeg's own class or function with our CPU defaults; in the row "out of the box" and for inference, as
pip installs it. *PyTorch* is the same written in plain eager PyTorch from the formulas, with the residuals in full as
in the public implementations. *Floor* is what `paddle.matmul` needs in the same run for the products that
cannot be avoided.

## The Encoding layer over N, K and C

Around [1, 512, 64, 128] with K = 32, which is a crop of 1024 x 512 at stride 8. The stock layer and PyTorch's stop
where the next point would need ten gigabytes.

![Time and memory over N, K and C](images/benchmark_encoding.png)
"""


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


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="without the plots' sweep; the page is not written")
    flags.add_argument("--only_plots", action="store_true", help="the sweep alone; the rest of the page stays")
    args = flags.parse_args()
    if args.only_plots:
        plot(sweep(), PLOTS)
        sys.exit()
    start, rows = time.monotonic(), []
    for name, benchmark in BENCHMARKS.items():
        print(f"{name} ...", file=sys.stderr)
        rows += benchmark.rows()
    table = measuring.table(rows)
    print(table)
    if not args.quick:
        print("sweep of the layer ...", file=sys.stderr)
        plot(sweep(), PLOTS)
        with open(os.path.join(DOCS, "benchmarks.md"), "w", encoding="utf-8") as file:
            file.write(page(table, (time.monotonic() - start) / 60))
        print(f"written to {os.path.relpath(DOCS)}/benchmarks.md")
