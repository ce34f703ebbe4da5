"""Numbers have one source: docs/measured/. The pages have what docs/tables.py makes of it, and README nothing else."""

import datetime
import importlib.util
import json
import re

import pytest
from conftest import ROOT

spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)

# A file with a page of its own name beside it was written with that page, not for a table.
FILES = sorted(path.stem for path in tables.MEASURED.glob("*.json") if not path.with_suffix(".md").exists())
PAGES = [page for page in tables.pages() if tables.BLOCK.search(page.read_text(encoding="utf-8"))]
# What README may say beside: versions of what it needs and was tested with, a year, the licence.
VERSIONS = {"3.9", "3.12", "3.13", "2.8.0", "3.3.1", "2.6.2", "2018", "2.0"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_says_what_its_files_say(page):
    assert tables.rewritten(page) == page.read_text(encoding="utf-8"), "run python docs/tables.py"


def test_pages_with_numbers_are_found():
    assert {"README.md", "README.zh-CN.md", "docs/benchmarks.md", "docs/deployment.md", "docs/results.md"} <= {
        str(page.relative_to(ROOT)) for page in PAGES}


@pytest.mark.parametrize("name", FILES)
def test_a_file_names_its_machine_versions_date_and_command(name):
    data = tables.read(name)        # raises where something is missing
    assert datetime.date.fromisoformat(data["date"]) <= datetime.date.today()
    scripts = re.findall(r"(?:python|pytest) (\S+\.(?:py|sh))", data["command"])
    assert (scripts or data["command"].startswith("none: ")) and all((ROOT / script).is_file() for script in scripts)
    assert f"<!-- measured: {name} " in "".join(map(tables.Path.read_text, PAGES)), "no page shows it"


def changed(tmp_path, monkeypatch, name: str, old, new):
    """docs/measured/ with one cell of one file changed."""
    folder = tmp_path / "measured"
    folder.mkdir()
    for path in tables.MEASURED.glob("*.json"):
        (folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    data = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert any(old in row for row in data["rows"])
    data["rows"] = [[new if cell == old else cell for cell in row] for row in data["rows"]]
    (folder / f"{name}.json").write_text(json.dumps(data), encoding="utf-8")
    monkeypatch.setattr(tables, "MEASURED", folder)


def test_another_number_in_a_file_is_noticed_on_every_page_that_shows_it(tmp_path, monkeypatch, capsys):
    changed(tmp_path, monkeypatch, "camvid_lite0", "**75.1**", "**75.2**")
    with pytest.raises(SystemExit) as ended:
        tables.main(check=True)
    for page in ("README.md", "README.zh-CN.md", "docs/results.md", "weights/README.md"):
        assert page in str(ended.value)
    assert "python docs/tables.py" in str(ended.value)


def test_a_number_of_another_file_that_is_not_there(tmp_path, monkeypatch):
    changed(tmp_path, monkeypatch, "camvid_lite0", "shipped", "another name")
    with pytest.raises(ValueError, match="recipes.json.*camvid_lite0.*'shipped'.*'mIoU'"):
        tables.table("recipes")


def test_a_file_without_its_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MEASURED", tmp_path)
    (tmp_path / "one.json").write_text('{"about": "x", "columns": ["a"], "rows": [["b"]]}')
    with pytest.raises(ValueError, match="one.json has no command, machine, processor, versions, date"):
        tables.read("one")


def prose(name: str) -> str:
    """A page without its code, tables and addresses."""
    text = re.sub(r"```.*?```", "", tables.BLOCK.sub("", read(name)), flags=re.S)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    return re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", text)


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_readme_has_no_number_of_its_own(name):
    found = re.findall(r"(?<![A-Za-z\d.-])\d+(?:\.\d+)*(?![A-Za-z\d-])", prose(name))
    assert set(found) <= VERSIONS, set(found) - VERSIONS
    assert {"3.9", "3.12"} <= set(found)        # the search finds something


def test_readme_is_short():
    text = re.sub(r"```.*?```", "", read("README.md"), flags=re.S)
    words = [word for line in text.splitlines() if not line.startswith("    ") for word in line.split() if word != "|"]
    assert len(read("README.md").splitlines()) <= 120 and len(words) <= 1000


def test_the_size_of_the_shipped_weights():
    size = (ROOT / "weights" / "encnet_lite0_camvid.safetensors").stat().st_size
    assert f"shipped, {size / 1e6:.0f} MB" in read("README.md")


# --- make bench ------------------------------------------------------------------------------------------------------

@pytest.fixture
def benchmarks(monkeypatch):
    """benchmarks/all.py, none of whose benchmarks runs."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import all as module
    import measuring
    rows = [measuring.Row("a piece", "ms", 2.0, stock=5.0), measuring.Row("another", "ms", 0.12345, floor=0.1)]

    class Benchmark:
        def rows(self):
            yield from rows

    monkeypatch.setattr(module, "BENCHMARKS", {"one": (Benchmark(), "One"), "two": (Benchmark(), "Two")})
    monkeypatch.setattr(module, "sweep", dict)
    monkeypatch.setattr(module, "plot", lambda results, path: None)
    monkeypatch.setattr(module, "rewrite_pages", lambda: None)
    monkeypatch.setattr(module, "missing", list)
    monkeypatch.setattr(measuring, "strict", False)
    return module


def test_bench_says_what_it_needs_before_it_begins(benchmarks, monkeypatch):
    monkeypatch.setattr(benchmarks, "missing", lambda: ["torch", "openvino"])
    monkeypatch.setattr(benchmarks, "BENCHMARKS", {"one": (None, "never reached")})
    with pytest.raises(SystemExit, match=r"^error: .*pip install torch openvino; or --quick"):
        benchmarks.run(quick=False)


def test_a_child_that_fails_ends_a_run_that_writes(benchmarks, monkeypatch, capsys):
    import measuring
    assert measuring.child("evaluation.py", "no number") is None and "no number" in capsys.readouterr().err
    monkeypatch.setattr(measuring, "strict", True)
    with pytest.raises(RuntimeError, match="^evaluation.py no number: ValueError"):
        measuring.child("evaluation.py", "no number")


def test_bench_writes_all_or_nothing(benchmarks, monkeypatch, tmp_path, capsys):
    whole = benchmarks.write
    monkeypatch.setattr(benchmarks, "write", lambda files: whole(files, tmp_path))

    class Broken:
        def rows(self):
            raise RuntimeError("out of memory")

    monkeypatch.setitem(benchmarks.BENCHMARKS, "three", (Broken(), "Three"))
    with pytest.raises(RuntimeError):
        benchmarks.run(quick=False)
    assert list(tmp_path.iterdir()) == []

    monkeypatch.delitem(benchmarks.BENCHMARKS, "three")
    benchmarks.run(quick=True)
    assert list(tmp_path.iterdir()) == []
    benchmarks.run(quick=False)
    assert {path.name for path in tmp_path.iterdir()} == {"bench_one.json", "bench_two.json"}
    monkeypatch.setattr(tables, "MEASURED", tmp_path)
    assert tables.read("bench_two")["rows"] == [["a piece", "ms", "2", "5", None, "2.5", None],
                                                ["another", "ms", "0.123", None, "0.1", None, "1.23"]]
    assert "| another | ms | 0.123 | | 0.1 | | 1.23 |" in tables.table("bench_two")
