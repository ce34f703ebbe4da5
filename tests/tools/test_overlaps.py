"""No tool replaces what it reads, or a file that the tools have not written; the same command works again.

convert-labels: labelling/test_conversion.py.
"""

import os
import pathlib
import shutil

import paddle
import pytest
from films import write_film
from PIL import Image

from segrun.own_files import RECORD


def contents(folder: pathlib.Path) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def case(tmp_path, image, scenes, small_config, lively_weights, logits_export):
    """case(way): the command, as run_tool takes it, and the file that it would write over, in a folder of its own."""
    x = tmp_path / "X"
    x.mkdir()
    live = ["--config", small_config, "--model_path", lively_weights]

    def put(name: str, source=image) -> pathlib.Path:
        (x / name).parent.mkdir(parents=True, exist_ok=True)
        return pathlib.Path(shutil.copy(source, x / name))

    def weights(name: str) -> pathlib.Path:
        (x / name).parent.mkdir(parents=True, exist_ok=True)
        paddle.save(paddle.load(str(lively_weights)), str(x / name))
        return x / name

    def film(name: str) -> pathlib.Path:
        (x / name).parent.mkdir(parents=True, exist_ok=True)
        return pathlib.Path(write_film(x / name, [0, 9]))

    infer = ["infer", "--config", logits_export / "deploy.yaml", "--image_path"]
    return {
        "infer": lambda: ([*infer, x, "--save_dir", x], put("a.png")),
        "infer, by another way": lambda: ([*infer, x / "." / "b" / "..", "--save_dir", x], put("b/../a.png")),
        "infer, a file of the user's": lambda: ([*infer, image, "--save_dir", x], put(image.name, small_config)),
        "infer, a video": lambda: ([*infer, film("added_prediction/v.avi"), "--save_dir", x],
                                   x / "added_prediction" / "v.avi"),
        "explain": lambda: (["explain", *live, put("a.png"), "--save_dir", x], x / "a.png"),
        "explain, a page": lambda: (["explain", *live, image, "--save_dir", x],
                                    put(f"{image.stem}.html", small_config)),
        "predict, of its own ids": lambda: (["predict", *live, "--image_path", x / "ids", "--save_dir", x, "--save",
                                             "ids"], put("ids/a.png")),
        "predict, a video": lambda: (["predict", *live, "--image_path", film("added_prediction/v.avi"), "--save_dir",
                                      x], x / "added_prediction" / "v.avi"),
        "predict, of a list": lambda: (["predict", *live, "--image_path", listing(put("legend/a.png")), "--save_dir",
                                        x, "--save", "legend"], x / "legend" / "a.png"),
        "export": lambda: (["export", *live, "--save_dir", x], weights("model.pdiparams")),
        "export, of its own weights": lambda: (["export", "--config", small_config, "--model_path", weights(
            "model.pdiparams"), "--save_dir", x], x / "model.pdiparams"),
        "import-weights": lambda: (["import_weights", weights("model.pdparams"), "--output_dir", x],
                                   x / "model.pdparams"),
        "import-weights, a config": lambda: (["import_weights", lively_weights, "--output_dir", x],
                                             put("model.yml", small_config)),
        "halve-weights": lambda: (["halve_weights", weights("m.safetensors"), "--output", x / "m.safetensors"],
                                  x / "m.safetensors"),
        "val": lambda: (["val", *live, "--save_json", x / "scores.json"], put("scores.json", small_config)),
        "val, its config": lambda: (["val", "--config", put("c.yml", small_config), "--model_path", lively_weights,
                                     "--save_json", x / "c.yml"], x / "c.yml"),
        "check-data": lambda: (["check_data", "--config", small_config, "--save_dir", x],
                               put("class_histogram.png")),
        "make-scenes": lambda: (["make_scenes", "--train", 1, "--val", 1, "--save_dir", x], put("a.png")),
    }


def listing(path: pathlib.Path) -> pathlib.Path:
    found = path.parent / "list.txt"
    found.write_text(f"{path.name}\n")
    return found


WAYS = ["infer", "infer, by another way", "infer, a file of the user's", "infer, a video", "explain", "explain, a page",
        "predict, of its own ids", "predict, a video", "predict, of a list", "export", "export, of its own weights",
        "import-weights", "import-weights, a config", "halve-weights", "val", "val, its config", "check-data",
        "make-scenes"]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_written_over_what_is_the_users(case, way, tmp_path, error_of):
    command, path = case[way]()
    before = contents(tmp_path)
    error = error_of(*command)
    assert os.path.basename(path) in error or way == "make-scenes" and str(path.parent) in error
    assert contents(tmp_path) == before


def test_each_way_is_tried(case):
    assert list(case) == WAYS


# --- once more into the same folder ----------------------------------------------------------------------------------

@pytest.mark.parametrize("command", [
    ["infer"], ["predict", "--save", "ids", "overlay", "legend"], ["explain"], ["export"], ["val"], ["check_data"]],
    ids=lambda command: command[0])
def test_the_same_command_works_again(command, small_config, lively_weights, logits_export, image, run_tool, tmp_path):
    live = ["--config", small_config, "--model_path", lively_weights]
    out = tmp_path / "out"
    given = {"infer": ["--config", logits_export / "deploy.yaml", "--image_path", image, "--save_dir", out],
             "predict": [*live, "--image_path", image, "--save_dir", out], "explain": [*live, image, "--save_dir", out],
             "export": [*live, "--save_dir", out], "check_data": ["--config", small_config, "--save_dir", out],
             "val": [*live, "--save_json", out / "s.json", "--save_csv", out / "s.csv", "--save_confusion",
                     out / "c.png"]}[command[0]]
    run_tool(*command, *given)
    names = sorted(contents(out))
    run_tool(*command, *given)
    assert sorted(contents(out)) == names and any(path.name == RECORD for path in names)


# --- own outputs among the images ------------------------------------------------------------------------------------

def test_predict_does_not_predict_its_own_pictures(small_config, lively_weights, image, run_tool, said, tmp_path):
    shutil.copy(image, tmp_path / "a.png")
    for _ in range(3):
        run_tool("predict", "--config", small_config, "--model_path", lively_weights, "--image_path", tmp_path,
                 "--save_dir", tmp_path / "out", "--save", "ids", "overlay")
        assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")) == [
            "a.png", "out/added_prediction/a.png", "out/ids/a.png"]
    told = [line for line in said if "are left out, which these tools have written into" in line]
    assert len(told) == 2 and told[0].startswith("2 of 3 images are left out")


def test_infer_beside_its_images(logits_export, image, run_tool, error_of, capsys, tmp_path):
    Image.open(image).save(tmp_path / "a.jpg")
    command = ["infer", "--config", logits_export / "deploy.yaml", "--image_path", tmp_path, "--save_dir", tmp_path]
    for _ in range(3):
        run_tool(*command)
    assert "1 of 2 images are left out, which these tools have written" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [RECORD, "a.jpg", "a.png"]
    os.remove(tmp_path / "a.jpg")
    assert "1 of 1 images are left out, which these tools have written" in error_of(*command)
