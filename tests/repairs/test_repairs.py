"""Each repair: the defect is there without it and gone with it. A PaddleSeg without a defect is not touched."""

import importlib
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import paddle
import pytest
from conftest import ROOT
from paddleseg.models.losses import CrossEntropyLoss
from paddleseg.transforms import Compose
from paddleseg.utils import logger, metrics

from paddleseg_encnet.repairs import environment_repairs, table

# The folder of the probes as a package of its own, as the import of ours applies the repairs.
PROBE_STOCK = """
import importlib, json, sys
import zlib         # before Paddle, whose 2.6 crashes without it
import paddle, paddleseg.core

folder, probes = json.loads(sys.argv[1])
sys.path.append(folder)
found = [name for module, probe, name in probes if getattr(importlib.import_module(module), probe)()]
assert "paddleseg_encnet" not in sys.modules
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def stock_defects():
    """What the probes find in a process that has PaddleSeg as it is installed."""
    probes = [[repair.needed.__module__.replace("paddleseg_encnet.", ""), repair.needed.__name__, repair.name]
              for repair in table.REPAIRS]
    asked = json.dumps([str(ROOT / "paddleseg_encnet"), probes])
    done = subprocess.run([sys.executable, "-c", PROBE_STOCK, asked], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_what_was_mended_is_what_is_broken(stock_defects):
    assert table.APPLIED == stock_defects


@pytest.mark.parametrize("repair", table.REPAIRS, ids=lambda repair: repair.name)
def test_defect_is_gone(repair):
    assert not repair.needed()


@pytest.mark.parametrize("repair", table.REPAIRS, ids=lambda repair: repair.name)
def test_says_symptom_cause_and_how_it_is_detected(repair):
    for word in ("Symptom:", "Cause:", "Detected:"):
        assert word in repair.mend.__doc__


def test_applying_twice_changes_nothing():
    before = (Compose.__call__, metrics.calculate_area, list(table.APPLIED))
    table.apply()
    assert (Compose.__call__, metrics.calculate_area, table.APPLIED) == before


ORDERS = """
import sys
import paddleseg_encnet, numpy as np, cv2
from paddleseg.datasets import Dataset
from paddleseg.transforms import Compose
from paddleseg_encnet.repairs import channel_repairs, data_repairs
Compose.__call__, Dataset.__init__ = Compose.__call__.__wrapped__, Dataset.__init__.__wrapped__
mend = [data_repairs.one_reader, channel_repairs.images_of_any_channels]
for repair in mend[::int(sys.argv[1])] + mend:
    repair()
assert not hasattr(Compose.__call__.__wrapped__, "__wrapped__")
pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
cv2.imwrite(sys.argv[2], pixels)
print(Compose([], img_channels=4)({"img": sys.argv[2]})["img"].sum(), Compose([])({"img": sys.argv[2]})["img"].shape)
"""


@pytest.mark.parametrize("order", [1, -1])
def test_repairs_that_need_one_reader_wrap_once_in_either_order(order, tmp_path):
    done = subprocess.run([sys.executable, "-c", ORDERS, str(order), str(tmp_path / "x.png")], capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "276.0 (3, 2, 3)"


# What each repair is for, seen from the outside

def test_losses_have_the_shape_that_paddlesegs_loop_indexes():
    if "losses_with_a_dimension" not in table.APPLIED:
        pytest.skip("this PaddleSeg reads losses of any shape")
    module = importlib.import_module("paddleseg.core.train")
    losses = {"types": [CrossEntropyLoss()], "coef": [1]}
    terms = module.loss_computation([paddle.zeros([1, 2, 3, 3])], paddle.zeros([1, 3, 3], "int64"), None, losses)
    assert [term.shape for term in terms] == [[1]]


@pytest.mark.parametrize("options", [{}, {"weight": [1.0, 2.0, 0.5]}, {"top_k_percent_pixels": 0.5},
                                     {"avg_non_ignore": False}])
def test_cross_entropy_equals_numpy(options):
    random = np.random.default_rng(0)
    logit = random.normal(size=(2, 3, 4, 5)).astype("float32")
    label = random.integers(0, 3, (2, 4, 5))
    label[0, 0] = 255
    loss = CrossEntropyLoss(ignore_index=255, **options)(paddle.to_tensor(logit), paddle.to_tensor(label))

    probability = np.exp(logit) / np.exp(logit).sum(1, keepdims=True)
    weight = np.array(options.get("weight", [1, 1, 1]))
    valid = label != 255
    index = np.where(valid, label, 0)
    pixel = -np.log(np.take_along_axis(probability, index[:, None], 1)[:, 0]) * weight[index] * valid
    if "top_k_percent_pixels" in options:
        expected = np.sort(pixel.ravel())[-pixel.size // 2:].mean()
    elif options.get("avg_non_ignore", True):
        expected = pixel.sum() / (weight[index] * valid).sum()
    else:
        expected = pixel.mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_calculate_area_by_hand():
    label = paddle.to_tensor([[[[0, 0, 1], [1, 2, 255]]]], dtype="int64")
    prediction = paddle.to_tensor([[[[0, 1, 1], [1, 0, 2]]]], dtype="int32")
    areas = metrics.calculate_area(prediction, label, 3)
    assert [area.tolist() for area in areas] == [[1, 2, 0], [2, 3, 0], [2, 2, 1]]
    assert all(area.dtype == paddle.int64 for area in areas)


@pytest.mark.parametrize("content", [None, b"", b"this is no picture"])
def test_unreadable_image_is_named(tmp_path, content):
    path = tmp_path / "street.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="street.png"):
        Compose([])({"img": str(path)})


def test_cityscapes_pairs_by_name(scenes):
    from paddleseg.datasets import Cityscapes
    pairs = Cityscapes([], str(scenes), mode="train").file_list
    assert len(pairs) == 8
    for image, label in pairs:
        assert os.path.basename(image).replace("leftImg8bit", "") == \
            os.path.basename(label).replace("gtFine_labelTrainIds", "")


@pytest.mark.parametrize("ratio", [0.8, 0.01])      # found at the first or second try; never found
def test_crop_with_category_max_ratio_crops_the_image_too(ratio):
    from paddleseg.transforms import RandomPaddingCrop
    label = np.arange(30, dtype="uint8").reshape(5, 6) % 3
    image = np.stack([label] * 3, -1).astype("float32")
    data = RandomPaddingCrop(crop_size=[3, 4], category_max_ratio=ratio)(
        {"img": image, "label": label, "gt_fields": ["label"]})
    assert data["img"].shape == (4, 3, 3) and data["label"].shape == (4, 3)
    assert (data["img"] == data["label"][..., None]).all()


def backbone(**options):
    from paddleseg.models.backbones import ResNet18_vd
    return ResNet18_vd(output_stride=16, **options)


def test_pretrained_backbone_fills_all_of_it(tmp_path):
    state = {name: np.full(value.shape, 0.5, "float32") for name, value in backbone().state_dict().items()}
    path = str(tmp_path / "imagenet.pdparams")
    paddle.save({**state, "out.weight": np.zeros([512, 1000], "float32")}, path)
    assert all((value.numpy() == 0.5).all() for value in backbone(pretrained=path).state_dict().values())


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_pretrained_weights_that_do_not_fit_are_an_error(tmp_path, change):
    state = {name: value.numpy() for name, value in backbone().state_dict().items()}
    name = "bb_2_1.conv0._conv.weight"
    value = state.pop(name)
    if change == "shape":
        state[name] = value[:7]
    path = str(tmp_path / "other.pdparams")
    paddle.save(state, path)
    with pytest.raises(ValueError, match=f"other.pdparams.*{name}"):
        backbone(pretrained=path)


def test_zlib_works_after_paddle():
    code = "import paddleseg_encnet, zlib; assert zlib.decompress(zlib.compress(b'x' * 99)) == b'x' * 99"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_environment_of_a_gpu_build_without_cudnn(monkeypatch):
    """As paddlepaddle-gpu sees a machine without a GPU; on one, the repair is in place already."""
    import paddleseg.utils
    modules = [importlib.import_module(name) for name in
               ("paddleseg.utils", "paddleseg.utils.env", "paddleseg.utils.env.sys_env", "paddleseg.utils.utils")]
    for module in modules:      # remembered, to be put back
        monkeypatch.setattr(module, "get_sys_env", module.get_sys_env)
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle, "get_cudnn_version", lambda: None)
    monkeypatch.setattr(paddle, "get_device", lambda: "cpu")
    if "environment_without_cudnn" not in table.APPLIED:
        with pytest.raises(TypeError):
            paddleseg.utils.get_sys_env()
        assert environment_repairs.environment_needs_cudnn()
        environment_repairs.environment_without_cudnn()
    assert not environment_repairs.environment_needs_cudnn()
    assert all(module.get_sys_env()["GPUs used"] == 0 for module in modules)


@pytest.mark.parametrize("encoding, shown", [
    ("utf-8", "\u8bed \u00e9"), ("gbk", "\u8bed \u00e9"), ("ascii", r"\u8bed \xe9")])
def test_the_log_prints_any_letter(encoding, shown, monkeypatch):
    """A terminal that lacks the letter must not end the training."""
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=encoding))
    logger.info("\u8bed \u00e9")
    logger.debug("not at this level")
    lines = printed.getvalue().decode(encoding).splitlines()
    assert len(lines) == 1 and re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d \[INFO\]\t{re.escape(shown)}", lines[0])


@pytest.mark.parametrize("size", [(1, 4), (4, 1), (3, 3), (5, 8)])
@pytest.mark.parametrize("target", [(7, 7), (2, 3), (64, 32)])
def test_scale_padding_keeps_ids(size, target):
    from paddleseg.transforms import ScalePadding
    label = np.random.default_rng(0).choice([0, 100, 200], size).astype("uint8")
    image = np.repeat(label[..., np.newaxis], 3, axis=2).astype("float32")
    data = ScalePadding(list(target))({"img": image, "label": label, "gt_fields": ["label"]})
    assert data["label"].shape == data["img"].shape[:2] == target[::-1] and data["gt_fields"] == ["label"]
    assert set(np.unique(data["label"])) <= {0, 100, 200, 255}
    alone = ScalePadding(list(target))({"img": image})          # an image to predict has no label
    np.testing.assert_array_equal(alone["img"], data["img"])


def test_scale_padding_centres_the_label():
    from paddleseg.transforms import ScalePadding
    label = np.full((2, 6), 9, "uint8")
    data = ScalePadding([6, 6])({"img": np.zeros((2, 6, 3), "float32"), "label": label, "gt_fields": ["label"]})
    assert (data["label"][2:4] == 9).all() and (data["label"][[0, 1, 4, 5]] == 255).all()


def test_lists_of_a_windows_editor(tmp_path):
    from paddleseg.datasets import Dataset
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfstra\xc3\x9fe.png a.png\r\nb.png c.png\r\n")
    found = Dataset("train", str(tmp_path), [], 2, train_path=str(tmp_path / "list.txt")).file_list
    assert found == [[str(tmp_path / name) for name in pair] for pair in (("straße.png", "a.png"), ("b.png", "c.png"))]
    (tmp_path / "list.txt").write_bytes("straße.png a.png\r\nb.png c.png\r\n".encode("utf-16"))
    assert Dataset("train", str(tmp_path), [], 2, train_path=str(tmp_path / "list.txt")).file_list == found


@pytest.mark.parametrize("mode", ["train", "val"])
def test_ade20k_labels_of_16_bits(tmp_path, mode):
    """They became 0, or 65535 for no class."""
    from paddleseg.datasets import ADE20K
    from PIL import Image
    split = {"train": "training", "val": "validation"}[mode]
    for folder in ("images", "annotations"):
        (tmp_path / folder / split).mkdir(parents=True)
    Image.new("RGB", (3, 1)).save(tmp_path / "images" / split / "a.jpg")
    Image.fromarray(np.uint16([[0, 1, 150]])).save(tmp_path / "annotations" / split / "a.png")
    label = ADE20K([], str(tmp_path), mode)[0]["label"]
    assert label.dtype == np.uint8 and label.reshape(-1).tolist() == [255, 0, 149]
