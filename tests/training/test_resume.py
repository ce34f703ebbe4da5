"""A run that was ended in any way goes on as if it had not been; a checkpoint is whole, or known to be damaged."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import paddle
import pytest
import tiny_run
from conftest import ROOT
from events import wait_for
from paddleseg import core
from paddleseg.models.losses import CrossEntropyLoss

from paddleseg_encnet.data import order
from paddleseg_encnet.runtime.devices import Precision
from paddleseg_encnet.training import resuming, saving
from paddleseg_encnet.training.finite import NotFinite
from paddleseg_encnet.training.saving import SaveError
from paddleseg_encnet.training.vdl_log import whole_records
from paddleseg_encnet.weights import checkpoint
from paddleseg_encnet.weights.checkpoint import CheckpointError
from segrun.stopping import Stopped


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory):
    """Folder and outcome of forty steps in one go, evaluated and saved at 10, 20, 30 and 40."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, tiny_run.run(scenes, folder)


def differing(a: tiny_run.Run, b: tiny_run.Run) -> list:
    """Names of numbers that are not equal to the last bit."""
    first, second = a.state(), b.state()
    return sorted(first.keys() ^ second.keys()) + [
        name for name in first.keys() & second.keys() if not np.array_equal(first[name], second[name])]


def children_of(pid: int) -> list:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def is_running(pid: int) -> bool:
    """Whether a process is there and more than a line in its parent's table."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


def saved_best(folder) -> dict:
    return json.loads((folder / "state.json").read_text())["best"]


# --- the same end ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_and_resumed_ends_as_in_one_go(whole, scenes, tmp_path, workers):
    with pytest.raises(Stopped, match=r"SIGTERM; go on with --resume_model .*iter_17") as stopped:
        tiny_run.run(scenes, tmp_path, before_step=tiny_run.stop_at(17), num_workers=workers)
    assert stopped.value.signum == signal.SIGTERM and (tmp_path / "iter_17").is_dir()
    second = tiny_run.run(scenes, tmp_path, resume_model="auto", num_workers=workers)
    one_go = whole[1]
    assert len(second.images) == 23 and second.images == one_go.images[17:]
    assert differing(second, one_go) == []
    assert second.best == one_go.best and one_go.best.step > 0
    assert saved_best(tmp_path / "iter_40") == saved_best(whole[0] / "iter_40")
    assert (tmp_path / "best_model" / "model.pdparams").read_bytes()


def test_order_and_augmentation_do_not_depend_on_workers(whole, scenes, tmp_path):
    two_workers = tiny_run.run(scenes, tmp_path, iters=9, num_workers=2, evaluate=False)
    assert two_workers.images == whole[1].images[:9]
    assert len(set(whole[1].images)) == 40, "no epoch augments as another one"


def test_killed_process_ends_as_in_one_go(whole, scenes, tmp_path):
    """In another process, whose parameters have other names, and ended by SIGKILL. Its workers end with it."""
    script = ROOT / "tests" / "tiny_run.py"
    process = subprocess.Popen([sys.executable, script, scenes, tmp_path, "40", "--workers", "2", "--use_vdl",
                                "--halt", "13"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    workers = children_of(process.pid)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    second = tiny_run.run(scenes, tmp_path, resume_model="auto", use_vdl=True, log_iters=1)
    assert len(second.images) <= 30 and second.images == whole[1].images[-len(second.images):]
    assert differing(second, whole[1]) == [] and second.best == whole[1].best
    log, = tmp_path.glob("vdlrecords*")
    assert [value.id for _, value in whole_records(log) if value.tag == "Train/loss"] == list(range(1, 41))
    assert len(workers) >= 2
    wait_for(lambda: not any(map(is_running, workers)))


def test_signal_in_an_evaluation_costs_nothing(whole, scenes, tmp_path):
    """The checkpoint is written before; the resumed run makes up for the evaluation."""
    first = paddle.nn.Layer.eval

    def interrupted(layer):
        os.kill(os.getpid(), signal.SIGINT)
        return first(layer)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped) as stopped:
        patch.setattr(tiny_run.Tiny, "eval", interrupted, raising=False)
        tiny_run.run(scenes, tmp_path)
    assert stopped.value.signum == signal.SIGINT and saving.iteration_folders(str(tmp_path)) == ["iter_10"]
    assert saved_best(tmp_path / "iter_10") == {}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):     # and once more
        patch.setattr(tiny_run.Tiny, "eval", interrupted, raising=False)
        tiny_run.run(scenes, tmp_path, resume_model="auto")
    second = tiny_run.run(scenes, tmp_path, resume_model=str(tmp_path))
    assert differing(second, whole[1]) == [] and second.best == whole[1].best


def test_crash_between_the_best_model_and_its_note_costs_nothing(scenes, tmp_path, monkeypatch):
    """best_model is there, ema_best_model and the note in iter_10 are not."""
    tiny_run.run(scenes, tmp_path / "whole", iters=20, use_ema=True)
    write, crashed = saving.Saver.whole_or_nothing, tmp_path / "crashed"

    def crash(saver, folder):
        if folder.endswith("ema_best_model"):
            raise KeyboardInterrupt
        return write(saver, folder)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(saving.Saver, "whole_or_nothing", crash)
        tiny_run.run(scenes, crashed, iters=20, use_ema=True)
    assert sorted(os.listdir(crashed)) == ["best_model", "iter_10"] and saved_best(crashed / "iter_10") == {}
    tiny_run.run(scenes, crashed, iters=20, use_ema=True, resume_model="auto")
    for step in ("iter_10", "iter_20"):
        assert saved_best(crashed / step) == saved_best(tmp_path / "whole" / step)
    assert (crashed / "ema_best_model" / "ema_model.pdparams").is_file()


def test_moving_average_and_early_stopping_go_on(scenes, tmp_path):
    tiny_run.run(scenes, tmp_path / "whole", iters=20, use_ema=True)
    with pytest.raises(Stopped):
        tiny_run.run(scenes, tmp_path / "two", iters=20, use_ema=True, before_step=tiny_run.stop_at(13))
    tiny_run.run(scenes, tmp_path / "two", iters=20, use_ema=True, resume_model="auto")
    averages = [checkpoint.read_weights(tmp_path / name / "iter_20" / "ema_model.pdparams")
                for name in ("whole", "two")]
    weights = checkpoint.read_weights(tmp_path / "two" / "iter_20" / "model.pdparams")
    assert all(np.array_equal(averages[0][name], averages[1][name]) for name in weights)
    assert not np.array_equal(averages[0]["head.weight"], weights["head.weight"])
    assert saved_best(tmp_path / "two" / "iter_20") == saved_best(tmp_path / "whole" / "iter_20")
    assert len(saved_best(tmp_path / "two" / "iter_20")) == 2


def test_loss_scaling_goes_on(monkeypatch):
    """Paddle's own scaler does nothing on a CPU; this one keeps a state of the same form."""
    class Scaler:
        def __init__(self, init_loss_scaling):
            self.values = {"scale": np.array([init_loss_scaling], np.float32), "incr_count": 7}

        def state_dict(self):
            return self.values

        def load_state_dict(self, values):
            self.values = values

    monkeypatch.setattr(paddle.amp, "GradScaler", Scaler)
    first, second = Precision("fp16"), Precision("fp16")
    first.prepare(None, None)
    saved = json.loads(json.dumps(first.state()))
    saved["incr_count"] = 8
    second.prepare(None, None, saved)
    assert second.state() == {"scale": [1024.0], "incr_count": 8} and Precision("fp32").state() == {}


def test_skipping_reads_nothing(scenes):
    """From sample 6 on, an epoch of eight has one batch of two left."""
    data = tiny_run.parts(scenes)[1]
    read = []
    data.transforms.transforms.insert(0, lambda sample: read.append(1) or sample)
    batches = iter(order.Batches(data, 2, seed=1, epoch=3, samples=6))
    first = next(batches)["img"].numpy()
    time.sleep(0.2)                 # for the thread that reads ahead
    assert len(read) == 2 and first.shape[0] == 2


def test_place_in_the_order_holds_for_another_batch_size(scenes):
    batches = order.Batches(tiny_run.parts(scenes)[1], 4, seed=1, epoch=2, samples=6)
    next(iter(batches))
    assert (batches.epoch, batches.samples) == (2, 10)
    assert order.Batches(tiny_run.parts(scenes)[1], 4, epoch=0, samples=8 * 3 + 4).epoch == 3


# --- which checkpoint ------------------------------------------------------------------------------------------------

def test_every_way_to_name_a_checkpoint(whole):
    folder = str(whole[0])
    newest = os.path.join(folder, "iter_40")
    assert resuming.find(folder, "nowhere").folder == newest
    assert resuming.find("auto", folder).folder == newest
    assert resuming.find(os.path.join(folder, "iter_20"), "nowhere").step == 20
    best = resuming.find(os.path.join(folder, "best_model"), "nowhere")
    assert best.step == whole[1].best.step and set(best.optimizer) > {"LR_Scheduler"}
    assert resuming.find("auto", os.path.join(folder, "nothing here")) is None


def test_newest_is_by_time_not_by_step(whole, tmp_path):
    """A run that was set back to step 10 overtakes its own former self."""
    for step in (40, 10):
        shutil.copytree(whole[0] / f"iter_{step}", tmp_path / f"iter_{step}")
    saving.write_state(str(tmp_path / "iter_10"), saving.read_state(str(tmp_path / "iter_10")),
                       ["model.pdparams", "model.pdopt"])
    assert resuming.find(str(tmp_path), "").step == 10


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


DAMAGES = {
    "weights cut short": ("model.pdparams", lambda path: path.write_bytes(path.read_bytes()[:-100]), "bytes"),
    "optimiser cut to nothing": ("model.pdopt", lambda path: path.write_bytes(b""), "has 0 bytes"),
    "a bit of the weights": ("model.pdparams", flip_a_bit, "checksum"),
    "a bit of the optimiser": ("model.pdopt", flip_a_bit, "checksum"),
    "a file is gone": ("model.pdopt", os.remove, "is gone"),
    "state is empty": ("state.json", lambda path: path.write_bytes(b""), "can't be read"),
    "state is of another form": ("state.json", lambda path: path.write_text("[1, 2]"), "can't be read"),
    "state was edited": ("state.json", lambda path: path.write_text(path.read_text().replace("40", "30")), "checksum"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_named_and_passed_over(whole, tmp_path, capsys, damage):
    name, harm, seen = DAMAGES[damage]
    for step in (30, 40):
        shutil.copytree(whole[0] / f"iter_{step}", tmp_path / f"iter_{step}")
    harm(tmp_path / "iter_40" / name)
    assert resuming.find("auto", str(tmp_path)).step == 30
    said = next(line for line in capsys.readouterr().out.splitlines() if "passed over" in line)
    assert "iter_40" in said and name in said and seen in said
    with pytest.raises(CheckpointError, match=f"iter_40.*{name}.*{seen}"):
        resuming.find(str(tmp_path / "iter_40"), "")
    shutil.rmtree(tmp_path / "iter_30")
    with pytest.raises(CheckpointError, match="no checkpoint in .* is whole: .*iter_40"):
        resuming.find("auto", str(tmp_path))


def test_what_a_crash_leaves_behind(whole, scenes, tmp_path):
    """In the middle of writing, of replacing, and of removing a checkpoint."""
    shutil.copytree(whole[0] / "iter_10", tmp_path / "iter_20.new")
    (tmp_path / "iter_20.new" / "model.pdopt").unlink()
    shutil.copytree(whole[0] / "iter_10", tmp_path / "iter_10.old")
    shutil.copytree(whole[0] / "iter_10", tmp_path / "iter_5.removed")
    (tmp_path / "iter_5.removed" / "state.json").unlink()
    assert resuming.find("auto", str(tmp_path)).folder == str(tmp_path / "iter_10.old")
    saving.Saver(str(tmp_path), resumed=str(tmp_path / "iter_10.old"))
    assert os.listdir(tmp_path) == ["iter_10"]


def test_old_checkpoints_go_also_after_a_resume(scenes, tmp_path):
    with pytest.raises(Stopped):
        tiny_run.run(scenes, tmp_path, save_interval=2, keep=3, evaluate=False, before_step=tiny_run.stop_at(7))
    assert saving.iteration_folders(str(tmp_path)) == ["iter_2", "iter_4", "iter_6", "iter_7"][-3:]
    tiny_run.run(scenes, tmp_path, iters=9, save_interval=2, keep=3, evaluate=False, resume_model="auto")
    assert saving.iteration_folders(str(tmp_path)) == ["iter_7", "iter_8", "iter_9"]


def test_checkpoint_of_paddleseg(scenes, tmp_path):
    """Twelve steps in PaddleSeg's loop, then ours: same weights, momentum and learning rate, and the order goes on."""
    model, data, _, optimizer = tiny_run.parts(scenes)
    core.train(model, data, None, optimizer, str(tmp_path), 12, 2, save_interval=12, log_iters=100,
               losses={"types": [CrossEntropyLoss()], "coef": [1]})
    velocity = {name: optimizer._accumulators["velocity"][parameter.name].numpy()
                for name, parameter in model.named_parameters() if not parameter.stop_gradient}
    fresh, data, _, other = tiny_run.parts(scenes)
    found = resuming.find(str(tmp_path), "")
    resuming.fill(found, fresh, other)
    assert found.step == 12 and found.state is None
    for name, parameter in fresh.named_parameters():
        assert np.array_equal(parameter.numpy(), dict(model.named_parameters())[name].numpy()), name
    for name, parameter in fresh.head.named_parameters(prefix="head"):
        loaded = saving.optimizer_state(other)[f"{parameter.name}_velocity_0"]
        assert np.array_equal(loaded.numpy(), velocity[name]), name
    assert other.get_lr() == optimizer.get_lr()
    second = tiny_run.run(scenes, tmp_path / "ours", iters=14, resume_model=str(tmp_path / "iter_12"), evaluate=False)
    assert len(second.images) == 2 and saving.read_state(str(tmp_path / "ours" / "iter_14")).epoch == 3


def test_paddleseg_reads_ours(whole):
    """With paddle.load, as PaddleSeg's resume() does."""
    weights, optimizer = (paddle.load(str(whole[0] / "iter_40" / name)) for name in ("model.pdparams", "model.pdopt"))
    assert set(weights) == set(whole[1].model.state_dict()) and "LR_Scheduler" in optimizer


def test_checkpoint_of_another_network(whole, scenes):
    model, _, _, optimizer = tiny_run.parts(scenes, width=4)
    with pytest.raises(CheckpointError, match=r"cannot resume from .*iter_40.*\(8, 3, 3, 3\) in the checkpoint"):
        resuming.fill(resuming.find(str(whole[0]), ""), model, optimizer)


# --- signals, a full disk --------------------------------------------------------------------------------------------

def test_second_signal_ends_at_once():
    """Also while Python is inside one long operation, here minutes of hashing."""
    code = ("import hashlib, importlib.util as i\n"
            f"spec = i.spec_from_file_location('stopping', r'{ROOT}/segrun/stopping.py')\n"
            "stopping = i.module_from_spec(spec); spec.loader.exec_module(stopping)\n"
            "with stopping.Stop() as stop:\n"
            "    print('ready', flush=True)\n"
            "    hashlib.pbkdf2_hmac('sha256', b'a', b'b', 10 ** 9)\n")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    said = process.stderr.readline()
    time.sleep(0.3)         # sooner it is taken for the first, repeated
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert "ending after this step and its save" in said


def test_full_disk_leaves_the_last_checkpoint(whole, scenes, tmp_path, monkeypatch):
    save = paddle.save

    def fill_up(tensors, path, *more):
        if "iter_20" in path and path.endswith(".pdopt"):
            with open(path, "wb") as file:
                file.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(tensors, path, *more)

    monkeypatch.setattr(paddle, "save", fill_up)
    with pytest.raises(SaveError, match="iter_20: No space left on device.*--resume_model .*iter_10"):
        tiny_run.run(scenes, tmp_path)
    assert set(os.listdir(tmp_path)) == {"iter_10", "best_model"}
    monkeypatch.undo()
    assert differing(tiny_run.run(scenes, tmp_path, resume_model="auto"), whole[1]) == []


def test_two_ranks_stop_at_the_same_step(scenes, tmp_path):
    """Over gloo, where only the second rank gets the signal. How they go on: tests/stress_resume.py."""
    code, logs = tiny_run.launch(scenes, tmp_path / "run", "--term", "7", "1", "--use_vdl")
    assert code != 0 and all("stopped by SIGTERM; go on with --resume_model" in log for log in logs), logs
    assert saving.iteration_folders(str(tmp_path / "run")) == ["iter_7"]
    log, = (tmp_path / "run").glob("vdlrecords*")       # the first one writes it
    assert [value.id for _, value in whole_records(log) if value.tag == "Train/loss"] == list(range(1, 8))


# --- numbers that go wrong -------------------------------------------------------------------------------------------

class BreaksAt(paddle.nn.Layer):
    """Cross entropy that becomes `value` in one step."""

    def __init__(self, step: int, value: float):
        super().__init__()
        self.entropy, self.step, self.value, self.steps = CrossEntropyLoss(), step, value, 0

    def forward(self, logits, label):
        self.steps += 1
        return self.entropy(logits, label) * (self.value if self.steps == self.step else 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_loss_that_is_not_finite_ends_the_run_in_that_step(scenes, tmp_path, value):
    weights, names = [], []

    def keep(step):
        weights.append(model.head.weight.numpy())

    model, data, _, optimizer = tiny_run.parts(scenes)
    model.register_forward_pre_hook(lambda layer, inputs: keep(len(weights)) if layer.training else None)
    from paddleseg_encnet.training import training_loop
    with pytest.raises(NotFinite) as broken:
        losses = {"types": [BreaksAt(13, value)], "coef": [1]}
        training_loop.train_network(training_loop.Parts(model, optimizer, losses, data),
                                    training_loop.Schedule(20, save_interval=5, batch_size=2), str(tmp_path))
    message = str(broken.value)
    assert "at step 13 (segmentation " + str(value) in message and f"--resume_model {tmp_path}/iter_10" in message
    order = paddle.io.DistributedBatchSampler(data, 2, shuffle=True, drop_last=True)
    order.set_epoch(3)              # four steps an epoch: step 13 is the first of the fourth
    names = [data.file_list[index][0] for index in next(iter(order))]
    assert all(name in message for name in names) and message.count("_leftImg8bit.png") == 2
    assert np.array_equal(model.head.weight.numpy(), weights[-1]) and not np.array_equal(weights[-1], weights[-2])


def test_weights_that_are_not_finite_are_not_saved(scenes, tmp_path):
    def spoil(step):
        if step == 10:
            model.head.bias.set_value(np.full(19, np.inf, np.float32))

    model, data, _, optimizer = tiny_run.parts(scenes)
    saver = saving.Saver(str(tmp_path))
    saver.save(saving.State(step=9), {"model": model}, optimizer)
    spoil(10)
    with pytest.raises(SaveError, match="head.bias.*iter_9"):
        saver.save(saving.State(step=10), {"model": model}, optimizer)
    assert os.listdir(tmp_path) == ["iter_9"]
