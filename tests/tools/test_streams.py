"""Where a tool's lines go, and in which encoding: closed pipes, and systems that know no UTF-8."""

import os
import pathlib
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(line: str, *arguments, **environment) -> subprocess.CompletedProcess:
    """A line of bash, in which "$@" is Python with these arguments."""
    return subprocess.run(["bash", "-c", f"set -o pipefail; {line}", "bash", sys.executable, *map(str, arguments)],
                          capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, cwd=ROOT)


def of_shipped(image, save_dir) -> list:
    return [ROOT / "tools" / "predict.py", "--config", "encnet_lite0_camvid_480x360", "--device", "cpu", "--model_path",
            ROOT / "weights" / "encnet_lite0_camvid.safetensors", "--image_path", image, "--save_dir", save_dir,
            "--save", "ids"]


# --- pipes -----------------------------------------------------------------------------------------------------------

def test_a_reader_that_goes_ends_it_quietly(image, tmp_path):
    """`| head`: as any program that a closed pipe ends, without a line."""
    done = shell('"$@" | head -n 1', *of_shipped(image, tmp_path / "out"))
    assert done.returncode == 128 + 13 and not [
        line for line in done.stderr.splitlines() if b"Broken pipe" in line or b"Traceback" in line or b"rror" in line]


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", ">/dev/full"])
def test_a_closed_stdout(closed, image, tmp_path):
    done = shell(f'"$@" {closed}', *of_shipped(image, tmp_path / "out"))
    if closed == ">/dev/full":      # a full disk, which is to be told
        assert done.returncode == 1 and b"error: [Errno 28] No space left on device" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "ids" / image.name).exists() and b"rror" not in done.stderr, done.stderr


def test_help_for_a_reader_that_goes():
    """The pipe is closed before a line is written."""
    done = shell('"$@" --help | true', "-c", "import sys, time; time.sleep(1); sys.argv[:1] = ['x']; "
                 "sys.path.insert(0, 'tools'); import configs; from segrun.command_line import run_main; "
                 "run_main(configs.main, configs.flags())")
    assert b"Broken" not in done.stderr and done.returncode in (0, 141), done.stderr


# --- encodings -------------------------------------------------------------------------------------------------------

def test_a_system_of_ascii(image, tmp_path):
    """Names of files, of classes and of folders in letters that it has not."""
    folder = tmp_path / "道路 é"
    folder.mkdir()
    Image.open(image).save(folder / "街.png")
    (folder / "kaputt ü.png").touch()
    done = shell('"$@"', *of_shipped(folder, folder / "out"), **ASCII)
    assert done.returncode == 1 and (folder / "out" / "ids" / "街.png").exists(), done.stderr
    last = done.stderr.splitlines()[-1].decode()
    assert last.startswith(f"error: 1 of 2 images left out: cannot read the image {folder}/kaputt ü.png")


@pytest.mark.parametrize("encoding", ["ascii", "cp932", "gbk"])
def test_the_package_is_imported_whatever_the_systems_encoding_is(encoding, tmp_path):
    """What opens a text without an encoding has that of the system: probes of PaddleSeg, for instance."""
    (tmp_path / "sitecustomize.py").write_text(
        "import builtins, io, _io\n"
        "real = io.open\n"
        "def opened(file, mode='r', buffering=-1, encoding=None, *rest, **named):\n"
        f"    return real(file, mode, buffering, encoding or (None if 'b' in mode else {encoding!r}), *rest, **named)\n"
        "builtins.open = opened\n")
    done = shell('"$@"', "-c", "import paddleseg_encnet, segrun; print('there')",
                 PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT)]), **ASCII)
    assert done.stdout.strip().endswith(b"there"), done.stderr


@pytest.mark.parametrize("name", ["train", "infer", "predict"])
def test_help_in_ascii(name):
    done = shell('"$@"', ROOT / "tools" / f"{name}.py", "--help", **ASCII)
    assert done.returncode == 0 and b"--save_dir" in done.stdout, done.stderr


def test_letters_that_the_encoding_has_not(tmp_path):
    code = ("from segrun.command_line import prepare_streams; prepare_streams(); import sys; "
            "print(chr(233), sys.argv[1]); print(chr(0x9053), file=sys.stderr)")
    done = shell('"$@"', "-c", code, "ü", **ASCII)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\\xe9 ü\n".encode(), b"\\u9053\n")


def test_each_text_is_opened_with_its_encoding_named():
    """ruff's rule is a preview yet; make lint calls it like this."""
    line = next(line for line in pathlib.Path(ROOT / "Makefile").read_text().splitlines() if "PLW1514" in line)
    done = subprocess.run([sys.executable, *line.split()[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
