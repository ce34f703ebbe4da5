"""The classifiers for CIFAR-10: parameters, attention against NumPy, the archive's reader, and the tool."""

import gzip
import io
import os
import pickle
import re
import tarfile

import numpy as np
import paddle
import pytest
from conftest import ROOT, relative_difference

from paddleseg_encnet.data.cifar import Cifar10, RandomShift
from paddleseg_encnet.models.cifar_resnet import CifarBlock, CifarResNet, EncodingAttention, SEAttention
from paddleseg_encnet.training import resuming, schedules
from segrun.errors import DataError

BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def write_archive(path, batches: dict):
    """A tar.gz in the layout of cifar-10-python.tar.gz: {member: bytes}."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def batch_of(images, labels) -> bytes:
    """A batch as Python 3 pickles it."""
    return pickle.dumps({"batch_label": "testing", "labels": [int(label) for label in labels], "data": images,
                         "filenames": [f"{i}.png" for i in range(len(images))]}, protocol=2)


def as_python_2(images, labels) -> bytes:
    """The same with the opcodes of Python 2, which had no bytes: the form of the published files."""
    def text(value: bytes) -> bytes:
        short = len(value) < 256
        return (b"U" if short else b"T") + len(value).to_bytes(1 if short else 4, "little") + value

    def integer(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + value.to_bytes(2, "little")
    array = (b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + text(b"b") + b"\x87R"
             + b"(" + b"K\x01" + integer(images.shape[0]) + integer(images.shape[1]) + b"\x86"
             + b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
             + b"(K\x03" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb" + b"\x89"
             + text(images.tobytes()) + b"tb")
    classes = b"](" + b"".join(integer(int(label)) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + classes + b"u."


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """Eight images a batch in which the class can be seen: its brightness."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("cifar") / "cifar-10-python.tar.gz"
    batches = {}
    for name in BATCHES:
        labels = random.integers(0, 10, 8)
        images = np.clip(25 * labels[:, None] + random.normal(0, 3, (8, 3072)), 0, 255).astype("uint8")
        batches[name] = as_python_2(images, labels)
    write_archive(path, batches)
    return path


@pytest.mark.parametrize("mode, count", [("train", 40), ("val", 8)])
def test_reads_what_paddle_reads(archive, mode, count):
    own = Cifar10([], str(archive), mode)
    stock = paddle.vision.datasets.Cifar10(str(archive), mode="train" if mode == "train" else "test", backend="cv2")
    assert len(own) == len(stock) == count
    order = range(count)
    for i in order:
        image, label = stock[i]
        sample = own[i]
        assert sample["label"].tolist() == [[int(label)]]
        assert (sample["img"].transpose(1, 2, 0) == np.asarray(image)).all()


class Payload:
    def __reduce__(self):
        return os.system, ("touch cifar_was_here",)


BLACK = np.zeros((2, 3072), "uint8")


@pytest.mark.parametrize("content, words", [
    (pickle.dumps({"data": Payload(), "labels": [1]}, protocol=2),
     "test_batch asks for os.system (written posix.system); get it from cs.toronto.edu"),
    (batch_of(BLACK, [1]), "has 1 labels for data of shape [2, 3072]"),
    (batch_of(BLACK, [1, 10]), "no list of classes from 0 to 9"),
    (batch_of(BLACK.astype("float32"), [1, 2]), "no array of bytes"),
    (batch_of(BLACK, [1, 2])[:-100], "cut short"),
    (pickle.dumps([1, 2], protocol=2), "no array of bytes")])
def test_batches_that_are_refused(content, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_archive(tmp_path / "a.tar.gz", {"test_batch": content})
    with pytest.raises(DataError) as error:
        Cifar10([], str(tmp_path / "a.tar.gz"), "val")
    assert words in str(error.value) and "test_batch" in str(error.value)
    assert not (tmp_path / "cifar_was_here").exists()


@pytest.mark.parametrize("make, words", [
    (lambda path: None, "No such file or directory); dataset_root must be the path of cifar-10-python.tar.gz, which is "
     "to be had at cs.toronto.edu"),
    (lambda path: path.mkdir(), "Is a directory"),
    (lambda path: path.write_bytes(b"no tar at all"), "is no cifar-10-python.tar.gz, or damaged"),
    (lambda path: path.write_bytes(b"\xfd7zXZ\x00 and no more"), "is no cifar-10-python.tar.gz, or damaged"),
    (lambda path: write_archive(path, {"data_batch_1": batch_of(BLACK, [0, 1])}), "no cifar-10-batches-py/test")])
def test_archives_that_are_refused(make, words, tmp_path):
    make(tmp_path / "a.tar.gz")
    with pytest.raises(DataError) as error:
        Cifar10([], str(tmp_path / "a.tar.gz"), "val")
    assert words in str(error.value) and "cifar-10-python.tar.gz" in str(error.value)


def test_a_cut_archive_is_refused(archive, tmp_path):
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(DataError, match="damaged"):
        Cifar10([], str(cut), "val")


def test_an_archive_with_another_byte_is_refused(archive, tmp_path):
    """In the pixels it changes no size and no structure: only the checksum at the end of the file tells."""
    content = bytearray(gzip.decompress(archive.read_bytes()))
    content[content.index(b"test_batch") + 2000] ^= 1
    damaged = tmp_path / "damaged.tar.gz"
    damaged.write_bytes(gzip.compress(content)[:-8] + archive.read_bytes()[-8:])
    with pytest.raises(DataError, match="or damaged: CRC check failed"):
        Cifar10([], str(damaged), "val")


def test_shift():
    image = np.arange(1, 1 + 32 * 32 * 3, dtype="float32").reshape(32, 32, 3)
    seen = set()
    for seed in range(200):
        np.random.seed(seed)
        shifted = RandomShift(4)({"img": image})["img"]
        assert shifted.shape == image.shape
        at = np.argwhere(shifted[..., 0] == image[10, 10, 0])[0] - 10          # where pixel (10, 10) has gone
        seen.add(tuple(at))
        expected = np.zeros_like(image)
        down, right = at
        expected[max(down, 0):32 + min(down, 0), max(right, 0):32 + min(right, 0)] = \
            image[max(-down, 0):32 - max(down, 0), max(-right, 0):32 - max(right, 0)]
        assert (shifted == expected).all()
    assert len(seen) > 60       # of 81 places
    assert {down for down, _ in seen} == {right for _, right in seen} == set(range(-4, 5))


@pytest.mark.parametrize("options, published", [
    (dict(width=64), 2.7), (dict(width=64, attention="se"), 2.8),
    (dict(width=64, attention="encoding", num_codes=16), 3.5),
    (dict(width=128, attention="encoding", num_codes=32), 16.8)])
def test_parameter_counts(options, published):
    trained = [parameter for parameter in CifarResNet(**options).parameters() if parameter.trainable]
    count = sum(parameter.size for parameter in trained) / 1e6
    assert count == pytest.approx(published, rel=0.03)


def test_fourteen_layers():
    """Of the paper's count: convolutions and the classifier on the way of the residuals, without shortcuts."""
    names = [name for name, layer in CifarResNet(width=8).named_sublayers()
             if isinstance(layer, (paddle.nn.Conv2D, paddle.nn.Linear)) and "shortcut" not in name]
    assert len(names) == 14


FEATURES = np.random.default_rng(3).normal(size=(2, 16, 3, 5)).astype("float32")


def scrambled(layer):
    random = np.random.default_rng(4)
    for name, value in layer.state_dict().items():
        if not name.endswith(("codewords", "scale")):
            low = 0.5 if name.endswith("_variance") else -0.5
            value.set_value(random.uniform(low, low + 1, value.shape).astype("float32"))
    layer.eval()
    return layer, {name: value.numpy().astype(np.float64) for name, value in layer.state_dict().items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalised(x, values, layer):
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean, variance, weight, bias = (values[f"{layer}.{name}"].reshape(shape)
                                    for name in ("_mean", "_variance", "weight", "bias"))
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def test_encoding_attention_equals_the_formula():
    layer, values = scrambled(EncodingAttention(16, 3))
    x = np.einsum("oc,bchw->bohw", values["0.weight"][:, :, 0, 0], FEATURES.astype(np.float64))
    x = np.maximum(normalised(x, values, "1"), 0).reshape(2, 4, -1)
    codes = np.zeros([2, 3, 4])
    for b in range(2):
        for i in range(x.shape[2]):
            residuals = x[b, :, i] - values["3.codewords"]
            weights = np.exp(values["3.scale"] * (residuals ** 2).sum(1))
            codes[b] += (weights / weights.sum())[:, None] * residuals
    codes = np.maximum(normalised(codes, values, "4"), 0).reshape(2, 12)
    expected = sigmoid(codes @ values["7.weight"] + values["7.bias"])
    assert relative_difference(layer(paddle.to_tensor(FEATURES)), expected) < 1e-5


def test_se_attention_equals_the_formula():
    layer, values = scrambled(SEAttention(16))
    hidden = np.maximum(FEATURES.astype(np.float64).mean((2, 3)) @ values["2.weight"] + values["2.bias"], 0)
    expected = sigmoid(hidden @ values["4.weight"] + values["4.bias"])
    assert relative_difference(layer(paddle.to_tensor(FEATURES)), expected) < 1e-5


@pytest.mark.parametrize("attention", [None, SEAttention, lambda channels: EncodingAttention(channels, 2)])
def test_block_scales_the_residual_before_the_shortcut(attention):
    block = CifarBlock(16, 16, 1, attention and attention(16))
    block.eval()
    x = paddle.to_tensor(FEATURES)
    residual = block.residual(x).numpy()
    gamma = 1 if attention is None else block.attention(block.residual(x)).numpy()[:, :, None, None]
    assert relative_difference(block(x), np.maximum(residual * gamma + FEATURES, 0)) < 1e-6


def test_unknown_attention():
    with pytest.raises(ValueError, match='"se", "encoding" or none'):
        CifarResNet(attention="cbam")


@pytest.mark.parametrize("config", ["resnet_64d", "senet_64d", "encnet_16k64d", "encnet_32k128d"])
def test_configs_train(config, archive, run_tool, tmp_path, capsys):
    run_tool("train_cifar", "--config", f"{ROOT}/configs/cifar10_{config}.yml", "--data_file", archive, "--iters", 2,
             "--batch_size", 4, "--save_dir", tmp_path, "--save_interval", 2, "--log_iters", 1, "--seed", 1,
             "--opts", "model.width=8")
    said = capsys.readouterr().out
    assert re.search(r"error on 8 test images, last weights: \d+\.\d\d %", said)
    assert "best_model is chosen by the test images" in said
    assert (tmp_path / "iter_2/model.pdparams").exists()


@pytest.mark.parametrize("flags, words", [
    (["--data_file", "nowhere.tar.gz"], "--data_file is nowhere.tar.gz, and there is no such file: give --data_file"),
    (["--opts", "train_dataset.dataset_root=gone.tar.gz"], "train_dataset.dataset_root in the config is gone.tar.gz, "
     "and there is no such file: give --data_file the path of cifar-10-python.tar.gz")])
def test_missing_data_name_the_flag(run_tool, flags, words):
    with pytest.raises(SystemExit, match=re.escape(words)):
        run_tool("train_cifar", "--config", f"{ROOT}/configs/cifar10_resnet_64d.yml", *flags)


def test_other_tool_for_training(run_tool):
    with pytest.raises(SystemExit, match="_64d.yml is a classifier of images; train it with tools/train_cifar.py"):
        run_tool("train", "--config", f"{ROOT}/configs/cifar10_resnet_64d.yml")


def error_of(said: str) -> float:
    return float(re.search(r"error on 8 test images, (?:last|these) weights: ([\d.]+) %", said)[1])


def test_learns_resumes_and_evaluates(archive, run_tool, tmp_path, capsys):
    pytest.importorskip("visualdl")
    from visualdl import LogReader
    common = ["--config", f"{ROOT}/configs/cifar10_encnet_16k64d.yml", "--data_file", archive]
    # --scale_lr: a batch of 8 where the recipe has 128, so 0.8 is 0.05
    flags = common + ["--batch_size", 8, "--learning_rate", 0.8, "--scale_lr", "--save_dir", tmp_path,
                      "--save_interval", 20, "--keep_checkpoint_max", 0, "--log_iters", 10, "--use_vdl", "--seed", 3,
                      "--precision", "fp32", "--opts", "model.width=8", "model.num_codes=4"]
    run_tool("train_cifar", *flags, "iters=60", "--num_workers", 1)
    first = error_of(capsys.readouterr().out)
    assert first < 60       # of ten classes chance is wrong in 90 %
    [log] = [name for name in os.listdir(tmp_path) if name.startswith("vdlrecords")]
    rates = [each.value for each in LogReader(file_path=str(tmp_path / log)).get_data("scalar", "Train/lr")]
    # The cosine of the steps before the logged ones: 0.05 * (1 + cos(pi t / 60)) / 2
    assert rates == pytest.approx([0.025 * (1 + np.cos(np.pi * t / 60)) for t in range(9, 60, 10)], rel=1e-4)

    run_tool("train_cifar", *common, "--model_path", tmp_path / "iter_60/model.pdparams", "--opts", "model.width=8",
             "model.num_codes=4")
    assert error_of(capsys.readouterr().out) == first

    run_tool("train_cifar", *flags, "--iters", 60, "--resume_model", tmp_path / "iter_40")
    assert error_of(capsys.readouterr().out) == first


def test_cosine_of_a_resumed_run_with_other_iters():
    """It follows the longer curve from its first step on."""
    layer = paddle.nn.Linear(1, 1)

    def optimizer(iters: int):
        cosine = paddle.optimizer.lr.CosineAnnealingDecay(0.1, T_max=iters, eta_min=0.01)
        return paddle.optimizer.SGD(cosine, layer.parameters())

    short, longer = optimizer(60), optimizer(80)
    for _ in range(40):
        schedules.advance(short, None)
    weights = {name: value.numpy() for name, value in layer.state_dict().items()}
    resuming.fill(resuming.Found("iter_40", None, 40, weights, short.state_dict()), layer, longer)
    rates = []
    for _ in range(40, 81):
        rates.append(longer.get_lr())
        schedules.advance(longer, None)
    assert rates == pytest.approx([0.01 + 0.045 * (1 + np.cos(np.pi * t / 80)) for t in range(40, 81)], rel=1e-9)
