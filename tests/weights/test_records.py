"""What checkpoints hold beside the weights: it is not made, nothing of it runs, and the weights are read."""

import argparse
import collections
import io
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from paddleseg_encnet.weights import checkpoint
from paddleseg_encnet.weights.checkpoint import CheckpointError
from paddleseg_encnet.weights.records import Record

WEIGHTS = np.arange(6, dtype="float32").reshape(2, 3)


# Packages that others have where they write their checkpoints; none of them is installed here.
PACKAGES = {
    "mmengine/logging/history_buffer.py": """
import numpy as np
class HistoryBuffer:
    def __init__(self):
        self._log_history, self._count_history = np.array([0.5, 0.25]), np.array([1, 1])
        self.statistics_methods = {"current": HistoryBuffer.current}
    def current(self):
        raise AssertionError("called")
""",
    "torch/__init__.py": """
class device:
    def __reduce__(self):
        return device, ("cuda", 0)
class dtype:
    def __reduce__(self):
        return "float32"
float32 = dtype()
""",
    "somebodys/network.py": """
class Net:
    def __init__(self):
        self.__dict__.update(training=True, _parameters={"w": 1.0}, _buffers={}, _modules={})
"""}
WRITING = """
import argparse, collections, datetime, pathlib, pickle, sys, types
import numpy as np, torch
from mmengine.logging.history_buffer import HistoryBuffer
from somebodys.network import Net

flags = argparse.Namespace(lr=0.01, out=pathlib.PurePosixPath("a/b"), steps=[1, 2])
times = [datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone.utc), datetime.timedelta(1),
         datetime.date(2024, 5, 1)]
values = {
    "records": {
        "state_dict": {"w": np.arange(6, dtype="float32").reshape(2, 3)},
        "hub": collections.OrderedDict(loss=HistoryBuffer()), "args": flags,
        "milestones": collections.Counter([3, 3, 7]), "slots": collections.defaultdict(dict, {1: {"step": 2}}),
        "seen": {1, 2}, "never": frozenset("ab"), "path": pathlib.PurePosixPath("runs/1"),
        "here": pathlib.PurePath("x"), "times": times, "device": torch.device(), "dtype": torch.float32,
        "numpy": np.dtype("float32"), "last": collections.deque([1]), "space": types.SimpleNamespace(a=1),
        "number": 1j, "range": range(3)},
    "model": Net(), "wrapped": {"epoch": 3, "model": Net()}}
for name, value in values.items():
    for protocol in (2, 3, 4):
        with open(f"{name}_{protocol}.pkl", "wb") as file:
            pickle.dump(value, file, protocol)
"""


@pytest.fixture(scope="module")
def pickles(tmp_path_factory):
    """A folder of what such packages write."""
    folder = tmp_path_factory.mktemp("pickles")
    for name, text in PACKAGES.items():
        file = folder / "packages" / name
        file.parent.mkdir(parents=True)
        file.write_text(text)
    subprocess.run([sys.executable, "-c", WRITING], cwd=folder, check=True,
                   env={**os.environ, "PYTHONPATH": str(folder / "packages")})
    return folder


def saved(data, kind, path):
    """The file that torch.save (a zip) or paddle.save makes of a pickle."""
    if kind == "torch":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", data)
        data = buffer.getvalue()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["torch", "paddle"])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_records_beside_the_weights(protocol, kind, pickles, tmp_path):
    """Those of the issue, and of what else standard libraries have."""
    data = (pickles / f"records_{protocol}.pkl").read_bytes()
    read = checkpoint.read_weights(saved(data, kind, tmp_path / "x.pth"))
    assert np.array_equal(read.pop("state_dict")["w"], WEIGHTS)
    assert read["args"] == Record("argparse.Namespace") and str(read["args"]) == "<argparse.Namespace>"
    assert read.pop("hub") == {"loss": Record("mmengine.logging.history_buffer.HistoryBuffer")}
    assert read.pop("milestones") == {3: 2, 7: 1} and read.pop("slots") == {1: {"step": 2}}
    assert read["dtype"] == Record("torch.float32") and read["device"] == Record("torch.device")
    assert all(isinstance(each, Record) for each in read.pop("times"))
    assert list(read) == ["args", "seen", "never", "path", "here", "device", "dtype", "numpy", "last", "space",
                          "number", "range"]
    assert all(isinstance(each, Record) for each in read.values())


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_state_dict_in_a_defaultdict(protocol, tmp_path):
    state = collections.defaultdict(list, {"w": WEIGHTS})
    read = checkpoint.read_weights(saved(pickle.dumps({"state_dict": state}, protocol), "torch", tmp_path / "x.pth"))
    assert np.array_equal(read["state_dict"]["w"], WEIGHTS)


def test_weights_within_a_record_are_not_believed(tmp_path):
    """A record keeps nothing, also not an array that would fill the memory."""
    flags = argparse.Namespace(big=np.zeros(1000))
    data = pickle.dumps({"args": flags, "w": WEIGHTS}, 2)
    read = checkpoint.read_weights(saved(data, "paddle", tmp_path / "x.pdparams"))
    assert read["args"] == Record("argparse.Namespace")


# --- whole models -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", ["model", "wrapped"])
def test_a_whole_model(name, protocol, pickles, tmp_path):
    data = (pickles / f"{name}_{protocol}.pkl").read_bytes()
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read_weights(saved(data, "torch", tmp_path / "whole.pth"))
    assert "holds a whole model (somebodys.network.Net)" in str(caught.value)
    assert "state_dict: where the model is, torch.save(model.state_dict(), PATH)" in str(caught.value)


def test_a_torchscript(tmp_path):
    data = b"\x80\x02c__torch__.net\nNet\n)\x81}X\x01\x00\x00\x00wNsb."
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", data)
    with pytest.raises(CheckpointError, match="holds a whole model .__torch__.net.Net.*state_dict"):
        checkpoint.read_weights(path)
