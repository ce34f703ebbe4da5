"""Lays what is seen over each frame of a video or a webcam."""

import itertools
import logging
import os
import time
from collections import Counter
from typing import Any, Iterable, Iterator, Optional, Tuple

import cv2
from numpy.typing import NDArray

from segrun.errors import DataError
from segrun.outputs import ALPHA, FOLDERS
from segrun.own_files import write_own
from segrun.progress import Progress
from segrun.result import Segmentation
from segrun.segmenter import Segmenter
from segrun.sound import add_sound
from segrun.stages import Stages

log = logging.getLogger(__name__)

# Container -> codec. Motion JPEG is part of OpenCV; MPEG-4 needs the FFmpeg that its wheels bring.
CODECS = {".avi": "MJPG", ".mp4": "mp4v"}
RATE = 25           # frames a second where a video does not say, or names the ticks of its clock
FASTEST = 240
LONGEST = 60.0      # seconds that a frame may last; a clock that leaps further, or goes back, is not believed


def predict_video(segmenter: Segmenter, path: str, save_dir: str, alpha: float = ALPHA, threads: int = 1) -> str:
    """Writes the overlay of a video, with its sound where FFmpeg is at hand, and returns its path: .avi for an .avi,
    else .mp4. The codecs take even sizes: of an odd one the last column or row is left out.

    The next frame is read and the last one written while the network computes; with `threads` 0 one thing is done after
    the other.

    Raises:
        DataError: the video can't be read, or the network is not for images of three channels.
        OSError: it can't be written; nothing is left of it.
    """
    check_channels(segmenter, path)
    target = video_below(save_dir, path)
    video = cv2.VideoCapture(path)
    sound = ""

    def make(temporary: str) -> None:
        nonlocal sound
        write_overlay(segmenter, video, path, temporary, alpha, min(threads, 1))
        sound = add_sound(temporary, path)
    try:
        if not video.isOpened():
            raise DataError(f"cannot read the video {path}: it is damaged, or this OpenCV has no decoder for it; "
                            "convert it, or write its frames into a folder of images")
        write_own(target, make)
    finally:
        video.release()
    log.info(f"The video with overlays is {target}, {f'with the sound ({sound})' if sound else 'without sound'}")
    return target


def predict_camera(segmenter: Segmenter, number: int, save_dir: str, alpha: float = ALPHA, max_frames: int = 0) -> str:
    """Writes the overlay of what a webcam shows, an .mp4 that plays as fast as it was, and returns its path. It ends
    with Ctrl-C, or after so many frames if they are not 0.

    Raises:
        DataError: OpenCV has no such webcam, or it gives no frame, or the network is not for images of three channels.
        OSError: the video can't be written; nothing is left of it.
    """
    check_channels(segmenter, f"webcam {number}")
    target = camera_below(save_dir, number)
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise DataError(f"OpenCV has no webcam {number} here: is one connected, and may this user read it? Another "
                            "number is another webcam; else give an image, a folder, a list or a video")
        log.info(f"Webcam {number}: {f'{max_frames} frames' if max_frames else 'Ctrl-C ends the video'}")
        write_own(target, lambda temporary: write_overlay(segmenter, camera, f"webcam {number}", temporary, alpha,
                                                          0, live=True, max_frames=max_frames))
    finally:
        camera.release()
    log.info(f"The video with overlays is {target}")
    return target


def video_below(save_dir: str, path: str) -> str:
    """Where the overlay of a video goes."""
    stem, ending = os.path.splitext(os.path.basename(path))
    return os.path.join(save_dir, FOLDERS["overlay"], stem + (ending if ending.lower() == ".avi" else ".mp4"))


def camera_below(save_dir: str, number: int) -> str:
    """Where the overlay of a webcam goes."""
    return os.path.join(save_dir, FOLDERS["overlay"], f"webcam{number}.mp4")


def check_channels(segmenter: Segmenter, path: str) -> None:
    channels = segmenter.network.channels
    if channels != 3:
        raise DataError(f"the frames of {path} have 3 channels, the network takes {channels} (in_channels): give "
                        "images")


def write_overlay(segmenter: Segmenter, video: cv2.VideoCapture, path: str, target: str, alpha: float, threads: int,
                  live: bool = False, max_frames: int = 0) -> None:
    """Predicts frame by frame into a video of a constant rate; a live one ends after `max_frames`, or with Ctrl-C.
    `threads`, 0 or 1, reads ahead, and another writes behind; of a live one there is nothing to be read ahead."""
    frames = timed_frames(video, live)
    first = next(frames, None)
    if first is None:
        raise DataError(f"cannot read a frame of {path}: it is empty or damaged")
    rate = video.get(cv2.CAP_PROP_FPS)
    rate = rate if 0 < rate <= FASTEST else RATE
    promised = max_frames if live else int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    if promised < 1 and not live:
        promised = count_frames(path)
    progress = Progress(max(promised, 1), "frames", visible=promised > 0)
    writer = open_writer(target, rate, first[1])
    tally: Counter[str] = Counter()
    picture, requests = None, segmenter.network.requests

    def see(item: Tuple[Optional[NDArray[Any]], int]) -> Tuple[Optional[Segmentation], int]:
        frame, read = item
        return None if frame is None else segmenter.segment(frame, f"a frame of {path}"), read

    def put(item: Tuple[Optional[Segmentation], int]) -> None:
        nonlocal picture
        seen, read = item
        if seen is not None:
            picture = cv2.cvtColor(seen.overlay(alpha), cv2.COLOR_RGB2BGR)
        writer.write(picture)
        tally["written"] += 1
        progress.reach(min(read, promised))
    try:
        with Stages() as stages:
            decoded = stages.ahead(lambda _: next(frames, None), itertools.count(), threads)
            rest = itertools.islice(iter(lambda: next(decoded), None), max_frames - 1 if max_frames else None)
            due = ((frame, tally["read"]) for frame in evenly(itertools.chain([first], rest), rate, tally))
            seen = stages.ahead(see, due, requests if requests > 1 and threads else 0)
            for _ in stages.ahead(put, seen, threads):
                pass
    except KeyboardInterrupt:
        if not live or not tally["written"]:
            raise
    finally:
        writer.release()
        progress.close()
    if not live and max(tally["read"], tally["written"]) < promised:
        log.warning(f"{path} should have {promised} frames, but only {tally['read']} can be read")
    # VideoWriter does not say when the disk is full.
    if count_frames(target) != tally["written"]:
        raise OSError(f"cannot write the overlay of {path}: of {tally['written']} frames {count_frames(target)} are in "
                      "the file; is there room?")
    log.info(f"{path}: {tally['read']} frames, written at {rate:g} a second{unevenness(tally)}")


def timed_frames(video: cv2.VideoCapture, live: bool) -> Iterator[Tuple[float, NDArray[Any]]]:
    """Each frame and its time in seconds, by the file's clock or, of a live one, by ours."""
    while True:
        read, frame = video.read()
        if not read:
            return
        yield time.monotonic() if live else video.get(cv2.CAP_PROP_POS_MSEC) / 1000, frame


def evenly(frames: Iterable[Tuple[float, NDArray[Any]]], rate: float,
           tally: Counter[str]) -> Iterator[Optional[NDArray[Any]]]:
    """What stands in each 1 / rate of a second: a frame, or None for the one before once more.

    Each frame comes at its time, however uneven the times are, so that the video is as long as its source and keeps
    step with the sound: the last one is repeated where the next is late, and of several in 1 / rate the first is taken.

    Args:
        frames: each with its time in seconds.
        tally: counts what is "read", "repeated" and "left out".
    """
    start, last = 0.0, None
    for moment, frame in frames:
        tally["read"] += 1
        now = tally["read"] + tally["repeated"] - tally["left out"] - 1
        if last is None or not 0 < moment - last < LONGEST:
            start = moment - now / rate
        last = moment
        due = int((moment - start) * rate + 0.5)
        if due < now:
            tally["left out"] += 1
            continue
        for _ in range(now, due):
            tally["repeated"] += 1
            yield None
        yield frame


def unevenness(tally: Counter[str]) -> str:
    """What was done where frames do not come evenly."""
    if not tally["repeated"] and not tally["left out"]:
        return ""
    return f"; they come unevenly: {tally['repeated']} times the last one is repeated and {tally['left out']} are " \
           "left out, so that each stands at its time"


def open_writer(target: str, rate: float, frame: NDArray[Any]) -> cv2.VideoWriter:
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


def first_frame(path: str) -> NDArray[Any]:
    """uint8 [H, W, 3] in BGR. DataError: there is none."""
    video = cv2.VideoCapture(path)
    try:
        read, found = video.read()
    finally:
        video.release()
    if not read:
        raise DataError(f"cannot read a frame of {path}: it is empty or damaged")
    frame: NDArray[Any] = found
    return frame


def count_frames(path: str) -> int:
    """Counts by decoding, since what a file says of itself is not always right."""
    video = cv2.VideoCapture(path)
    frames = 0
    while video.grab():
        frames += 1
    video.release()
    return frames
