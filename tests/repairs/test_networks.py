"""PaddleSeg's FastFCN on our Encoding layer, against itself as it is installed."""

import importlib.util

import numpy as np
import paddle
import pytest
import yaml
from conftest import relative_difference
from networks import scrambled
from paddleseg.cvlibs import manager
from paddleseg.models import fastfcn
from paddleseg.models.backbones import ResNet18_vd, ResNet50_vd

from paddleseg_encnet import Encoding
from paddleseg_encnet.repairs import network_repairs, table
from paddleseg_encnet.weights import checkpoint
from segrun.backends.exported import Exported
from segrun.exports import Export

TOLERANCE = 1e-4        # float32 sums in another order


@pytest.fixture(scope="module")
def stock():
    """The module once more, as PaddleSeg has it."""
    registered = manager.MODELS.components_dict["FastFCN"]
    spec = importlib.util.spec_from_file_location("stock_fastfcn", fastfcn.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    manager.MODELS.components_dict["FastFCN"] = registered
    return module


def pair(stock, backbone=ResNet18_vd, **options):
    """The mended and the stock network with the same weights, in which nothing is 0 or 1."""
    mended, plain = (module.FastFCN(7, backbone(output_stride=8), **options) for module in (fastfcn, stock))
    checkpoint.fill_layer(mended, scrambled(plain).state_dict())      # by name and by shape, all of it or an error
    return mended, plain


def outputs(network, images, training):
    network.train() if training else network.eval()
    paddle.seed(0)      # dropout in the auxiliary head
    with paddle.no_grad():
        return network(paddle.to_tensor(images))


@pytest.mark.parametrize("options", [
    dict(num_codes=8, mid_channels=16), dict(num_codes=8, mid_channels=16, add_lateral=True),
    dict(mid_channels=16, use_jpu=False, use_se_loss=False), dict(backbone=ResNet50_vd, add_lateral=True)])
@pytest.mark.parametrize("training", [True, False])
def test_fastfcn_equals_the_stock_network(stock, options, training):
    mended, plain = pair(stock, **options)
    assert type(mended.enc_module.encoding[0]) is Encoding and type(plain.enc_module.encoding[0]) is not Encoding
    images = np.random.default_rng(1).normal(size=(2, 3, 43, 61)).astype("float32")
    ours, theirs = outputs(mended, images, training), outputs(plain, images, training)
    assert len(ours) == len(theirs) == (1 if not training else 3 if options.get("use_se_loss", True) else 2)
    assert max(relative_difference(a, b) for a, b in zip(ours, theirs)) < TOLERANCE


def test_gradients_of_fastfcn_equal_the_stock_networks(stock):
    mended, plain = pair(stock, num_codes=4, mid_channels=16)
    images = np.random.default_rng(1).normal(size=(2, 3, 40, 48)).astype("float32")
    for network in (mended, plain):
        network.train()
        paddle.seed(0)
        sum((output ** 2).mean() for output in network(paddle.to_tensor(images))).backward()
    for (name, a), b in zip(mended.named_parameters(), plain.parameters()):
        if not b.stop_gradient:
            # Whole vectors: deep in the backbone gradients are sums over everything behind them.
            difference = np.linalg.norm(a.grad.numpy() - b.grad.numpy())
            assert difference <= 1e-3 * np.linalg.norm(b.grad.numpy()) + 1e-6, name


@pytest.mark.parametrize("mended", [True, False])
def test_probe_tells_the_layers_apart_and_draws_nothing(stock, monkeypatch, mended):
    monkeypatch.setattr(fastfcn, "Encoding", Encoding if mended else stock.Encoding)
    paddle.seed(1)
    expected = paddle.rand([4]).tolist()
    paddle.seed(1)
    assert network_repairs.fastfcn_builds_residuals() is not mended
    assert paddle.rand([4]).tolist() == expected


def test_the_registered_network_is_mended():
    assert "fastfcn_without_residuals" in table.APPLIED
    assert manager.MODELS["FastFCN"] is fastfcn.FastFCN and fastfcn.Encoding is Encoding


@pytest.fixture(scope="module")
def config(small_config, tmp_path_factory):
    """The model and the losses of PaddleSeg's configs/fastfcn, narrower, on the small scenes."""
    path = tmp_path_factory.mktemp("fastfcn") / "fastfcn.yml"
    path.write_text(yaml.safe_dump({"_base_": str(small_config), "model": {
        "_inherited_": False, "type": "FastFCN", "backbone": {"type": "ResNet18_vd", "output_stride": 8},
        "num_codes": 4, "mid_channels": 16, "use_jpu": True, "aux_loss": True, "use_se_loss": True,
        "add_lateral": True}, "loss": {"types": [
            {"type": "CrossEntropyLoss"}, {"type": "CrossEntropyLoss"}, {"type": "SECrossEntropyLoss"}],
            "coef": [1, 0.4, 0.2]}}))
    return path


def test_fastfcn_is_trained_evaluated_and_exported(config, image, run_tool, tmp_path, capsys):
    run_tool("train", "--config", config, "--iters", 2, "--do_eval", "--use_vdl", "--save_dir", tmp_path / "run")
    weights = tmp_path / "run" / "best_model" / "model.pdparams"
    run_tool("val", "--config", config, "--model_path", weights)
    assert "mIoU" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="is for ENCNet, and this is FastFCN"):
        run_tool("explain", image, "--config", config, "--model_path", weights, "--save_dir", tmp_path / "pages")
    run_tool("export", "--config", config, "--model_path", weights, "--save_dir", tmp_path / "export", "--output_op",
             "none")
    run_tool("predict", "--config", config, "--model_path", weights, "--image_path", image, "--save_dir",
             tmp_path / "pictures")
    assert list((tmp_path / "pictures").rglob("*.png"))
    network = fastfcn.FastFCN(19, ResNet18_vd(output_stride=8), num_codes=4, mid_channels=16, add_lateral=True)
    checkpoint.fill_layer(network, checkpoint.read_weights(weights))
    images = np.random.default_rng(1).normal(size=(1, 3, 43, 61)).astype("float32")
    [live] = outputs(network, images, training=False)
    found = Exported(Export(str(tmp_path / "export"))).run(images).values
    assert relative_difference(found, live) < TOLERANCE
