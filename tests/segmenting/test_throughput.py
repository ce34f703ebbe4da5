"""tools/infer.py on a folder or a video, where it reads, computes and writes at the same time: same files, same errors.
"""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from conftest import ROOT
from exports import each_form, exported, flags_of, masks, needs_onnx, needs_openvino, written
from films import write_film
from near_ties import ROUNDING, assert_same_classes, live_scores
from PIL import Image
from segmenters import files_below, visible

from segrun.exports import Export
from segrun.image import frames_of
from segrun.video import count_frames


@pytest.fixture(scope="module")
def folder(scenes, tmp_path_factory):
    """Twelve images of two sizes, 00.png to 11.png."""
    folder = tmp_path_factory.mktemp("images")
    for i, path in enumerate(sorted((scenes / "leftImg8bit").rglob("*.png"))):
        shutil.copy(path, folder / f"{i:02}.png")
    Image.open(folder / "05.png").resize((80, 40)).save(folder / "05.png")
    return folder


@pytest.fixture(scope="module")
def config(lively_network, folder, tmp_path_factory):
    """deploy.yaml of an export in every form that can be had here."""
    made = tmp_path_factory.mktemp("export")
    written(lively_network, made, "argmax", folder / "00.png")
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
def test_the_files_are_those_of_one_after_another(backend, precision, infer, small_config, lively_weights, folder,
                                                  capfd):
    """To the last byte, as the runtime computes in the same way. OpenVINO gives each of several images a part of the
    threads; of 8 bits a rounding is a step of 127."""
    flags = flags_of(backend, precision)
    files, lines = [], []
    for more in (["--io_threads", 0], [], ["--io_threads", 3], ["--io_threads", 2, "--batch_size", 5]):
        made = infer(*flags, *more)
        files.append(files_below(made))
        lines.append(re.findall(r"^\d+/12 images", capfd.readouterr().err, re.MULTILINE))
    assert list(files[0]) == [f"{i:02}.png" for i in range(12)]
    assert all(each.keys() == files[0].keys() for each in files)
    if backend == "openvino":
        for name in files[0]:
            one, *others = (np.array(Image.open(io.BytesIO(each[name]))) for each in files[:3])
            scores = live_scores(small_config, lively_weights, folder / name)
            for other in others:
                assert_same_classes(other, one, scores, 1 / 127 if precision == "int8" else ROUNDING)
    else:
        assert files[1] == files[2] == files[0]
    assert lines[1] == lines[2] == lines[3] == lines[0] and lines[0][-1] == "12/12 images"


def test_an_image_that_cannot_be_read(config, folder, error_of, tmp_path):
    shutil.copytree(folder, tmp_path / "in")
    (tmp_path / "in" / "04.png").write_bytes(b"no picture")
    error = error_of("infer", "--config", config, "--image_path", tmp_path / "in", "--save_dir",
                     tmp_path / "out")
    assert error.startswith(f"error: 1 of 12 images left out: cannot read the image {tmp_path}/in/04.png")
    assert visible(tmp_path / "out") == [f"{i:02}.png" for i in range(12) if i != 4]


def test_a_picture_that_cannot_be_written(config, folder, error_of, tmp_path):
    (tmp_path / "out" / "03.png").mkdir(parents=True)
    error = error_of("infer", "--config", config, "--image_path", folder, "--save_dir", tmp_path / "out")
    assert error == f"error: {tmp_path}/out/03.png is a folder, a file is to be written there"
    assert visible(tmp_path / "out") == ["03.png"]


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
    found = [path for path in (tmp_path / "out").rglob("[!.]*") if path.is_file()]
    assert 200 <= len(found) < 2000 and {path.name for path in found} == {"image.png"}
    assert all(np.array(Image.open(path)).ndim == 2 for path in found[-20:])


# --- videos ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def film(folder, tmp_path_factory):
    """The images, but the small one, ten a second."""
    return write_film(tmp_path_factory.mktemp("film") / "film.avi",
                      [cv2.resize(cv2.imread(str(image)), (128, 64)) for image in sorted(folder.glob("*.png"))])


@each_form
def test_each_frame_is_what_the_export_sees_in_it(backend, precision, config, film, run_tool, tmp_path):
    """In its place; the codec loses some."""
    run_tool("infer", "--config", config, "--image_path", film, "--save_dir", tmp_path, "--cpu_threads", 2,
             *flags_of(backend, precision))
    assert list(files_below(tmp_path)) == ["added_prediction/film.avi"]
    one = exported(config, backend, precision, threads=2)
    given, found = (list(frames_of(path)) for path in (film, str(tmp_path / "added_prediction" / "film.avi")))
    assert len(given) == len(found) == 12
    for before, after in zip(given, found):
        ids = one.run(one.prepare(before[..., ::-1], "a frame").image[np.newaxis]).values[0]
        assert np.abs(after - (0.6 * before + 0.4 * one.classes.colors[ids])).mean() < 12


@pytest.mark.parametrize("flags", [["--batch_size", 2], ["--benchmark", "True"]])
def test_flags_that_are_for_images(flags, config, film, error_of, tmp_path):
    error = error_of("infer", "--config", config, "--image_path", film, "--save_dir", tmp_path / "out",
                     *flags)
    assert error == f"error: --batch_size and --benchmark are for images, {film} is a video"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("backend", ["paddle", "auto"])
def test_a_video_that_cannot_be_read(backend, config, error_of, tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"no film")
    error = error_of("infer", "--config", config, "--image_path", tmp_path / "film.mp4", "--save_dir",
                     tmp_path / "out", "--backend", backend)
    assert re.match(rf"error: cannot read (the video|a frame of) {tmp_path}/film.mp4: it is", error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("backend, absent", [("paddle", ["paddleseg"]),
                                             pytest.param("onnx", ["paddleseg", "paddle"], marks=needs_onnx)])
def test_a_video_runs_without(backend, absent, config, film, tmp_path):
    code = (f"import sys, runpy; sys.modules.update(dict.fromkeys({absent}))\n"
            f"sys.argv = ['infer.py', '--config', {str(config)!r}, '--backend', {backend!r}, '--image_path', "
            f"{film!r}, '--save_dir', {str(tmp_path)!r}]\n"
            f"runpy.run_path({str(ROOT / 'tools' / 'infer.py')!r}, run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{film}: 12 frames, written at 10 a second\n" in done.stdout
    assert count_frames(str(tmp_path / "added_prediction" / "film.avi")) == 12


# --- OpenVINO's requests ---------------------------------------------------------------------------------------------

@needs_openvino
def test_several_at_a_time_are_equal_to_one(config, small_config, lively_weights, folder):
    one, several = (exported(config, "openvino", threads=4, throughput=many) for many in (False, True))
    assert one.requests == 1 and several.requests > 1
    paths = sorted(folder.glob("*.png"))
    images = [Export(str(config)).batch_of(str(path)) for path in paths]
    expected = [one.run(image).values for image in images]
    with ThreadPoolExecutor(len(images)) as pool:       # more than requests
        found = list(pool.map(lambda image: several.run(image).values, images))
    for path, ids, alone in zip(paths, found, expected):        # on other numbers of threads
        assert_same_classes(ids[0], alone[0], live_scores(small_config, lively_weights, path))
    assert len({a.tobytes() for a in found}) == len(images)         # no one's output is another one's


@needs_openvino
@pytest.mark.parametrize("flags, many", [([], True), (["--io_threads", 0], False)])
def test_a_folder_is_for_throughput_and_an_image_for_latency(flags, many, config, folder, run_tool, tmp_path, capsys):
    for path, expected in ((folder, many), (folder / "00.png", False)):
        run_tool("infer", "--config", config, "--image_path", path, "--save_dir", tmp_path, "--backend", "openvino",
                 "--cpu_threads", 4, *flags)
        assert ("at a time; with reading" in capsys.readouterr().out) == expected
    assert len(masks(tmp_path)) == 12
