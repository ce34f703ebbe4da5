"""docs/python.md as it stands: its examples run from the first to the last."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text()


@pytest.fixture
def folder(small_config, scenes, tmp_path, monkeypatch):
    """Where one is, with the scenes and a quick start that is small."""
    (tmp_path / "configs").mkdir()
    shutil.copy(small_config, tmp_path / "configs" / "encnet_quick_start.yml")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scenes").symlink_to(scenes)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_few_steps(page: str) -> str:
    for long, short in (("iters=100, ", "iters=2, device='cpu', "), ("iters=20, ", "iters=4, "),
                        ("Saving(save_interval=10)", "Saving(save_interval=2)")):
        assert page.count(long) == 1
        page = page.replace(long, short)
    return page


def test_page_runs_from_its_first_line_to_its_last(folder, run_tool, capsys):
    space = {}
    for code, command in re.findall(r"```python\n([^`]*)```|^    (python tools/(?:.*\\\n)*.*)$", with_few_steps(PAGE),
                                    re.M):
        if code:
            exec(code, space)
        elif "make_scenes" not in command:
            _, script, *arguments = shlex.split(command.replace("\\\n", ""))
            run_tool(Path(script).stem, *arguments)
    said = capsys.readouterr().out
    assert re.search(r"^\d\.\d{4} at step 2: output/python/best_model/model.pdparams$", said, re.M)
    assert re.search(r"^4 \[2, 4\]$", said, re.M) and "of the pixels agree" in said
    assert (folder / "output" / "python" / "overlay.png").stat().st_size > 0
    assert space["again"].presence is not None and space["again"].confidence is not None
    assert "<html" in Path(space["files"]["html"]).read_text()
