"""Full speed on a CPU, without the user knowing about environment variables. Must run before Paddle is imported.

What was measured and on what machine stands in docs/results.md; `python benchmarks/cpu_defaults.py` measures it again.
A variable that the user has set is left alone.
"""

import contextlib
import ctypes
import io
import math
import os
import sys
import warnings
from typing import Dict, Iterator, List, Mapping, Optional

# mallopt's parameter numbers, from malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8

_added: Dict[str, str] = {}     # the variables that prepare() has set, as the user had not


def prepare() -> None:
    """Sets threads, MKL's code path and malloc for this process. Without effect if Paddle is already imported."""
    if "paddle" in sys.modules:
        return
    _added.update(environment(os.environ, cpu_count(), read_cpuinfo()))
    os.environ.update(_added)
    keep_large_blocks()


def environment(env: Mapping[str, str], cores: int, cpuinfo: str) -> Dict[str, str]:
    """The variables to add to `env` on a machine with that many cores and that /proc/cpuinfo."""
    added = {}
    # Paddle uses one thread unless told otherwise. Its launcher hands that "1" on to the processes that it starts,
    # where it can't be told from a user's own "1"; there the cores are divided.
    ranks = int(env.get("PADDLE_LOCAL_SIZE") or 1)
    if "OMP_NUM_THREADS" not in env or (ranks > 1 and env["OMP_NUM_THREADS"] == "1"):
        added["OMP_NUM_THREADS"] = str(max(1, cores // ranks))
    # MKL takes its slowest path on AMD processors; 5 is its name for AVX2.
    if "AuthenticAMD" in cpuinfo and "avx2" in cpuinfo and "MKL_DEBUG_CPU_TYPE" not in env:
        added["MKL_DEBUG_CPU_TYPE"] = "5"
    return added


def divided_environment(processes: int) -> Dict[str, str]:
    """The environment for each of several processes that compute at once: each has its share of the cores, unless the
    user has set the threads."""
    threads = {"OMP_NUM_THREADS": str(max(1, cpu_count() // processes))} if "OMP_NUM_THREADS" in _added else {}
    return {**os.environ, **threads}


@contextlib.contextmanager
def kept_threads() -> Iterator[None]:
    """Paddle Inference sets the threads of the whole process, MKL's and OpenMP's, and leaves one each time it has run.
    What else computes here, a training perhaps, gets those of the environment back after this."""
    from paddle.base import core
    try:
        yield
    finally:
        core.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 1))


def cpu_count() -> int:
    """Cores that this process may use: taskset may give it fewer than there are, and a container, by a quota of time,
    fewer than it sees. A part of a core counts as one."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = quota()
    return there if granted is None else max(1, min(there, math.ceil(granted)))


def quota(mount: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> Optional[float]:
    """How many cores' time Linux grants this process's control group, and those around it; None without a limit.

    Args:
        mount: where control groups are mounted.
        own: the file that names this process's.
    """
    if not os.path.isfile(own):
        return None
    with open(own, encoding="utf-8") as file:
        entries = [line.strip().split(":", 2) for line in file if line.count(":") >= 2]
    granted = []
    for _, controllers, path in entries:
        if controllers == "":                               # version 2; "max 100000", or microseconds of 100000
            found = [read_numbers(os.path.join(folder, "cpu.max")) for folder in groups_around(mount, path)]
            granted += [time / period for time, period in (each for each in found if len(each) == 2)]
        elif "cpu" in controllers.split(","):
            for folder in groups_around(os.path.join(mount, controllers), path):
                time = read_numbers(os.path.join(folder, "cpu.cfs_quota_us"))           # -1 without a limit
                period = read_numbers(os.path.join(folder, "cpu.cfs_period_us"))
                if time and period and time[0] > 0:
                    granted.append(time[0] / period[0])
    return min(granted, default=None)


def groups_around(mount: str, path: str) -> List[str]:
    """The folders of a control group and of those around it. In a container its path may be that of the host, and the
    mount its own."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return [os.path.join(mount, *parts[:count]) for count in range(len(parts) + 1)]


def read_numbers(path: str) -> List[int]:
    """The numbers in a file; none where it can't be read, or says "max"."""
    try:
        with open(path, encoding="utf-8") as file:
            return [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return []


def read_cpuinfo() -> str:
    """/proc/cpuinfo, empty where there is none (macOS, Windows)."""
    path = "/proc/cpuinfo"
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def keep_large_blocks() -> None:
    """Tells glibc's malloc to keep freed tensors for the next ones, instead of mapping them again page by page."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):       # musl has no such setting
        return
    # glibc before 2.35 refuses more than 32 MiB and returns 0.
    if not libc.mallopt(M_MMAP_THRESHOLD, 1 << 30):
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
    libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def use_one_arena() -> None:
    """Tells glibc's malloc to have one arena for all threads, where a thread finds what another has freed, and what is
    kept is kept once; of its own ones only the main arena keeps large blocks. For a process in which one thread
    computes: several would wait for each other."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Hands the memory of freed tensors, which keep_large_blocks() keeps, back to the system: for after a computation
    that took much more than the usual ones. Milliseconds, and the next computation has to map its pages again."""
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.malloc_trim(0)


def import_paddle() -> None:
    """Imports Paddle without its warnings about OMP_NUM_THREADS and ccache, which are no concern of who sees them."""
    with contextlib.redirect_stderr(io.StringIO()) as said, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No ccache found")
        import paddle  # noqa: F401
    for line in said.getvalue().splitlines():
        if "OMP_NUM_THREADS" not in line:
            print(line, file=sys.stderr)
