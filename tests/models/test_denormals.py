"""No number that a training step or an inference computes is denormal."""

import cv2
import numpy as np
import paddle
import pytest
from conftest import ROOT
from denormals import Denormals, denormals

from paddleseg_encnet import SELoss
from paddleseg_encnet.config import building
from paddleseg_encnet.models.encnet import Attention
from paddleseg_encnet.models.losses import compute_losses
from paddleseg_encnet.weights import checkpoint

CONFIG = ROOT / "configs" / "encnet_lite0_camvid_480x360.yml"
WEIGHTS = ROOT / "weights" / "encnet_lite0_camvid.safetensors"
MOMENTUM, ADAMW = "momentum", "adamw"


def scaled(parameter, factor):
    parameter.set_value(parameter * factor)


def nothing(network):
    pass


def far_from_the_codewords(network):
    """Features 30 times as long: one codeword takes all of a position."""
    scaled(network.enc_module.encoding_project._batch_norm.weight, 30)


def sure_of_each_pixel(network):
    """Logits up to thousands."""
    scaled(network.head.weight, 300)


def sure_of_presence(network):
    """Presence logits to -100 and beyond."""
    scaled(network.se_layer.weight, 30)


def attentive(network):
    """Attention logits to -100 and beyond."""
    scaled(network.enc_module.fc[0].weight, 100)


@pytest.fixture(scope="module")
def images():
    """A street and its mirror image, [2, 3, 64, 96]."""
    street = cv2.resize(cv2.imread(str(ROOT / "docs" / "images" / "street.jpg")), (96, 64))[..., ::-1]
    both = np.stack([street, street[:, ::-1]]).transpose(0, 3, 1, 2)
    return paddle.to_tensor(both.astype("float32") / 127.5 - 1)


@pytest.mark.parametrize("trained, start, change, kind", [
    (True, "published", nothing, MOMENTUM), (True, "published", nothing, ADAMW),
    (False, "published", nothing, MOMENTUM), (False, "features", nothing, ADAMW),
    (True, "published", far_from_the_codewords, MOMENTUM), (True, "published", sure_of_each_pixel, MOMENTUM),
    (True, "published", sure_of_presence, ADAMW), (True, "published", attentive, MOMENTUM)])
def test_no_number_is_denormal(trained, start, change, kind, images):
    paddle.seed(1)
    builder = building.read_config(str(CONFIG), [f"model.codebook_start={start}"], pretrained=False)
    network, losses, numbers = builder.model, builder.loss, Denormals()
    if trained:
        checkpoint.fill_layer(network, str(WEIGHTS))
    change(network)
    numbers.watch(network)
    # A rate of nearly nothing, so that the second step is as extreme as the first.
    optimizer = paddle.optimizer.Momentum(1e-9, 0.9, parameters=network.parameters()) if kind == MOMENTUM else \
        paddle.optimizer.AdamW(1e-9, parameters=network.parameters())
    with numbers.inside_the_encoding():
        network.eval()
        with paddle.no_grad():
            numbers.look("inference", network(images))
        network.train()
        for _ in range(2):
            outputs = network(images)
            for name, output in zip(network.output_names, outputs):
                numbers.gradients(f"{name} logits", [output])
            # Right in each pixel: the gradients are those of the other classes' probabilities.
            terms = compute_losses(network, outputs, {"label": outputs[0].argmax(1).detach()}, losses)
            numbers.look("losses", terms)
            sum(terms).backward()
            for name, parameter in network.named_parameters():
                numbers.look(f"{name}: gradient", parameter.grad)
            optimizer.step()
            network.clear_gradients()
            for name, value in [*optimizer.state_dict().items(), *network.state_dict().items()]:
                numbers.look(name, value)
    assert {"inference[0]", "segmentation logits: gradient", "SE logits: gradient",
            "encoding.encode_backward: weighted", "encoding.assign: exponents",
            "enc_module.fc.0.weight: gradient"} <= numbers.seen
    assert len(numbers.seen) > 1000
    assert dict(numbers.found) == {}


# --- what is cut, against float64 -------------------------------------------------------------------------------------

LOGITS = np.linspace(-200, 200, 4001)


@pytest.mark.parametrize("present", [0, 1])
def test_the_se_loss_is_right_however_sure_the_logits_are(present):
    """Up to a probability of e^-40 = 4e-18, which is cut."""
    label = np.full([len(LOGITS), 1, 1], 1 - present)       # class 0 is there, or class 1
    logits = np.stack([LOGITS, np.zeros(len(LOGITS))], axis=1)
    tensor = paddle.to_tensor(logits.astype("float32"), stop_gradient=False)
    loss = SELoss()(tensor, paddle.to_tensor(label))
    loss.backward()
    found = tensor.grad.numpy()[:, 0] * logits.size
    expected = np.exp(-np.logaddexp(0, -LOGITS)) - present
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    whole = np.logaddexp(0, LOGITS) - present * LOGITS
    assert float(loss) == pytest.approx((whole.sum() + len(LOGITS) * np.log(2)) / logits.size, rel=1e-6)
    assert denormals(found) == 0


def test_the_attention_is_right_however_large_the_logits_are():
    logits = paddle.to_tensor(LOGITS.astype("float32"), stop_gradient=False)
    gamma = Attention()(logits)
    gamma.sum().backward()
    expected = np.exp(-np.logaddexp(0, -LOGITS))
    np.testing.assert_allclose(gamma.numpy(), expected, rtol=1e-5, atol=4.3e-18)
    # float32 has steps of 6e-8 just below 1.
    np.testing.assert_allclose(logits.grad.numpy(), expected * (1 - expected), rtol=1e-5, atol=1.2e-7)
    assert denormals(gamma.numpy()) == denormals(logits.grad.numpy()) == 0
