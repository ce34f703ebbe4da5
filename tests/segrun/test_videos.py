"""Sound and time of the videos that tools/predict.py writes, and webcams."""

import os
import re
import subprocess

import cv2
import numpy as np
import paddle
import pytest
from paddleseg.transforms import Compose, Normalize

from paddleseg_encnet import predictor
from segrun import inputs, outputs, sound, video
from segrun.palettes import CAMVID, color_table
from segrun.video import evenly

FFMPEG = sound.find_ffmpeg()
capture = cv2.VideoCapture
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="needs ffmpeg, or pip install imageio-ffmpeg")
STYLE = outputs.Style([f"class {i}" for i in range(5)], color_table(CAMVID), alpha=0)     # the overlay is the frame


class Darkness(paddle.nn.Layer):
    def forward(self, images):
        return [paddle.concat([-images[:, :1], images[:, :1]], axis=1)]


def network() -> predictor.Predictor:
    return predictor.Predictor(Darkness(), Compose([Normalize()]))


def frames_of(path) -> list:
    """The mean grey of each frame, and its time in milliseconds."""
    film, frames = cv2.VideoCapture(str(path)), []
    while True:
        read, frame = film.read()
        if not read:
            return frames
        frames.append((round(float(frame.mean())), round(film.get(cv2.CAP_PROP_POS_MSEC))))


@pytest.fixture
def film(tmp_path):
    """Seven frames, from dark to light, ten a second."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for i in range(7):
        writer.write(np.full((48, 64, 3), 30 * i, np.uint8))
    writer.release()
    return path


def ffmpeg(*arguments) -> str:
    done = subprocess.run([FFMPEG, "-v", "error", "-y", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def lines(monkeypatch):
    """What is logged: (level, line)."""
    seen = []
    for level in ("info", "warning"):
        monkeypatch.setattr(video.logger, level, lambda line, level=level: seen.append((level, line)))
    return seen


def with_sound(film, ending, codec):
    """The film with a tone, in another container."""
    path = film.parent / f"loud{ending}"
    ffmpeg("-i", film, "-f", "lavfi", "-i", "sine=frequency=440:duration=0.7", "-c:v", "copy", "-c:a", codec, path)
    return path


# --- sound -----------------------------------------------------------------------------------------------------------

@needs_ffmpeg
@pytest.mark.parametrize("ending, codec, written", [
    (".avi", "pcm_s16le", ".avi"), (".mov", "aac", ".mp4"), (".mkv", "libopus", ".mp4"), (".mp4", "aac", ".mp4")])
def test_the_sound_is_copied_bit_by_bit(film, ending, codec, written, tmp_path, lines):
    source = with_sound(film, ending, codec)
    target = video.predict_video(network(), str(source), str(tmp_path / "out"), STYLE)
    assert target.endswith(f"loud{written}") and os.listdir(os.path.dirname(target)) == [os.path.basename(target)]
    packets = [ffmpeg("-i", path, "-map", "0:a", "-c", "copy", "-f", "md5", "-") for path in (source, target)]
    assert packets[0] == packets[1] != ""
    found, given = frames_of(target), frames_of(source)
    assert len(found) == 7 and [time for _, time in found] == [100 * i for i in range(7)]
    assert all(abs(a[0] - b[0]) <= 3 for a, b in zip(found, given))         # the codec's loss
    assert ("info", f"{source}: 7 frames, written at 10 a second") in lines
    assert lines[-1][1].endswith(f"with the sound ({codec.replace('lib', '')})")
    assert all(level == "info" for level, _ in lines)


@needs_ffmpeg
def test_a_silent_video_stays_silent_without_a_warning(film, tmp_path, lines):
    target = video.predict_video(network(), str(film), str(tmp_path / "out"), STYLE)
    assert lines[-1] == ("info", f"The video with overlays is {target}, without sound")
    assert all(level == "info" for level, _ in lines)


@needs_ffmpeg
def test_sound_without_ffmpeg_is_left_out_and_said(film, tmp_path, lines, monkeypatch):
    source = with_sound(film, ".mp4", "aac")
    monkeypatch.setattr(sound, "find_ffmpeg", lambda: None)
    target = video.predict_video(network(), str(source), str(tmp_path / "out"), STYLE)
    assert len(frames_of(target)) == 7
    warnings = [line for level, line in lines if level == "warning"]
    assert warnings == [f"the sound of {source}, if it has any, is left out: for that put ffmpeg on the PATH, or pip "
                        "install imageio-ffmpeg"]


PROGRAMS = {
    "fails": ("#!/bin/sh\ncase \"$*\" in *copy*) for last; do :; done; echo part > \"${last#file:}\"\n"
              "echo 'No room for it' >&2; exit 1;; esac\necho '  Stream #0:1: Audio: aac (LC)' >&2\n",
              "No room for it"),
    "is no program": ("no program", "Exec format error"),
}


@pytest.mark.parametrize("program, words", PROGRAMS.values(), ids=PROGRAMS)
def test_sound_that_cannot_be_copied_leaves_the_video_as_it_was(film, program, words, tmp_path, lines, monkeypatch):
    path = tmp_path / "bin" / "ffmpeg"
    path.parent.mkdir()
    path.write_text(program)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    target = video.predict_video(network(), str(film), str(tmp_path / "out"), STYLE)
    assert len(frames_of(target)) == 7 and os.listdir(os.path.dirname(target)) == ["film.avi"]
    assert ("warning", f"the sound of {film} is left out, as {path} can't copy it: {words}") in lines


def test_where_ffmpeg_is_looked_for(tmp_path, monkeypatch):
    package = pytest.importorskip("imageio_ffmpeg")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sound.find_ffmpeg() == package.get_ffmpeg_exe()
    (tmp_path / "ffmpeg").touch()
    (tmp_path / "ffmpeg").chmod(0o755)
    assert sound.find_ffmpeg() == str(tmp_path / "ffmpeg")
    (tmp_path / "ffmpeg").unlink()
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    assert sound.find_ffmpeg() is None


# --- time ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("times, written, repeated, left_out", [
    ([0, 0.1, 0.2, 0.3], "abcd", 0, 0),
    ([5.003, 5.1, 5.199, 5.3], "abcd", 0, 0),                   # a clock of milliseconds, that does not begin at 0
    ([0, 0.1, 0.4, 0.5], "abbbcd", 2, 0),
    ([0, 0.04, 0.1, 0.2], "acd", 0, 1),
    ([0, 0, 0, 0], "abcd", 0, 0),                               # no clock
    ([0, 0.1, 0.0, 0.1], "abcd", 0, 0),                         # it begins anew
    ([0, 0.1, 1e9, 1e9 + 0.2], "abccd", 1, 0),                  # it leaps
    ([], "", 0, 0),
])
def test_frames_stand_at_their_times(times, written, repeated, left_out):
    tally, shown = video.Counter(), ""
    for frame in evenly(zip(times, "abcd"), 10, tally):
        shown += frame or shown[-1]
    assert shown == written
    assert (tally["read"], tally["repeated"], tally["left out"]) == (len(times), repeated, left_out)


def test_an_even_video_is_written_frame_by_frame_at_every_rate():
    """Whole milliseconds, as Matroska has them, for ten minutes."""
    for rate in (10, 23.976, 24, 25, 29.97, 30, 50, 59.94, 60, 120, 240):
        tally, count = video.Counter(), int(600 * rate)
        shown = sum(1 for _ in evenly(((round(1000 * i / rate) / 1000, i) for i in range(count)), rate, tally))
        assert shown == count and not tally["repeated"] and not tally["left out"], rate


@needs_ffmpeg
def test_a_variable_frame_rate_keeps_the_time(film, tmp_path, lines):
    """Five frames at 10 a second, then two at 5 a second: at 0, 100, 200, 300, 400, 500 and 700 ms."""
    source = tmp_path / "uneven.mkv"
    ffmpeg("-i", film, "-vf", "setpts=round(if(lt(N\\,5)\\,N\\,5+2*(N-5))/10/TB)", "-fps_mode", "vfr", "-c:v", "mpeg4",
           "-q:v", 1, source)
    given = frames_of(source)
    assert [time for _, time in given] == [0, 100, 200, 300, 400, 500, 700]
    target = video.predict_video(network(), str(source), str(tmp_path / "out"), STYLE)
    found = frames_of(target)
    assert [time for _, time in found] == [100 * i for i in range(8)]
    assert [grey for grey, _ in found] == pytest.approx([given[i][0] for i in (0, 1, 2, 3, 4, 5, 5, 6)], abs=3)
    assert ("info", f"{source}: 7 frames, written at 10 a second; they come unevenly: 1 times the last one is repeated "
            "and 0 are left out, so that each stands at its time") in lines
    assert not [line for level, line in lines if level == "warning"]


def test_a_rate_that_is_a_clocks(film, tmp_path, lines, monkeypatch):
    """As some WebM files say 1000 frames a second."""
    class Fast:
        def __init__(self, path):
            self.film = capture(path)

        def __getattr__(self, name):
            return getattr(self.film, name)

        def get(self, what):
            return 1000.0 if what == cv2.CAP_PROP_FPS else self.film.get(what)
    monkeypatch.setattr(cv2, "VideoCapture", Fast)
    video.predict_video(network(), str(film), str(tmp_path / "out"), STYLE)
    assert any(re.search("7 frames, written at 25 a second; they come unevenly", line) for _, line in lines)


# --- webcams ---------------------------------------------------------------------------------------------------------

class Webcam:
    """Shows the film, again and again, and is read at a clock of its own."""

    film, now = "", 0.0

    def __new__(cls, what):
        if isinstance(what, str):
            return capture(what)
        camera = super().__new__(cls)
        camera.source, camera.taken = capture(str(cls.film)), 0
        return camera

    def isOpened(self):
        return True

    def read(self):
        Webcam.now += 0.25
        self.taken += 1
        return self.source.read()

    def get(self, what):
        return self.source.get(what)

    def release(self):
        self.source.release()


@pytest.fixture
def webcam(film, monkeypatch):
    """Number 0, whose frames come each quarter of a second."""
    monkeypatch.setattr(Webcam, "film", film)
    monkeypatch.setattr(Webcam, "now", 0.0)
    monkeypatch.setattr(cv2, "VideoCapture", Webcam)
    monkeypatch.setattr(video.time, "monotonic", lambda: Webcam.now)


def test_a_webcams_video_plays_as_fast_as_it_was(webcam, tmp_path, lines):
    target = video.predict_camera(network(), 0, str(tmp_path / "out"), STYLE, max_frames=4)
    assert target.endswith("webcam0.mp4") and os.listdir(os.path.dirname(target)) == ["webcam0.mp4"]
    # At 0, 0.25, 0.5 and 0.75 s, of 10 a second.
    greys = [grey for grey, _ in frames_of(target)]
    assert greys == pytest.approx([0, 0, 0, 30, 30, 60, 60, 60, 90], abs=4)
    assert lines[0] == ("info", "Webcam 0: 4 frames")


def test_ctrl_c_ends_a_webcams_video(webcam, tmp_path, lines):
    own = network()
    predict, seen = own.predict, []

    def interrupted(frame):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return predict(frame)
    own.predict = interrupted
    target = video.predict_camera(own, 0, str(tmp_path / "out"), STYLE)
    assert len(frames_of(target)) == 5 and lines[0] == ("info", "Webcam 0: Ctrl-C ends the video")


def test_ctrl_c_before_the_first_frame_leaves_nothing(webcam, tmp_path):
    own = network()

    def interrupted(frame):
        raise KeyboardInterrupt
    own.predict = interrupted
    with pytest.raises(KeyboardInterrupt):
        video.predict_camera(own, 0, str(tmp_path / "out"), STYLE)
    assert not os.listdir(tmp_path / "out" / "added_prediction")


def test_a_number_is_a_webcam_unless_a_file_has_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert inputs.is_camera("0") and inputs.is_camera("12")
    assert not inputs.is_camera("-1") and not inputs.is_camera("0.png") and not inputs.is_camera("")
    (tmp_path / "0").mkdir()
    assert not inputs.is_camera("0")


# --- the command line ------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def weights(small_config, tmp_path_factory):
    from paddleseg.cvlibs import Config, SegBuilder
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(SegBuilder(Config(str(small_config))).model.state_dict(), str(path))
    return path


def test_a_webcam_from_the_command_line(webcam, weights, small_config, run_tool, tmp_path):
    run_tool("predict", "--config", small_config, "--model_path", weights, "--image_path", 0, "--max_frames", 2,
             "--save_dir", tmp_path / "out")
    assert len(frames_of(tmp_path / "out" / "added_prediction" / "webcam0.mp4")) == 4


@pytest.mark.parametrize("arguments, words", [
    (["--image_path", 99], "error: OpenCV has no webcam 99 here: "),
    (["--image_path", 0, "--max_frames", -1], "error: --max_frames is the number of frames to take from a webcam, at "
     "least 1, got -1"),
    (["--image_path", "x.png", "--max_frames", 3], "error: --max_frames is the number of frames to take from a webcam"),
    (["--image_path", 0, "--save", "ids"], "error: of a video only the overlay is saved")])
def test_a_webcam_that_cannot_be(arguments, words, weights, small_config, run_tool, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        run_tool("predict", "--config", small_config, "--model_path", weights, "--save_dir", tmp_path / "out",
                 *arguments)
    assert stopped.value.code.startswith(words) and "\n" not in stopped.value.code
    assert not (tmp_path / "out").exists()
