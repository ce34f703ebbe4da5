"""docs/python.md as it stands."""

import pathlib
import re
import shlex
import shutil

from conftest import ROOT


def test_page_runs_from_its_first_line_to_its_last(small_config, scenes, run_tool, tmp_path, monkeypatch, capsys):
    """As it stands, in a folder where the quick start is small, and with two steps."""
    (tmp_path / "configs").mkdir()
    shutil.copy(small_config, tmp_path / "configs" / "encnet_quick_start.yml")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scenes").symlink_to(scenes)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "python.md").read_text()
    assert text.count("iters=100, ") == 1
    text = text.replace("iters=100, ", "iters=2, device='cpu', ")
    space = {}
    for code, command in re.findall(r"```python\n([^`]*)```|^    (python tools/(?:.*\\\n)*.*)$", text, re.M):
        if code:
            exec(code, space)
        elif "make_scenes" not in command:
            _, script, *arguments = shlex.split(command.replace("\\\n", ""))
            run_tool(pathlib.Path(script).stem, *arguments)
    said = capsys.readouterr().out
    assert re.search(r"^\d\.\d{4} at step 2$", said, re.M) and "of the pixels agree" in said
    assert (tmp_path / "output" / "python" / "overlay.png").stat().st_size > 0
    assert space["again"].presence.shape == (19,) and space["again"].confidence is not None
