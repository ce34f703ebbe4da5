"""The tables of the pages, from docs/measured/:  python docs/tables.py [--check]

A page has a table of docs/measured/NAME.json between two markers, which a browser does not show:

    <!-- measured: NAME -->
    <!-- /measured -->

What stands between them is written by this program. A second word, `<!-- measured: NAME zh -->`, takes the words of the
file's "zh" for a Chinese page. A file holds

    about, command, machine, processor, versions, date      all of them strings; the line below the table
    columns      names
    rows         lists of cells: a string or a number as it is to stand, null, or, for a number that another file has,
                 {"from": [NAME, first cell of the row, column]}; or a list of such parts of one cell
    zh           optional: {"English": "中文"} for columns, cells, machine

So a number has one source. tests/test_measured.py fails where a page says something else.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "docs" / "measured"
REQUIRED = ("about", "command", "machine", "processor", "versions", "date", "columns", "rows")
BLOCK = re.compile(r"<!-- measured: (\S+)( zh)? -->\n.*?<!-- /measured -->", re.S)


def pages() -> list:
    """Each page that may have tables."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "weights").glob("*.md")])


def read(name: str) -> dict:
    """A file of docs/measured/.

    Raises:
        ValueError: it lacks something, or a row has another number of cells than there are columns.
    """
    data = json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))
    missing = [key for key in REQUIRED if not data.get(key)]
    if missing:
        raise ValueError(f"docs/measured/{name}.json has no {', '.join(missing)}")
    wrong = [row[0] for row in data["rows"] if len(row) != len(data["columns"])]
    if wrong:
        raise ValueError(f"docs/measured/{name}.json: {wrong[0]!r} has another number of cells than there are columns")
    return data


def value(cell) -> str:
    """A cell as it stands in the page, a number of another file looked up there."""
    if isinstance(cell, list):
        return "".join(map(value, cell))
    if isinstance(cell, dict):
        name, row, column = cell["from"]
        data = read(name)
        found = next((each for each in data["rows"] if each[0] == row), None)
        if found is None or column not in data["columns"]:
            raise ValueError(f"{name}.json has no row {row!r} with a column {column!r}")
        return value(found[data["columns"].index(column)]).strip("*")       # bold is that table's own
    return "" if cell is None else str(cell)


def table(name: str, chinese: bool = False) -> str:
    """The table in markdown, and below it what it was measured with."""
    data = read(name)
    words = data.get("zh", {}) if chinese else {}

    def say(cell) -> str:
        text = value(cell)
        return words.get(text, text)

    lines = [data["columns"], ["---"] * len(data["columns"]), *data["rows"]]
    try:
        drawn = ["| " + " | ".join(map(say, line)) + " |" for line in lines]
    except ValueError as error:
        raise ValueError(f"docs/measured/{name}.json: {error}") from error
    where = f"{say(data['machine'])}; {data['versions']}; {data['date']}; [{name}.json]"
    return "\n".join([*drawn, "", f"*{where}*"]).replace("|  |", "| |").replace("|  |", "| |")


def rewritten(page: Path) -> str:
    """The page with its tables as the files have them."""
    def block(match) -> str:
        name, chinese = match[1], bool(match[2])
        link = f"[{name}.json]({os.path.relpath(MEASURED, page.parent)}/{name}.json)"
        text = table(name, chinese).replace(f"[{name}.json]", link)
        return f"<!-- measured: {name}{match[2] or ''} -->\n{text}\n<!-- /measured -->"
    return BLOCK.sub(block, page.read_text(encoding="utf-8"))


def main(check: bool) -> None:
    """Rewrites the pages; with `check` it only says which differ, and ends with code 1 if one does."""
    differ = []
    for page in pages():
        text = rewritten(page)
        if text != page.read_text(encoding="utf-8"):
            differ.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(text, encoding="utf-8")
    if check and differ:
        sys.exit(f"error: {', '.join(differ)} have other numbers than docs/measured/: run python docs/tables.py")
    print(f"{'written' if differ else 'nothing to write'}: {', '.join(differ) or 'all pages are as their files'}")


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--check", action="store_true", help="write nothing; fail where a page differs")
    main(flags.parse_args().check)
