"""Webcams: a video that plays as fast as it was, until Ctrl-C."""

import os

import pytest
from films import Webcam, darkness, greys_of
from segmenters import visible

from segrun import video


@pytest.fixture
def webcam(film, monkeypatch):
    """Number 0."""
    Webcam.show(film, monkeypatch)


def test_a_webcams_video_plays_as_fast_as_it_was(webcam, tmp_path, logged):
    target = video.predict_camera(darkness(), 0, str(tmp_path / "out"), alpha=0, max_frames=4)
    assert target.endswith("webcam0.mp4") and visible(os.path.dirname(target)) == ["webcam0.mp4"]
    # At 0, 0.25, 0.5 and 0.75 s, of 10 a second.
    greys = [grey for grey, _ in greys_of(target)]
    assert greys == pytest.approx([0, 0, 0, 30, 30, 60, 60, 60, 90], abs=4)
    assert logged[0] == ("info", "Webcam 0: 4 frames")


def test_ctrl_c_ends_a_webcams_video(webcam, tmp_path, logged):
    own = darkness()
    segment, seen = own.segment, []

    def interrupted(frame, where):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return segment(frame, where)
    own.segment = interrupted
    target = video.predict_camera(own, 0, str(tmp_path / "out"), alpha=0)
    assert len(greys_of(target)) == 5 and logged[0] == ("info", "Webcam 0: Ctrl-C ends the video")


def test_ctrl_c_before_the_first_frame_leaves_nothing(webcam, tmp_path):
    own = darkness()

    def interrupted(frame, where):
        raise KeyboardInterrupt
    own.segment = interrupted
    with pytest.raises(KeyboardInterrupt):
        video.predict_camera(own, 0, str(tmp_path / "out"), alpha=0)
    assert not os.listdir(tmp_path / "out" / "added_prediction")
