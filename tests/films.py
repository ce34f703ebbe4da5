"""Short videos, what is in one, a network for them, and a webcam that shows one."""

import subprocess

import cv2
import numpy as np
import paddle
from segmenters import small

from segrun import Segmenter, sound, video

FFMPEG = sound.find_ffmpeg()


def ffmpeg(*arguments) -> str:
    done = subprocess.run([FFMPEG, "-v", "error", "-y", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Darkness(paddle.nn.Layer):
    def forward(self, images):
        return [paddle.concat([-images[:, :1], images[:, :1]], axis=1)]


def darkness() -> Segmenter:
    """One that tells dark from light."""
    return small(Darkness())


def write_film(path, frames, rate: int = 10) -> str:
    """Motion JPEG of frames [H, W, 3] in BGR, or of greys, 64 x 48."""
    frames = [np.full((48, 64, 3), frame, np.uint8) if np.ndim(frame) == 0 else frame for frame in frames]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(frame)
    writer.release()
    return str(path)


def dark_to_light(path) -> str:
    """Seven frames, ten a second."""
    return write_film(path, range(0, 210, 30))


def greys_of(path) -> list:
    """The mean grey of each frame, and its time in milliseconds."""
    film, frames = cv2.VideoCapture(str(path)), []
    while True:
        read, frame = film.read()
        if not read:
            return frames
        frames.append((round(float(frame.mean())), round(film.get(cv2.CAP_PROP_POS_MSEC))))


CAPTURE = cv2.VideoCapture


class Webcam:
    """Shows a film, and is read at a clock of its own: a frame each quarter of a second."""

    film, now = "", 0.0

    def __new__(cls, what):
        if isinstance(what, str):
            return CAPTURE(what)
        camera = super().__new__(cls)
        camera.source, camera.taken = CAPTURE(cls.film), 0
        return camera

    @classmethod
    def show(cls, film, monkeypatch) -> None:
        """From now on webcam 0 shows it."""
        monkeypatch.setattr(cls, "film", str(film))
        monkeypatch.setattr(cls, "now", 0.0)
        monkeypatch.setattr(cv2, "VideoCapture", cls)
        monkeypatch.setattr(video.time, "monotonic", lambda: cls.now)

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
