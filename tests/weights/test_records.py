"""What checkpoints hold beside the weights: it is not made, nothing of it runs, and the weights are read."""

import argparse
import collections
import datetime
import io
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from paddleseg_encnet.weights import checkpoint
from paddleseg_encnet.weights.checkpoint import CheckpointError
from paddleseg_encnet.weights.records import Record

WEIGHTS = np.arange(6, dtype="float32").reshape(2, 3)


class Elsewhere:
    """A class that is not installed here; pickles write it as `module.name`."""


def elsewhere(monkeypatch, name):
    """An empty module of this name, which pickle finds."""
    module = types.ModuleType(name)
    parents = name.split(".")[:-1]
    for i in range(len(parents)):
        parent = ".".join(parents[:i + 1])
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, name, module)
    return module


def class_in(module, name):
    made = type(name, (Elsewhere,), {"__module__": module.__name__, "__qualname__": name})
    setattr(module, name, made)
    return made


class Global:
    """Pickles as the name of something in a module that is not installed here, as torch's dtypes do."""

    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        return self.name


@pytest.fixture
def history(monkeypatch):
    """mmengine's HistoryBuffer, which names its own methods."""
    module = elsewhere(monkeypatch, "mmengine.logging.history_buffer")
    cls = class_in(module, "HistoryBuffer")

    def current(self):
        raise AssertionError("called")
    current.__module__, current.__qualname__ = module.__name__, "HistoryBuffer.current"
    cls.current = current
    made = cls()
    made._log_history, made._count_history = np.array([0.5, 0.25]), np.array([1, 1])
    made.statistics_methods = {"current": cls.current}
    return made


@pytest.fixture
def torch(monkeypatch):
    module = elsewhere(monkeypatch, "torch")
    module.device = type("device", (), {"__module__": "torch", "__reduce__": lambda self: (module.device, ("cuda", 0))})
    module.float32 = Global("float32")
    module.float32.__module__ = "torch"
    return module


def saved(value, protocol, kind, path):
    """The file that torch.save (a zip) or paddle.save writes of it."""
    data = pickle.dumps(value, protocol)
    if kind == "torch":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", data)
        data = buffer.getvalue()
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["torch", "paddle"])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_records_beside_the_weights(protocol, kind, tmp_path, history, torch):
    """Those of the issue, and of what else standard libraries have."""
    flags = argparse.Namespace(lr=0.01, out=pathlib.PurePosixPath("a/b"), steps=[1, 2])
    times = [datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.timezone.utc), datetime.timedelta(1),
             datetime.date(2024, 5, 1)]
    beside = {
        "hub": collections.OrderedDict(loss=history), "args": flags, "milestones": collections.Counter([3, 3, 7]),
        "slots": collections.defaultdict(dict, {1: {"step": 2}}), "seen": {1, 2}, "never": frozenset("ab"),
        "path": pathlib.PurePosixPath("runs/1"), "here": pathlib.PurePath("x"), "times": times,
        "device": torch.device(), "dtype": torch.float32, "numpy": np.dtype("float32"), "last": collections.deque([1]),
        "space": types.SimpleNamespace(a=1), "number": 1j, "range": range(3)}
    path = saved({"state_dict": {"w": WEIGHTS}, **beside}, protocol, kind, tmp_path / "x.pth")
    read = checkpoint.read_weights(path)
    assert np.array_equal(read["state_dict"]["w"], WEIGHTS)
    assert list(read) == ["state_dict", *beside]
    assert read["args"] == Record("argparse.Namespace") and str(read["args"]) == "<argparse.Namespace>"
    assert read["hub"] == {"loss": Record("mmengine.logging.history_buffer.HistoryBuffer")}
    assert read["milestones"] == {3: 2, 7: 1} and read["slots"] == {1: {"step": 2}}
    assert read["dtype"] == Record("torch.float32") and read["device"] == Record("torch.device")
    assert all(isinstance(each, Record) for each in (read["seen"], read["never"], read["path"], *read["times"],
                                                     read["numpy"], read["last"], read["space"], read["number"]))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_state_dict_in_a_defaultdict(protocol, tmp_path):
    state = collections.defaultdict(list, {"w": WEIGHTS})
    read = checkpoint.read_weights(saved({"state_dict": state}, protocol, "torch", tmp_path / "x.pth"))
    assert np.array_equal(read["state_dict"]["w"], WEIGHTS)


def test_weights_within_a_record_are_not_believed(tmp_path):
    """A record keeps nothing, also not an array that would fill the memory."""
    flags = argparse.Namespace(big=np.zeros(1000))
    read = checkpoint.read_weights(saved({"args": flags, "w": WEIGHTS}, 2, "paddle", tmp_path / "x.pdparams"))
    assert read["args"] == Record("argparse.Namespace")


# --- whole models -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: {"epoch": 3, "model": model}])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_whole_model(wrap, protocol, tmp_path, monkeypatch):
    model = class_in(elsewhere(monkeypatch, "somebodys.network"), "Net")()
    model.__dict__.update(training=True, _parameters={"w": WEIGHTS}, _buffers={}, _modules={})
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read_weights(saved(wrap(model), protocol, "torch", tmp_path / "whole.pth"))
    assert "holds a whole model (somebodys.network.Net)" in str(caught.value)
    assert "state_dict: where the model is, torch.save(model.state_dict(), PATH)" in str(caught.value)


def test_a_torchscript(tmp_path):
    data = b"\x80\x02c__torch__.net\nNet\n)\x81}X\x01\x00\x00\x00wNsb."
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", data)
    with pytest.raises(CheckpointError, match="holds a whole model .__torch__.net.Net.*state_dict"):
        checkpoint.read_weights(path)
