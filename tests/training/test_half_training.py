"""Mixed precision in a training, with the types that level O2 gives the parameters: --precision fp16 --amp_level O2."""

import half_run
import numpy as np
import paddle
import pytest
import ranks_on_cpu
import tiny_run

from paddleseg_encnet.runtime.devices import Precision
from paddleseg_encnet.training.finite import NotFinite
from paddleseg_encnet.weights import checkpoint


def test_the_moving_average_is_of_float32(scenes, tmp_path):
    """After two steps it is the mean of the weights at the start, after the first and after the second."""
    seen, model = half_run.run(scenes, tmp_path, 2)
    with half_run.on_the_cpu():
        start = {name: value.numpy() for name, value in tiny_run.parts(scenes)[0].state_dict().items()}
    after = half_run.tensors(model)
    assert seen[1]["head.weight"].dtype == after["head.weight"].dtype == np.float16
    average = checkpoint.read_weights(tmp_path / "iter_2" / "ema_model.pdparams")
    for name in ("head.weight", "features.0.weight"):
        assert average[name].dtype == np.float32
        expected = (start[name] + seen[1][name].astype(np.float32) + after[name].astype(np.float32)) / 3
        np.testing.assert_allclose(average[name], expected, atol=1e-6)
        assert np.abs(after[name] - start[name]).max() > 1e-3
    assert (tmp_path / "ema_best_model").is_dir()


def test_resumed_it_goes_on_to_the_bit(scenes, tmp_path):
    half_run.run(scenes, tmp_path / "parts", 2)
    half_run.run(scenes, tmp_path / "parts", 4, resume_model="auto")
    half_run.run(scenes, tmp_path / "whole", 4)
    for name in ("model", "ema_model"):
        parts, whole = (checkpoint.read_weights(tmp_path / run / "iter_4" / f"{name}.pdparams")
                        for run in ("parts", "whole"))
        assert [key for key in whole if not np.array_equal(parts[key], whole[key])] == []


def test_two_ranks_have_the_first_ones_weights(tmp_path):
    """And running values of BatchNorm: before an evaluation, and after a codebook was placed."""
    done = ranks_on_cpu.launch(tmp_path, half_run.__file__, tmp_path, threads="1")
    assert (tmp_path / "rank_1.npz").exists(), done.stdout
    second = np.load(tmp_path / "rank_1.npz")
    assert second["head.weight"].dtype == np.float16 and "features.1._mean" in second.files
    assert [name for name in second.files if (second[name] != 1).any()] == []


@pytest.mark.parametrize("precision, said", [("fp32", False), ("fp16", True)])
def test_a_loss_that_is_not_finite_names_half_precision(precision, said, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(Precision, "context", lambda self: half_run.contextlib.nullcontext())
    with pytest.raises(NotFinite) as broken:
        tiny_run.run(scenes, tmp_path, iters=2, precision=Precision(precision), evaluate=False,
                     loss=lambda logit, label: logit.mean() * paddle.to_tensor(float("inf")))
    assert ("or with --precision fp32, as float16 ends at 65504" in str(broken.value)) == said
