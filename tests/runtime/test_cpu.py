"""Which variables make a CPU fast, and that they are set before Paddle reads them."""

import os
import subprocess
import sys

import pytest

from segrun import cpu

AMD = "vendor_id : AuthenticAMD\nflags : fpu avx avx2"
INTEL = "vendor_id : GenuineIntel\nflags : fpu avx avx2"


@pytest.mark.parametrize("env, cores, cpuinfo, added", [
    ({}, 8, INTEL, {"OMP_NUM_THREADS": "8"}),
    ({}, 2, AMD, {"OMP_NUM_THREADS": "2", "MKL_DEBUG_CPU_TYPE": "5"}),
    ({}, 2, "vendor_id : AuthenticAMD\nflags : fpu avx", {"OMP_NUM_THREADS": "2"}),         # 5 means AVX2
    ({"OMP_NUM_THREADS": "3", "MKL_DEBUG_CPU_TYPE": "4"}, 8, AMD, {}),                      # the user's word counts
    ({"OMP_NUM_THREADS": "1"}, 8, INTEL, {}),
    ({"OMP_NUM_THREADS": "1", "PADDLE_LOCAL_SIZE": "1"}, 8, INTEL, {}),
    ({"OMP_NUM_THREADS": "1", "PADDLE_LOCAL_SIZE": "4"}, 8, INTEL, {"OMP_NUM_THREADS": "2"}),   # the launcher's word
    ({"OMP_NUM_THREADS": "1", "PADDLE_LOCAL_SIZE": "4"}, 2, INTEL, {"OMP_NUM_THREADS": "1"}),
])
def test_environment(env, cores, cpuinfo, added):
    assert cpu.environment(env, cores, cpuinfo) == added


@pytest.mark.parametrize("added, processes, threads", [
    ({"OMP_NUM_THREADS": "8"}, 1, "8"), ({"OMP_NUM_THREADS": "8"}, 3, "2"), ({"OMP_NUM_THREADS": "8"}, 9, "1"),
    ({}, 2, "5")])      # the user's word
def test_processes_share_the_cores(added, processes, threads, monkeypatch):
    monkeypatch.setattr(cpu, "_added", added)
    monkeypatch.setattr(cpu, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", added.get("OMP_NUM_THREADS", "5"))
    assert cpu.divided_environment(processes)["OMP_NUM_THREADS"] == threads


def test_set_in_a_fresh_process_without_paddles_warning():
    env = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")}
    done = subprocess.run([sys.executable, "-c", "import paddleseg_encnet, os; print(os.environ['OMP_NUM_THREADS'])"],
                          env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == str(cpu.cpu_count())
    assert "OMP_NUM_THREADS" not in done.stderr and "ccache" not in done.stderr


@pytest.mark.parametrize("entries, files, cores", [
    ("0::/", {"cpu.max": "200000 100000"}, 2.0),                                    # version 2, in a container
    ("0::/", {"cpu.max": "max 100000"}, None),
    ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "400000 100000"}, 1.5),      # the tightest counts
    ("0::/a", {}, None),
    ("3:memory:/x\n1:cpu,cpuacct:/docker/12", {"cpu,cpuacct/cpu.cfs_quota_us": "200000",
                                              "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 2.0),     # version 1
    ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ("nonsense", {"cpu.max": "100000 100000"}, None),
])
def test_quota_of_a_control_group(entries, files, cores, tmp_path):
    (tmp_path / "own").write_text(entries + "\n")
    for name, content in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    assert cpu.quota(str(tmp_path / "mount"), str(tmp_path / "own")) == cores


@pytest.mark.parametrize("granted, count", [(None, 64), (2.0, 2), (1.5, 2), (0.3, 1), (100.0, 64)])
def test_cores_within_a_quota(granted, count, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    monkeypatch.setattr(cpu, "quota", lambda: granted)
    assert cpu.cpu_count() == count
