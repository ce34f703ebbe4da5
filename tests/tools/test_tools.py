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


def test_training_writes_a_visualdl_log(trained):
    folder, output = trained
    assert f"visualdl --logdir {folder}" in output
    from visualdl import LogReader
    log = next(folder.glob("vdlrecords*"))
    reader = LogReader(file_path=str(log))
    tags = reader.get_tags()["scalar"]
    for tag in ("Train/loss", "Train/loss_segmentation", "Train/loss_auxiliary", "Train/loss_SE", "Train/lr",
                "Evaluate/mIoU"):
        assert tag in tags
    assert [record.id for record in reader.get_data("scalar", "Evaluate/mIoU")] == [2, 4]


def test_val_prints_the_miou_of_the_training(trained, small_config, run_tool, capsys):
    folder, output = trained
    run_tool("val", "--config", small_config, "--model_path", folder / "iter_4" / "model.pdparams")
    assert printed_miou(capsys.readouterr().out) == printed_miou(output)[-1:]


def test_resume_goes_on_from_step_and_best_score(trained, small_config, run_tool, tmp_path, capsys):
    run_tool("train", "--config", small_config, "--resume_model", trained[0] / "iter_4", "--iters", 6, "--save_dir",
             tmp_path, "--log_iters", 1)
    output = capsys.readouterr().out
    assert "iter: 5/6" in output and "iter: 4/6" not in output
    best = json.loads((tmp_path / "iter_6" / "state.json").read_text())["best"]["model"]
    assert best == json.loads((trained[0] / "iter_4" / "state.json").read_text())["best"]["model"]


def test_moving_average_and_early_stopping(small_config, run_tool, tmp_path, capsys):
    run_tool("train", "--config", small_config, "--use_ema", "--do_eval", "--save_interval", 1, "--iters", 8,
             "--learning_rate", 1e-9, "--early_stop_intervals", 1, "--save_dir", tmp_path, "--seed", 1, "--opts",
             "lr_scheduler.warmup_start_lr=0.0")
    assert "Early stopping" in capsys.readouterr().out
    assert (tmp_path / "ema_best_model" / "ema_model.pdparams").exists()
    last = max(int(path.name[5:]) for path in tmp_path.glob("iter_*"))
    assert last < 8 and (tmp_path / f"iter_{last}" / "ema_model.pdparams").exists()


def test_two_ranks_print_the_miou_of_the_saved_weights(small_config, tmp_path, run_tool, capsys):
    """Over gloo on the CPU, where each rank gathers BatchNorm statistics of its own."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PADDLE_", "OMP_", "CUDA_"))}
    done = subprocess.run(
        [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo", "--log_dir",
         tmp_path / "log", ROOT / "tools" / "train.py", "--config", small_config, "--save_dir", tmp_path / "run",
         "--do_eval", "--device", "cpu"],
        env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    first = (tmp_path / "log" / "workerlog.0").read_text()
    run_tool("val", "--config", small_config, "--model_path", tmp_path / "run" / "iter_4" / "model.pdparams")
    assert printed_miou(first) == printed_miou(capsys.readouterr().out)


# --- mistakes --------------------------------------------------------------------------------------------------------

@pytest.fixture
def weights(trained):
    return trained[0] / "best_model" / "model.pdparams"


@pytest.mark.parametrize("option, words", [
    ("model.nonsense.depth=3", "model.nonsense"), ("model.num_codes=-1", "num_codes is a whole number of codewords"),
    ("model.type=ENCNett", "ENCNett"), ("model.numcodes=3", "numcodes"),
    ("batch_size=99", "8 training images make no batch of 99")])
def test_wrong_options(option, words, error_of, small_config, tmp_path):
    assert words in error_of("train", "--config", small_config, "--save_dir", tmp_path,
                             "--opts", option)
    assert not list(tmp_path.iterdir())


def test_weights_that_do_not_fit(error_of, small_config, weights):
    message = error_of("val", "--config", small_config, "--model_path", weights,
                       "--opts", "model.num_codes=5")
    assert "enc_module.encoding.0.codewords" in message and "(4, 16)" in message and "(5, 16)" in message


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


def test_pretrained_weights_that_do_not_fit(error_of, small_config, weights, tmp_path):
    message = error_of("train", "--config", small_config, "--save_dir", tmp_path, "--opts",
                       f"model.backbone.pretrained={weights}")
    assert "best_model/model.pdparams" in message


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


@pytest.mark.parametrize("workers", [0, 1])
def test_label_outside_the_classes_while_training(error_of, small_config, scenes, tmp_path, workers):
    import shutil
    root = tmp_path / "scenes"
    shutil.copytree(scenes, root)
    for label in (root / "gtFine" / "train").glob("*/*.png"):
        cv2.imwrite(str(label), np.full((64, 128), 33, np.uint8))       # 33 is a Cityscapes labelId
    message = error_of("train", "--config", small_config, "--save_dir", tmp_path / "out",
                       "--num_workers", workers, "--no_data_check", "--opts", f"train_dataset.dataset_root={root}")
    assert "_gtFine_labelTrainIds.png has" in message and "value 33" in message
    assert not (tmp_path / "out").exists()


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
