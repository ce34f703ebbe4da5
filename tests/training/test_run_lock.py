"""One training at a time in a folder: a second one is refused, a killed one is in nobody's way."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import tiny_run
from conftest import ROOT

from paddleseg_encnet.training import resuming, run_lock, saving
from paddleseg_encnet.training.saving import SaveError
from paddleseg_encnet.weights.checkpoint import CheckpointError

HOLD = """
import sys, os, time
from paddleseg_encnet.training.run_lock import alone_in
with alone_in(sys.argv[1]):
    if os.fork() == 0:          # as the processes that read data, which may outlive their run
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that trains in the folder, and the process of its own that reads data."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    reader = next(int(line) for line in process.stdout if line.strip().isdecimal())
    yield process
    os.kill(reader, signal.SIGKILL)
    process.kill()
    process.wait()


def test_a_second_training_is_refused_and_told_of_the_first(other, scenes, tmp_path):
    (tmp_path / "run" / "iter_2.new").mkdir()       # what the first is writing
    with pytest.raises(SaveError, match=rf"another training is at work in .*run: process {other.pid} on .*, since \d"):
        tiny_run.run(scenes, tmp_path / "run", iters=2, evaluate=False)
    assert sorted(os.listdir(tmp_path / "run")) == ["iter_2.new", "train.lock"]


def test_a_killed_run_is_in_nobodys_way(other, scenes, tmp_path):
    """Though the process that read its data still lives."""
    other.kill()
    other.wait()
    tiny_run.run(scenes, tmp_path / "run", iters=2, evaluate=False, resume_model="auto")
    assert os.listdir(tmp_path / "run") == ["iter_2"]


def test_two_trainings_of_one_process(scenes, tmp_path):
    tried = []

    def start_another(n):
        if n == 1:
            with pytest.raises(SaveError, match=f"another training is at work in .*: process {os.getpid()} on"):
                with run_lock.alone_in(str(tmp_path)):
                    pass
            tried.append(n)
    tiny_run.run(scenes, tmp_path, iters=2, evaluate=False, before_step=start_another)
    assert tried == [1] and os.listdir(tmp_path) == ["iter_2"]


def test_the_folder_is_free_after_the_end_and_after_an_error(scenes, tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError):
            with run_lock.alone_in(str(tmp_path / "new")):
                raise KeyError
        assert os.listdir(tmp_path) == []


def test_a_folder_that_cant_be_written_is_told_before_the_first_step(scenes, tmp_path):
    (tmp_path / "file").write_text("")
    steps = []
    for folder in (tmp_path / "file", tmp_path / "file" / "run", "/proc/run"):
        with pytest.raises(SaveError, match=f"cannot write into {re.escape(str(folder))}: .*another --save_dir"):
            tiny_run.run(scenes, folder, iters=2, evaluate=False, before_step=steps.append)
    assert steps == []


# --- what belongs to a checkpoint -------------------------------------------------------------------------------------

def test_a_state_lists_all_files_of_its_checkpoint(scenes, tmp_path):
    tiny_run.run(scenes, tmp_path, iters=2, use_ema=True)
    own = ["ema_model.pdparams", "model.pdopt", "model.pdparams"]
    for folder, files in (("iter_2", own), ("best_model", own), ("ema_best_model", own[:1])):
        assert sorted(json.loads((tmp_path / folder / "state.json").read_text())["files"]) == files
        assert sorted(os.listdir(tmp_path / folder)) == sorted([*files, "state.json"])


def test_a_state_of_a_checkpoint_that_lacks_a_file_cant_be_written(scenes, tmp_path):
    """As where another run has cleared it away: a state of the rest would look whole."""
    tiny_run.run(scenes, tmp_path, iters=2, evaluate=False)
    saver, state = saving.Saver(str(tmp_path)), saving.read_state(str(tmp_path / "iter_2"))
    (tmp_path / "iter_2" / "model.pdparams").unlink()
    with pytest.raises(SaveError, match="cannot write the checkpoint .*iter_2"):
        saver.evaluated(str(tmp_path / "iter_2"), state)


def test_a_state_that_does_not_list_the_weights_is_of_another_checkpoint(scenes, tmp_path):
    tiny_run.run(scenes, tmp_path, iters=2, evaluate=False)
    folder = str(tmp_path / "iter_2")
    saving.write_state(folder, saving.read_state(folder), ["model.pdopt"])
    with pytest.raises(CheckpointError, match="iter_2: its state.json does not list model.pdparams"):
        resuming.find(folder, "")
