"""ENCNet against PaddleSeg's ENCNet with the same weights."""

import numpy as np
import paddle
import pytest
from conftest import relative_difference
from networks import scrambled
from paddleseg.models.backbones import ResNet18_vd, ResNet50_vd
from paddleseg.models.encnet import ENCNet as StockENCNet

from paddleseg_encnet import ENCNet
from paddleseg_encnet.models.resizing import bilinear

# Both compute the same sums in float32 in another order; what was measured stands in docs/results.md.
TOLERANCE = 1e-4


def pair(backbone=ResNet18_vd, **options):
    """Ours and the stock network with the same weights, normalisation included, in which nothing is 0 or 1."""
    own, stock = (kind(7, backbone(output_stride=8), **options) for kind in (ENCNet, StockENCNet))
    own.set_state_dict(scrambled(stock).state_dict())
    return own, stock


def outputs(network, images):
    paddle.seed(0)      # dropout in the auxiliary head
    with paddle.no_grad():
        return network(paddle.to_tensor(images))


@pytest.mark.parametrize("options", [
    dict(num_codes=8, mid_channels=32), dict(num_codes=8, mid_channels=32, add_lateral=True),
    dict(num_codes=1, mid_channels=16, use_se_loss=False), dict(backbone=ResNet50_vd, add_lateral=True)])
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_stock_model(options, training, record_property):
    own, stock = pair(**options)
    images = np.random.default_rng(1).normal(size=(2, 3, 43, 61)).astype("float32")     # no multiple of 8
    for network in (own, stock):
        network.train() if training else network.eval()
    ours, theirs = outputs(own, images), outputs(stock, images)
    assert len(ours) == len(theirs) == (1 if not training else 3 if options.get("use_se_loss", True) else 2)
    differences = [relative_difference(a, b) for a, b in zip(ours, theirs)]
    record_property("relative_difference", max(differences))
    print(f"largest relative difference {max(differences):.1e}")
    assert max(differences) < TOLERANCE


def test_names_and_shapes_are_the_stock_models():
    own, stock = pair(num_codes=8, mid_channels=32, add_lateral=True)
    shapes = [{name: tuple(value.shape) for name, value in network.state_dict().items()} for network in (own, stock)]
    assert shapes[0] == shapes[1]


def test_default_arguments_are_the_stock_models():
    import inspect
    own, stock = (inspect.signature(each.__init__).parameters for each in (ENCNet, StockENCNet))
    assert list(own)[:len(stock)] == list(stock)
    for name in stock:
        a, b = own[name].default, stock[name].default
        assert (list(a) if isinstance(a, tuple) else a) == b, name


def test_gradients_equal_the_stock_models():
    own, stock = pair(num_codes=4, mid_channels=16, add_lateral=True)
    images = np.random.default_rng(1).normal(size=(2, 3, 40, 48)).astype("float32")
    for network in (own, stock):
        network.train()
        paddle.seed(0)
        sum((output ** 2).mean() for output in network(paddle.to_tensor(images))).backward()
    # Deep in the backbone gradients are sums over everything behind them: compare whole vectors, not single numbers.
    trained = [(name, a, b) for (name, a), b in zip(own.named_parameters(), stock.parameters()) if not b.stop_gradient]
    assert len(trained) > 50
    for name, a, b in trained:
        difference = np.linalg.norm(a.grad.numpy() - b.grad.numpy())
        assert difference <= 1e-3 * np.linalg.norm(b.grad.numpy()) + 1e-6, name


def test_trains_as_a_static_graph():
    """tools/train.py --to_static_training. Without the auxiliary head, whose dropout draws other numbers there."""
    network = ENCNet(5, ResNet18_vd(output_stride=16), mid_channels=8, num_codes=4, add_lateral=True,
                     use_aux_loss=False)
    images = paddle.to_tensor(np.random.default_rng(1).normal(size=(2, 3, 40, 48)).astype("float32"))
    found = []
    for as_static in (False, True):
        outputs = (paddle.jit.to_static(network) if as_static else network)(images)
        sum((output ** 2).mean() for output in outputs).backward()
        parts = (network.head, network.lateral_convs[0]._conv, network.lateral_convs[1]._conv, network.se_layer)
        found.append([output.numpy() for output in outputs] + [part.weight.grad.numpy() for part in parts])
        network.clear_gradients()
    for dynamic, static in zip(*found):
        assert relative_difference(static, dynamic) < TOLERANCE


def test_laterals_that_have_the_size_are_left_as_they_are(monkeypatch):
    """At stride 8 all of them: resizing them would give the same numbers."""
    network = ENCNet(7, ResNet18_vd(output_stride=8), num_codes=4, mid_channels=16, add_lateral=True)
    network.eval()
    images = np.random.default_rng(1).normal(size=(1, 3, 40, 56)).astype("float32")
    resized = []
    monkeypatch.setattr(ENCNet, "resize", lambda self, x, size: resized.append(x.shape) or bilinear(
        x, size, self.align_corners))
    once = outputs(network, images)[0].numpy()
    assert resized == [[1, 7, 5, 7]]        # the logits, to the image's size
    monkeypatch.setattr(ENCNet, "resize_like", lambda self, x, other: self.resize(x, paddle.shape(other)[2:]))
    assert np.array_equal(outputs(network, images)[0].numpy(), once) and len(resized) == 4


def test_registered_under_paddlesegs_name():
    from paddleseg.cvlibs import manager
    assert manager.MODELS["ENCNet"] is ENCNet
    assert manager.MODELS["Encoding"] is not None
