"""Context encoding in mixed precision: float32 from the features to the context, whatever casts the network around."""

import contextlib

import half_run
import launched
import numpy as np
import paddle
import pytest
from conftest import relative_difference

from paddleseg_encnet.models import codebook, encoding
from paddleseg_encnet.models.cifar_resnet import EncodingAttention
from paddleseg_encnet.models.encnet import ContextEncoder
from paddleseg_encnet.models.encoding import Encoding
from paddleseg_encnet.runtime.devices import Precision
from paddleseg_encnet.training.training_loop import Parts, Schedule, train_network

LARGEST_HALF = 65504


def taking_all(encoder: ContextEncoder) -> Encoding:
    """Its layer, with codewords at zero of which the first takes every position."""
    layer = encoder.encoding[0]
    layer.codewords.set_value(paddle.zeros_like(layer.codewords))
    layer.scale.set_value(paddle.to_tensor([-1e-4] + [-1.0] * (layer.num_codes - 1)))
    return layer


@pytest.fixture(scope="module")
def features():
    """Of 2048 x 1024 at stride 8: channels of mean 2.3, float16 [1, 512, 128, 256]."""
    values = np.random.default_rng(1).random(size=(1, 512, 128, 256), dtype=np.float32)
    return paddle.to_tensor(values + 1.8).astype("float16")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("training", [True, False])
def test_the_largest_sums_are_finite(training, reduction, features):
    encoder = ContextEncoder(8, 512, 4, reduction)
    encoder.training = encoder.encoding.training = encoder.encoding[0].training = training
    encoder.encoding[1].training = training
    layer = taking_all(encoder)
    with paddle.no_grad():
        codes, context = layer(features), encoder.context_of(features)
    assert codes.dtype == context.dtype == paddle.float32
    assert float(codes.max()) > LARGEST_HALF            # what this is about
    assert np.isfinite(codes.astype("float16").numpy()).all() == False      # noqa: E712   as it was returned before
    assert np.isfinite(context.numpy()).all() and list(context.shape) == [1, 512]
    with paddle.no_grad():
        assert relative_difference(context, encoder.context_of(features.astype("float32"))) < 1e-6


def test_the_gradient_of_the_largest_sums_is_finite(features):
    encoder = ContextEncoder(8, 512, 4)
    taking_all(encoder)
    x = features.detach()
    x.stop_gradient = False
    encoder.context_of(x).sum().backward()
    assert x.grad.dtype == paddle.float16 and np.isfinite(x.grad.numpy()).all()
    assert np.isfinite(encoder.encoding[0].codewords.grad.numpy()).all()


def test_global_pooling_is_float32():
    context = ContextEncoder(8, 16, 0).context_of(paddle.full([1, 16, 4, 4], 3, "float16"))
    assert context.dtype == paddle.float32 and (context.numpy() == 3).all()


@pytest.fixture
def casting(monkeypatch):
    """A list whose last entry says whether automatic casts are on, as an operation would find it on a GPU."""
    states = [False]

    @contextlib.contextmanager
    def auto_cast(enable=True, **_):
        states.append(enable)
        try:
            yield
        finally:
            states.pop()
    monkeypatch.setattr(paddle.amp, "auto_cast", auto_cast)
    return states


def of_encnet():
    encoder = ContextEncoder(16, 16, 4)
    return encoder.encode, encoder.encoding.children()


def of_cifar():
    attention = EncodingAttention(16, 4)
    return attention, list(attention.children())[3:6]


@pytest.mark.parametrize("of", [of_encnet, of_cifar])
def test_no_cast_reaches_encoding_norm_and_relu(of, casting):
    found, (module, layers) = [], of()
    for layer in layers:
        layer.register_forward_pre_hook(lambda layer, inputs: found.append((type(layer), casting[-1])))
    with paddle.amp.auto_cast():
        module(paddle.randn([2, 16, 3, 3]))
    assert found == [(Encoding, False), (paddle.nn.BatchNorm1D, False), (paddle.nn.ReLU, False)]


def test_no_cast_reaches_how_a_codebook_is_used(casting, monkeypatch):
    found, assign = [], encoding.assign
    monkeypatch.setattr(encoding, "assign", lambda *tensors: found.append(
        (casting[-1], {each.dtype for each in tensors})) or assign(*tensors))
    layer = Encoding(8, 4)
    layer.to(dtype="float16")
    with paddle.amp.auto_cast():
        assignment = codebook.assign_to_mean(layer, paddle.randn([1, 8, 3, 3]).astype("float16"))
    assert found == [(False, {paddle.float32})] and assignment.dtype == paddle.float32


def test_in_a_training_with_o2_the_layer_stays_float32(small_config, tmp_path):
    """What the training makes of the network at its start, before the first step."""
    class Started(Exception):
        pass

    def stop(*_):
        raise Started
    model, optimizer, losses, dataset = launched.parts(small_config)
    model.register_forward_pre_hook(stop)
    with half_run.on_the_cpu(), pytest.raises(Started):
        train_network(Parts(model, optimizer, losses, dataset), Schedule(1), str(tmp_path), use_ema=True,
                      precision=Precision("fp16", "O2"))
    encoder = model.enc_module
    types = {name: value.dtype for name, value in half_run.tensors(encoder).items()}
    assert types["encoding_project._conv.weight"] == np.float16
    assert {name: kind for name, kind in types.items() if name.startswith("encoding.") and kind != np.float32} == {}


@pytest.mark.parametrize("excluded", [None, [Encoding]])
def test_a_codebook_on_features_is_placed_after_a_cast(excluded):
    """Rounding its start to float16, as PaddleSeg's own loop has it, is no change of it."""
    paddle.seed(2)
    encoder = ContextEncoder(8, 16, 4, codebook_start="features")
    layer = encoder.encoding[0]
    half_run.decorate(encoder, level="O2", save_dtype="float32", excluded_layers=excluded)
    layer.train()
    layer(paddle.randn([2, 16, 12, 12]).astype("float16"))
    factors = layer.scale.astype("float32").numpy()
    assert len(set(factors.tolist())) == 1 and factors[0] < 0
    assert np.linalg.norm(layer.codewords.astype("float32").numpy(), axis=1).min() > 0.5
