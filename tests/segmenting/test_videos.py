"""Videos: an overlay on each frame, each at its time; nothing of what could not be finished."""

import os
import re

import cv2
import numpy as np
import pytest
from films import FFMPEG, darkness, ffmpeg, greys_of, write_film
from full_disk import full_disk
from segmenters import picture, small, visible

from segrun import video
from segrun.errors import DataError
from segrun.video import evenly

capture = cv2.VideoCapture
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="needs ffmpeg, or pip install imageio-ffmpeg")


@pytest.mark.parametrize("ending", [".avi", ".mp4"])
def test_video_has_an_overlay_on_each_frame(film, ending, tmp_path):
    given = film.replace(".avi", ".avi" if ending == ".avi" else ".mov")    # the name decides what is written
    os.rename(film, given)
    written = video.predict_video(small(), given, str(tmp_path / "out"))
    assert written.endswith(f"film{ending}") and video.count_frames(written) == 7
    seen = cv2.VideoCapture(written).read()[1]
    expected = small().segment(cv2.VideoCapture(given).read()[1]).overlay()[..., ::-1]
    assert np.abs(seen.astype(int) - expected).mean() < 12, "the codec loses more than it should"
    assert visible(os.path.dirname(written)) == [os.path.basename(written)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_of_a_video_that_was_not_finished(film, error, tmp_path):
    own = small()
    segment, frames = own.segment, []

    def interrupted(frame, where):
        frames.append(1)
        if len(frames) == 3:
            raise error()
        return segment(frame, where)
    own.segment = interrupted
    with pytest.raises(error):
        video.predict_video(own, film, str(tmp_path / "out"))
    assert not os.listdir(tmp_path / "out" / "added_prediction")


def test_video_without_a_codec(film, tmp_path, monkeypatch):
    monkeypatch.setitem(video.CODECS, ".mp4", "none")
    os.rename(film, tmp_path / "film.mov")
    with pytest.raises(OSError, match="cannot write a video of codec none to .*added_prediction: convert the video"):
        video.predict_video(small(), str(tmp_path / "film.mov"), str(tmp_path / "out"))
    assert not os.listdir(tmp_path / "out" / "added_prediction")


def test_video_on_a_full_disk(film, tmp_path):
    """OpenCV says nothing of it; the limit on a file's size does the same to it."""
    with pytest.raises(OSError, match="film.avi: of 7 frames . are in the file; is there room?"), full_disk(2000):
        video.predict_video(small(), film, str(tmp_path / "out"))
    assert not os.listdir(tmp_path / "out" / "added_prediction")


def test_video_that_cannot_be_read(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"no film")
    with pytest.raises(DataError, match="cannot read the video .*film.mp4"):
        video.predict_video(small(), str(tmp_path / "film.mp4"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("times", [range(20), [0, 1, 2, 5, 5.1, 5.2, 6, 9, *range(10, 22)]])
def test_a_video_is_that_of_one_after_another(times, tmp_path, monkeypatch):
    """Frame by frame, also where frames come unevenly."""
    film = write_film(tmp_path / "film.avi", [picture(48, 64) for _ in times])
    decode = video.timed_frames
    monkeypatch.setattr(video, "timed_frames", lambda *args: (
        (time / 10, frame) for time, (_, frame) in zip(times, decode(*args))))
    files = [video.predict_video(small(), film, str(tmp_path / str(threads)), threads=threads) for threads in (1, 0)]
    with open(files[0], "rb") as first, open(files[1], "rb") as second:
        assert first.read() == second.read()
    assert video.count_frames(files[0]) == times[-1] + 1


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
def test_a_variable_frame_rate_keeps_the_time(film, tmp_path, logged):
    """Five frames at 10 a second, then two at 5 a second: at 0, 100, 200, 300, 400, 500 and 700 ms."""
    source = tmp_path / "uneven.mkv"
    ffmpeg("-i", film, "-vf", "setpts=round(if(lt(N\\,5)\\,N\\,5+2*(N-5))/10/TB)", "-fps_mode", "vfr", "-c:v", "mpeg4",
           "-q:v", 1, source)
    given = greys_of(source)
    assert [time for _, time in given] == [0, 100, 200, 300, 400, 500, 700]
    target = video.predict_video(darkness(), str(source), str(tmp_path / "out"), alpha=0)
    found = greys_of(target)
    assert [time for _, time in found] == [100 * i for i in range(8)]
    assert [grey for grey, _ in found] == pytest.approx([given[i][0] for i in (0, 1, 2, 3, 4, 5, 5, 6)], abs=3)
    assert ("info", f"{source}: 7 frames, written at 10 a second; they come unevenly: 1 times the last one is repeated "
            "and 0 are left out, so that each stands at its time") in logged
    assert not [line for level, line in logged if level == "warning"]


def test_a_rate_that_is_a_clocks(film, tmp_path, logged, monkeypatch):
    """As some WebM files say 1000 frames a second."""
    class Fast:
        def __init__(self, path):
            self.film = capture(path)

        def __getattr__(self, name):
            return getattr(self.film, name)

        def get(self, what):
            return 1000.0 if what == cv2.CAP_PROP_FPS else self.film.get(what)
    monkeypatch.setattr(cv2, "VideoCapture", Fast)
    video.predict_video(darkness(), str(film), str(tmp_path / "out"), alpha=0)
    assert any(re.search("7 frames, written at 25 a second; they come unevenly", line) for _, line in logged)
