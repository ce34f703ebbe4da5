"""Weights into a network that amp.decorate() has cast: its state_dict() holds copies, which are not to be filled."""

import half_run
import numpy as np
import paddle

from paddleseg_encnet.weights import checkpoint


def test_the_parameters_themselves_are_filled():
    layer, _ = half_run.decorate(paddle.nn.Sequential(paddle.nn.Linear(3, 2), paddle.nn.BatchNorm1D(2)), level="O2",
                                 save_dtype="float32")
    state = {name: np.full(value.shape, 0.75, np.float32) for name, value in layer.state_dict().items()}
    report = checkpoint.fill_layer(layer, state)
    assert len(report.loaded) == 6 and not report.missing
    assert layer[0].weight.dtype == paddle.float16
    for name, value in half_run.tensors(layer).items():
        assert (value == 0.75).all(), name
