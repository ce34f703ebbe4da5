"""The command that the wheel brings: the tools and configs without a checkout, mistakes in one line, help that fits."""

import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest
import yaml
from conftest import ROOT, tool
from installed_wheel import ALONE
from paddleseg.cvlibs.config import parse_from_yaml

from paddleseg_encnet import flags as tool_flags
from paddleseg_encnet.config import building
from paddleseg_encnet.config.shipped_configs import find_config

TOOLS = sorted(path.stem for path in (ROOT / "tools").glob("*.py") if path.stem not in ("__init__", "command"))
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.yml"))


def test_training_and_what_follows_it_without_a_checkout(installed):
    """With the defaults of the folders, as who installs the wheel and reads --help has it."""
    drawn = installed("make-scenes", "--train", 2, "--val", 1, "--size", 128, 64).stdout
    assert "train on them: paddleseg-encnet train --config encnet_quick_start --do_eval\n" in drawn

    config, weights = ["--config", "encnet_quick_start"], ["--model_path", "output/best_model/model.pdparams"]
    trained = installed("train", *config, "--iters", 2, "--log_iters", 1, "--batch_size", 1, "--do_eval", "--use_vdl",
                        "--device", "cpu", "--opts", "model.num_codes=4", "lr_scheduler.warmup_iters=1").stdout
    assert "iter: 2/2" in trained and "[EVAL] #Images: 1 mIoU" in trained
    assert "paddleseg-encnet check-data looks at all" in trained
    assert f"visualdl --logdir {installed.cwd / 'output'}" in trained

    image = next((installed.cwd / "data").glob("scenes/leftImg8bit/val/*/*.png"))
    codes = ["--opts", "model.num_codes=4"]
    installed("val", *config, *weights, "--device", "cpu", *codes)
    installed("predict", *config, *weights, "--image_path", image, "--device", "cpu", *codes)
    installed("explain", image, *config, *weights, "--device", "cpu", *codes)
    installed("export", *config, *weights, *codes)
    installed("infer", "--config", "output/inference_model/deploy.yaml", "--image_path", image, "--save_dir", "masks")
    code = ("from paddleseg_encnet import Segmenter\n"
            f"seen = Segmenter('encnet_quick_start', {weights[1]!r}, device='cpu', opts=[{codes[1]!r}])"
            f"({str(image)!r})\n"
            "print(seen.ids.shape, seen.overlay().shape, seen.names[0])")
    shown = subprocess.run([sys.executable, "-c", code], cwd=installed.cwd, capture_output=True, text=True,
                           env={**os.environ, "PYTHONPATH": str(installed.folder)})
    assert "(64, 128) (64, 128, 3) road" in shown.stdout, shown.stderr
    made = {str(path.relative_to(installed.cwd)) for path in installed.cwd.rglob("*") if path.is_file()}
    assert {f"output/result/added_prediction/{image.name}", f"output/explain/{image.stem}.html",
            f"masks/{image.name}"} <= made


def test_an_ablation_finds_the_tools(installed):
    """It starts tools/train.py and tools/val.py, wherever they are."""
    installed("make-scenes", "--train", 2, "--val", 1, "--size", 128, 64, "--save_dir", "few")
    data = [f"{part}_dataset.dataset_root=few" for part in ("train", "val")]
    done = installed("ablation", "--config", "encnet_quick_start", "--study", "codewords", "--cells", "codewords_0",
                     "--seeds", 1, "--iters", 1, "--batch_size", 1, "--devices", "cpu", "--opts", *data)
    assert "Written to " in done.stdout


def test_an_editable_install_has_the_command_too():
    """make install is one."""
    command = pathlib.Path(sys.executable).parent / "paddleseg-encnet"
    listed = subprocess.run([command, "configs"], capture_output=True, text=True)
    assert listed.returncode == 0, listed.stderr
    assert [line.split()[0] for line in listed.stdout.splitlines()] == CONFIGS


def test_what_the_wheel_leaves_out(installed):
    assert {path.name for path in installed.folder.iterdir() if "dist-info" not in path.name} == {
        "bin", "paddleseg_encnet", "paddleseg_encnet_tools", "segrun"}


# --- configs ---------------------------------------------------------------------------------------------------------

def test_configs_are_listed_with_a_line_each(installed):
    lines = installed("configs").stdout.splitlines()
    assert [line.split()[0] for line in lines] == CONFIGS
    assert all(len(line.split()) > 2 for line in lines)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_printed_config_is_the_config(name, run_tool, capsys, tmp_path):
    run_tool("configs", name)
    printed = capsys.readouterr().out
    assert "_base_" not in yaml.safe_load(printed)
    assert yaml.safe_load(printed) == parse_from_yaml(str(ROOT / "configs" / f"{name}.yml"))


def test_a_printed_config_is_a_file_to_change(run_tool, capsys, tmp_path):
    run_tool("configs", "encnet_quick_start")
    (tmp_path / "my.yml").write_text(capsys.readouterr().out)
    assert building.read_config(tmp_path / "my.yml").config.iters == 300


def test_a_file_goes_before_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("segnet_camvid_480x360") == str(ROOT / "configs" / "segnet_camvid_480x360.yml")
    (tmp_path / "segnet_camvid_480x360").touch()
    assert find_config("segnet_camvid_480x360") == "segnet_camvid_480x360"


@pytest.mark.parametrize("given, words", [
    ("encnet_quickstart", "there is no config encnet_quickstart; did you mean encnet_quick_start?"),
    ("configs/encnet_quick_start.yml", "; did you mean encnet_quick_start?"),
    ("ENCNET_CAMVID_480x360", "; did you mean encnet_camvid_480x360?"),
    ("nowhere.yml", "there is no config nowhere.yml; tools/configs.py lists those that are shipped")])
def test_unknown_config(given, words, tmp_path, monkeypatch, run_tool):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "configs"):
        with pytest.raises(SystemExit) as stopped:
            run_tool(name, *(["--config"] if name == "train" else []), given)
        assert stopped.value.code.startswith("error: ") and stopped.value.code.endswith(words)


def test_a_config_that_is_no_text(tmp_path, run_tool):
    (tmp_path / "bad.yml").write_bytes(b"\xff\xd8\xff\xe0")
    for name, *flag in (["configs"], ["train", "--config"]):
        with pytest.raises(SystemExit, match="error: the config .*bad.yml is no valid YAML: it is no text in UTF-8$"):
            run_tool(name, *flag, tmp_path / "bad.yml")


@pytest.mark.parametrize("text, words", [
    ("", r"my.yml has no keys, as model: or train_dataset:; tools/configs.py encnet_quick_start prints one that has"),
    ("hello", "my.yml has no keys"), ("- 1\n- 2\n", "my.yml has no keys"),
    ("_base_: nowhere.yml\n", "my.yml needs .*nowhere.yml, which is not there; see _base_")])
def test_a_config_without_what_it_needs(text, words, tmp_path, run_tool):
    (tmp_path / "my.yml").write_text(text)
    for name, *flag in (["configs"], ["train", "--config"]):
        with pytest.raises(SystemExit, match=f"error: the config .*{words}"):
            run_tool(name, *flag, tmp_path / "my.yml")


def test_the_installed_command_names_itself(installed):
    assert installed.error("train", "--config", "nowhere") == (
        "error: there is no config nowhere; paddleseg-encnet configs lists those that are shipped")


# --- subcommands -----------------------------------------------------------------------------------------------------

@pytest.fixture
def command():
    return tool("command")


def test_each_tool_is_a_subcommand_with_a_purpose(command, capsys):
    command.main([])
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.split("commands:\n")[1].split("\n\n")[0].splitlines()] == [
        name.replace("_", "-") for name in TOOLS]
    assert all(len(command.purpose(name).split()) > 1 for name in TOOLS)
    assert len(shown.splitlines()) <= 45
    for word in ("-h", "--help"):
        command.main([word])
        assert capsys.readouterr().out == shown


def test_a_new_file_is_a_subcommand(command, tmp_path, monkeypatch):
    (tmp_path / "draw_stars.py").write_text('"""Draws stars:  python tools/draw_stars.py"""\n')
    monkeypatch.setattr(command, "FOLDER", str(tmp_path))
    assert command.subcommands() == {"draw-stars": "draw_stars"} and "draw-stars  Draws stars\n" in command.overview()


@pytest.mark.parametrize("given, words", [
    ("trian", "there is no command trian; did you mean train?"),
    ("make_scene", "there is no command make_scene; did you mean make-scenes?"),
    ("command", "there is no command command; paddleseg-encnet --help lists them"),
    ("__init__", "there is no command __init__; "),
    ("../x", "there is no command ../x; paddleseg-encnet --help lists them")])
def test_unknown_command(command, given, words):
    with pytest.raises(SystemExit) as stopped:
        command.main([given])
    assert stopped.value.code.startswith(f"error: {words}") and "\n" not in stopped.value.code


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version_is_that_of_the_installed_package(word, installed):
    """Of the metadata that pip has written: here another one than the code's."""
    metadata, = installed.folder.glob("paddleseg_encnet-*.dist-info/METADATA")
    before = metadata.read_text()
    try:
        metadata.write_text(re.sub(r"\nVersion: .*\n", "\nVersion: 7.8.9\n", before, count=1))
        assert installed(word).stdout == "paddleseg-encnet 7.8.9\n"
        assert installed.python("-m", "paddleseg_encnet", word).stdout == "paddleseg-encnet 7.8.9\n"
    finally:
        metadata.write_text(before)


def test_a_package_that_is_not_installed_has_no_version(command, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)
    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(SystemExit, match="^error: paddleseg_encnet is not installed here"):
        command.main(["--version"])


def test_the_file_of_the_command_is_a_script_too():
    shown = subprocess.run([sys.executable, ROOT / "tools" / "command.py", "configs", "encnet_quikstart"],
                           capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (
        1, "error: there is no config encnet_quikstart; did you mean encnet_quick_start?\n")


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("name", TOOLS)
def test_help_fits_a_screen_and_ends_with_an_example(name, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "argv", [f"paddleseg-encnet {name.replace('_', '-')}"])
    flags = tool(name).flags()
    shown = flags.format_help()
    wrapped = [row for line in shown.splitlines() for row in textwrap.wrap(line, columns) or [""]]
    assert len(wrapped) <= 45
    example = " ".join(shown.split("\nexample:\n")[1].replace("\\\n", "").split())
    assert example.startswith(f"{flags.prog} ")
    flags.parse_args(example.split(" > ")[0].split()[2:])      # all that it needs, and nothing that it doesn't know
    for action in flags._actions:
        assert not action.option_strings or action.option_strings[-1] in shown


def test_help_of_the_command(installed):
    shown = installed("train", "--help").stdout
    assert shown.startswith("usage: paddleseg-encnet train --config CONFIG [flags]\n")
    assert "\n  paddleseg-encnet train --config encnet_quick_start " in shown


def test_help_of_the_script(monkeypatch, capsys):
    module = tool("make_scenes")
    monkeypatch.setattr(sys, "argv", ["tools/make_scenes.py", "--help"])
    with pytest.raises(SystemExit, match="^0$"):
        tool_flags.run_main(module.main, module.flags())
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python tools/make_scenes.py [flags]\n")
    assert "\n  python tools/make_scenes.py --train 20 " in shown


# --- without an extra ------------------------------------------------------------------------------------------------

def test_a_tool_without_paddle_names_the_extra(installed):
    for words in (["make-scenes"], ["train", "--config", "encnet_quick_start"], ["export", "--help"]):
        assert installed.error(*words, first=ALONE) == (
            f"error: paddleseg-encnet {words[0]} does not start: No module named 'paddle': training and live networks "
            'need Paddle and PaddleSeg, pip install "paddleseg_encnet[cpu]", or "paddleseg_encnet[gpu]" for a GPU; '
            "`from segrun import Segmenter` runs exports and the shipped network without them")
    assert "ImportError: No module named 'paddle'" in installed("train", "--debug", first=ALONE, code=1).stderr


def test_a_tool_without_paddleseg_alone(installed):
    first = "import sys; sys.modules['paddleseg'] = None"
    assert "No module named 'paddleseg': training and live networks need" in installed.error("val", first=first)


def test_the_list_and_what_runs_exports_need_no_paddle(installed):
    assert "\n  make-scenes " in installed("--help", first=ALONE).stdout
    for name in ("infer", "serve"):
        assert f"usage: paddleseg-encnet {name}" in installed(name, "--help", first=ALONE).stdout
