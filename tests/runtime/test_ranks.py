"""Several processes on the CPU, over gloo: training, scores and pictures of one process; and nobody waits for the dead.

Longer runs (three ranks, seven images, several launchers) are in stress_ranks.py.
"""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import launched
import numpy as np
import paddle
import pytest
from conftest import ROOT, relative_difference
from paddleseg.cvlibs import Config, SegBuilder
from ranks_on_cpu import assert_averaged, launch, recorded

from paddleseg_encnet.config import batch_recipe
from paddleseg_encnet.models.losses import compute_losses
from paddleseg_encnet.runtime import devices
from paddleseg_encnet.runtime.devices import Ranks

STEPS, IMAGES = 4, (1, 2, 3)


@pytest.fixture(scope="module")
def two_ranks(small_config, tmp_path_factory):
    """Folder of what two ranks left, and how their launch ended: at last rank 1 kills itself."""
    folder = tmp_path_factory.mktemp("ranks")
    work = ["train", small_config, folder, STEPS, "--", "share", small_config, folder, *IMAGES, "--",
            "lose", small_config, folder, 1]
    return folder, launch(folder, launched.__file__, *work)


def test_steps_of_two_ranks_are_those_of_one_process_that_averages(two_ranks, small_config, one_thread):
    def add_gradients(model, losses, batch):
        sum(compute_losses(model, model(batch["img"]), batch, losses)).backward()
    assert_averaged(recorded(*two_ranks), small_config, STEPS, add_gradients)


def test_an_epoch_of_two_ranks_sees_every_image_once(two_ranks):
    asked = [np.load(two_ranks[0] / f"rank{rank}.npz")["asked"] for rank in (0, 1)]
    epoch = sorted([*asked[0][:4], *asked[1][:4]])
    assert epoch == list(range(8))


@pytest.mark.parametrize("images", IMAGES)
def test_two_ranks_have_the_scores_of_one(two_ranks, small_config, one_thread, tmp_path, images):
    """Exactly, also where a rank has no image: pixels, presence by the SE branch, validation losses."""
    folder = two_ranks[0]
    launched.share_images(small_config, tmp_path, images)
    alone = np.load(tmp_path / f"scores_{images}_rank0.npz")
    assert alone["confusion"].sum() > images * 64 * 100 and alone["class_images"].max() == images
    assert (alone["losses"] > 0).all() and len(alone["losses"]) == 2
    for rank in (0, 1):
        shared = np.load(folder / f"scores_{images}_rank{rank}.npz")
        for name in alone.files:
            np.testing.assert_array_equal(shared[name], alone[name], err_msg=name)


@pytest.mark.parametrize("images", IMAGES)
def test_two_ranks_write_every_picture_once(two_ranks, images):
    folder = two_ranks[0]
    written = list(itertools.chain(*(json.loads((folder / f"written_{images}_rank{rank}").read_text())
                                     for rank in (0, 1))))
    there = [str(path) for path in (folder / f"pictures_{images}").glob("*/*.png")]
    assert sorted(written) == sorted(there) and len(there) == 2 * images


def test_a_killed_rank_ends_the_launch_with_its_name(two_ranks):
    folder, done = two_ranks
    assert done.returncode != 0
    lines = [line for line in (folder / "log" / "workerlog.0").read_text().splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and lines[0].startswith("error: rank 1 (") and "is gone: it was killed" in lines[0]


def test_the_launcher_chooses_the_device_of_a_rank(monkeypatch):
    """Without it every rank of predict.py, whose --device_id is 0, would go to the first GPU."""
    chosen = []
    monkeypatch.setattr(paddle, "set_device", chosen.append)
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 4)
    devices.select_device("gpu:0")
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "4")
    devices.select_device("gpu:0")
    assert chosen == ["gpu:0", "gpu"]


# --- the watch, in processes without Paddle --------------------------------------------------------------------------

SCRIPT = """
import importlib.util, os, signal, sys, time
spec = importlib.util.spec_from_file_location("watch", sys.argv[1])
watch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(watch)
rank = int(sys.argv[2])
# Four seconds of silence instead of twenty.
watch.SENTINEL = watch.SENTINEL.replace("from runtime.star", "from runtime import sentinel, star; "
                                        "sentinel.SILENCE = star.SILENCE = 4; from runtime.star")
watch.start(rank, sys.argv[3].split(","), timeout=float(sys.argv[4]))
exec(sys.argv[5])
watch.meet()
print("finished")
"""


def run_watched(what: str, ranks=(0, 1, 2), timeout: float = 20, after=lambda: None) -> dict:
    """{rank: (exit code, last line)} of three watched processes that run `what`, or of some of the three. after() is
    called when they have ended, or have not in time."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        endpoints = ",".join(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)
    path = ROOT / "paddleseg_encnet" / "runtime" / "watch.py"
    processes = {rank: subprocess.Popen([sys.executable, "-c", SCRIPT, path, str(rank), endpoints, str(timeout), what],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for rank in ranks}
    try:
        ended = {rank: process.communicate(timeout=50)[0].strip() for rank, process in processes.items()}
    finally:
        after()
        for process in processes.values():
            process.kill()
    return {rank: (processes[rank].returncode, output.split("\n")[-1]) for rank, output in ended.items()}


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"),
                                reason="without /proc nobody sees that a process is stopped")


@pytest.mark.parametrize("gone", [0, 1])
def test_watch_names_a_rank_that_was_killed(gone):
    ended = run_watched(f"if rank == {gone}: os.kill(os.getpid(), signal.SIGKILL)")
    assert ended.pop(gone)[0] == -signal.SIGKILL
    for code, line in ended.values():
        assert code == 1 and line.startswith(f"error: rank {gone} (127.0.0.1:") and "is gone" in line


@pytest.mark.parametrize("gone", [0, 1])
@needs_proc
def test_watch_names_a_rank_that_was_stopped(gone):
    """And ends it, so that a launcher does not wait for it for ever."""
    began = time.monotonic()
    ended = run_watched(f"if rank == {gone}: os.kill(os.getpid(), signal.SIGSTOP)")
    assert time.monotonic() - began > 4
    assert ended[gone][0] == -signal.SIGKILL
    for _, line in ended.values():
        assert line.startswith(f"error: rank {gone} (127.0.0.1:") and "has not answered for 4 s: it is stopped" in line
    assert [code for rank, (code, _) in ended.items() if rank != gone] == [1, 1]


def test_watch_ends_a_rank_whose_sentinel_is_gone():
    ended = run_watched("if rank == 0: os.kill(watch._watch.sentinel.pid, signal.SIGKILL)")
    assert ended[0] == (1, "error: the process that watched the other ranks for this one is gone")
    for rank in (1, 2):
        assert ended[rank][0] == 1 and ended[rank][1].startswith("error: rank 0 (")


def test_watch_ends_a_rank_in_which_no_thread_runs(tmp_path):
    """As in some of Paddle's waits. Here calls of the C library keep the interpreter to themselves, and no other thread
    gets it between them."""
    ended = run_watched("import ctypes\n"
                        "if rank == 0:\n"
                        "    sys.setswitchinterval(1000)\n"
                        f"    ctypes.PyDLL(None).creat({str(tmp_path / 'asleep').encode()}, 0o600)\n"
                        "    ctypes.PyDLL(None).sleep(40)\n"
                        "if rank == 2:\n"
                        f"    while not os.path.exists({str(tmp_path / 'asleep')!r}): time.sleep(0.01)\n"
                        "    os.kill(os.getpid(), signal.SIGKILL)")
    assert ended[0][0] == -signal.SIGKILL and ended[1][0] == 1
    assert all(line.startswith("error: rank 2 (") for code, line in ended.values())


def test_watch_is_not_fooled_by_a_worker_that_lives_on(tmp_path):
    """A DataLoader worker is a fork with the same connections. Here it lives until the others have ended."""
    ended = run_watched("if rank == 1:\n"
                        "    if os.fork() == 0:\n"
                        "        os.close(1); os.close(2)\n"
                        f"        while not os.path.exists({str(tmp_path / 'ended')!r}): time.sleep(0.05)\n"
                        "        os._exit(0)\n"
                        "    os.kill(os.getpid(), signal.SIGKILL)", after=(tmp_path / "ended").touch)
    assert ended[0][0] == 1 and "rank 1 (" in ended[0][1]


def test_watch_tells_the_error_of_another_rank():
    ended = run_watched("if rank == 2: watch.fail('the label street.png has a pixel of 33')")
    assert ended[2] == (1, "error: the label street.png has a pixel of 33")
    for rank in (0, 1):
        code, line = ended[rank]
        assert code == 1 and line.startswith("error: rank 2 (")
        assert "ended: the label street.png has a pixel of 33" in line


@needs_proc
def test_watch_tells_of_the_lost_rank_rather_than_of_what_follows(tmp_path):
    """The collective that a lost rank breaks raises first on those that remain. The one that is lost is stopped before,
    so that it gives no more sign of life."""
    pid = str(tmp_path / "pid")
    ended = run_watched("import threading\n"
                        "if rank == 1:\n"
                        f"    with open('{pid}_', 'w') as file: file.write(str(os.getpid()))\n"
                        f"    os.rename('{pid}_', '{pid}')\n"
                        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
                        f"while not os.path.exists('{pid}'): time.sleep(0.01)\n"
                        f"lost = int(open('{pid}').read())\n"
                        "def state(): return open(f'/proc/{lost}/stat').read().rsplit(')', 1)[1].split()[0]\n"
                        "while state() != 'T': time.sleep(0.01)\n"
                        "if rank == 0: threading.Timer(0.3, os.kill, [lost, signal.SIGKILL]).start()\n"
                        "watch.fail('Connection reset by peer')")
    assert "rank 1 (" in ended[0][1] and "is gone" in ended[0][1] and ended[0][0] == 1


@pytest.mark.parametrize("missing", [0, 2])
def test_watch_names_a_rank_that_never_starts(missing):
    ended = run_watched("", ranks=[rank for rank in range(3) if rank != missing], timeout=4)
    for code, line in ended.values():
        assert code == 1 and line.startswith(f"error: rank {missing} (127.0.0.1:")
        assert "did not start within 4 s" in line and "FLAGS_stop_check_timeout" in line


def test_ranks_that_finish_one_after_the_other_are_left_in_peace():
    ended = run_watched("watch.meet(); time.sleep(0.3 * ((rank + 1) % 3)); watch.meet = lambda: None")
    assert list(ended.values()) == [(0, "finished")] * 3


@pytest.mark.parametrize("early", [0, 1])
def test_a_rank_that_ends_before_the_others_are_done_is_named(early):
    """As one that was interrupted in its part of an evaluation; the others would wait for ever."""
    ended = run_watched(f"if rank == {early}: watch.meet(); sys.exit()\nwatch.meet()")
    assert ended.pop(early)[0] in (0, 1)
    for code, line in ended.values():
        assert code == 1 and line.startswith(f"error: rank {early} (") and "ended before the others were done" in line


# --- synchronised BatchNorm ------------------------------------------------------------------------------------------

@pytest.fixture
def model(small_config):
    return SegBuilder(Config(str(small_config))).model


def test_every_batchnorm_is_synchronised_on_gpus(model):
    """The kernel runs on GPUs only; the conversion runs anywhere."""
    norms = {name: layer for name, layer in model.named_sublayers()
             if isinstance(layer, paddle.nn.layer.norm._BatchNormBase)}
    state = {name: tensor for name, tensor in model.state_dict().items()}
    assert type(norms["enc_module.encoding.1"]) is paddle.nn.BatchNorm1D and len(norms) > 20

    converted = Ranks(0, 4).synchronise(model, "gpu:0")
    layers = dict(converted.named_sublayers())
    for name, norm in norms.items():
        assert type(layers[name]) is paddle.nn.SyncBatchNorm, name
        assert (layers[name]._momentum, layers[name]._epsilon) == (norm._momentum, norm._epsilon)
        layers[name]._check_data_format()       # what its forward does first: NCL becomes NCHW
        assert layers[name]._data_format == "NCHW"
    # The optimiser that was built before goes on with the same tensors, a checkpoint has the same names.
    assert list(converted.state_dict()) == list(state)
    for name, tensor in converted.state_dict().items():
        assert tensor is state[name], name


@pytest.mark.parametrize("count, device", [(1, "gpu"), (4, "cpu"), (4, "xpu:0")])
def test_batchnorm_is_left_alone_elsewhere(model, count, device):
    kinds = [type(layer) for layer in model.sublayers()]
    assert [type(layer) for layer in Ranks(0, count).synchronise(model, device).sublayers()] == kinds
    assert paddle.nn.SyncBatchNorm not in kinds


@pytest.mark.parametrize("name", ["banana", "cuda", "gpu:x", "gpu:", ":0", "CPU"])
def test_a_device_that_no_paddle_has(name):
    before = paddle.get_device()
    with pytest.raises(ValueError, match=f"the device is '{name}': it must be cpu, gpu, xpu, "):
        devices.select_device(name)
    assert paddle.get_device() == before


def synchronised(parts, gradients, weight, bias, epsilon):
    """What sync_batch_norm does with x [B, K, C] on each rank, layout NCHW: K are the channels, C stands for H and W.

    Each rank gives the means of x and x^2 over its B and C, these are averaged over the ranks; backward, the sums of dy
    and dy (x - mean) likewise. Returns outputs and input gradients by rank, and the sums for weight and bias.
    """
    def column(values):
        return values[None, :, None]
    axes = (0, 2)
    mean = np.mean([x.mean(axes) for x in parts], axis=0)
    variance = np.mean([(x * x).mean(axes) for x in parts], axis=0) - mean * mean
    inverse = 1 / np.sqrt(variance + epsilon)
    normal = [(x - column(mean)) * column(inverse) for x in parts]
    outputs = [column(weight) * x + column(bias) for x in normal]
    count = parts[0].size / parts[0].shape[1]
    sum_dy = np.mean([dy.sum(axes) for dy in gradients], axis=0)
    sum_dy_x = np.mean([(dy * x).sum(axes) for dy, x in zip(gradients, normal)], axis=0)
    inputs = [column(weight * inverse) * (dy - column(sum_dy / count) - x * column(sum_dy_x / count))
              for dy, x in zip(gradients, normal)]
    return outputs, inputs, len(parts) * sum_dy_x, len(parts) * sum_dy


@pytest.mark.parametrize("ranks, dtype, bound", [(2, "float64", 1e-12), (4, "float64", 1e-12), (4, "float32", 1e-5)])
def test_synchronised_statistics_over_codewords_are_those_of_one_process(ranks, dtype, bound):
    """On vectors that an Encoding layer gave. In float32 the kernel's E[x^2] - E[x]^2 loses digits, but few."""
    from paddleseg_encnet import Encoding
    paddle.seed(3)
    with paddle.no_grad():
        encoded = Encoding(64, 8)(paddle.nn.functional.relu(paddle.randn([2 * ranks, 64, 12, 20]))).astype(dtype)
    encoded.stop_gradient = False
    norm = paddle.nn.BatchNorm1D(8)
    norm.to(dtype=dtype)
    norm.weight.set_value(paddle.linspace(0.5, 2, 8).astype(dtype))
    norm.bias.set_value(paddle.linspace(-1, 1, 8).astype(dtype))
    output = norm(encoded)
    gradient = paddle.randn(output.shape).astype(dtype)
    output.backward(gradient)

    outputs, inputs, weight, bias = synchronised(
        np.split(encoded.numpy(), ranks), np.split(gradient.numpy(), ranks), norm.weight.numpy(), norm.bias.numpy(),
        np.float32(norm._epsilon))      # the operation takes it as float32
    assert relative_difference(np.concatenate(outputs), output.numpy()) < bound
    assert relative_difference(np.concatenate(inputs), encoded.grad.numpy()) < bound
    assert relative_difference(weight, norm.weight.grad.numpy()) < bound
    assert relative_difference(bias, norm.bias.grad.numpy()) < bound


# --- the recipe's batch ----------------------------------------------------------------------------------------------

def settings(batch_size=2, **more) -> dict:
    return {"batch_size": batch_size, "iters": 80000, **more, "lr_scheduler": {
        "type": "PolynomialDecay", "learning_rate": 0.01, "end_lr": 0.0, "warmup_start_lr": 0.001}}


@pytest.mark.parametrize("batch_size, devices, scale_lr, rate, parts", [
    (2, 4, False, 0.01, ["2 on each of 4 devices, 8 in all, as in the recipe", "learning rate 0.01"]),
    (2, 4, True, 0.01, ["8 in all, as in the recipe"]),
    (2, 1, False, 0.01, ["Batch: 2;", "the recipe has 8", "--scale_lr multiplies it by 0.25", "--iters 320000"]),
    (2, 1, True, 0.0025, ["Batch: 2;", "0.0025 here", "--iters 320000"]),
    (2, 16, True, 0.04, ["32 in all", "0.04 here", "--iters 20000"])])
def test_batch_and_learning_rate_against_the_recipe(batch_size, devices, scale_lr, rate, parts):
    config = settings(batch_size, base_batch_size=8)
    line = batch_recipe.settle_batch(config, devices, scale_lr)
    for part in parts:
        assert part in line
    schedule = config["lr_scheduler"]
    assert schedule["learning_rate"] == pytest.approx(rate)
    assert schedule["warmup_start_lr"] == pytest.approx(rate / 10) and schedule["end_lr"] == 0


def test_without_the_recipes_batch():
    config = settings()
    assert "names no base_batch_size" in batch_recipe.settle_batch(config, 4)
    with pytest.raises(ValueError, match="--scale_lr needs base_batch_size"):
        batch_recipe.settle_batch(config, 4, scale_lr=True)


@pytest.mark.parametrize("wrong", [0, -8, "8", 2.5])
def test_recipes_batch_that_is_no_batch(wrong):
    with pytest.raises(ValueError, match="base_batch_size in the config must be a positive whole number"):
        batch_recipe.settle_batch(settings(base_batch_size=wrong), 4)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yml")), ids=lambda path: path.stem)
def test_every_config_names_the_batch_of_its_learning_rate(path):
    assert batch_recipe.base_batch_size(Config(str(path)).dic) is not None


def test_scaled_rate_is_what_the_training_uses(small_config, run_tool, tmp_path, capsys):
    run_tool("train", "--config", small_config, "--batch_size", 1, "--iters", 1, "--log_iters", 1, "--scale_lr",
             "--save_dir", tmp_path, "--opts", "base_batch_size=4", "lr_scheduler.warmup_start_lr=0.008")
    output = capsys.readouterr().out
    assert "the recipe has 4 and learning rate 0.05. By the linear rule it is 0.0125 here (--scale_lr)" in output
    assert "iter: 1/1" in output and "lr: 0.002000" in output
