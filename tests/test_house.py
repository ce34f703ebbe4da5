"""Two packages: few things at their roots, rooms with a sentence each, modules and functions that fit the eye.

That a room imports only from rooms below its own is import-linter's to say: make lint, setup.cfg.
"""

import ast
import os
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGES = [ROOT / "paddleseg_encnet", ROOT / "segrun"]
ROOMS = sorted(path for package in PACKAGES for path in package.iterdir()
               if path.is_dir() and path.name not in ("__pycache__", "photographs"))
MODULES = sorted(path for folder in ("paddleseg_encnet", "segrun", "tools") for path in (ROOT / folder).rglob("*.py"))
# Where a command line is read: the flags of the tools, and what stands for one.
COMMAND_LINES = {ROOT / "paddleseg_encnet" / "flags.py", ROOT / "segrun" / "command_line.py",
                 ROOT / "segrun" / "commands.py", *(ROOT / "tools").glob("*.py")}
LIBRARY = [path for path in MODULES if path not in COMMAND_LINES]
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def test_the_root_holds_the_rooms_and_what_belongs_to_none():
    assert {path.stem for path in PACKAGES[0].glob("*.py")} == {"__init__", "__main__", "version", "registry", "flags",
                                                               "live"}


def test_each_room_says_what_it_is_for():
    for room in [*PACKAGES, *ROOMS]:
        assert ast.get_docstring(ast.parse((room / "__init__.py").read_text())), f"{room.name}/__init__.py says nothing"


def test_the_page_of_the_architecture_names_each_room():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [room.name for room in [*PACKAGES, *ROOMS] if f"{room.name}/" not in text] == []


def test_the_name_of_a_file_alone_says_which_it_is():
    """A tool keeps its name, which is the command; no module of the packages has it too."""
    names = [path.name for path in MODULES if not path.name.startswith("__")]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_no_two_test_files_have_one_name():
    """pytest takes a file's name for the module's."""
    names = [path.name for path in TESTS]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_tests_stand_in_folders_of_the_rooms_names():
    """segrun's in segmenting: a folder tests/segrun would be taken for the package by what runs from tests/."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    rooms = {room.name for room in ROOMS if room.parent == PACKAGES[0]}
    assert folders == rooms | {"segmenting", "tools"}


def room_of(module: str) -> str:
    """The folder of the tests of a module of one of the packages; "" of others."""
    package, *rest = module.split(".")
    if package == "segrun":
        return "segmenting"
    return rest[0] if package == "paddleseg_encnet" and rest else ""


def private_names(path) -> set:
    """The names with an underscore in front that a test takes from other rooms than its own."""
    tree = ast.parse(path.read_text())
    taken, modules = set(), {}
    for node in ast.walk(tree):
        room = room_of(node.module or "") if isinstance(node, ast.ImportFrom) else ""
        if room not in ("", path.parent.name):
            modules.update({name.asname or name.name: room for name in node.names})
            taken |= {f"{room}: {name.name}" for name in node.names if name.name.startswith("_")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            if node.attr.startswith("_"):
                taken.add(f"{modules[node.value.id]}: {node.value.id}.{node.attr}")
    return taken


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_tests_keep_to_what_other_rooms_show(path):
    assert private_names(path) == set()


def functions(tree: ast.AST) -> list:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_fit_the_eye(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for function in functions(ast.parse(text)):
        assert function.end_lineno - function.lineno < 80, function.name


def parameters(function: ast.FunctionDef) -> list:
    """Names of all that can be given to a function."""
    given = function.args
    several = [argument for argument in (given.vararg, given.kwarg) if argument]
    return [argument.arg for argument in given.posonlyargs + given.args + given.kwonlyargs + several
            if argument.arg not in ("self", "cls")]


def constructors_of_layers(tree: ast.AST) -> list:
    """Those whose parameters are keys of a config's model."""
    return [function for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
            and any(isinstance(base, ast.Attribute) and base.attr == "Layer" for base in node.bases)
            for function in node.body if isinstance(function, ast.FunctionDef) and function.name == "__init__"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_have_few_parameters(path):
    tree = ast.parse(path.read_text())
    exempt = constructors_of_layers(tree)
    assert [function.name for function in functions(tree)
            if function not in exempt and len(parameters(function)) > 12] == []


def imported(path) -> set:
    """The modules that a file imports, with what it takes from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_library_reads_no_command_line(path):
    assert imported(path) & {"argparse", "paddleseg_encnet.flags", "segrun.command_line"} == set()


def test_what_the_rules_look_for_is_found():
    (function,) = functions(ast.parse("def f(self, a, b, /, c, *d, e, f, **g): pass"))
    assert parameters(function) == ["a", "b", "c", "e", "f", "d", "g"]
    layers = constructors_of_layers(ast.parse((PACKAGES[0] / "models" / "encnet.py").read_text()))
    assert max(len(parameters(constructor)) for constructor in layers) > 12
    assert "argparse" in imported(ROOT / "tools" / "predict.py")
    assert "paddleseg_encnet.flags" in imported(ROOT / "tools" / "val.py")


FORGED = ("types.ModuleType", "ModuleType(", "del sys.modules", "sys.modules.pop")


@pytest.mark.parametrize("folder", ["paddleseg_encnet", "segrun", "tools", "benchmarks", "tests"])
def test_no_module_is_forged_and_mock_is_for_tests(folder):
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path != ROOT / "tests" / "test_house.py":
            assert not [word for word in FORGED if word in text], path
        assert folder == "tests" or "mock" not in text, path


def test_importing_devices_sets_no_variable():
    code = ("import os, paddleseg_encnet, paddle; before = dict(os.environ)\n"
            "import importlib.util; from paddleseg_encnet.runtime import devices\n"
            "spec = importlib.util.spec_from_file_location('once_more', devices.__file__)\n"
            "spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
            "assert dict(os.environ) == before, set(os.environ) ^ set(before)")
    env = {name: value for name, value in os.environ.items() if name != "FLAGS_stop_check_timeout"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
