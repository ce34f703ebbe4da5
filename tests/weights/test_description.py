"""A .safetensors file that says of what network its weights are runs alone; what it says is believed with care."""

import json
import time

import numpy as np
import paddle
import pytest
import yaml
from limited_memory import MIB, limited_memory
from paddleseg.cvlibs import manager

from paddleseg_encnet import ENCNet
from paddleseg_encnet.weights import checkpoint, description
from paddleseg_encnet.weights.checkpoint import CheckpointError
from segrun import Segmenter
from segrun.classes import Classes

CONFIG = {
    "batch_size": 1, "iters": 1,
    "train_dataset": {"type": "Dataset", "dataset_root": "data/nowhere", "train_path": "data/nowhere/train.txt",
                      "num_classes": 3, "mode": "train", "transforms": [{"type": "Normalize"}]},
    "val_dataset": {"type": "Dataset", "dataset_root": "data/nowhere", "val_path": "data/nowhere/val.txt",
                    "num_classes": 3, "mode": "val", "transforms": [{"type": "Normalize"}]},
    "optimizer": {"type": "SGD"}, "lr_scheduler": {"type": "PolynomialDecay", "learning_rate": 0.1},
    "loss": {"types": [{"type": "CrossEntropyLoss"}] * 3, "coef": [1, 1, 1]},
    "model": {"type": "ENCNet", "num_codes": 4, "mid_channels": 16, "backbone_indices": [0, 1, 2, 3], "num_classes": 3,
              "backbone": {"type": "ResNet18_v1b", "pretrained": "https://nowhere.invalid/weights.pdparams"}},
}
CLASSES = Classes(["meadow", "brook", "path"], [[0, 200, 0], [0, 0, 250], [120, 90, 60]])
SAID = description.network_metadata(CONFIG, CLASSES, "of a meadow")


@pytest.fixture(scope="module")
def state():
    paddle.seed(1)
    backbone = manager.BACKBONES["ResNet18_v1b"]()
    network = ENCNet(3, backbone, (0, 1, 2, 3), num_codes=4, mid_channels=16)
    return {name: value.numpy() for name, value in network.state_dict().items()}


@pytest.fixture
def written(state, tmp_path):
    """Writes a file that says this of the network, and returns its path."""
    def write(**said):
        path = tmp_path / "model.safetensors"
        checkpoint.write_safetensors(state, path, {**SAID, **said})
        return path
    return write


def test_what_is_written_is_read(written):
    path = written()
    found = description.read_description(path)
    assert found.classes.names == CLASSES.names and found.classes.given == CLASSES.given
    without = {**CONFIG, "model": {**CONFIG["model"], "backbone": {"type": "ResNet18_v1b"}}}
    assert found.config == without
    assert checkpoint.read_metadata(path)["card"] == "of a meadow"


def test_a_file_runs_alone(written, state, tmp_path, monkeypatch):
    """Its data set is not here, nor the weights that the config's backbone began with."""
    monkeypatch.chdir(tmp_path)
    path = written()
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    found = Segmenter(path, device="cpu")(image)
    assert found.names == CLASSES.names and found.colors[:3].tolist() == CLASSES.given
    config = {**CONFIG, "model": {**CONFIG["model"], "backbone": {"type": "ResNet18_v1b"}}}
    (tmp_path / "config.yml").write_text(yaml.dump(config, Dumper=description.PlainDumper))
    beside = Segmenter(tmp_path / "config.yml", path, device="cpu")(image)
    assert np.array_equal(found.ids, beside.ids) and np.array_equal(found.confidence, beside.confidence)
    assert found.presence.shape == (3,)


def test_keys_of_the_config_are_set_as_ever(written):
    with pytest.raises(CheckpointError, match="num_codes|shape"):
        Segmenter(written(), device="cpu", opts=["model.num_codes=5"])


def refusal(path) -> str:
    """The one line with which a file is refused, soon and in the memory of its weights and those of the network."""
    start = time.perf_counter()
    with limited_memory(3 * path.stat().st_size + 16 * MIB), pytest.raises(CheckpointError) as caught:
        Segmenter(path, device="cpu")
    assert time.perf_counter() - start < 20
    message = str(caught.value)
    assert message.startswith(str(path)) and message.isprintable() and len(message) < 1000
    return message


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a, *a]\nmodel: {type: ENCNet, list: [*b, *b]}\n"


def changed(**parts) -> str:
    return yaml.dump({**CONFIG, **parts}, Dumper=description.PlainDumper)


@pytest.mark.parametrize("said, words", [
    ({"config": LAUGHS}, "refers to a part of itself"),
    ({"config": "model: !!python/object/apply:os.system [touch owned]"}, "no valid YAML (ConstructorError"),
    ({"config": "model: " + "[" * 60000}, "no valid YAML (YAMLError: it is nested deeper than 32 levels"),
    ({"config": "- " * 30000}, "no valid YAML (RecursionError"), ({"config": "? " * 30000}, "no valid YAML"),
    ({"config": "model: {a: 2001-13-45}"}, "no valid YAML (ValueError"),
    ({"config": "model: {a: 1" + "0" * 60000 + "}"}, "no valid YAML|no network can be made"),
    ({"config": "x" * (64 * 2**10 + 1)}, "65,537 characters in its metadata, more than 65,536"),
    ({"config": "model: {\ud800: 1}"}, "no valid YAML"),
    ({"config": "hello"}, "has no model"), ({"config": "model: 3"}, "has no model"), ({"config": ""}, "has no model"),
    ({"config": changed(_base_="/etc/passwd")}, "names another file (_base_)"),
    ({"config": changed(model={"type": "Nothing"})}, "no network can be made of the config in its metadata: model"),
    ({"config": changed(model={**CONFIG["model"], "num_codes": "many"})}, "num_codes"),
    ({"config": changed(val_dataset={**CONFIG["val_dataset"], "transforms": [{"type": "system"}]})}, "transforms[0]"),
    ({"config": changed(val_dataset=5)}, "val_dataset in the config is 5"),
    ({"config": changed(model={**CONFIG["model"], "num_codes": 5})}, "wrong shape"),
    ({"class_names": "[" * 100000}, "no list of class_names"), ({"class_names": "{}"}, "no list of class_names"),
    ({"class_names": "[]"}, "class names"), ({"class_names": "[1, 2, 3]"}, "class names"),
    ({"class_names": json.dumps(["a", "b\x1b[2J", "c"])}, "class names"),
    ({"class_names": json.dumps(["a", "b" * 201, "c"])}, "class names"),
    ({"class_names": '["a", "b"]', "palette": "[]"}, "names 2 classes in its metadata, but is of a network of 3"),
    ({"palette": "[[1, 2]]"}, "three numbers from 0 to 255"), ({"palette": "[[1, 2, 256]]"}, "three numbers"),
    ({"palette": "[[1, 2, true]]"}, "three numbers"), ({"palette": "[[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]"},
                                                       "three numbers"), ({"palette": "no"}, "no list of palette"),
])
def test_hostile_metadata_ends_in_a_line(said, words, written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refusal(written(**said))
    assert any(word in message for word in words.split("|")), message
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("key", ["pretrained", "pretrained_path"])
def test_no_weights_are_fetched_for_a_part_of_it(key, written):
    model = {**CONFIG["model"], "backbone": {"type": "ResNet18_v1b", "deep": [{key: "https://nowhere.invalid/x"}]}}
    found = description.read_description(written(config=changed(model=model)))
    assert found.config["model"]["backbone"]["deep"] == [{}]


def test_metadata_that_are_no_texts(state, tmp_path):
    path = tmp_path / "model.safetensors"
    for said in ({"config": {"model": {}}}, {"config": None}, ["config"]):
        checkpoint.write_safetensors(state, path, said)
        assert refusal(path).endswith("has metadata that are not texts by name")
        assert checkpoint.read_weights(path).keys() == state.keys()     # whatever stands beside


def test_files_that_say_nothing(state, tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.write_safetensors(state, path)
    assert "has no config in its metadata; give the config" in refusal(path)
    path.write_bytes(b"\x80\x02}q\x00." * 9)
    assert refusal(path).endswith("is no safetensors file, which alone holds a config beside its weights")
    path.write_bytes(b"")
    assert "is no safetensors file" in refusal(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="does not exist"):
        Segmenter(path, device="cpu")
