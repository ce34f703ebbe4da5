"""Which runtime is the fastest for a network on this machine: a few timed runs, remembered in its deploy.yaml."""

import platform
import time
from typing import Callable

import numpy as np

from paddleseg_encnet.deployment.deployed import Deployed, read_config, write_config
from paddleseg_encnet.runtime.cpu import read_cpuinfo
from paddleseg_encnet.runtime.writing import write

BACKENDS = ("paddle", "onnx", "openvino")
RUNS = 3


def fastest(config: str, batch: np.ndarray, precision: str = "fp32", device: str = "cpu", threads: int = 1,
            say: Callable[[str], None] = print, throughput: bool = False, **options) -> Deployed:
    """The export in the runtime that takes the least time for `batch`, of those that are installed and that the export
    has a file for. `deploy.yaml` keeps the answer, under `fastest`, for this processor, device, precision and number of
    threads; without a right to write there it is measured each time.

    Args:
        config: path of the export's deploy.yaml.
        batch: images [B, C, H, W] float32 as they will come.
        say: takes a line for the user.
        throughput: what is returned is loaded for that; what is measured is one batch after another.
        options: further ones of Deployed.

    Raises:
        ValueError: none runs it; says why of each.
    """
    here = f"{processor() if device == 'cpu' else device}, {threads} threads, {precision}"
    deploy = read_config(config)
    known = (deploy.get("fastest") or {}).get(here)
    if known in BACKENDS:
        try:
            found = Deployed(config, known, precision, device, threads, throughput=throughput, **options)
            say(f"--backend auto: {known}, as measured before ({config})")
            return found
        except (ValueError, OSError) as error:
            say(f"--backend auto: {known} was the fastest, but {error}")
    runs, seconds, reasons = {}, {}, []
    for backend in BACKENDS[precision == "int8":]:      # Paddle Inference has no int8 here
        try:
            runs[backend] = Deployed(config, backend, precision, device, threads, **options)
            seconds[backend] = best(runs[backend].run, batch)
        except (ValueError, OSError) as error:
            reasons.append(f"{backend}: {error}")
    if not seconds:
        raise ValueError(f"--backend auto: nothing here runs {config} in {precision}; {'; '.join(reasons)}")
    chosen = min(seconds, key=seconds.get)
    told = ", ".join(f"{name} {1000 * each:.1f} ms" for name, each in sorted(seconds.items(), key=lambda item: item[1]))
    say(f"--backend auto: {chosen} of {told}" + (f" (left out: {'; '.join(reasons)})" if reasons else ""))
    deploy["fastest"] = {**(deploy.get("fastest") or {}), here: chosen}
    try:
        write(config, lambda path: write_config(path, deploy))
    except OSError as error:
        say(f"--backend auto: not remembered, {error}")
    if throughput and chosen == "openvino":
        return Deployed(config, chosen, precision, device, threads, throughput=True, **options)
    return runs[chosen]


def best(run: Callable, batch: np.ndarray) -> float:
    """Seconds of a run, the first apart, in which runtimes prepare for the size."""
    run(batch)
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run(batch)
        times.append(time.perf_counter() - start)
    return min(times)


def processor() -> str:
    for line in read_cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
