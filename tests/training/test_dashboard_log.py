"""A run's VisualDL log stays one, after kills and resumes too; and no error of it ends a training."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
import tiny_run
from conftest import ROOT
from vdl import content, logged_run, logs, read, steps

from paddleseg_encnet.training import dashboard, saving
from paddleseg_encnet.training.dashboard import Dashboard
from paddleseg_encnet.training.finite import NotFinite
from paddleseg_encnet.training.training_loop import Pace, Schedule
from paddleseg_encnet.training.vdl_log import Log
from segrun.stopping import Stopped

visualdl = pytest.importorskip("visualdl")


# --- one log ---------------------------------------------------------------------------------------------------------

TIMES = ("Train/batch_cost", "Train/reader_cost", "Train/images_per_second", "Train/waiting_for_data")


class Killed(BaseException):
    """What the process does not survive, as far as its log is concerned: nothing that it writes waits anywhere."""


@pytest.fixture(scope="module")
def one_go(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_go")
    logged_run(scenes, folder)
    return read(folder)


def differing(found: dict, expected: dict) -> list:
    """Tags with other steps, or other values but of times."""
    tags = [(kind, tag) for kind in expected for tag in expected[kind] if kind not in ("meta_data", "hyper_parameters")]
    differing = [tag for kind in found.keys() | expected.keys() for tag in found[kind].keys() ^ expected[kind].keys()]
    return differing + [tag for kind, tag in tags if steps(found[kind][tag]) != steps(expected[kind][tag])
                        or tag not in TIMES and [content(record) for record in found[kind][tag]]
                        != [content(record) for record in expected[kind][tag]]]


def killed_in_step(patch, n):
    def kill(step):
        if step == n:
            raise Killed
    return {"before_step": kill}


def killed_in(patch, place, name):
    """At the second call of a function."""
    original, calls = getattr(place, name), []

    def kill(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return original(*arguments, **options)

    patch.setattr(place, name, kill)
    return {}


# What is killed, and what that leaves in the log beyond the checkpoint at step 4 or 8.
MOMENTS = {
    "two logged steps after a checkpoint": lambda patch: killed_in_step(patch, 8),
    "while a checkpoint is written": lambda patch: killed_in(patch, saving.Saver, "save"),
    "after the checkpoint, before its evaluation": lambda patch: killed_in(patch, paddle.nn.Layer, "eval"),
    "with the scores of an evaluation, but no pictures": lambda patch: killed_in(patch, dashboard, "validation_panels"),
    "before the checkpoint knows of its evaluation": lambda patch: killed_in(patch, saving.Saver, "evaluated"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_one_log_after_a_kill_and_a_resume(one_go, scenes, tmp_path, monkeypatch, moment):
    (tmp_path / "vdlrecords.0000000001.log").write_bytes(b"another's")
    with pytest.raises(Killed), monkeypatch.context() as patch:
        logged_run(scenes, tmp_path, **MOMENTS[moment](patch))
    name = logs(tmp_path)[-1]
    with open(tmp_path / name, "ab") as file:
        file.write(b"\x50\0\0\0\0\0\0\0half a record")
    logged_run(scenes, tmp_path, resume_model="auto")
    assert logs(tmp_path) == ["vdlrecords.0000000001.log", name]
    assert (tmp_path / "vdlrecords.0000000001.log").read_bytes() == b"another's"
    (tmp_path / "vdlrecords.0000000001.log").unlink()
    assert differing(read(tmp_path), one_go) == []


def test_one_log_after_a_signal(one_go, scenes, tmp_path, said):
    """At step 6, where a point is logged. The run ends by saying how to open its dashboard."""
    with pytest.raises(Stopped):
        logged_run(scenes, tmp_path, before_step=tiny_run.stop_at(6))
    assert f"visualdl --logdir {tmp_path}" in said[-1]
    logged_run(scenes, tmp_path, resume_model="auto")
    assert differing(read(tmp_path), one_go) == []


def test_going_back_to_an_earlier_checkpoint(one_go, scenes, tmp_path):
    logged_run(scenes, tmp_path)
    logged_run(scenes, tmp_path, resume_model=str(tmp_path / "iter_4"))
    assert differing(read(tmp_path), one_go) == []


def test_run_that_begins_anew_leaves_the_earlier_log(scenes, tmp_path):
    """So does one that goes on from a checkpoint of another folder. VisualDL shows the one whose name comes last."""
    first = Log.new(str(tmp_path))
    first.append([])
    future = f"vdlrecords.{int(time.time()) + 1000}.log"
    os.rename(first.path, tmp_path / future)
    tiny_run.run(scenes, tmp_path, iters=2, log_iters=1, evaluate=False, use_vdl=True)
    assert len(logs(tmp_path)) == 2 and logs(tmp_path)[0] == future and os.path.getsize(tmp_path / future) == 0
    tiny_run.run(scenes, tmp_path / "other", iters=3, log_iters=1, evaluate=False, use_vdl=True,
                 resume_model=str(tmp_path / "iter_2"))
    assert steps(read(tmp_path / "other")["scalar"]["Train/loss"]) == [3]


def test_log_of_visualdls_own_writer_goes_on(tmp_path):
    """As PaddleSeg's loop leaves it."""
    with visualdl.LogWriter(str(tmp_path)) as writer:
        for step in range(1, 11):
            writer.add_scalar("Train/loss", step / 2, step)
    with Dashboard(str(tmp_path), Schedule(10), saving.State(step=6), str(tmp_path / "iter_6")) as board:
        board.write(7, {"Train/loss": 7.5})
    records = read(tmp_path)["scalar"]["Train/loss"]
    assert [(record.id, record.value) for record in records] == [*((step, step / 2) for step in range(1, 7)), (7, 7.5)]


def test_no_log_before_there_is_something_to_show(tmp_path):
    """An empty one would hide that of an earlier run."""
    with Dashboard(str(tmp_path / "run"), Schedule(10), saving.State()):
        pass
    assert not (tmp_path / "run").exists()


# --- when something is wrong -----------------------------------------------------------------------------------------

PACE = Pace([], 0.5, 0.1)


def test_what_is_not_finite_is_left_out_and_said_once(tmp_path, said):
    with Dashboard(str(tmp_path), Schedule(10), saving.State()) as board:
        for step, value in enumerate([1.0, np.nan, np.inf, 2.0], 1):
            board.stepped(step, {"segmentation": 1.0, "SE": value}, 0.1, PACE, 4)
        board.write(4, histograms={"Encoding/scales": [np.array([1.0, np.nan])], "Encoding/gamma": []})
    found = read(tmp_path)
    assert steps(found["scalar"]["Train/loss_SE"]) == steps(found["scalar"]["Train/loss"]) == [1, 4]
    assert steps(found["scalar"]["Train/loss_segmentation"]) == [1, 2, 3, 4]
    assert sum(found["histogram"]["Encoding/scales"][0].histogram.hist) == 1
    said = [line for line in said if "not finite" in line]
    assert len(said) == 2 and "at step 2 and left out: Train/loss, Train/loss_SE." in said[0]


def test_run_that_ends_in_an_error_says_how_to_look_at_it(scenes, tmp_path, said):
    class Breaks(paddle.nn.Layer):
        def forward(self, logits, label):
            return logits.mean() * float("nan")

    with pytest.raises(NotFinite):
        tiny_run.run(scenes, tmp_path, loss=Breaks(), use_vdl=True)
    assert f"visualdl --logdir {tmp_path}" in said[-1]


def test_full_disk_ends_no_training_and_leaves_a_whole_log(tmp_path, said):
    class Full:
        """A file on a disk that takes ten bytes more."""
        def __init__(self, file):
            self.file = file

        def write(self, data):
            self.file.write(data[:10])
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    with Dashboard(str(tmp_path), Schedule(10), saving.State()) as board:
        board.stepped(1, {"segmentation": 1.0}, 0.1, PACE, 4)
        file, board.log.file = board.log.file, Full(board.log.file)
        board.stepped(2, {"segmentation": 1.0}, 0.1, PACE, 4)
        board.stepped(3, {"segmentation": 1.0}, 0.1, PACE, 4)
        board.log.file = file
        board.stepped(4, {"segmentation": 1.0}, 0.1, PACE, 4)
    assert all(steps(records) == [1, 4] for records in read(tmp_path)["scalar"].values())
    said = [line for line in said if "--use_vdl" in line]
    assert len(said) == 1 and "No space left on device" in said[0] and "training goes on" in said[0]


def test_pictures_that_fail_end_no_training(scenes, tmp_path, said, monkeypatch):
    def fail(*arguments):
        raise ValueError("no such picture")

    monkeypatch.setattr(dashboard, "panel", fail)
    logged_run(scenes, tmp_path)
    assert "image" not in read(tmp_path) and steps(read(tmp_path)["scalar"]["Evaluate/mIoU"]) == [4, 8, 12]
    assert len([line for line in said if "the dashboard can't draw the validation images" in line]) == 1


def test_runs_without_visualdl(scenes, tmp_path):
    """In a process where its import fails."""
    code = ("import sys; sys.modules['visualdl'] = None; import tiny_run; tiny_run.paddle.set_device('cpu')\n"
            f"print(tiny_run.run({str(scenes)!r}, {str(tmp_path)!r}, 2, use_vdl=True, log_iters=1).best.step)")
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:"
                          f"{os.environ.get('PYTHONPATH', '')}"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2" and done.stdout.count("visualdl can't be imported") == 1
    assert "--logdir" not in done.stdout and logs(tmp_path) == []


def test_command_works_as_it_is_printed(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert dashboard.visualdl_command("a b") == f"visualdl --logdir '{os.getcwd()}/a b'"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "visualdl").touch()
    assert dashboard.visualdl_command("/run") == f"{tmp_path}/bin/visualdl --logdir /run"
