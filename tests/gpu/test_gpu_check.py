"""make gpu-check on a CPU: it runs to its end, says what it could not check, and a wrong layer makes it fail."""

import json
import subprocess
import sys

import paddle
import pytest
from conftest import ROOT, tool

from paddleseg_encnet.gpu import check_page, check_table, checking, layer_checks, rank_checks, training_checks
from paddleseg_encnet.gpu.checking import Check, Found, Place
from paddleseg_encnet.models import encnet, encoding

LAYER = ["--only", "Encoding layer", "gradients", "attention"]


def checked(folder, *flags) -> dict:
    """{name of a check: row} of what a run has written."""
    module = tool("gpu_check")
    args = module.flags().parse_args(["--device", "cpu", "--save_dir", str(folder), *flags])
    try:
        module.main(args)
        code = 0
    except SystemExit as stopped:
        code = stopped.code
    path, = folder.glob("*.json")
    content = json.loads(path.read_text())
    rows = {row["name"]: row for row in content["checks"]}
    assert code == any(row["status"] == "fails" for row in rows.values())
    return rows


def test_it_runs_to_its_end(tmp_path):
    """As make gpu-check starts it, all of it."""
    done = subprocess.run([sys.executable, ROOT / "tools" / "gpu_check.py", "--device", "cpu", "--save_dir", tmp_path],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    path, = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    status = {row["name"]: row["status"] for row in content["checks"]}
    assert list(status) == [check.name for check in check_table.CHECKS]
    for check in check_table.CHECKS:
        assert status[check.name] == ("not run" if check.gpus else "holds"), check.name
    assert content["machine"]["Paddle"] == paddle.__version__ and content["machine"]["paddleseg"]
    page = path.with_suffix(".md").read_text()
    for check in check_table.CHECKS:
        assert f"| {status[check.name]} | {check.name} |" in page
    assert "needs a GPU" in page and "needs 2 GPUs" in page and "a CPU casts nothing" in page
    log = path.with_suffix(".log").read_text()
    assert log.count("\n--- ") == sum(not check.gpus for check in check_table.CHECKS) and "[TRAIN]" in log


def test_a_sound_layer_holds(tmp_path):
    rows = checked(tmp_path, *LAYER)
    assert [row["status"] for row in rows.values()] == ["not run", "holds", "holds", "holds"]


def of_residuals(features, assignment, mass, codewords):
    """aggregate() with an error of 2 % in one term."""
    weighted = paddle.matmul(features, assignment).transpose([0, 2, 1])
    return weighted - encoding.spread(1.02 * mass, weighted) * codewords


def backward_of_copies(grad, *saved):
    """encode_backward() without what is added up to the features in place, as before where an index was no view."""
    to_features, *others = BACKWARD(grad, *saved)
    return (0.9 * to_features, *others)


BACKWARD = encoding.encode_backward


@pytest.mark.parametrize("name, wrong, caught", [
    ("aggregate", of_residuals, "the Encoding layer against its formula"),
    ("encode_backward", backward_of_copies, "gradients by hand against Paddle's")])
def test_a_wrong_layer_is_found(name, wrong, caught, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, name, wrong)
    rows = checked(tmp_path, *LAYER)
    assert rows[caught]["status"] == "fails"


def test_sums_that_are_returned_in_half_precision_are_found(tmp_path, monkeypatch):
    forward = encnet.Encoding.forward
    monkeypatch.setattr(encnet.Encoding, "forward", lambda self, x: forward(self, x).astype(x.dtype).astype("float32"))
    row, = checked(tmp_path, "--only", "attention").values()
    assert row["status"] == "fails"


def test_a_check_that_breaks_is_told_and_the_next_one_runs(tmp_path, monkeypatch):
    def broken(place):
        print("in the log")
        raise RuntimeError("CUDA error(700)")
    monkeypatch.setattr(check_table, "CHECKS", [Check("first", 0, broken), Check("second", 0, layer_checks.formula)])
    rows = checked(tmp_path)
    assert rows["first"]["status"] == "fails" and "CUDA error(700)" in rows["first"]["said"]
    assert rows["second"]["status"] == "holds"
    log = next(tmp_path.glob("*.log")).read_text()
    assert "in the log" in log and "Traceback" in log


def test_numbers_that_are_none_do_not_hold():
    assert not checking.within([("loss", float("nan"), 1.0)]).holds
    assert not checking.within([("loss", 0.5, 1.0), ("other", 2.0, 1.0)]).holds
    assert checking.within([("loss", 0.5, 1.0)]) == Found(True, "loss 0.5 of at most 1", {"loss": 0.5})


def test_words_that_no_check_has(tmp_path):
    with pytest.raises(ValueError, match="no check has banana in its name; there are: memory of"):
        check_page.check_gpu(str(tmp_path), "cpu", ["banana"])


TRAIN = ("[TRAIN] epoch: 2, iter: 40/80, loss: 1.2345, lr: 0.010000, batch_cost: 0.7500, reader_cost: 0.00100, "
         "ips: 2.7 samples/sec | ETA 00:00:30\npeak GB: 11.5\nreserved GB: 12.25\n")


@pytest.mark.parametrize("text, holds", [(TRAIN, True), (TRAIN.replace("1.2345", "nan"), False),
                                         (TRAIN.replace("0.00100", "0.50000"), False), ("Out of memory", False)])
def test_what_encnet_101_needs_is_read_from_its_log(text, holds, tmp_path, monkeypatch):
    """A GPU's rows, whose children are replaced here."""
    monkeypatch.setattr(training_checks, "config_of", lambda *_: "config.yml")
    monkeypatch.setattr(training_checks, "child", lambda *_: subprocess.CompletedProcess([], 0, text))
    found = training_checks.encnet_101(Place("gpu", 1, str(tmp_path)))
    assert found.holds == holds
    if holds:
        assert "fp16: 11.5 GB (12.2 reserved), 0.75 s a step, 0% waiting for data" in found.said


@pytest.mark.parametrize("seconds, holds", [([0.8, 0.9], True), ([0.8, 1.6], False)])
def test_the_pace_of_two_is_read_from_their_logs(seconds, holds, tmp_path, monkeypatch):
    asked = []

    def launch(place, config, iters, victim=-1, ranks=2):
        asked.append(ranks)
        return 0, f"batch_cost: {seconds[ranks - 1]:.4f}, reader_cost: 0.1"
    monkeypatch.setattr(rank_checks, "config_of", lambda *_: "config.yml")
    monkeypatch.setattr(rank_checks, "launch", launch)
    assert rank_checks.pace(Place("gpu", 2, str(tmp_path))).holds == holds and asked == [1, 2]


def test_the_template_and_the_page_of_scaling_name_it():
    template = (ROOT / ".github" / "ISSUE_TEMPLATE" / "gpu-check.md").read_text()
    assert template.startswith("---\nname: ") and "make gpu-check" in template
    assert "make gpu-check" in (ROOT / "docs" / "scaling.md").read_text()
