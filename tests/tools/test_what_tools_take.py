"""What is given to a tool: each tells the same of a folder, and names its pictures alike."""

import os

import cv2
import numpy as np
import pytest
from kinds_of_files import folder_of_kinds
from near_ties import assert_same_classes, live_scores
from PIL import Image

from paddleseg_encnet.deployment import export_of_config
from segrun import outputs


@pytest.fixture
def folder(tmp_path):
    return folder_of_kinds(tmp_path / "in")


def test_predict_and_infer_write_the_same_names_and_tell_the_same(folder, lively_weights, small_config, run_tool,
                                                                  tmp_path, capsys):
    run_tool("export", "--config", small_config, "--model_path", lively_weights, "--save_dir", tmp_path / "export")
    capsys.readouterr()
    run_tool("predict", "--config", small_config, "--model_path", lively_weights, "--image_path", folder, "--save_dir",
             tmp_path / "out", "--save", "ids", "overlay")
    said = capsys.readouterr().out
    run_tool("infer", "--config", tmp_path / "export" / "deploy.yaml", "--image_path", folder, "--save_dir",
             tmp_path / "masks")
    for output in (said, capsys.readouterr().out):
        assert output.count("4 files in") == output.count("keeps these: a.jpg.png of") == 1
    stems = ["a.jpg", "a.png", "b/c", "b/moving"]
    for written in (tmp_path / "out" / outputs.FOLDERS["ids"], tmp_path / "masks"):
        found = sorted(str(path.relative_to(written)) for path in written.rglob("[!.]*.*"))
        assert found == [f"{stem}.png" for stem in stems]
    for stem in stems:      # and they are the same classes, the GIF's too
        live = cv2.imread(str(tmp_path / "out" / outputs.FOLDERS["ids"] / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        exported = np.array(Image.open(tmp_path / "masks" / f"{stem}.png"))
        given, = (path for path in (folder / stem, *folder.glob(f"{stem}.*")) if path.is_file())
        assert_same_classes(exported, live, live_scores(small_config, lively_weights, given))
    overlays = tmp_path / "out" / outputs.FOLDERS["overlay"]
    assert sorted(str(path.relative_to(overlays)) for path in overlays.rglob("[!.]*.*")) == [
        "a.jpg.jpg", "a.png.png", "b/c.png", "b/moving.png"]


def test_explain_and_calibration_name_what_they_pass_over(folder, lively_weights, small_config, run_tool, tmp_path,
                                                          capsys, monkeypatch):
    run_tool("explain", folder, "--config", small_config, "--model_path", lively_weights, "--save_dir",
             tmp_path / "explain")
    assert capsys.readouterr().out.count("4 files in") == 1
    calibrated = []
    monkeypatch.setattr(export_of_config.exporting, "export_network",
                        lambda *arguments: calibrated.extend(arguments[6]))
    (tmp_path / "export").mkdir()
    run_tool("export", "--config", small_config, "--model_path", lively_weights, "--int8", folder, "--save_dir",
             tmp_path / "export")
    assert capsys.readouterr().out.count("4 files in") == 1
    assert [os.path.basename(path) for path in calibrated] == ["a.jpg", "a.png", "c.png", "moving.gif"]
