"""What a run's VisualDL log holds, after kills and resumes too; and what a browser shows of it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import browser
import cv2
import numpy as np
import paddle
import pytest
import tiny_run
from conftest import ROOT, tool

from paddleseg_encnet import flags
from paddleseg_encnet.data.reading import read_image, read_label
from paddleseg_encnet.models.encnet import EncModule
from paddleseg_encnet.training import dashboard, saving
from paddleseg_encnet.training.dashboard import Dashboard
from paddleseg_encnet.training.finite import NotFinite
from paddleseg_encnet.training.loop import Pace, Schedule
from paddleseg_encnet.training.vdl_log import Log
from segrun import drawing
from segrun.palettes import CITYSCAPES, color_table
from segrun.stopping import Stopped

visualdl = pytest.importorskip("visualdl")


def logs(folder) -> list:
    return sorted(name for name in os.listdir(folder) if "vdlrecords" in name)


def read(folder) -> dict:
    """{kind: {tag: [record, ...]}} of the one log of a folder, by VisualDL's own reader."""
    name, = logs(folder)
    reader = visualdl.LogReader(file_path=os.path.join(folder, name))
    return {kind: {tag: reader.get_data(kind, tag) for tag in tags} for kind, tags in reader.get_tags().items()}


def steps(records) -> list:
    return [record.id for record in records]


def content(record):
    """A record without its time."""
    return getattr(record, record.WhichOneof("one_value"))


@pytest.fixture
def said(monkeypatch) -> list:
    """What the logger is given. Not what is on stdout: that of PaddleSeg's repository version holds on to another."""
    lines = []
    for level in ("info", "warning"):
        monkeypatch.setattr(dashboard.logger, level, lines.append)
    return lines


@pytest.fixture(scope="module")
def shown(small_config, tmp_path_factory):
    """Folder of a real run of four steps, evaluated at 2 and 4, by tools/train.py."""
    folder = tmp_path_factory.mktemp("shown")
    train = tool("train")
    with paddle.utils.unique_name.guard():
        flags.run(train.main, train.flags(), [str(argument) for argument in (
            "--config", small_config, "--device", "cpu", "--seed", 7, "--do_eval", "--use_vdl", "--save_interval", 2,
            "--log_iters", 1, "--save_dir", folder)])
    return folder


# --- what is there ---------------------------------------------------------------------------------------------------

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
    with dashboard.attention(network) as gamma:
        for _ in range(2):
            module and module(paddle.randn([1, 16, 4, 4]))
    module and module(paddle.randn([1, 16, 4, 4]))          # not seen any more
    counts = {tag: len(parts) for tag, parts in dashboard.codebook(network).items()}
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


# --- one log ---------------------------------------------------------------------------------------------------------

TIMES = ("Train/batch_cost", "Train/reader_cost", "Train/images_per_second", "Train/waiting_for_data")


class Killed(BaseException):
    """What the process does not survive, as far as its log is concerned: nothing that it writes waits anywhere."""


def logged_run(scenes, folder, **options):
    return tiny_run.run(scenes, folder, iters=12, save_interval=4, log_iters=2, use_vdl=True, **options)


@pytest.fixture(scope="module")
def one_go(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one_go")
    logged_run(scenes, folder)
    return read(folder)


def differing(found: dict, expected: dict) -> list:
    """Tags with other steps, or other values but of times."""
    tags = [(kind, tag) for kind in expected for tag in expected[kind] if kind not in ("meta_data", "hyper_parameters")]
    differing = [tag for kind in found.keys() | expected.keys() for tag in found[kind].keys() ^ expected[kind].keys()]
    return differing + [tag for kind, tag in tags if steps(found[kind][tag]) != steps(expected[kind][tag])
                        or tag not in TIMES and [content(record) for record in found[kind][tag]]
                        != [content(record) for record in expected[kind][tag]]]


def killed_in_step(patch, n):
    def kill(step):
        if step == n:
            raise Killed
    return {"before_step": kill}


def killed_in(patch, place, name):
    """At the second call of a function."""
    original, calls = getattr(place, name), []

    def kill(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return original(*arguments, **options)

    patch.setattr(place, name, kill)
    return {}


# What is killed, and what that leaves in the log beyond the checkpoint at step 4 or 8.
MOMENTS = {
    "two logged steps after a checkpoint": lambda patch: killed_in_step(patch, 8),
    "while a checkpoint is written": lambda patch: killed_in(patch, saving.Saver, "save"),
    "after the checkpoint, before its evaluation": lambda patch: killed_in(patch, paddle.nn.Layer, "eval"),
    "with the scores of an evaluation, but no pictures": lambda patch: killed_in(patch, dashboard, "look"),
    "before the checkpoint knows of its evaluation": lambda patch: killed_in(patch, saving.Saver, "evaluated"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_one_log_after_a_kill_and_a_resume(one_go, scenes, tmp_path, monkeypatch, moment):
    (tmp_path / "vdlrecords.0000000001.log").write_bytes(b"another's")
    with pytest.raises(Killed), monkeypatch.context() as patch:
        logged_run(scenes, tmp_path, **MOMENTS[moment](patch))
    name = logs(tmp_path)[-1]
    with open(tmp_path / name, "ab") as file:
        file.write(b"\x50\0\0\0\0\0\0\0half a record")
    logged_run(scenes, tmp_path, resume_model="auto")
    assert logs(tmp_path) == ["vdlrecords.0000000001.log", name]
    assert (tmp_path / "vdlrecords.0000000001.log").read_bytes() == b"another's"
    (tmp_path / "vdlrecords.0000000001.log").unlink()
    assert differing(read(tmp_path), one_go) == []


def test_one_log_after_a_signal(one_go, scenes, tmp_path, said):
    """At step 6, where a point is logged. The run ends by saying how to open its dashboard."""
    with pytest.raises(Stopped):
        logged_run(scenes, tmp_path, before_step=tiny_run.stop_at(6))
    assert f"visualdl --logdir {tmp_path}" in said[-1]
    logged_run(scenes, tmp_path, resume_model="auto")
    assert differing(read(tmp_path), one_go) == []


def test_going_back_to_an_earlier_checkpoint(one_go, scenes, tmp_path):
    logged_run(scenes, tmp_path)
    logged_run(scenes, tmp_path, resume_model=str(tmp_path / "iter_4"))
    assert differing(read(tmp_path), one_go) == []


def test_run_that_begins_anew_leaves_the_earlier_log(scenes, tmp_path):
    """So does one that goes on from a checkpoint of another folder. VisualDL shows the one whose name comes last."""
    first = Log.new(str(tmp_path))
    first.append([])
    future = f"vdlrecords.{int(time.time()) + 1000}.log"
    os.rename(first.path, tmp_path / future)
    tiny_run.run(scenes, tmp_path, iters=2, log_iters=1, evaluate=False, use_vdl=True)
    assert len(logs(tmp_path)) == 2 and logs(tmp_path)[0] == future and os.path.getsize(tmp_path / future) == 0
    tiny_run.run(scenes, tmp_path / "other", iters=3, log_iters=1, evaluate=False, use_vdl=True,
                 resume_model=str(tmp_path / "iter_2"))
    assert steps(read(tmp_path / "other")["scalar"]["Train/loss"]) == [3]


def test_log_of_visualdls_own_writer_goes_on(tmp_path):
    """As PaddleSeg's loop leaves it."""
    with visualdl.LogWriter(str(tmp_path)) as writer:
        for step in range(1, 11):
            writer.add_scalar("Train/loss", step / 2, step)
    with Dashboard(str(tmp_path), Schedule(10), saving.State(step=6), str(tmp_path / "iter_6")) as board:
        board.write(7, {"Train/loss": 7.5})
    records = read(tmp_path)["scalar"]["Train/loss"]
    assert [(record.id, record.value) for record in records] == [*((step, step / 2) for step in range(1, 7)), (7, 7.5)]


def test_no_log_before_there_is_something_to_show(tmp_path):
    """An empty one would hide that of an earlier run."""
    with Dashboard(str(tmp_path / "run"), Schedule(10), saving.State()):
        pass
    assert not (tmp_path / "run").exists()


# --- when something is wrong -----------------------------------------------------------------------------------------

PACE = Pace([], 0.5, 0.1)


def test_what_is_not_finite_is_left_out_and_said_once(tmp_path, said):
    with Dashboard(str(tmp_path), Schedule(10), saving.State()) as board:
        for step, value in enumerate([1.0, np.nan, np.inf, 2.0], 1):
            board.stepped(step, {"segmentation": 1.0, "SE": value}, 0.1, PACE, 4)
        board.write(4, histograms={"Encoding/scales": [np.array([1.0, np.nan])], "Encoding/gamma": []})
    found = read(tmp_path)
    assert steps(found["scalar"]["Train/loss_SE"]) == steps(found["scalar"]["Train/loss"]) == [1, 4]
    assert steps(found["scalar"]["Train/loss_segmentation"]) == [1, 2, 3, 4]
    assert sum(found["histogram"]["Encoding/scales"][0].histogram.hist) == 1
    said = [line for line in said if "not finite" in line]
    assert len(said) == 2 and "at step 2 and left out: Train/loss, Train/loss_SE." in said[0]


def test_run_that_ends_in_an_error_says_how_to_look_at_it(scenes, tmp_path, said):
    class Breaks(paddle.nn.Layer):
        def forward(self, logits, label):
            return logits.mean() * float("nan")

    with pytest.raises(NotFinite):
        tiny_run.run(scenes, tmp_path, loss=Breaks(), use_vdl=True)
    assert f"visualdl --logdir {tmp_path}" in said[-1]


def test_full_disk_ends_no_training_and_leaves_a_whole_log(tmp_path, said):
    class Full:
        """A file on a disk that takes ten bytes more."""
        def __init__(self, file):
            self.file = file

        def write(self, data):
            self.file.write(data[:10])
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    with Dashboard(str(tmp_path), Schedule(10), saving.State()) as board:
        board.stepped(1, {"segmentation": 1.0}, 0.1, PACE, 4)
        file, board.log.file = board.log.file, Full(board.log.file)
        board.stepped(2, {"segmentation": 1.0}, 0.1, PACE, 4)
        board.stepped(3, {"segmentation": 1.0}, 0.1, PACE, 4)
        board.log.file = file
        board.stepped(4, {"segmentation": 1.0}, 0.1, PACE, 4)
    assert all(steps(records) == [1, 4] for records in read(tmp_path)["scalar"].values())
    said = [line for line in said if "--use_vdl" in line]
    assert len(said) == 1 and "No space left on device" in said[0] and "training goes on" in said[0]


def test_pictures_that_fail_end_no_training(scenes, tmp_path, said, monkeypatch):
    def fail(*arguments):
        raise ValueError("no such picture")

    monkeypatch.setattr(dashboard, "read_image", fail)
    logged_run(scenes, tmp_path)
    assert "image" not in read(tmp_path) and steps(read(tmp_path)["scalar"]["Evaluate/mIoU"]) == [4, 8, 12]
    assert len([line for line in said if "the dashboard can't draw the validation images" in line]) == 1


def test_runs_without_visualdl(scenes, tmp_path):
    """In a process where its import fails."""
    code = ("import sys; sys.modules['visualdl'] = None; import tiny_run; tiny_run.paddle.set_device('cpu')\n"
            f"print(tiny_run.run({str(scenes)!r}, {str(tmp_path)!r}, 2, use_vdl=True, log_iters=1).best.step)")
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:"
                          f"{os.environ.get('PYTHONPATH', '')}"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2" and done.stdout.count("visualdl can't be imported") == 1
    assert "--logdir" not in done.stdout and logs(tmp_path) == []


def test_command_works_as_it_is_printed(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert dashboard.command("a b") == f"visualdl --logdir '{os.getcwd()}/a b'"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "visualdl").touch()
    assert dashboard.command("/run") == f"{tmp_path}/bin/visualdl --logdir /run"


# --- in a browser ----------------------------------------------------------------------------------------------------

# How many canvases show something in colour: a curve, a histogram.
DRAWN = """[...document.querySelectorAll("canvas")].filter(canvas => {
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 0; i < data.length; i += 4) {
        const [red, green, blue, alpha] = data.slice(i, i + 4);
        if (alpha > 100 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60) return true;
    }
}).length"""


@pytest.fixture(scope="module")
def served(shown):
    """Address of a VisualDL server that shows the run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "visualdl.server.app", "--logdir", shown, "--port", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address, deadline = f"http://127.0.0.1:{port}/app", time.monotonic() + 60
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline and server.poll() is None:
        try:
            opener.open(f"{address}/api/runs").read()
            break
        except OSError:
            time.sleep(0.2)
    yield address
    server.terminate()
    server.wait()


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium to look with")
def test_a_browser_shows_curves_pictures_histograms_and_hyper_parameters(served):
    page = browser.Browser()
    try:
        page.open(f"{served}/scalar")
        assert page.wait(f"{DRAWN} >= 4") is True, page.run("document.body.innerText")
        page.open(f"{served}/image")
        sizes = page.wait("(pictures => pictures.length >= 4 && pictures.every(each => each.naturalWidth) && "
                          "pictures.map(each => each.naturalWidth))"
                          "([...document.querySelectorAll('img')].filter(each => each.src.startsWith('blob:')))")
        assert sizes == [2 * 128 + 6] * 4, page.run("document.body.innerText")
        page.open(f"{served}/histogram")
        assert page.wait(f"{DRAWN} == 3") is True, page.run("document.body.innerText")
        page.open(f"{served}/hyper-parameter")
        words = ["num_codes", "ResNet18_vd", "0.05", "coef_SE", "best_mIoU"]
        found = page.wait(f"{words}.every(word => document.body.innerText.includes(word))")
        assert found is True, page.run("document.body.innerText")
    finally:
        page.close()
