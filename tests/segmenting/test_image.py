"""Pixels from whatever holds an image: a file of any kind, its bytes, a video."""

import cv2
import numpy as np
import pytest
from segmenters import picture

from segrun.errors import DataError
from segrun.image import frames_of, is_video, pixels_of, read_file


@pytest.mark.parametrize("channels", [1, 3])
def test_bytes_are_what_their_file_is(tmp_path, channels):
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    data = (tmp_path / "x.png").read_bytes()
    np.testing.assert_array_equal(pixels_of(data, "the image", channels), read_file(str(tmp_path / "x.png"), channels))
    with pytest.raises(DataError, match="cannot read the image the upload: it is damaged, cut short or no image"):
        pixels_of(data[:50], "the upload", channels)
    with pytest.raises(DataError, match="cannot read the image the upload"):
        pixels_of(b"", "the upload", channels)


def test_frames_are_those_of_the_file_in_rgb(film, tmp_path):
    assert is_video(film) and not is_video(str(tmp_path)) and not is_video("nowhere.avi")
    frames = list(frames_of(film))
    video = cv2.VideoCapture(film)
    for frame in frames:
        np.testing.assert_array_equal(frame[..., ::-1], video.read()[1])
    assert len(frames) == 7 and not video.read()[0]
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(DataError, match="cannot read a frame of .*empty.mp4: it is empty or damaged"):
        next(frames_of(str(tmp_path / "empty.mp4")))
