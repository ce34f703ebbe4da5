"""Mixed precision of level O2 as far as a CPU goes: types of parameters and hooks as on a GPU, arithmetic in float32.

    half_run.py FOLDER      one of several ranks: has weights of its own, then the first one's; leaves rank_<R>.npz
"""

import contextlib
import importlib
import sys
from unittest import mock

import paddleseg_encnet  # noqa: F401

# isort: split

import numpy as np
import paddle
import paddle.nn.functional as F
import tiny_run
from paddleseg.models.losses import CrossEntropyLoss

from paddleseg_encnet.runtime.devices import Precision, Ranks
from paddleseg_encnet.training import training_loop

amp = importlib.import_module("paddle.amp.auto_cast")       # paddle.amp.auto_cast is the function of this name


def decorate(models, optimizers=None, level="O1", save_dtype=None, excluded_layers=None):
    """What paddle.amp.decorate does on a GPU; on a CPU it does nothing."""
    if level == "O2":
        amp.amp_initialize([models], "float16", excluded_layers)
        for layer in models.sublayers(include_self=True):
            layer.register_state_dict_hook(amp.StateDictHook(save_dtype))
    return models, optimizers


class HalfTiny(tiny_run.Tiny):
    """Computes with what its parameters are in float32; the CPU has no convolutions of half precision."""

    def forward(self, images):
        convolution, norm, relu, dropout = self.features
        return [self.apply(self.head, dropout(relu(norm(self.apply(convolution, images, padding=1)))))]

    def apply(self, layer, x, padding=0):
        return F.conv2d(x, layer.weight.astype("float32"), layer.bias.astype("float32"), padding=padding)


class HalfSGD(paddle.optimizer.SGD):
    """Rounds after each step; the CPU has no optimiser of half precision."""

    @paddle.no_grad()
    def step(self):
        for parameter in self._parameter_list:
            if parameter.grad is not None:
                moved = parameter.astype("float32") - self.get_lr() * parameter.grad.astype("float32")
                parameter.set_value(moved.astype(parameter.dtype))


@contextlib.contextmanager
def on_the_cpu():
    """Within it O2 casts here too."""
    with mock.patch.object(paddle.amp, "decorate", decorate), mock.patch.object(tiny_run, "Tiny", HalfTiny), \
            mock.patch.object(Precision, "context", lambda self: contextlib.nullcontext()):
        yield


def run(scenes, save_dir, iters, save_interval=2, **options):
    """Trains with O2 and a moving average; the weights before each step, and the model."""
    seen = []
    with on_the_cpu():
        model, data, val, _ = tiny_run.parts(scenes)
        model.register_forward_pre_hook(lambda layer, inputs: seen.append(tensors(layer)) if layer.training else None)
        optimizer = HalfSGD(0.05, parameters=model.parameters())
        losses = {"types": [CrossEntropyLoss(ignore_index=255)], "coef": [1]}
        training_loop.train_network(
            training_loop.Parts(model, optimizer, losses, data, val),
            training_loop.Schedule(iters, save_interval, log_iters=1000, batch_size=2, accum_steps=1), str(save_dir),
            precision=Precision("fp16", "O2"), use_ema=True, **options)
    return seen, model


def tensors(layer) -> dict:
    """Parameters and running values, as they are."""
    return {name: tensor.numpy() for name, tensor in layer.state_dict(use_hook=False).items()}


if __name__ == "__main__":
    paddle.set_device("cpu")
    ranks = Ranks.join()
    model, _ = decorate(HalfTiny(), level="O2", save_dtype="float32")
    for tensor in model.state_dict(use_hook=False).values():
        tensor.set_value(paddle.full_like(tensor, 1 + ranks.rank))
    ranks.broadcast_weights(model)
    np.savez(f"{sys.argv[1]}/rank_{ranks.rank}.npz", **tensors(model))
