"""Gradients clipped by norm, from the config: `grad_clip_cfg: {name: ClipGradByGlobalNorm, clip_norm: 10.0}`."""

import numpy as np
import paddle
import pytest
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.utils import utils


def global_norm(gradients: dict, limit: float) -> dict:
    norm = np.sqrt(sum((gradient ** 2).sum() for gradient in gradients.values()))
    return {name: gradient * min(1, limit / norm) for name, gradient in gradients.items()}


def norm_of_each(gradients: dict, limit: float) -> dict:
    return {name: gradient * min(1, limit / max(np.sqrt((gradient ** 2).sum()), 1e-30))
            for name, gradient in gradients.items()}


@pytest.mark.parametrize("name, limit, clip", [
    ("ClipGradByGlobalNorm", 0.05, global_norm), ("ClipGradByGlobalNorm", 1e4, global_norm),
    ("ClipGradByNorm", 0.01, norm_of_each)])
def test_clipped_step_is_that_of_numpy(small_config, tmp_path, name, limit, clip):
    """One step of the recipe's optimiser, momentum and weight decay included, in float64. Float32 keeps seven digits of
    a weight, and steps are up to a thousand times smaller."""
    config = tmp_path / "clipped.yml"
    config.write_text(f"_base_: {small_config}\noptimizer: {{grad_clip_cfg: {{name: {name}, clip_norm: {limit}}}}}\n")
    utils.set_seed(0)
    parts = SegBuilder(Config(str(config)))
    model, optimizer = parts.model, parts.optimizer
    sum(output.mean() for output in model(paddle.randn([2, 3, 32, 32]))).backward()
    trained = {key: p for key, p in model.named_parameters() if not p.stop_gradient and p.grad is not None}
    before = {key: p.numpy().astype("float64") for key, p in trained.items()}
    gradients = {key: p.grad.numpy().astype("float64") for key, p in trained.items()}
    optimizer.step()
    clipped = clip(gradients, limit)
    assert (name, limit) == ("ClipGradByGlobalNorm", 1e4) or max(
        np.abs(clipped[key] - gradients[key]).max() for key in trained) > 1e-3, "nothing was clipped"
    for key, p in trained.items():
        expected = before[key] - optimizer.get_lr() * (clipped[key] + 5e-4 * before[key])
        assert np.abs(p.numpy() - expected).max() <= 2e-7 * max(1, np.abs(expected).max()), key


@pytest.mark.parametrize("norm", ["0", "-1.0", ".inf", ".nan", "many", "null", "true"])
def test_norm_that_is_none(small_config, tmp_path, run_tool, norm):
    config = tmp_path / "clipped.yml"
    config.write_text(f"_base_: {small_config}\n"
                      f"optimizer: {{grad_clip_cfg: {{name: ClipGradByGlobalNorm, clip_norm: {norm}}}}}\n")
    with pytest.raises(SystemExit, match="error: optimizer.grad_clip_cfg has clip_norm .*above 0"):
        run_tool("train", "--config", config, "--save_dir", tmp_path / "out")
