"""Where Linux is not: what is missing there is left out, or refused in one line. (docs/install.md, "Systems")"""

import contextlib
import ctypes
import os
import socket
import sys

import pytest

from paddleseg_encnet.data import cache_room
from paddleseg_encnet.runtime import watch
from paddleseg_encnet.weights import download
from segrun import cpu
from segrun.service import counters, server


def test_malloc_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("no C library is asked"))
    cpu.keep_large_blocks()
    cpu.use_one_arena()
    cpu.give_back()


def test_cores_without_affinity_and_control_groups(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    isfile = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: not str(path).startswith("/proc") and isfile(path))
    assert cpu.cpu_count() == 7


def test_no_memory_among_the_metrics(monkeypatch):
    exists = os.path.exists
    monkeypatch.setattr(os.path, "exists", lambda path: not str(path).startswith("/proc") and exists(path))
    assert counters.resident_bytes() is None
    assert "process_resident_memory_bytes" not in counters.Metrics(["network"]).text(0)


def test_several_processes_on_windows_are_refused_in_one_line(monkeypatch):
    monkeypatch.delattr(os, "register_at_fork")
    with pytest.raises(OSError, match="^training in several processes needs Linux or macOS.*train in one"):
        watch.start(0, ["127.0.0.1:1", "127.0.0.1:2"], 1.0)


def test_a_download_without_locks(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with contextlib.ExitStack() as stack:
        for _ in range(2):      # two at once: none waits
            stack.enter_context(download.one_process_in(str(tmp_path / "weights")))
    assert (tmp_path / "weights").is_dir()


def test_no_cache_in_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(cache_room, "SHARED_MEMORY", str(tmp_path / "shm"))
    with pytest.raises(cache_room.CacheError, match="--cache ram needs .*: name a folder, --cache DIR"):
        cache_room.folder_in_memory()


@pytest.mark.parametrize("reused", [True, False])
def test_a_port_is_one_servers(reused, monkeypatch):
    asked = []

    class Listener(socket.socket):
        def setsockopt(self, *arguments):
            asked.append(arguments[1])
            super().setsockopt(*arguments)

    assert server.REUSE == (os.name == "posix")
    monkeypatch.setattr(server, "REUSE", reused)
    monkeypatch.setattr(server.socket, "socket", Listener)
    server.bound("127.0.0.1", 0).close()
    assert (socket.SO_REUSEADDR in asked) == reused
