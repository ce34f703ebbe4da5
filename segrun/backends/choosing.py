"""Which runtime is the fastest for a network on this machine: a few timed runs, remembered in its deploy.yaml."""

import platform
import time
from typing import Any, Callable, Dict, List, Optional

from numpy.typing import NDArray

from segrun import cpu
from segrun.backends import BACKENDS, FORMS
from segrun.backends.exported import Exported
from segrun.exports import Export, write_deploy
from segrun.own_files import is_own, write_own
from segrun.writing import write

RUNS = 3


def fastest(export: Export, batch: NDArray[Any], precision: str = "fp32", device: Optional[str] = None,
            threads: Optional[int] = None, say: Callable[[str], None] = print, throughput: bool = False,
            remember: bool = True, **options: Any) -> Exported:
    """The export in the runtime that takes the least time for `batch`, of those that are installed and that the export
    has a file for. `deploy.yaml` keeps the answer, under `fastest`, for this processor, device, precision and number of
    threads; without a right to write there it is measured each time.

    Args:
        batch: images [B, C, H, W] float32 as they will come.
        say: takes a line for the user.
        throughput: what is returned is loaded for that; what is measured is one batch after another.
        remember: keep the answer.
        options: further ones of Exported.

    Raises:
        ValueError: none runs it; says why of each.
    """
    threads = threads or cpu.cpu_count()
    where = {"cpu": processor(), None: f"any device beside {processor()}"}.get(device, device)
    here = f"{where}, {threads} threads, {precision}"
    known = (export.content.get("fastest") or {}).get(here)
    if known in BACKENDS:
        try:
            found = Exported(export, known, precision, device, threads, throughput=throughput, **options)
            say(f"--backend auto: {known}, as measured before ({export.path})")
            return found
        except (ValueError, OSError) as error:
            say(f"--backend auto: {known} was the fastest, but {error}")
    networks: Dict[str, Exported] = {}
    seconds: Dict[str, float] = {}
    reasons: List[str] = []
    for backend in [form.backend for form in FORMS if form.precision == precision]:
        try:
            networks[backend] = Exported(export, backend, precision, device, threads, **options)
            seconds[backend] = best(networks[backend].run, batch)
        except (ValueError, OSError) as error:
            reasons.append(f"{backend}: {error}")
    if not seconds:
        raise ValueError(f"--backend auto: nothing here runs {export.path} in {precision}; {'; '.join(reasons)}")
    ranking = sorted(seconds, key=lambda backend: seconds[backend])
    measured = ", ".join(f"{backend} {1000 * seconds[backend]:.1f} ms" for backend in ranking)
    say(f"--backend auto: {ranking[0]} of {measured}" + (f" (left out: {'; '.join(reasons)})" if reasons else ""))
    if remember:
        export.content["fastest"] = {**(export.content.get("fastest") or {}), here: ranking[0]}
        try:
            rewrite = write_own if is_own(export.path) else write
            rewrite(export.path, lambda path: write_deploy(path, export.content))
        except OSError as error:
            say(f"--backend auto: not remembered, {error}")
    if throughput and ranking[0] == "openvino":
        return Exported(export, ranking[0], precision, device, threads, throughput=True, **options)
    return networks[ranking[0]]


def best(run: Callable[[NDArray[Any]], Any], batch: NDArray[Any]) -> float:
    """Seconds of a run, the first apart, in which runtimes prepare for the size."""
    run(batch)
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run(batch)
        times.append(time.perf_counter() - start)
    return min(times)


def processor() -> str:
    for line in cpu.read_cpuinfo().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
