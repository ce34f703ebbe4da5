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
    assert cpu.shared(processes)["OMP_NUM_THREADS"] == threads


def test_set_in_a_fresh_process_without_paddles_warning():
    env = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")}
    done = subprocess.run([sys.executable, "-c", "import paddleseg_encnet, os; print(os.environ['OMP_NUM_THREADS'])"],
                          env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == str(cpu.cpu_count())
    assert "OMP_NUM_THREADS" not in done.stderr and "ccache" not in done.stderr
