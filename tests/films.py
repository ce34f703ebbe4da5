"""Short videos, and what is in one."""

import cv2
import numpy as np


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
