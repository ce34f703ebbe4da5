"""What a run's dashboard shows: curves, pictures, histograms, hyper-parameters."""

import json
import re

import cv2
import numpy as np
import paddle
import pytest
import tiny_run
import vdl
from conftest import ROOT
from vdl import read, steps

from paddleseg_encnet.data.reading import read_image, read_label
from paddleseg_encnet.models.encnet import EncModule
from paddleseg_encnet.training import dashboard, saving
from paddleseg_encnet.training.dashboard import Dashboard
from paddleseg_encnet.training.training_loop import Schedule
from segrun import drawing
from segrun.palettes import CITYSCAPES, color_table

pytest.importorskip("visualdl")


@pytest.fixture(scope="module")
def shown(small_config, tmp_path_factory):
    return vdl.four_steps(small_config, tmp_path_factory.mktemp("shown"))


def test_every_tag_of_the_docs_is_there_and_no_other(shown):
    documented = set()
    for line in (ROOT / "docs" / "dashboard.md").read_text().splitlines():
        if line.startswith("| `"):
            documented.update(re.findall(r"`([^`]+)`", line.split("|")[1]))
    patterns = [re.escape(tag).replace("NAME", ".+") for tag in documented]
    tags = [tag for kind in ("scalar", "image", "histogram") for tag in read(shown)[kind]]
    assert [pattern for pattern in patterns if not any(re.fullmatch(pattern, tag) for tag in tags)] == []
    assert [tag for tag in tags if not any(re.fullmatch(pattern, tag) for pattern in patterns)] == []


def test_curves(shown):
    scalars = read(shown)["scalar"]
    for tag, records in scalars.items():
        at = [1, 2, 3, 4] if tag.startswith("Train/") else [2, 4]
        has_gaps = tag.startswith(("IoU/", "Evaluate/best_"))
        assert steps(records) == at or has_gaps and steps(records) in ([2], [4]), tag
    terms = [scalars[f"Train/loss_{name}"] for name in ("segmentation", "auxiliary", "SE")]
    for total, *parts in zip(scalars["Train/loss"], *terms):
        assert total.value == pytest.approx(sum(part.value for part in parts), rel=1e-6)    # float32 each
    for batch, reader, speed, share in zip(*(scalars[f"Train/{name}"] for name in (
            "batch_cost", "reader_cost", "images_per_second", "waiting_for_data"))):
        assert speed.value == pytest.approx(2 / batch.value, rel=1e-6)
        assert share.value == pytest.approx(reader.value / batch.value, rel=1e-6)
    best = json.loads((shown / "iter_4" / "state.json").read_text())["best"]["model"]
    assert scalars["Evaluate/best_mIoU"][-1].value == pytest.approx(best["mean_iou"], rel=1e-6)
    assert scalars["Evaluate/best_iter"][-1].value == best["step"]
    ious = [records[-1].value for tag, records in scalars.items() if tag.startswith("IoU/") and records[-1].id == 4]
    assert np.mean(ious) == pytest.approx(scalars["Evaluate/mIoU"][-1].value, rel=1e-5)


def test_pictures_show_the_same_images_at_each_evaluation(shown, scenes):
    images = read(shown)["image"]
    assert [(tag.split(" ")[0], steps(records)) for tag, records in images.items()] == [
        (f"Images/{number}", [2, 4]) for number in (1, 2, 3, 4)]
    colors = color_table(CITYSCAPES)
    for tag, records in images.items():
        path, = scenes.glob(f"leftImg8bit/val/*/{tag.split(' ')[-1]}.png")
        label = read_label(str(path).replace("leftImg8bit", "gtFine", 1).replace("leftImg8bit", "gtFine_labelTrainIds"))
        pictures = [cv2.imdecode(np.frombuffer(record.image.encoded_image_string, np.uint8), 1)[..., ::-1]
                    for record in records]
        top = drawing.side_by_side([read_image(str(path))[..., ::-1], drawing.colorize(label, colors)],
                                   ["image", "label"])
        for picture in pictures:
            assert np.array_equal(picture[:len(top)], top)          # 128 x 64: no picture is shrunk
        assert not np.array_equal(*pictures), "the prediction has changed in two steps"


def test_panel_by_hand():
    """Wrong where the prediction differs, unlabelled where there is no label; larger ones are shrunk."""
    colors = color_table({"a": (255, 0, 0), "b": (0, 255, 0)})
    label, prediction = np.full((600, 800), 9), np.zeros((600, 800), int)
    label[:300] = 0
    label[:150] = 1
    picture = dashboard.panel(np.full((600, 800, 3), 128, np.uint8), label, prediction, colors, ignore_index=9)
    height, width = 288, 384                # 800 x 600 with its longer side as 384
    errors = picture[-height:, -width:]
    assert [tuple(errors[row, 5]) for row in (30, 100, 250)] == [drawing.WRONG, drawing.RIGHT, drawing.UNLABELLED]
    assert tuple(picture[26 + height - 5, -5]) == tuple(colors[255])
    assert tuple(picture[-height // 2, 5]) == (255, 0, 0) and picture.shape[1] == 2 * width + 6


def test_histograms_of_the_codebook_and_the_attention(shown):
    histograms = read(shown)["histogram"]
    assert {tag: (steps(records), sum(records[0].histogram.hist)) for tag, records in histograms.items()} == {
        "Encoding/codewords": ([2, 4], 4 * 16), "Encoding/scales": ([2, 4], 4), "Encoding/gamma": ([2, 4], 4 * 16)}
    edges = histograms["Encoding/gamma"][0].histogram.bin_edges
    assert (edges[0], edges[-1]) == (0, 1)


@pytest.mark.parametrize("module, expected", [
    (EncModule(16, 0), (0, 2)), (EncModule(16, 4), (1, 2)), (None, (0, 0))], ids=["K = 0", "K = 4", "no encoding"])
def test_what_a_network_does_not_have_has_no_histogram(module, expected):
    network = paddle.nn.Layer()
    if module is not None:
        network.enc_module = module
        module.eval()
    with dashboard.gathered_attention(network) as gamma:
        for _ in range(2):
            module and module(paddle.randn([1, 16, 4, 4]))
    module and module(paddle.randn([1, 16, 4, 4]))          # not seen any more
    counts = {tag: len(parts) for tag, parts in dashboard.codebook_values(network).items()}
    assert counts == {"Encoding/codewords": expected[0], "Encoding/scales": expected[0]} and len(gamma) == expected[1]


def test_hyper_parameters_with_best_scores(shown):
    record, = read(shown)["hyper_parameters"]["hparam"]
    values = {info.name: getattr(info, info.WhichOneof("type")) for info in record.hparam.hparamInfos}
    assert {**values, "coef_SE": round(values["coef_SE"], 6)} == {
        "lr": 0.05, "batch": 2, "iters": 4, "crop": "96x64", "model": "ENCNet", "backbone": "ResNet18_vd",
        "num_codes": 4, "mid_channels": 16, "add_lateral": "True", "use_se_loss": "True",
        "coef_segmentation": 1.0, "coef_auxiliary": 0.4, "coef_SE": 0.2, "seed": 7}
    assert [info.name for info in record.hparam.metricInfos] == dashboard.METRICS
    assert {"Evaluate/mIoU", "Evaluate/best_mIoU"} <= set(dashboard.METRICS) <= set(read(shown)["scalar"])


def test_hyper_parameters_of_a_bare_config():
    config = {"model": {"type": "Tiny"}, "iters": 5, "lr_scheduler": {"type": "PiecewiseDecay", "values": [0.1, 0.01]}}
    assert dashboard.hyper_parameters(config, tiny_run.Tiny(), 8, 1) == {
        "batch": 8, "iters": 5, "model": "Tiny", "seed": 1}
    config["lr_scheduler"] = {"learning_rate": "1e-3"}      # what YAML takes for a text
    assert dashboard.hyper_parameters(config, tiny_run.Tiny(), 8, 1)["lr"] == 0.001


def test_pictures_of_a_long_run_are_few():
    """80,000 steps evaluated each 1,000 have pictures each time; each 100, at a hundred of the 800 evaluations."""
    board = Dashboard(None, Schedule(80000, 1000), saving.State())
    assert all(board.shows(step) for step in range(1000, 80001, 1000))
    board = Dashboard(None, Schedule(80050, 100), saving.State())
    shown = [step for step in [*range(100, 80001, 100), 80050] if board.shows(step)]
    assert len(shown) <= 101 and shown[-1] == 80050 and shown[0] < 1000
