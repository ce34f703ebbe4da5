"""The paper's studies: which configs they make, and that a grid is finished without doing anything twice."""

import csv
import inspect
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from conftest import ROOT
from paddleseg.cvlibs import Config, SegBuilder

from paddleseg_encnet import ENCNet
from paddleseg_encnet.paper import ablation_plan, places, running, studies, study_report, telling


@pytest.fixture
def config(small_config) -> dict:
    return Config(str(small_config)).dic


def differing(cell, config) -> list:
    return [found.split(" ")[0] for found in places.differences(cell.config, config)]


def test_codewords_changes_one_key(config):
    cells = studies.cells("codewords", config)
    assert [cell.config["model"]["num_codes"] for cell in cells] == [0, 8, 16, 32, 64]
    assert all(differing(cell, config) == ["model.num_codes"] for cell in cells)


def test_se_weight_changes_one_factor(config):
    cells = studies.cells("se_weight", config)
    assert [cell.config["loss"]["coef"] for cell in cells] == [[1, 0.4, alpha] for alpha in (0, 0.1, 0.2, 0.4, 0.8)]
    assert all(set(differing(cell, config)) <= {"loss.coef"} for cell in cells)


def test_each_component_is_added_to_those_before(config):
    cells = {cell.folder: cell for cell in studies.cells("components", config)}
    assert cells["se_loss"].config == config
    assert set(differing(cells["encoding"], config)) == {"model.use_se_loss", "loss.types", "loss.coef"}
    assert set(differing(cells["both_stages"], config)) == {"model.use_se_loss_stage3", "loss.types", "loss.coef"}
    assert cells["both_stages"].config["loss"]["coef"] == [1, 0.4, 0.2, 0.2]
    assert differing(cells["deeper"], cells["both_stages"].config) == ["model.backbone.type"]
    assert cells["multi_scale"].weights_of == "deeper" and "--flip_horizontal" in cells["multi_scale"].evaluation
    assert set(differing(cells["jpu"], config)) == {"model.use_jpu", "model.add_lateral",
                                                    "model.backbone.output_stride"}
    assert cells["jpu"].config["model"]["backbone"]["output_stride"] == 32


def test_jpu_is_not_added_twice_and_needs_no_laterals(config):
    config = studies.changed(config, model={"add_lateral": True, "fuse_at": "first"})
    [cell] = studies.cells("components", config, ["jpu"])
    assert cell.config["model"]["add_lateral"] is False and "fuse_at" not in cell.config["model"]
    assert "jpu" not in [each.folder for each in studies.cells("components", cell.config)]


def test_the_deeper_backbone_is_not_added_twice(config):
    config["model"]["backbone"]["type"] = "ResNet101_vd"
    cells = {cell.folder: cell for cell in studies.cells("components", config)}
    assert list(cells) == ["fcn", "encoding", "se_loss", "both_stages", "multi_scale", "jpu"]
    assert cells["multi_scale"].weights_of == "both_stages"
    assert cells["multi_scale"].config == cells["both_stages"].config


DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(ENCNet).parameters.items()
            if parameter.default is not inspect.Parameter.empty and name not in ("num_codes", "mid_channels")}
SE = {"type": "SELoss"}


@pytest.mark.parametrize("base", [
    {}, {"model": DEFAULTS}, {"model": {"use_se_loss_stage3": True}, "loss": {
        "types": [{"type": "CrossEntropyLoss"}] * 2 + [SE, SE], "coef": [1, 0.4, 0.2, 0.1]}}],
    ids=["short", "defaults spelled out", "both stages"])
@pytest.mark.parametrize("folder, names", [
    ("fcn", ["segmentation", "auxiliary"]), ("encoding", ["segmentation", "auxiliary"]),
    ("se_loss", ["segmentation", "auxiliary", "SE"]),
    ("both_stages", ["segmentation", "auxiliary", "SE", "SE_stage3"]), ("jpu", ["segmentation", "auxiliary", "SE"])])
def test_cells_build_with_a_loss_for_each_output(folder, names, base, config, tmp_path):
    config = studies.changed(config, **base)
    [cell] = studies.cells("components", config, [folder])
    assert cell.config["loss"]["coef"][:3] == [1, 0.4, 0.2][:len(names)]
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump(cell.config))
    builder = SegBuilder(Config(str(path)))
    assert builder.model.output_names == names and len(builder.loss["types"]) == len(names)


@pytest.mark.parametrize("changes, only, words", [
    (dict(type="PSPNet"), None, "the config's model is PSPNet"),
    (dict(use_se_loss=False), None, "the config has no SE-loss"),
    ({}, ["codewords_7"], "study codewords has no cell codewords_7; it has codewords_0, ")])
def test_what_is_no_study(changes, only, words, config):
    with pytest.raises(ValueError) as error:
        studies.cells("codewords", studies.changed(config, model=changes), only)
    assert words in str(error.value)


def test_a_grid_that_is_finished_runs_nothing(config, tmp_path, monkeypatch):
    monkeypatch.setattr(running.subprocess, "Popen", lambda *arguments, **options: pytest.fail("something was run"))
    runs = ablation_plan.runs_of(studies.cells("codewords", config), [1], str(tmp_path))
    for run in runs:
        os.makedirs(run.folder)
        (tmp_path / run.cell.folder / "seed_1" / "scores.json").write_text('{"mean_iou": 0.5}')
    running.Ablation(runs, str(tmp_path), ["cpu"]).run()
    assert all((tmp_path / run.cell.folder / "seed_1" / "config.yml").exists() for run in runs)


class Scripted(running.Ablation):
    """An ablation whose trainings and evaluations are lines of Python."""
    script = "import json, sys; json.dump({'mean_iou': 0.5}, open(sys.argv[1], 'w'))"

    def _commands(self, run, device):
        yield [sys.executable, "-c", self.script, run.scores_file]


def prepared(config, tmp_path, *cells, study="codewords", seeds=(1,)):
    return ablation_plan.runs_of(studies.cells(study, config, list(cells)), list(seeds), str(tmp_path))


def test_a_report_that_cannot_be_written_costs_no_run(config, tmp_path):
    def full():
        raise OSError(28, "No space left on device")
    runs = prepared(config, tmp_path, "codewords_0", "codewords_8")
    Scripted(runs, "", ["cpu"], finished=full).run()
    assert [run.scores() for run in runs] == [{"mean_iou": 0.5}] * 2


def test_a_run_that_cannot_begin_is_a_failure_and_the_others_go_on(config, tmp_path):
    broken, whole = prepared(config, tmp_path, "codewords_0", "codewords_8")
    os.makedirs(os.path.join(broken.folder, "lock"))
    with pytest.raises(ablation_plan.AblationError) as error:
        Scripted([broken, whole], "", ["cpu"]).run()
    assert "1 of 2 runs failed: K = 0, seed 1: " in str(error.value) and "Is a directory" in str(error.value)
    assert whole.scores() is not None


def test_cpus_share_the_cores(config, tmp_path, monkeypatch):
    monkeypatch.setattr(running.cpu, "divided_environment",
                        lambda processes: {**os.environ, "SHARED_BY": str(processes)})
    [run] = prepared(config, tmp_path, "codewords_0")
    scripted = Scripted([run], "", ["cpu", "cpu"])
    scripted.script = "import os; raise SystemExit('shared by ' + os.environ['SHARED_BY'])"
    with pytest.raises(ablation_plan.AblationError, match="shared by 2"):
        scripted.run()


@pytest.mark.parametrize("script, told", [
    ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL (out of memory?)"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
    ("raise SystemExit(3)", "it ended with code 3 and said nothing"),
    ("print('first'); raise SystemExit('the cause')", "the cause")])
def test_cause_of_a_failure(script, told, config, tmp_path):
    runs = prepared(config, tmp_path, "codewords_0")
    os.makedirs(runs[0].folder)
    pathlib.Path(runs[0].log_file).write_text("what an earlier attempt said\n")
    failing = Scripted(runs, "", ["cpu"])
    failing.script = script
    with pytest.raises(ablation_plan.AblationError) as error:
        failing.run()
    assert f"K = 0, seed 1: {told} ({runs[0].log_file})" in str(error.value)


def test_a_cause_that_runs_share_is_told_once(config, tmp_path, capsys):
    """As that the data are not there, of which each run says the same."""
    runs = prepared(config, tmp_path, *(f"codewords_{k}" for k in (0, 8, 16, 32)))
    failing = Scripted(runs, "", ["cpu"])
    failing.script = "raise SystemExit('error: there is no folder data/nowhere')"
    with pytest.raises(ablation_plan.AblationError) as error:
        failing.run()
    assert str(error.value) == (f"4 of 4 runs failed: K = 0, seed 1 and 3 more: error: there is no folder data/nowhere "
                                f"({runs[0].log_file})")
    said = [line for line in capsys.readouterr().out.splitlines() if "[ERROR]" in line]
    assert len(said) == 4 and sum("data/nowhere" in line for line in said) == 1
    assert said[-1].endswith("K = 32, seed 1: as K = 0, seed 1")


def test_steps_for_the_progress_line(config, tmp_path):
    """A run killed at step 90 goes on at its checkpoint of 60, and that is where its count begins."""
    [run] = prepared(studies.changed({**config, "iters": 100}), tmp_path, "codewords_0")
    os.makedirs(os.path.join(run.folder, "iter_60"))
    log = pathlib.Path(run.log_file)
    log.write_text("iter: 90/100\n")
    steps = telling.Steps([run])
    counts = [steps.count()]
    for said in ("iter: 70/100\n", "a table" * 5000, "iter: 80/100\n"):
        log.write_text(log.read_text() + said)
        counts.append(steps.count())
    pathlib.Path(run.scores_file).write_text("{}")
    assert counts + [steps.count()] == [60, 70, 70, 80, 100]


def test_weights_of_another_cell(config, tmp_path):
    """They are trained first, with the same config; where that fails there is one failure."""
    [multi_scale] = prepared(config, tmp_path, "multi_scale", study="components")
    with pytest.raises(ablation_plan.AblationError, match="train cell deeper first .--cells deeper multi_scale"):
        Scripted([multi_scale], "", ["cpu"]).run()

    both = prepared(config, tmp_path, "deeper", "multi_scale", study="components")
    failing = Scripted(both, "", ["cpu"])
    failing.script = "raise SystemExit('the cause')"
    with pytest.raises(ablation_plan.AblationError) as error:
        failing.run()
    assert "1 of 2 runs failed: + ResNet101_vd, seed 1: the cause (" in str(error.value)

    Scripted(both, "", ["cpu"]).run()
    assert all(run.scores() for run in both)
    others = prepared(studies.changed(config, model={"mid_channels": 8}), tmp_path, "multi_scale", study="components")
    shutil.rmtree(multi_scale.folder)
    os.makedirs(os.path.dirname(multi_scale.weights))
    pathlib.Path(multi_scale.weights).touch()
    mismatch = "deeper/seed_1/config.yml is of a run with model.mid_channels 16"
    with pytest.raises(ablation_plan.AblationError, match=mismatch):
        Scripted(others, "", ["cpu"]).run()


@pytest.fixture
def trained(monkeypatch) -> list:
    """The runs that the tool has trained or evaluated; what it starts is a line of Python."""
    runs = []

    def commands(ablation, run, device):
        runs.append(run.cell.folder)
        scores = {score: len(runs) / 10 for score in study_report.SCORES}
        yield [sys.executable, "-c", f"import json, sys; json.dump({scores}, open(sys.argv[1], 'w'))", run.scores_file]
    monkeypatch.setattr(running.Ablation, "_commands", commands)
    return runs


def test_two_studies_that_share_a_cell_train_it_once(small_config, trained, tmp_path, run_tool, capsys):
    config, elsewhere = tmp_path / "codes.yml", tmp_path / "components/se_loss/seed_1"
    config.write_text(small_config.read_text().replace("num_codes: 4, ", "num_codes: 32, "))
    flags = ["--config", config, "--seeds", 1, "--save_dir", tmp_path, "--study"]
    run_tool("ablation", *flags, "components", "--cells", "encoding", "se_loss")
    run_tool("ablation", *flags, "codewords", "--cells", "codewords_0", "codewords_32")
    said = capsys.readouterr().out
    assert trained == ["encoding", "se_loss", "codewords_0"]
    assert f"K = 32, seed 1: the same training as that of another study, in {elsewhere}" in said
    assert (tmp_path / "codewords/results.csv").read_text().splitlines()[1:] == [
        "codewords_0,1,0.3,0.3,0.3,0.3", "codewords_32,1,0.2,0.2,0.2,0.2"]
    assert said.splitlines()[-1].endswith(f" --logdir {tmp_path}")

    # A report has what other studies have trained, of seeds that this one was not asked for too.
    run_tool("ablation", *flags, "components", "--cells", "se_loss", "--seeds", 2)
    run_tool("ablation", *flags, "codewords", "--cells", "codewords_8")
    assert trained[3:] == ["se_loss", "codewords_8"]
    lines = (tmp_path / "codewords/results.csv").read_text().splitlines()[1:]
    assert [line[:14] for line in lines] == ["codewords_0,1,", "codewords_8,1,", "codewords_32,1", "codewords_32,2"]


def test_which_folder_a_shared_training_has(config, tmp_path):
    """The finished one, else the one that has come furthest; not that of another seed, config or evaluation. The
    config here leaves K = 32 to the network, and the cell names it."""
    del config["model"]["num_codes"]
    [cell] = studies.cells("codewords", config, ["codewords_32"])
    own, se_loss, se_weight, multi_scale = (
        str(tmp_path / name / "seed_1") for name in (
            "codewords/codewords_32", "components/se_loss", "se_weight/se_weight_0.2", "components/multi_scale"))

    def place(seed=1, config=cell.config):
        return places.training_folder(config, cell.folder, seed, str(tmp_path / "codewords"))

    for folder in (multi_scale, se_loss, se_weight):
        os.makedirs(folder)
        pathlib.Path(folder, "config.yml").write_text(yaml.safe_dump(config))
    pathlib.Path(multi_scale, "scores.json").write_text("{}")
    os.makedirs(os.path.join(se_weight, "iter_2"))
    assert place() == se_weight
    pathlib.Path(se_loss, "scores.json").write_text("{}")
    assert place() == se_loss
    assert place(config=studies.changed(config, model={"mid_channels": 8})) == own
    assert place(seed=2).endswith("codewords_32/seed_2")
    os.makedirs(own)
    pathlib.Path(own, "scores.json").write_text("{}")       # as earlier versions left it
    assert place() == own


def test_weights_that_another_study_has_trained(config, tmp_path):
    """A config that is the whole of `components` already: its weights are those of K = 32."""
    config = studies.changed(config, model={"num_codes": 32, "use_se_loss_stage3": True, "backbone": {
        **config["model"]["backbone"], "type": "ResNet101_vd"}})
    config["loss"] = {"types": config["loss"]["types"] + [SE], "coef": [1, 0.4, 0.2, 0.2]}
    for study, cell in (("codewords", "codewords_32"), ("components", "multi_scale")):
        [run] = prepared(config, tmp_path / study, cell, study=study)
        os.makedirs(os.path.dirname(run.weights), exist_ok=True)
        pathlib.Path(run.weights).touch()
        Scripted([run], "", ["cpu"]).run()
    assert run.weights_folder == str(tmp_path / "codewords/codewords_32/seed_1")
    assert run.folder == str(tmp_path / "components/multi_scale/seed_1")


def test_table_and_plot_by_hand(config, tmp_path, monkeypatch):
    cells = studies.cells("codewords", config, ["codewords_0", "codewords_8"])
    runs = ablation_plan.runs_of(cells, [1, 2, 3], str(tmp_path))
    assert [(run.cell.folder, run.seed) for run in runs[:3]] == [("codewords_0", 1), ("codewords_8", 1),
                                                                 ("codewords_0", 2)]
    for run, mean_iou in zip(runs, (0.41, 0.5, 0.42, None, 0.46)):
        if mean_iou is not None:
            os.makedirs(run.folder)
            with open(run.scores_file, "w") as file:
                file.write(f'{{"mean_iou": {mean_iou}, "accuracy": 0.9, "mean_accuracy": 0.6, '
                           '"frequency_weighted_iou": 0.8}')
    lines = study_report.as_table(runs).splitlines()
    # mean of 41, 42 and 46 is 43; squares of -2, -1 and 3 sum to 14, over n - 1 = 2 gives 7, its root 2.65
    assert lines[2] == "| K = 0 | 43.00 ± 2.65 | 90.00 ± 0.00 | 60.00 ± 0.00 | 80.00 ± 0.00 | 3 |"
    assert lines[3] == "| K = 8 | 50.00 | 90.00 | 60.00 | 80.00 | 1 |"
    study_report.write_all(runs, "codewords", str(tmp_path))
    with open(tmp_path / "results.csv") as file:
        assert [row["mean_iou"] for row in csv.DictReader(file)] == ["0.41", "0.5", "0.42", "0.46"]
    assert (tmp_path / "codewords.png").stat().st_size > 10000

    drawn = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, *arguments, **options: drawn.append(figure))
    study_report.draw_scores(runs, "", "")
    mean, _, [bars] = drawn[0].axes[0].containers[0]
    # A bar has two ends; one seed has none.
    assert [np.isfinite(np.reshape(ends, [-1, 2])).all(axis=1).sum() for ends in bars.get_segments()] == [2, 0]
    assert min(seeds.get_zorder() for seeds in drawn[0].axes[0].lines if seeds.get_marker() == ".") > mean.get_zorder()


def test_report_has_the_runs_of_earlier_commands(config, tmp_path):
    """Those of other cells and seeds, but none of another config, and none that is not finished."""
    asked = prepared(config, tmp_path, "codewords_8", seeds=[3, 3])
    earlier = prepared(config, tmp_path, "codewords_8", "codewords_0", seeds=[2, 10])
    other = prepared(studies.changed(config, model={"mid_channels": 8}), tmp_path, "codewords_16")
    for run in asked + earlier + other:
        ablation_plan.prepare_run(run)
        if run != earlier[-1]:
            pathlib.Path(run.scores_file).write_text('{"mean_iou": 0.5}')
    found = ablation_plan.with_finished(asked, studies.cells("codewords", config), str(tmp_path))
    assert [(run.cell.folder, run.seed) for run in found] == [("codewords_0", 2), ("codewords_0", 10),
                                                              ("codewords_8", 2), ("codewords_8", 3)]


def test_cells_are_named(small_config, run_tool, capsys):
    run_tool("ablation", "--config", small_config, "--study", "components", "--list")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-7:]] == [
        "fcn", "encoding", "se_loss", "both_stages", "deeper", "multi_scale", "jpu"]


def test_folder_of_another_config_is_refused(config, tmp_path):
    def first_run(config):
        return ablation_plan.runs_of(studies.cells("codewords", config), [1], str(tmp_path))[0]
    ablation_plan.prepare_run(first_run(config))
    ablation_plan.prepare_run(first_run(config))
    with pytest.raises(ablation_plan.AblationError) as error:
        ablation_plan.prepare_run(first_run(studies.changed(config, model={"mid_channels": 8})))
    assert "model.mid_channels 16 instead of 8; take another --save_dir" in str(error.value)


def start(small_config, folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "tools/ablation.py"), "--config", str(small_config), "--devices", "cpu", "--study",
         "components", "--cells", "fcn", "encoding", "--seeds", "1", "--iters", "20", "--save_interval", "10",
         "--batch_size", "2", "--learning_rate", "0.04", "--num_workers", "1",
         "--save_dir", str(folder), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None and not condition():
        time.sleep(0.1)
    return condition()


def test_killed_half_way_and_started_again(small_config, tmp_path):
    """SIGKILL takes the ablation and leaves its training; the next one waits for it, and repeats nothing."""
    first, second = (tmp_path / "components" / cell / "seed_1" for cell in ("fcn", "encoding"))
    process = start(small_config, tmp_path)
    assert wait_for(lambda: (second / "log.txt").exists() and "iter: " in (second / "log.txt").read_text(), process)
    process.kill()
    process.communicate()
    finished = (first / "scores.json").read_bytes(), (first / "log.txt").read_bytes()
    assert not (second / "scores.json").exists()

    process = start(small_config, tmp_path)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "1 of 2 runs are finished, 1 are to do" in said
    assert "| FCN | " in said and "| + encoding | " in said
    assert ((first / "scores.json").read_bytes(), (first / "log.txt").read_bytes()) == finished
    log = (second / "log.txt").read_text()
    steps = [line for line in log.splitlines() if "[TRAIN]" in line and "iter: " in line]
    assert len(steps) == len(set(line.split("iter: ")[1].split("/")[0] for line in steps))      # none is logged twice


def test_sigterm_saves_and_the_same_command_goes_on(small_config, tmp_path):
    folder = tmp_path / "components" / "fcn" / "seed_1"
    process = start(small_config, tmp_path, "--cells", "fcn", "--iters", "400", "--save_interval", "400")
    assert wait_for(lambda: (folder / "log.txt").exists() and "iter: " in (folder / "log.txt").read_text(), process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; the same command goes on" in said.splitlines()[-1]
    assert list(folder.glob("iter_*/model.pdparams"))


def test_failed_runs_are_named(small_config, tmp_path):
    process = start(small_config, tmp_path, "--cells", "fcn",
                    "--opts", f"train_dataset.dataset_root={tmp_path}/nowhere")
    said, _ = process.communicate()
    assert process.returncode == 1
    last = said.splitlines()[-1]
    assert last.startswith("error: 1 of 1 runs failed: FCN, seed 1: error: ") and "nowhere" in last
    assert last.endswith(f". The others are in {tmp_path}/components/results.md")


def test_scale_lr_stands_in_the_configs(small_config, tmp_path, run_tool, monkeypatch, capsys):
    """The recipe's batch of 4 has a learning rate of 0.01, one device's 2 then half of it."""
    monkeypatch.setattr(running.Ablation, "_run", lambda *arguments: None)
    flags = ["--config", small_config, "--study", "codewords", "--seeds", 1, "--save_dir", tmp_path / "a b"]
    run_tool("ablation", *flags, "--learning_rate", 0.01, "--scale_lr")
    said = capsys.readouterr().out
    assert said.count("Batch: 2; the recipe has 4 and learning rate 0.01. By the linear rule it is 0.005 here") == 1
    assert said.splitlines()[-1].endswith(f" --logdir '{tmp_path}/a b/codewords'")
    config = yaml.safe_load((tmp_path / "a b/codewords/codewords_8/seed_1/config.yml").read_text())
    assert config["lr_scheduler"]["learning_rate"] == 0.005 and config["base_batch_size"] == config["batch_size"] == 2


def test_save_interval_of_nothing_is_refused(small_config, run_tool):
    with pytest.raises(SystemExit, match="error: --save_interval is a number of steps, at least 1, got 0"):
        run_tool("ablation", "--config", small_config, "--study", "codewords", "--save_interval", 0)


def test_one_evaluation_at_the_end_is_not_made_twice(small_config, tmp_path, run_tool, monkeypatch):
    """It is tools/val.py's, of the weights that training saves."""
    def commands(ablation, run, device):
        flags.append(ablation.train_flags)
        yield [sys.executable, "-c", f"open({run.scores_file!r}, 'w').write('{{\"mean_iou\": 0.5}}')"]

    flags = []
    monkeypatch.setattr(running.Ablation, "_commands", commands)
    monkeypatch.setattr(study_report, "SCORES", {"mean_iou": "mIoU"})
    monkeypatch.setattr(study_report, "draw_scores", lambda runs, title, path: None)
    monkeypatch.setattr(study_report, "write", lambda path, content: None)
    for folder, interval in (("often", 5), ("once", 20)):
        run_tool("ablation", "--config", small_config, "--study", "codewords", "--cells", "codewords_8", "--seeds", 1,
                 "--iters", 20, "--save_interval", interval, "--devices", "cpu", "--save_dir", tmp_path / folder)
    assert ["--do_eval" in each for each in flags] == [True, False]


def test_differences_are_paired_by_seed(config, tmp_path):
    runs = prepared(config, tmp_path, "codewords_0", "codewords_8", seeds=[1, 2, 3])
    found = {("codewords_0", 1): 0.50, ("codewords_0", 2): 0.52, ("codewords_0", 3): 0.9,
             ("codewords_8", 1): 0.51, ("codewords_8", 2): 0.55}
    for run in runs:
        ablation_plan.prepare_run(run)
        if (run.cell.folder, run.seed) in found:
            score = found[run.cell.folder, run.seed]
            pathlib.Path(run.scores_file).write_text(json.dumps({"mean_iou": score, "accuracy": 1 - score}))
    tables = study_report.as_differences(runs)
    assert "\n| K = 8 | +2.00 ± 1.00 |  |\n" in tables and "\n| K = 8 | -2.00 ± 1.00 |  |\n" in tables
    assert "mIoU of the row's" in tables and "pixel accuracy of the row's" in tables and "presence" not in tables
