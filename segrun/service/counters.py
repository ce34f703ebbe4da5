"""What is counted, in the text format that Prometheus reads:
https://prometheus.io/docs/instrumenting/exposition_formats/

The package prometheus-client (0.26.0) was weighed: the same takes 35 lines with it in place of 76 here, and each
service one package more. It adds lines with the time of creation of each metric.
"""

import os
from bisect import bisect_left
from collections import Counter
from typing import List, Optional

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
KIND = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """How many values lie at or below each of SECONDS."""

    def __init__(self) -> None:
        self.counts, self.sum = [0] * (len(SECONDS) + 1), 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds

    def lines(self, name: str, label: str = "") -> List[str]:
        """`label`: another label of each line, step="network"."""
        lines, total = [], 0
        for bound, count in zip((*map(str, SECONDS), "+Inf"), self.counts):
            total += count
            lines.append(f"{name}_bucket{{{label + ',' if label else ''}le=\"{bound}\"}} {total}")
        within = f"{{{label}}}" if label else ""
        return [*lines, f"{name}_sum{within} {self.sum:.6f}", f"{name}_count{within} {total}"]


class Metrics:
    """Used in the thread of the event loop alone."""

    def __init__(self, steps: List[str]):
        self.statuses: Counter[str] = Counter()
        self.latency = Histogram()
        self.steps = {step: Histogram() for step in steps}

    def count(self, status: str, seconds: Optional[float] = None) -> None:
        """A request, by the status of its answer; `seconds` from its head to its answer."""
        self.statuses[status] += 1
        if seconds is not None:
            self.latency.add(seconds)

    def text(self, queue_length: int) -> str:
        lines = [*declared("encnet_requests_total", "counter", "Requests to /predict and broken ones, by status; gone: "
                           "the client left before its answer."),
                 *(f'encnet_requests_total{{status="{status}"}} {count}'
                   for status, count in sorted(self.statuses.items())),
                 *declared("encnet_queue_length", "gauge", "Requests that wait for the network."),
                 f"encnet_queue_length {queue_length}",
                 *declared("encnet_request_seconds", "histogram", "From the head of a request to its answer."),
                 *self.latency.lines("encnet_request_seconds"),
                 *declared("encnet_step_seconds", "histogram", "Steps of a prediction.")]
        for step, histogram in self.steps.items():
            lines += histogram.lines("encnet_step_seconds", f'step="{step}"')
        resident = resident_bytes()
        if resident is not None:
            lines += [*declared("process_resident_memory_bytes", "gauge", "Memory that the process holds."),
                      f"process_resident_memory_bytes {resident}"]
        return "\n".join([*lines, ""])


def declared(name: str, kind: str, what: str) -> List[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]


def resident_bytes() -> Optional[int]:
    """None where there is no /proc (macOS, Windows)."""
    if not os.path.exists("/proc/self/statm"):
        return None
    with open("/proc/self/statm", encoding="utf-8") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
