"""Lays what is seen over each frame of a video."""

import os

import cv2
import numpy as np
from paddleseg.utils import logger

from paddleseg_encnet.data.reading import DataError
from paddleseg_encnet.pictures import drawing
from paddleseg_encnet.prediction.outputs import FOLDERS, Style, save_file
from paddleseg_encnet.prediction.predictor import Predictor
from paddleseg_encnet.runtime.progress import Progress

# Container -> codec. Motion JPEG is part of OpenCV; MPEG-4 needs the FFmpeg that its wheels bring.
CODECS = {".avi": "MJPG", ".mp4": "mp4v"}
RATE = 25       # frames a second where a video does not say


def predict_video(predictor: Predictor, path: str, save_dir: str, style: Style) -> str:
    """Writes the overlay of a video, without its sound, and returns its path: .avi for an .avi, else .mp4. The codecs
    take even sizes: of an odd one the last column or row is left out.

    Raises:
        DataError: the video can't be read, or the network is not for images of three channels.
        OSError: it can't be written; nothing is left of it.
    """
    if predictor.transforms.img_channels != 3:
        raise DataError(f"the frames of {path} have 3 channels, the network takes {predictor.transforms.img_channels} "
                        "(in_channels): give images")
    stem, ending = os.path.splitext(os.path.basename(path))
    target = os.path.join(save_dir, FOLDERS["overlay"], stem + (ending if ending.lower() == ".avi" else ".mp4"))
    video = cv2.VideoCapture(path)
    try:
        if not video.isOpened():
            raise DataError(f"cannot read the video {path}: it is damaged, or this OpenCV has no decoder for it; "
                            "convert it, or write its frames into a folder of images")
        save_file(target, lambda temporary: write_overlay(predictor, video, path, temporary, style))
    finally:
        video.release()
    logger.info(f"The video with overlays is {target}")
    return target


def write_overlay(predictor: Predictor, video: cv2.VideoCapture, path: str, target: str, style: Style):
    read, frame = video.read()
    if not read:
        raise DataError(f"cannot read a frame of the video {path}: it is empty or damaged")
    promised = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    if promised < 1:
        promised = count_frames(path)
    progress = Progress(promised, "frames")
    writer = open_writer(target, video.get(cv2.CAP_PROP_FPS), frame)
    written = 0
    try:
        while read:
            seen = predictor.predict(frame)
            picture = drawing.overlay(seen.image, seen.ids, style.colors, style.alpha)
            writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            written += 1
            if written <= promised:
                progress.advance()
            read, frame = video.read()
    finally:
        writer.release()
        progress.close()
    if written < promised:
        logger.warning(f"{path} should have {promised} frames, but only {written} can be read")
    # VideoWriter does not say when the disk is full.
    if count_frames(target) != written:
        raise OSError(f"cannot write the overlay of {path}: of {written} frames {count_frames(target)} are in the "
                      "file; is there room?")


def open_writer(target: str, rate: float, frame: np.ndarray) -> cv2.VideoWriter:
    """A writer for frames like this one."""
    ending = os.path.splitext(target)[1].lower()
    size = frame.shape[1::-1]
    writer = cv2.VideoWriter(target, cv2.VideoWriter_fourcc(*CODECS[ending]), rate if rate > 0 else RATE, size)
    if not writer.isOpened():
        advice = "is there room, and the right to write?" if ending == ".avi" else \
            "convert the video to .avi, which needs no codec beyond OpenCV's own, or pip install opencv-python"
        raise OSError(f"this OpenCV cannot write a video of codec {CODECS[ending]} to {os.path.dirname(target)}: "
                      f"{advice}")
    return writer


def count_frames(path: str) -> int:
    """Counts by decoding, since what a file says of itself is not always right."""
    video = cv2.VideoCapture(path)
    frames = 0
    while video.grab():
        frames += 1
    video.release()
    return frames
