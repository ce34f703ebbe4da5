"""How ranks find each other: within the time limit, and on the device that was chosen."""

import contextlib
import os

import launched
import numpy as np
import paddle
import pytest
from ranks_on_cpu import launch

from paddleseg_encnet.runtime import watch
from paddleseg_encnet.runtime.devices import Ranks


def test_a_first_collective_that_never_returns_is_ended(small_config, tmp_path, monkeypatch):
    """As NCCL's on a wrong network interface, which is made only then: here it is the second rank's that hangs."""
    monkeypatch.setenv("FLAGS_stop_check_timeout", "4")
    done = launch(tmp_path, launched.__file__, "hang", small_config, tmp_path, 1)
    assert done.returncode != 0
    said = [(tmp_path / "log" / f"workerlog.{rank}").read_text() for rank in (0, 1)]
    for text in said:
        assert "all ranks are there but did not connect within 4 s; NCCL_DEBUG=INFO" in text and "joined" not in text


@pytest.fixture
def two_ranks(monkeypatch):
    """The environment of the first of two ranks whose Paddle connects with nobody; what it did, in order."""
    did = []

    @contextlib.contextmanager
    def limit(seconds, reason):
        did.append("limit")
        yield
        did.append("no more limit")
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setenv("PADDLE_DISTRI_BACKEND", "auto")
    monkeypatch.setenv("FLAGS_stop_check_timeout", "300")
    monkeypatch.setattr(watch, "start", lambda *_: None)
    monkeypatch.setattr(watch, "limit", limit)
    monkeypatch.setattr(paddle.distributed, "init_parallel_env",
                        lambda: did.append(os.environ["PADDLE_DISTRI_BACKEND"]))
    monkeypatch.setattr(paddle.distributed, "all_reduce", lambda tensor: did.append(tensor.numpy().tolist()))
    return did


@pytest.mark.parametrize("device, backend", [("cpu", "gloo"), ("gpu:1", "auto")])
def test_the_chosen_device_stays(device, backend, two_ranks, monkeypatch):
    """With "auto" a Paddle for GPUs takes NCCL, and its init_parallel_env() sets the GPU in place of the CPU."""
    monkeypatch.setattr(paddle, "get_device", lambda: device)
    assert Ranks.join() == Ranks(0, 2)
    assert two_ranks == ["limit", backend, [1.0], "no more limit"]


def test_alone_nobody_is_asked(two_ranks, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "1")
    assert Ranks.join() == Ranks(0, 1) and two_ranks == []
    assert np.array_equal(Ranks(0, 1).sum(np.ones(3)), np.ones(3))
