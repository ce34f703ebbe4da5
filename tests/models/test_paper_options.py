"""What the paper has and public code left out: K = 0, the sum over codewords, SE-loss at stage 3, a baseline without
context. Against the formulas written out slowly in float64."""

import inspect

import cv2
import numpy as np
import paddle
import pytest
from conftest import relative_difference
from networks import evaluating, scrambled
from paddleseg import core
from paddleseg.cvlibs import Config, SegBuilder, manager
from paddleseg.models.backbones import ResNet18_vd
from paddleseg.models.losses import CrossEntropyLoss, DiceLoss, KLLoss, MixedLoss
from paddleseg.utils import utils

from paddleseg_encnet import DilatedFCN, ENCNet, Encoding, SELoss
from paddleseg_encnet.models.encnet import EncModule, PresenceBranch
from paddleseg_encnet.models.losses import OF_ANOTHER_SHAPE, check_losses, takes_presence
from paddleseg_encnet.training import training_loop

TOLERANCE = 1e-5        # float32 against float64 over sums of some hundred terms


def context_slowly(encoder, x):
    """[B, C_in, h, w] -> [B, C], from the encoder's weights, with loops over images, positions and codewords."""
    values = {name: value.numpy().astype(np.float64) for name, value in encoder.state_dict().items()}

    def normalised(y, layer, axis):
        shape = [-1 if i == axis else 1 for i in range(y.ndim)]
        mean, variance, weight, bias = (values[f"{layer}.{name}"].reshape(shape)
                                        for name in ("_mean", "_variance", "weight", "bias"))
        return (y - mean) / np.sqrt(variance + 1e-5) * weight + bias

    weight, bias = values["encoding_project._conv.weight"][:, :, 0, 0], values["encoding_project._conv.bias"]
    projected = np.einsum("oi,bihw->bohw", weight, x) + bias[:, None, None]
    projected = np.maximum(normalised(projected, "encoding_project._batch_norm", 1), 0)
    if encoder.num_codes == 0:
        return projected.mean((2, 3))
    codewords, scale = values["encoding.0.codewords"], values["encoding.0.scale"]
    codes = np.zeros([len(x), *codewords.shape])
    for image, features in enumerate(projected.reshape(*projected.shape[:2], -1)):
        for feature in features.T:
            residuals = feature - codewords
            weights = np.exp(scale * (residuals ** 2).sum(1))
            codes[image] += (weights / weights.sum())[:, None] * residuals
    codes = np.maximum(normalised(codes, "encoding.1", 1), 0)
    return codes.sum(1) if encoder.reduction == "sum" else codes.mean(1)


FEATURES = np.random.default_rng(1).normal(size=(2, 12, 5, 4)).astype("float32")


@pytest.mark.parametrize("num_codes, reduction", [(0, "mean"), (1, "mean"), (5, "mean"), (5, "sum")])
def test_context_encoding_module(num_codes, reduction):
    module = evaluating(scrambled(EncModule(12, num_codes, reduction), 0.3))
    with paddle.no_grad():
        context, features = module(paddle.to_tensor(FEATURES))
    expected = context_slowly(module, FEATURES.astype(np.float64))
    weight, bias = (module.fc[0].weight.numpy().astype(np.float64), module.fc[0].bias.numpy().astype(np.float64))
    gamma = 1 / (1 + np.exp(-(expected @ weight + bias)))
    scaled = np.maximum(FEATURES + FEATURES * gamma[:, :, None, None], 0)
    assert relative_difference(context, expected) < TOLERANCE
    assert relative_difference(features, scaled) < TOLERANCE


@pytest.mark.parametrize("num_codes, reduction", [(0, "mean"), (4, "mean"), (4, "sum")])
def test_presence_branch_of_stage_3(num_codes, reduction):
    branch = evaluating(scrambled(PresenceBranch(12, 6, 7, num_codes, reduction), 0.3))
    with paddle.no_grad():
        logits = branch(paddle.to_tensor(FEATURES))
    expected = context_slowly(branch, FEATURES.astype(np.float64))
    expected = expected @ branch.se_layer.weight.numpy().astype(np.float64) + branch.se_layer.bias.numpy()
    assert relative_difference(logits, expected) < TOLERANCE


def test_se_loss_of_stage_3_reaches_its_codewords_and_the_backbone():
    network = network_of(use_se_loss_stage3=True, use_se_loss=False)
    *_, presence = network(paddle.to_tensor(IMAGES))
    label = np.array([[[0, 2]], [[1, 255]]])                                    # [2, 1, 2]
    loss = SELoss()(presence, paddle.to_tensor(label))
    logits = presence.numpy().astype(np.float64)
    present = np.array([[1, 0, 1], [0, 1, 0]])
    slowly = np.mean(np.log1p(np.exp(logits)) - present * logits)
    assert float(loss) == pytest.approx(slowly, rel=1e-5)
    loss.backward()
    for parameter in (network.se_stage3.encoding[0].codewords, network.backbone.parameters()[0]):
        assert np.abs(parameter.grad.numpy()).max() > 0
    assert network.enc_module.encoding[0].codewords.grad is None


IMAGES = np.random.default_rng(2).normal(size=(2, 3, 32, 48)).astype("float32")
MAP, VECTOR = [2, 3, 32, 48], [2, 3]


def network_of(kind=ENCNet, **options):
    return kind(3, ResNet18_vd(output_stride=16), mid_channels=8, **options)


@pytest.mark.parametrize("kind, options, names, shapes", [
    (ENCNet, {}, ["segmentation", "auxiliary", "SE"], [MAP, MAP, VECTOR]),
    (ENCNet, dict(num_codes=0), ["segmentation", "auxiliary", "SE"], [MAP, MAP, VECTOR]),
    (ENCNet, dict(use_aux_loss=False), ["segmentation", "SE"], [MAP, VECTOR]),
    (ENCNet, dict(use_se_loss=False), ["segmentation", "auxiliary"], [MAP, MAP]),
    (ENCNet, dict(use_se_loss_stage3=True), ["segmentation", "auxiliary", "SE", "SE_stage3"],
     [MAP, MAP, VECTOR, VECTOR]),
    (DilatedFCN, {}, ["segmentation", "auxiliary"], [MAP, MAP]),
    (DilatedFCN, dict(use_aux_loss=False, add_lateral=True), ["segmentation"], [MAP])])
def test_outputs(kind, options, names, shapes):
    network = network_of(kind, **options)
    with paddle.no_grad():
        assert network.output_names == names
        assert [list(output.shape) for output in network(paddle.to_tensor(IMAGES))] == shapes
        network.eval()
        assert [list(output.shape) for output in network(paddle.to_tensor(IMAGES))] == [MAP]


def test_baseline_is_encnet_without_its_module():
    """With attention of the same strength on all channels ENCNet is the baseline, whose classifier sees 1.5 X."""
    encnet, fcn = evaluating(scrambled(network_of(), 0.3)), evaluating(scrambled(network_of(DilatedFCN), 0.3))
    state = encnet.state_dict()
    fcn.set_state_dict({name: state[name] for name in fcn.state_dict()})
    encnet.enc_module.fc[0].weight.set_value(np.zeros([8, 8], "float32"))      # gamma = sigmoid(0) = 1/2
    encnet.enc_module.fc[0].bias.set_value(np.zeros([8], "float32"))
    fcn.head.weight.set_value(1.5 * fcn.head.weight.numpy())
    with paddle.no_grad():
        outputs = [network(paddle.to_tensor(IMAGES))[0] for network in (encnet, fcn)]
    assert relative_difference(*outputs) < TOLERANCE
    extra = {name.split(".")[0] for name in state if name not in fcn.state_dict()}
    assert extra == {"enc_module", "se_layer"}


def test_dropout_before_the_classifier():
    """Of whole channels, as in both PyTorch implementations."""
    network = network_of(dropout=0.5)
    features = paddle.ones([1000, 8, 2, 3])
    network.train()
    kept = network.dropout(features).numpy()
    assert set(np.unique(kept)) == {0, 2} and abs((kept == 0).mean() - 0.5) < 0.03      # 8000 draws: 5 deviations
    assert (kept == kept[:, :, :1, :1]).all()
    network.eval()
    assert (network.dropout(features).numpy() == 1).all()
    paddle.seed(0)
    seen = []
    network.head.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].numpy()))
    network.train()
    network(paddle.to_tensor(IMAGES))
    network.dropout = paddle.nn.Dropout(0.0)
    network(paddle.to_tensor(IMAGES))
    assert (seen[0] == 0).mean() > (seen[1] == 0).mean() + 0.1


def test_random_scale():
    """PyTorch-Encoding's EncodingDrop: s_k ~ U(-1, 0) while training, -0.5 in evaluation, not learnt."""
    layer = Encoding(6, 4, random_scale=True)
    fixed = Encoding(6, 4)
    fixed.codewords.set_value(layer.codewords)
    fixed.scale.set_value(np.full(4, -0.5, "float32"))
    x = paddle.to_tensor(FEATURES[:, :6])
    layer.eval(), fixed.eval()
    assert (layer(x).numpy() == fixed(x).numpy()).all()
    layer.train()
    first, second = layer(x), layer(x)
    assert np.abs(first.numpy() - second.numpy()).max() > 1e-3
    first.sum().backward()
    assert layer.scale.stop_gradient and layer.scale.grad is None
    assert np.abs(layer.codewords.grad.numpy()).max() > 0
    # The draws are those of Paddle's generator, within the range: the same scales in a layer with fixed ones.
    paddle.seed(3)
    third = layer(x)
    paddle.seed(3)
    scale = paddle.uniform([4], min=-1.0, max=0.0)
    fixed.scale.set_value(scale)
    assert relative_difference(third, fixed(x)) < TOLERANCE
    assert -1 <= float(scale.min()) and float(scale.max()) <= 0


@pytest.mark.parametrize("options, words", [
    (dict(reduction="max"), 'reduction over the codewords is "mean" or "sum", got \'max\''),
    (dict(num_codes=-1), "num_codes is a whole number of codewords, or 0 for global average pooling, got -1"),
    (dict(num_codes="8"), "num_codes is a whole number of codewords, or 0 for global average pooling, got '8'"),
    (dict(backbone_indices=[1, 2, 5]), "[1, 2, 5]: the backbone has the feature maps 0 to 3, not 5"),
    (dict(aux_channels=0), "aux_channels is the width of the auxiliary head, at least 1, got 0"),
    (dict(use_encoding=False), "use_se_loss needs the context that use_encoding: False leaves out")])
def test_options_without_sense(options, words):
    with pytest.raises(ValueError) as error:
        network_of(**options)
    assert words in str(error.value)


CE, SE = CrossEntropyLoss(), SELoss()


@pytest.mark.parametrize("options, losses, coef, words", [
    ({}, [CE, CE], [1, 0.4], "output SE has no loss"),
    ({}, [CE], [1], "output auxiliary has no loss"),
    (dict(use_se_loss=False), [CE, CE, SE], [1, 0.4, 0.2], "there is no output for loss 3, SELoss"),
    (dict(use_aux_loss=False), [CE, CE], [1, 0.4],
     "CrossEntropyLoss does not fit output SE, which holds one number for each class"),
    ({}, [CE, SE, CE], [1, 0.4, 0.2], "SELoss does not fit output auxiliary, which holds a map for each class"),
    ({}, [CE, CE, SE], [1, 0.4], "loss.coef has 2 factors: [1, 0.4]")])
@pytest.mark.parametrize("loop", ["paddleseg", "ours"])
def test_outputs_and_losses_that_do_not_match(options, losses, coef, words, loop, small_config, tmp_path):
    parts = SegBuilder(Config(str(small_config)))
    network = ENCNet(19, ResNet18_vd(output_stride=16), num_codes=2, mid_channels=8, **options)
    optimizer = paddle.optimizer.SGD(0.1, parameters=network.parameters())
    losses = {"types": losses, "coef": coef}
    with pytest.raises(ValueError) as error:
        if loop == "ours":
            training_loop.train_network(training_loop.Parts(network, optimizer, losses, parts.train_dataset),
                                        training_loop.Schedule(1), str(tmp_path))
        else:
            core.train(network, parts.train_dataset, optimizer=optimizer, losses=losses, iters=1,
                       save_dir=str(tmp_path))
    assert words in str(error.value)


@pytest.mark.parametrize("losses, words", [
    ([CE, CE, DiceLoss()], "DiceLoss does not fit output SE"), ([CE, CE, KLLoss()], "KLLoss does not fit output SE"),
    ([CE, CE, MixedLoss([SE, CE], [1, 1])], "CrossEntropyLoss does not fit output SE"),
    ([MixedLoss([CE, SE], [1, 1]), CE, SE], "SELoss does not fit output segmentation")])
def test_losses_of_another_kind_than_the_output(losses, words):
    names = network_of().output_names
    check_losses(names, {"types": [CE, CE, MixedLoss([SE, SE], [0.5, 0.5])], "coef": [1, 0.4, 0.2]})
    with pytest.raises(ValueError) as error:
        check_losses(names, {"types": losses, "coef": [1, 0.4, 0.2]})
    assert words in str(error.value)


@pytest.mark.parametrize("name", sorted(manager.LOSSES.components_dict))
def test_of_paddlesegs_losses_only_its_encnets_takes_presence(name):
    """Each does with presence logits what is said of it."""
    if name == "MixedLoss":
        pytest.skip("its parts are looked at one by one")
    needed = {"min_K": 1, "loss_th": 0.3, "num_class": 5}
    wanted = inspect.signature(manager.LOSSES[name].__init__).parameters
    loss = manager.LOSSES[name](**{key: value for key, value in needed.items() if key in wanted})
    if name in ("SELoss", "SECrossEntropyLoss"):
        assert takes_presence(loss) is True
        loss(paddle.zeros([2, 5]), paddle.zeros([2, 4, 6], "int64"))
    else:
        assert takes_presence(loss) is False
        with pytest.raises((*OF_ANOTHER_SHAPE, cv2.error)):
            loss(paddle.zeros([2, 5]), paddle.zeros([2, 4, 6], "int64"))


class Presence(paddle.nn.Layer):
    """With a weight for each class, as users write them."""

    def forward(self, logit, label):
        return (logit * paddle.arange(1, 20, dtype="float32")).mean() + 0 * label.sum().astype("float32")


class Maps(paddle.nn.Layer):
    def forward(self, logit, label):
        return logit[:, 0, :label.shape[1], :label.shape[2]].mean()


def losses_of(*types):
    return {"types": list(types), "coef": [1] * len(types)}


def test_a_users_loss_is_believed_in_what_it_says():
    says = {said: type(f"Says{said}", (Presence,), {"takes_presence": said})() for said in (True, False)}
    names = network_of().output_names
    check_losses(names, losses_of(says[False], CE, says[True]))
    with pytest.raises(ValueError, match="SaysFalse does not fit output SE, which holds one number"):
        check_losses(names, losses_of(CE, CE, says[False]))
    with pytest.raises(ValueError, match="SaysTrue does not fit output auxiliary, which holds a map"):
        check_losses(names, losses_of(CE, says[True], SE))


def test_a_users_loss_that_says_nothing_is_named_at_the_first_step():
    network = network_of()
    outputs = network(paddle.to_tensor(IMAGES))
    data = {"label": paddle.zeros([len(IMAGES), *outputs[0].shape[2:]], "int64")}
    classes = outputs[0].shape[1]
    presence = type("Own", (Presence,), {"forward": lambda self, logit, label: logit.mean() * classes})()
    assert len(network.loss_computation(outputs, losses_of(Maps(), Maps(), presence), data)) == 3
    for loss in (Maps(), MixedLoss([SE, Maps()], [1, 1])):
        with pytest.raises(ValueError, match="Maps may not fit output SE, which holds one number for each class: if "
                                             "it is for maps, give loss.types"):
            network.loss_computation(outputs, losses_of(CE, CE, loss), data)


def test_errors_of_losses_that_say_what_they_take_stay_as_they_are():
    class Broken(SELoss):
        def forward(self, logit, label):
            raise IndexError("broken")

    network = network_of()
    outputs = network(paddle.to_tensor(IMAGES))
    data = {"label": paddle.zeros([len(IMAGES), *outputs[0].shape[2:]], "int64")}
    with pytest.raises(IndexError, match="^broken$"):
        network.loss_computation(outputs, losses_of(CE, CE, Broken()), data)


@pytest.mark.parametrize("options, losses, coef", [
    (dict(use_se_loss=False), [CE, CE], [1, 0.4]),
    (dict(use_aux_loss=False), [CE, SE], [1, 0.2]),
    (dict(use_aux_loss=False, use_se_loss=False), [CE], [1]),
    (dict(use_se_loss_stage3=True, num_codes=0, reduction="sum"), [CE, CE, SE, SE], [1, 0.4, 0.2, 0.2])])
def test_paddlesegs_loop_with_parts_switched_off(options, losses, coef, small_config, tmp_path):
    utils.set_seed(0)
    parts = SegBuilder(Config(str(small_config)))
    network = ENCNet(19, ResNet18_vd(output_stride=16), mid_channels=8, **{"num_codes": 2, **options})
    before = {name: value.numpy() for name, value in network.named_parameters()}
    optimizer = paddle.optimizer.SGD(0.1, parameters=network.parameters())
    core.train(network, parts.train_dataset, optimizer=optimizer, losses={"types": losses, "coef": coef}, iters=2,
               batch_size=2, log_iters=1, save_dir=str(tmp_path))
    still = {name.split(".")[0] for name, value in network.named_parameters() if (value.numpy() == before[name]).all()}
    assert not still & {"head", "fcn_head", "se_layer", "se_stage3"}
