"""docs/tutorial.ipynb runs from its first cell to its last."""

import json
import os
import sys

import nbclient
import nbformat
from conftest import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
def test_tutorial(tmp_path, monkeypatch):
    """With few steps, in an empty folder, with the command that pip has put beside this Python."""
    monkeypatch.setenv("PATH", os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TUTORIAL_STEPS", "2")
    kernel = tmp_path / "share" / "jupyter" / "kernels" / "python3"     # this Python's, whatever else is installed
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share" / "jupyter"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3",
                            resources={"metadata": {"path": str(tmp_path)}}).execute()
    # A command's failure ends no cell.
    said = [output.text for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
            if output.output_type == "stream"]
    assert not [text for text in said if "error:" in text]
    share = float(said[-1].split("%")[0])
    assert "of the pixels have the class" in said[-1] and share > 99.9
    assert (tmp_path / "tutorial" / "output" / "best_model" / "model.pdparams").is_file()
