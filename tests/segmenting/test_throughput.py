"""tools/infer.py on a folder or a video, where it reads, computes and writes at the same time: same files, same errors.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from conftest import ROOT
from exports import HERE, built, each_form, error_of, exported, flags_of, masks, needs_onnx, needs_openvino, written
from PIL import Image

from segrun.exports import Export
from segrun.segmenter import Segmenter


@pytest.fixture(scope="module")
def folder(scenes, tmp_path_factory):
    """Twelve images of two sizes, 00.png to 11.png."""
    folder = tmp_path_factory.mktemp("images")
    for i, path in enumerate(sorted((scenes / "leftImg8bit").rglob("*.png"))):
        shutil.copy(path, folder / f"{i:02}.png")
    Image.open(folder / "05.png").resize((80, 40)).save(folder / "05.png")
    return folder


@pytest.fixture(scope="module")
def config(small_config, folder, tmp_path_factory):
    """deploy.yaml of an export in every form that can be had here."""
    made = tmp_path_factory.mktemp("export")
    written(built(small_config), made, "argmax", folder / "00.png")
    return made / "deploy.yaml"


@pytest.fixture
def infer(config, folder, run_tool, tmp_path):
    """infer(*flags) runs the tool on the folder and returns where its pictures are."""
    def run(*flags):
        save_dir = tmp_path / ("out" + "".join(map(str, flags)).replace("/", "-"))
        run_tool("infer", "--config", config, "--image_path", folder, "--save_dir", save_dir, *flags)
        return save_dir
    return run


@each_form
def test_the_files_are_those_of_one_after_another(backend, precision, infer, capfd):
    flags = flags_of(backend, precision)
    files, lines = [], []
    for more in (["--io_threads", 0], [], ["--io_threads", 3], ["--io_threads", 2, "--batch_size", 5]):
        made = infer(*flags, *more)
        files.append({path.name: path.read_bytes() for path in sorted(made.iterdir())})
        lines.append(re.findall(r"^\d+/12 images", capfd.readouterr().err, re.MULTILINE))
    assert list(files[0]) == [f"{i:02}.png" for i in range(12)]
    assert files[1] == files[2] == files[0] and files[3].keys() == files[0].keys()
    assert lines[1] == lines[2] == lines[3] == lines[0] and lines[0][-1] == "12/12 images"


def interfere(monkeypatch, method: str, at: int, error: BaseException):
    """Makes the call with that number of a method of Segmenter raise an error, once."""
    whole, calls, lock = getattr(Segmenter, method), [], threading.Lock()

    def called(*args):
        with lock:
            calls.append(args)
            number = len(calls)
        if number == at:
            raise error
        return whole(*args)
    monkeypatch.setattr(Segmenter, method, called)


@pytest.mark.parametrize("backend, precision", HERE[::3])
@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("method", ["prepare", "finish"])
def test_an_error_ends_it_in_its_place(method, threads, backend, precision, infer, tmp_path, monkeypatch):
    interfere(monkeypatch, method, 5, ValueError("the fifth"))
    with pytest.raises(SystemExit, match="^error: the fifth$"):
        infer("--io_threads", threads, *flags_of(backend, precision))
    if (method, threads) != ("prepare", 3):     # with three, the fifth call may be for another image
        assert [path.name for path in sorted(tmp_path.glob("out*/*"))] == ["00.png", "01.png", "02.png", "03.png"]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_an_image_that_cannot_be_read(threads, config, folder, run_tool, tmp_path):
    shutil.copytree(folder, tmp_path / "in")
    (tmp_path / "in" / "04.png").write_bytes(b"no picture")
    error = error_of(run_tool, "infer", "--config", config, "--image_path", tmp_path / "in", "--save_dir",
                     tmp_path / "out", "--io_threads", threads)
    assert error.startswith(f"error: cannot read the image {tmp_path}/in/04.png") and "\n" not in error
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["00.png", "01.png", "02.png", "03.png"]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_picture_that_cannot_be_written(threads, config, folder, run_tool, tmp_path):
    (tmp_path / "out" / "03.png").mkdir(parents=True)
    error = error_of(run_tool, "infer", "--config", config, "--image_path", folder, "--save_dir", tmp_path / "out",
                     "--io_threads", threads)
    assert error.startswith(f"error: cannot write {tmp_path}/out/03.png: ") and "\n" not in error
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["00.png", "01.png", "02.png", "03.png"]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_few_images_are_in_flight(threads, infer, monkeypatch):
    """Of however many: what is read and not yet finished."""
    begun, finished, most = [], [], []
    prepare, finish = Segmenter.prepare, Segmenter.finish

    def counted(*args):
        begun.append(args)
        most.append(len(begun) - len(finished))
        return prepare(*args)

    def finishing(*args):
        finished.append(args)
        return finish(*args)
    monkeypatch.setattr(Segmenter, "prepare", counted)
    monkeypatch.setattr(Segmenter, "finish", finishing)
    infer("--io_threads", threads)
    assert len(begun) == len(finished) == 12
    # Ahead of the network, in it, behind it, each with one that is being handed on.
    assert max(most) <= (1 if threads == 0 else threads + 5)


def test_ctrl_c_in_the_shell(config, folder, tmp_path):
    images = [str(folder / f"{i:02}.png") for i in range(12)]
    for i in range(2000):
        os.makedirs(tmp_path / "in" / f"{i:04}", exist_ok=True)
        os.symlink(images[i % 12], tmp_path / "in" / f"{i:04}" / "image.png")
    process = subprocess.Popen([sys.executable, ROOT / "tools" / "infer.py", "--config", config, "--image_path",
                                tmp_path / "in", "--save_dir", tmp_path / "out"], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))     # heard in a job too
    assert process.stderr.readline().startswith("200/2000 images")      # it is well under way
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and said.splitlines()[-1] == "interrupted" and "Traceback" not in said
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert 200 <= len(found) < 2000 and {path.name for path in found} == {"image.png"}
    assert all(np.array(Image.open(path)).ndim == 2 for path in found[-20:])


# --- videos ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def film(folder, tmp_path_factory):
    """The images, but the small one, ten a second."""
    path = tmp_path_factory.mktemp("film") / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (128, 64))
    for image in sorted(folder.glob("*.png")):
        writer.write(cv2.resize(cv2.imread(str(image)), (128, 64)))
    writer.release()
    return path


def frames_of(path) -> list:
    video, frames = cv2.VideoCapture(str(path)), []
    while True:
        read, frame = video.read()
        if not read:
            return frames
        frames.append(frame)


@each_form
def test_a_video_is_that_of_one_after_another(backend, precision, config, film, run_tool, tmp_path, capfd):
    flags = flags_of(backend, precision)
    files, lines = [], []
    for threads in (0, 1, 3):
        run_tool("infer", "--config", config, "--image_path", film, "--save_dir", tmp_path / str(threads),
                 "--cpu_threads", 2, "--io_threads", threads, *flags)
        assert [path.name for path in (tmp_path / str(threads)).rglob("*.*")] == ["film.avi"]
        files.append((tmp_path / str(threads) / "added_prediction" / "film.avi").read_bytes())
        lines.append(re.findall(r"^\d+/12 frames", capfd.readouterr().err, re.MULTILINE))
    assert files[0] == files[1] == files[2]
    assert lines[1] == lines[2] == lines[0] and lines[0][-1] == "12/12 frames"
    # Each frame is what the export sees in it, in its place; the codec loses some.
    one = exported(config, backend, precision, threads=2)
    for given, found in zip(frames_of(film), frames_of(tmp_path / "1" / "added_prediction" / "film.avi")):
        ids = one.run(one.prepare(given, "a frame").image[np.newaxis]).values[0]
        expected = 0.6 * given + 0.4 * one.classes.colors[ids][..., ::-1]
        assert np.abs(found - expected).mean() < 12


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("error, words", [(ValueError("the fifth"), "error: the fifth"),
                                          (KeyboardInterrupt(), "interrupted")])
def test_nothing_is_left_of_a_video_that_was_not_finished(error, words, threads, config, film, run_tool, tmp_path,
                                                          monkeypatch):
    interfere(monkeypatch, "finish", 5, error)
    assert error_of(run_tool, "infer", "--config", config, "--image_path", film, "--save_dir", tmp_path, "--io_threads",
                    threads) == words
    assert [path.name for path in tmp_path.rglob("*")] == ["added_prediction"]


@pytest.mark.parametrize("flags", [["--batch_size", 2], ["--benchmark", "True"]])
def test_flags_that_are_for_images(flags, config, film, run_tool, tmp_path):
    error = error_of(run_tool, "infer", "--config", config, "--image_path", film, "--save_dir", tmp_path / "out",
                     *flags)
    assert error == f"error: --batch_size and --benchmark are for images, {film} is a video"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("backend", ["paddle", "auto"])
def test_a_video_that_cannot_be_read(backend, config, run_tool, tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"no film")
    error = error_of(run_tool, "infer", "--config", config, "--image_path", tmp_path / "film.mp4", "--save_dir",
                     tmp_path / "out", "--backend", backend)
    assert re.match(rf"error: cannot read (the video|a frame of) {tmp_path}/film.mp4: it is", error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("backend, absent", [("paddle", ["paddleseg"]),
                                             pytest.param("onnx", ["paddleseg", "paddle"], marks=needs_onnx)])
def test_a_video_runs_without(backend, absent, config, film, tmp_path):
    code = (f"import sys, runpy; sys.modules.update(dict.fromkeys({absent}))\n"
            f"sys.argv = ['infer.py', '--config', {str(config)!r}, '--backend', {backend!r}, '--image_path', "
            f"{str(film)!r}, '--save_dir', {str(tmp_path)!r}]\n"
            f"runpy.run_path({str(ROOT / 'tools' / 'infer.py')!r}, run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{film}: 12 frames, written at 10 a second\n" in done.stdout
    assert len(frames_of(tmp_path / "added_prediction" / "film.avi")) == 12


# --- OpenVINO's requests ---------------------------------------------------------------------------------------------

@needs_openvino
def test_several_at_a_time_are_equal_to_one(config, folder):
    one, several = (exported(config, "openvino", threads=4, throughput=many) for many in (False, True))
    assert one.requests == 1 and several.requests > 1
    images = [Export(str(config)).batch_of(str(path)) for path in sorted(folder.glob("*.png"))]
    expected = [one.run(image).values for image in images]
    found = [None] * len(images)

    def run(i):
        found[i] = several.run(images[i]).values
    threads = [threading.Thread(target=run, args=[i]) for i in range(len(images))]     # more than requests
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(found, expected))
    assert len({a.tobytes() for a in found}) == len(images)         # no one's output is another one's


@needs_openvino
@pytest.mark.parametrize("flags, many", [([], True), (["--io_threads", 0], False)])
def test_a_folder_is_for_throughput_and_an_image_for_latency(flags, many, config, folder, run_tool, tmp_path, capsys):
    for path, expected in ((folder, many), (folder / "00.png", False)):
        run_tool("infer", "--config", config, "--image_path", path, "--save_dir", tmp_path, "--backend", "openvino",
                 "--cpu_threads", 4, *flags)
        assert ("at a time; with reading" in capsys.readouterr().out) == expected
    assert len(masks(tmp_path)) == 12
