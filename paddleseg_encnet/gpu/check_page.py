"""Runs the table and writes what it found: a JSON, and a page that can be sent back."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import tempfile
from typing import Any, Callable, Dict, List, Optional

import paddle

from paddleseg_encnet.gpu import check_table
from paddleseg_encnet.gpu.checking import FAILS, NOT_RUN, Place, Row, run_checks
from paddleseg_encnet.runtime.devices import select_device
from paddleseg_encnet.version import __version__
from segrun import cpu
from segrun.writing import write

PACKAGES = ("paddlepaddle", "paddlepaddle-gpu", "paddleseg", "numpy", "onnxruntime", "onnxruntime-gpu")


def check_gpu(save_dir: str, device: Optional[str] = None, only: Optional[List[str]] = None,
              say: Callable[[str], None] = print) -> List[Row]:
    """Runs the checks, writes `<device>.json`, `.md` and `.log` into `save_dir`, and returns the rows.

    Args:
        save_dir: is made where it is not there.
        device: "gpu" or "cpu"; the GPU if there is one when it is None.
        only: words; a check runs if its name has one of them.

    Raises:
        ValueError: no check's name has such a word.
    """
    checks = [check for check in check_table.CHECKS if not only or any(word in check.name for word in only)]
    if not checks:
        raise ValueError(f"no check has {' or '.join(only or [])} in its name; there are: "
                         + "; ".join(check.name for check in check_table.CHECKS))
    kind = select_device(device).split(":")[0]
    about = machine(kind)
    base = os.path.join(save_dir, re.sub(r"\W+", "_", f"{about['device']} paddle {about['Paddle']}").lower())
    os.makedirs(save_dir, exist_ok=True)
    with open(f"{base}.log", "w", encoding="utf-8"):        # of this run alone
        pass
    with tempfile.TemporaryDirectory(prefix="gpu_check_") as folder:
        place = Place(kind, paddle.device.cuda.device_count() if kind == "gpu" else 0, folder)
        say(f"{about['device']}, Paddle {about['Paddle']}: {len(checks)} checks, "
            + ("three minutes on a CPU" if place.small else "ten minutes"))
        rows = run_checks(checks, place, f"{base}.log", say)
    content = {"machine": about, "checks": [row._asdict() for row in rows]}
    write(f"{base}.json", lambda path: save(path, json.dumps(content, indent=1)))
    write(f"{base}.md", lambda path: save(path, page(about, rows)))
    say(f"Wrote {base}.md and .json, and the log beside them. {closing(rows)}")
    return rows


def save(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def closing(rows: List[Row]) -> str:
    """What to do with the page."""
    if not any(row.status == FAILS for row in rows):
        return "Send the page, if nobody has for such a machine: .github/ISSUE_TEMPLATE/gpu-check.md"
    return "Send the page with the log, please: .github/ISSUE_TEMPLATE/gpu-check.md"


def machine(kind: str) -> Dict[str, Any]:
    """What the numbers belong to. No name of the machine or its user is in it."""
    about: Dict[str, Any] = {"device": processor(), "Paddle": paddle.__version__, "commit of Paddle":
                             paddle.version.commit, "paddleseg_encnet": __version__, "commit": commit(),
                             "Python": platform.python_version(), "system":
                             f"{platform.system()} {platform.machine()}", "date": datetime.date.today().isoformat()}
    if kind == "gpu":
        properties = paddle.device.cuda.get_device_properties()
        about.update({"device": properties.name, "GPUs": paddle.device.cuda.device_count(),
                      "GPU memory, GB": round(properties.total_memory / 1e9, 1),
                      "compute capability": f"{properties.major}.{properties.minor}", "CUDA": paddle.version.cuda(),
                      "cuDNN": paddle.version.cudnn(), "driver": driver()})
    for name in PACKAGES:
        try:
            about[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return about


def processor() -> str:
    lines = [line for line in cpu.read_cpuinfo().splitlines() if line.startswith("model name")]
    return lines[0].partition(":")[2].strip() if lines else platform.machine()


def commit() -> str:
    """Of this checkout, "" outside one."""
    return output(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "rev-parse", "--short", "HEAD"])


def driver() -> str:
    return output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"])


def output(command: List[str]) -> str:
    """What a command prints, "" where it can't."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def page(about: Dict[str, Any], rows: List[Row]) -> str:
    """Markdown."""
    counts = {status: sum(row.status == status for row in rows) for status in ("holds", FAILS, NOT_RUN)}
    lines = [f"# GPU check: {about['device']}, Paddle {about['Paddle']}", "",
             ", ".join(f"{count} {status}" for status, count in counts.items()) + ". Made by `make gpu-check`.", "",
             "| | check | found | s |", "| --- | --- | --- | --- |"]
    for row in rows:
        found = row.said.replace("|", "/").replace("\n", " ")
        lines.append(f"| {row.status} | {row.name} | {found} | {row.seconds:.0f} |")
    lines += ["", "| machine | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in about.items())]
    return "\n".join(lines) + "\n"
