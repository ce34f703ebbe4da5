"""README.md and README.zh-CN.md name the same commands, and the pages of both languages lead to each other."""

import re

import pytest
from conftest import ROOT

PAGES = {"README.md": "README.zh-CN.md", "docs/data.md": "docs/zh/own_data.md",
         "docs/deployment.md": "docs/zh/deployment.md"}
CHINESE = ["README.zh-CN.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "zh").glob("*.md"))]
ALL = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"),
                                                      *(ROOT / "weights").glob("*.md")])


def commands(name: str) -> list:
    """The lines of its indented blocks, continued lines joined, comments left out."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    found = [" ".join(re.sub(r"(^|\s)#.*", "", line).split()) for line in lines]
    return [line for line in found if re.match(r"(python|pip|make|cd|visualdl|paddleseg-encnet|source)\b", line)]


def test_both_readmes_name_the_same_commands_in_the_same_order():
    assert len(commands("README.md")) > 15
    assert commands("README.zh-CN.md") == commands("README.md")


@pytest.mark.parametrize("english, chinese", PAGES.items())
def test_pages_lead_to_each_other(english, chinese):
    for page, other in ((english, chinese), (chinese, english)):
        links = re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text(encoding="utf-8"))
        targets = {((ROOT / page).parent / link).resolve() for link in links if "://" not in link}
        assert (ROOT / other).resolve() in targets, f"{page} does not link {other}"


def anchors(path) -> set:
    """What a page's headings are called in an address."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    lost = []
    for link in links:
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        if "://" not in link and (not target.exists() or anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("page", CHINESE)
def test_a_line_breaks_between_no_two_characters(page):
    """A browser shows the break as a space, which Chinese has only behind punctuation or beside Latin letters."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    character = "[\u4e00-\u9fff]"
    assert [pair for pair in zip(lines, lines[1:])
            if re.search(f"{character}$", pair[0]) and re.match(character, pair[1])] == []


@pytest.mark.parametrize("page", CHINESE)
def test_configs_and_tools_that_the_chinese_pages_name_are_there(page):
    named = re.findall(r"\b((?:configs|tools|weights)/[\w./-]+\.(?:py|yml|safetensors))",
                       (ROOT / page).read_text(encoding="utf-8"))
    assert [path for path in named if not (ROOT / path).exists()
            and "encnet_resnet101_os8_cityscapes_1024x512_80k" not in path] == []     # PaddleSeg's own
