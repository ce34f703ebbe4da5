"""The tools as a user calls them: they train, evaluate and predict; mistakes end in one line and exit code 1."""

import json
import os
import pickle
import re
import subprocess
import sys

import cv2
import numpy as np
import paddle
import pytest
from conftest import ROOT
from ranks_on_cpu import launch


@pytest.fixture(scope="module")
def trained(small_config, tmp_path_factory):
    """Folder and printed mIoU of a run of four steps, made by the command line."""
    folder = tmp_path_factory.mktemp("run")
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "train.py", "--config", small_config, "--save_dir", folder, "--do_eval",
         "--use_vdl", "--save_interval", "2", "--keep_checkpoint_max", "1", "--log_iters", "2", "--device", "cpu",
         "--num_workers", "1", "--seed", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def printed_miou(output: str) -> list:
    return re.findall(r"\[EVAL\] #Images: 4 mIoU: ([\d.]+)", output)


def test_training_leaves_paddlesegs_layout(trained):
    folder, output = trained
    assert sorted(name for name in os.listdir(folder) if "vdlrecords" not in name) == ["best_model", "iter_4"]
    assert {"model.pdparams", "model.pdopt"} <= set(os.listdir(folder / "iter_4"))
    assert "model.pdparams" in os.listdir(folder / "best_model")
    assert "epoch: 1, iter: 4/4, loss: " in output and "| ETA 0:00:00" in output
    state = json.loads((folder / "iter_4" / "state.json").read_text())
    assert state["step"] == 4 and state["best"]["model"]["mean_iou"] == pytest.approx(
        max(float(value) for value in printed_miou(output)), abs=5e-5)


def test_two_ranks_print_the_miou_of_the_saved_weights(small_config, tmp_path, run_tool, capsys):
    """Over gloo on the CPU, where each rank gathers BatchNorm statistics of its own."""
    done = launch(tmp_path, ROOT / "tools" / "train.py", "--config", small_config, "--save_dir", tmp_path / "run",
                  "--do_eval", "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    first = (tmp_path / "log" / "workerlog.0").read_text()
    run_tool("val", "--config", small_config, "--model_path", tmp_path / "run" / "iter_4" / "model.pdparams")
    assert printed_miou(first) == printed_miou(capsys.readouterr().out)


# --- mistakes --------------------------------------------------------------------------------------------------------

@pytest.fixture
def weights(trained):
    return trained[0] / "best_model" / "model.pdparams"


def test_weights_of_another_class_count_and_fine_tuning_from_them(run_tool, error_of, capsys, small_config, weights,
                                                                       tmp_path):
    """A data set of seven classes, from weights for 19."""
    config = tmp_path / "seven.yml"
    lists = tmp_path / "pairs.txt"
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((64, 64, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"{name}_label.png"), np.full((64, 64), 6, np.uint8))
    lists.write_text("a.png a_label.png\nb.png b_label.png\n")
    data = f"{{type: Dataset, dataset_root: {tmp_path}, num_classes: 7, mode: MODE, MODE_path: {lists}, " \
           "transforms: [{type: Normalize}], _inherited_: False}"
    config.write_text(f"""
_base_: {small_config}
train_dataset: {data.replace("MODE", "train")}
val_dataset: {data.replace("MODE", "val")}
model: {{num_classes: 7, pretrained: {weights}}}
""")
    arguments = ["train", "--config", config, "--save_dir", tmp_path / "run", "--iters", 1, "--log_iters", 1]
    message = error_of(*arguments)
    assert "the checkpoint has 19 classes, the network 7" in message and "--allow_partial" in message
    run_tool(*arguments, "--allow_partial")
    output = capsys.readouterr().out
    assert "tensors of the backbone (100%)" in output and "head.weight" in output and "iter: 1/1" in output


class Command:
    """Pickles as a call of os.system, as a downloaded file may."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("way", ["val", "predict", "train", "backbone", "resume", "resume optimizer", "import"])
def test_no_tool_runs_what_is_in_a_file(way, error_of, small_config, scenes, weights, tmp_path):
    """Every way into the program; what can be in a file is tested in test_hostile_files.py."""
    run, mark = tmp_path / "iter_3", tmp_path / "it ran"
    run.mkdir()
    hostile = {"head.weight": Command(f"touch '{mark}'")}
    files = {name: run / name for name in ("model.pdparams", "model.pdopt")}
    paddle.save(paddle.load(str(weights)), str(files["model.pdparams"]))
    paddle.save({}, str(files["model.pdopt"]))
    path = files["model.pdopt" if way == "resume optimizer" else "model.pdparams"]
    path.write_bytes(pickle.dumps(hostile, protocol=2))

    options = ["--config", small_config]
    arguments = {
        "val": ["val", *options, "--model_path", path],
        "predict": ["predict", *options, "--model_path", path, "--image_path", scenes],
        "train": ["train", *options, "--save_dir", tmp_path / "out", "--opts", f"model.pretrained={path}"],
        "backbone": ["train", *options, "--save_dir", tmp_path / "out", "--opts", f"model.backbone.pretrained={path}"],
        "import": ["import_weights", path, "--output_dir", tmp_path / "out"],
    }.get(way, ["train", *options, "--save_dir", tmp_path / "out", "--resume_model", run])
    message = error_of(*arguments)
    assert path.name in message and "os.system" in message
    assert not mark.exists() and not (tmp_path / "out").exists()
    pickle.loads(path.read_bytes())
    assert mark.exists(), "the file is harmless: this test shows nothing"


def test_resume_from_what_is_no_checkpoint(error_of, small_config, tmp_path):
    assert "there is no checkpoint in it" in error_of(
        "train", "--config", small_config, "--save_dir", tmp_path / "out", "--resume_model", tmp_path)


def test_debug_shows_the_stack(run_tool):
    with pytest.raises(FileNotFoundError):
        run_tool("train", "--config", "nowhere.yml", "--debug")


def test_error_reaches_the_shell(small_config):
    done = subprocess.run([sys.executable, ROOT / "tools" / "train.py", "--config", "nowhere.yml"],
                          capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    # A GPU build of Paddle says before it that it found no GPU.
    assert done.stderr.splitlines()[-1] == (
        "error: there is no config nowhere.yml; tools/configs.py lists those that are shipped")


# --- PaddleSeg's scripts ---------------------------------------------------------------------------------------------

def test_runs_a_script_with_the_plugin_registered(tmp_path):
    script = tmp_path / "show.py"
    script.write_text("import sys\nfrom paddleseg.cvlibs import manager\n"
                      "print(manager.MODELS['ENCNet'].__module__, sys.argv[1:], __name__)")
    done = subprocess.run([sys.executable, "-m", "paddleseg_encnet", script, "--a", "b"],
                          capture_output=True, text=True)
    assert done.stdout.split("\n")[0] == "paddleseg_encnet.models.encnet ['--a', 'b'] __main__"


@pytest.mark.parametrize("arguments", [[], ["nowhere.py"]])
def test_no_script(arguments):
    done = subprocess.run([sys.executable, "-m", "paddleseg_encnet", *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and "SCRIPT" in done.stderr and "Traceback" not in done.stderr


def test_paddlesegs_own_config_takes_two_steps(scenes, tmp_path):
    """With a checkout of PaddleSeg's repository in PADDLESEG_CHECKOUT."""
    checkout = os.environ.get("PADDLESEG_CHECKOUT")
    if not checkout:
        pytest.skip("set PADDLESEG_CHECKOUT to a checkout of PaddleSeg's repository")
    config = tmp_path / "small.yml"
    config.write_text(f"""
_base_: {checkout}/configs/encnet/encnet_resnet101_os8_cityscapes_1024x512_80k.yml
train_dataset:
  dataset_root: {scenes}
  transforms: [{{type: RandomPaddingCrop, crop_size: [64, 64]}}, {{type: Normalize}}]
val_dataset: {{dataset_root: {scenes}}}
model: {{backbone: {{pretrained: null}}}}
""")
    done = subprocess.run([sys.executable, "-m", "paddleseg_encnet", f"{checkout}/tools/train.py", "--config", config,
                           "--iters", "2", "--log_iters", "1", "--device", "cpu", "--save_dir", tmp_path / "run"],
                          capture_output=True, text=True)
    assert "iter: 2/2" in done.stdout, done.stderr
    assert paddle.load(str(tmp_path / "run" / "iter_2" / "model.pdparams"))
