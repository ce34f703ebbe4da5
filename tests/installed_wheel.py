"""The wheel, built and installed in a folder of its own, for tests of what pip brings."""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The line with which a program begins that is to find neither Paddle nor PaddleSeg.
ALONE = "import sys; sys.modules.update(paddle=None, paddleseg=None)"


class Installed:
    """What pip makes of the wheel in a folder of its own, beside which the checkout is out of sight."""

    def __init__(self, folder: pathlib.Path, cwd: pathlib.Path):
        self.folder, self.cwd = folder, cwd

    def __call__(self, *arguments, first: str = "", code: int = 0):
        """Runs the command in an empty folder, in a process that begins with the line `first`."""
        program = [self.folder / "bin" / "paddleseg-encnet"]
        if first:
            program = ["-c", f"{first}\nfrom paddleseg_encnet_tools.command import main\nmain()"]
        return self.python(*program, *arguments, code=code)

    def python(self, *arguments, code: int = 0):
        """Runs Python there, with the wheel's packages before all others."""
        done = subprocess.run([sys.executable, *map(str, arguments)], cwd=self.cwd, env=self.environment,
                              capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    @property
    def environment(self) -> dict:
        return {**os.environ, "PYTHONPATH": str(self.folder)}

    def error(self, *arguments, **options) -> str:
        """The one line that it ends with."""
        done = self(*arguments, code=1, **options)
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]


def build(folder: pathlib.Path) -> pathlib.Path:
    """The wheel, written into a folder. From a copy: a build leaves its folder in the source, and takes from it what an
    older one has left."""
    source = folder / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    for name in ("paddleseg_encnet", "segrun", "configs", "tools", "weights", "docs/images"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, source)
    return next(folder.glob("*.whl"))


def pip(*arguments):
    done = subprocess.run([sys.executable, "-m", "pip", arguments[0], "--no-deps", "--no-index", "--quiet",
                           "--disable-pip-version-check", *map(str, arguments[1:])], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
