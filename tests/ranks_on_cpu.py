"""Two ranks on the CPU, over gloo."""

import os
import pathlib
import subprocess
import sys
from typing import Callable

import launched
import numpy as np
import paddle
from conftest import relative_difference


def launch(folder: pathlib.Path, *command, threads: str = "") -> subprocess.CompletedProcess:
    """Runs a script of Python with its arguments; each rank writes to folder/log/workerlog.<rank>.

    PaddleSeg sets CUDA_VISIBLE_DEVICES to nothing when it lists the environment, as an earlier test may have made it.
    """
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PADDLE_", "OMP_", "CUDA_"))}
    if threads:
        env["OMP_NUM_THREADS"] = threads
    return subprocess.run(
        [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo", "--log_dir",
         folder / "log", *map(str, command)], env=env, cwd=folder, capture_output=True, text=True)


def recorded(folder: pathlib.Path, done: subprocess.CompletedProcess) -> list:
    """What `launched.py train` has left of each rank."""
    assert (folder / "rank1.npz").exists(), done.stdout
    return [np.load(folder / f"rank{rank}.npz") for rank in (0, 1)]


def assert_averaged(ranks: list, config, steps: int, add_gradients: Callable):
    """Their parameters are those of one process that takes the two images of each rank one after the other, and steps
    along the mean of their gradients. add_gradients(model, losses, batch): of a rank's two images."""
    model, optimizer, losses, dataset = launched.parts(config)
    # BatchNorm's statistics are parameters too in Paddle; each rank has its own on the CPU.
    parameters = {name: value for name, value in model.named_parameters() if not value.stop_gradient}
    start = {name: value.numpy().copy() for name, value in parameters.items()}
    model.train()
    for step in range(steps):
        gradients = []
        for rank in ranks:
            samples = [dataset[int(index)] for index in rank["asked"][2 * step:2 * step + 2]]
            add_gradients(model, losses, {key: paddle.to_tensor(np.stack([sample[key] for sample in samples]))
                                          for key in ("img", "label")})
            gradients.append({name: value.grad.numpy() for name, value in parameters.items()})
            model.clear_gradients()
        for name, value in parameters.items():
            value.grad = paddle.to_tensor((gradients[0][name] + gradients[1][name]) / 2)
        optimizer.step()
        model.clear_gradients()
        optimizer._learning_rate.step()
    for name, value in parameters.items():
        np.testing.assert_array_equal(ranks[0][name], ranks[1][name], err_msg=name)
        # The same sums in the same order; 1e-6 allows for another order in the all-reduce.
        assert relative_difference(ranks[0][name], value.numpy()) < 1e-6, name
        assert np.abs(ranks[0][name] - start[name]).max() > 0, f"{name} did not move: this test shows nothing"
