"""Stages that work at the same time: order, bound, errors in their place, nothing after the end."""

import contextlib
import re
import sys
import threading
import time
import weakref

import cv2
import numpy as np
import pytest
from test_predictions import STYLE, small

from paddleseg_encnet.prediction import pipeline, predictor, video
from paddleseg_encnet.prediction.pipeline import Stages, ahead

random = np.random.default_rng(0)


def ahead_threads() -> list:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_results_come_in_order(threads):
    """Though later ones are done sooner."""
    def slow(i):
        time.sleep(0.01 * (i % 3 == 0))
        return i * i
    assert list(ahead(slow, range(20), threads)) == [i * i for i in range(20)]
    assert list(ahead(slow, [], threads)) == [] and not ahead_threads()


@pytest.mark.parametrize("threads, in_flight", [(1, None), (1, 3), (3, None), (2, 5)])
def test_few_are_begun_beyond_the_one_that_the_caller_has(threads, in_flight):
    begun = []
    with contextlib.closing(ahead(begun.append, range(50), threads, in_flight)) as results:
        for done, _ in enumerate(results, 1):
            time.sleep(0.002)
            assert len(begun) <= done + (in_flight or threads)
    assert begun == list(range(50)) if threads == 1 else sorted(begun) == list(range(50))


def test_what_the_caller_is_done_with_is_let_go():
    class Large:
        pass
    alive = weakref.WeakSet()

    def read(_):
        made = Large()
        alive.add(made)
        return made
    most = 0
    for image in ahead(read, range(100), 1, 2):
        most = max(most, len(alive))
    assert most <= 5        # the last, this one, two ahead, and one that is just being handed over


def test_work_goes_on_while_the_caller_works():
    started = threading.Semaphore(0)

    def read(i):
        started.release()
        return i
    with contextlib.closing(ahead(read, range(9))) as results:
        next(results)
        assert all(started.acquire(timeout=10) for _ in range(2))       # the first, and the one ahead of the caller


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_comes_in_its_place(threads, error):
    begun, seen = [], []

    def work(i):
        begun.append(i)
        if i == 4:
            raise error("4")
        time.sleep(0.005)
        return i
    with pytest.raises(error, match="^4$"), contextlib.closing(ahead(work, range(50), threads)) as results:
        seen.extend(results)
    assert seen == [0, 1, 2, 3] and not ahead_threads()
    assert max(begun) <= (4 if threads < 2 else 4 + threads)


def test_nothing_behind_an_error_is_begun_by_one_thread():
    """Though it waits in the queue."""
    begun, filled = [], threading.Event()

    def items():
        yield from range(4)
        filled.set()
        yield from range(4, 9)

    def write(i):
        filled.wait(10)
        begun.append(i)
        if i == 1:
            raise OSError("full")
    with pytest.raises(OSError, match="full"), contextlib.closing(ahead(write, items(), 1, 5)) as results:
        list(results)
    assert begun == [0, 1]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_what_stands_before_an_error_of_the_items_is_finished(threads):
    """An image that can't be read does not lose the pictures of those before it."""
    done = []

    def items():
        yield from range(5)
        raise ValueError("no image")

    def write(i):
        time.sleep(0.01)
        done.append(i)
        return i
    seen = []
    with pytest.raises(ValueError, match="no image"):
        for result in ahead(write, items(), threads, 10):
            seen.append(result)
    assert seen == [0, 1, 2, 3, 4] == sorted(done) and not ahead_threads()


def test_ctrl_c_while_the_items_are_made_waits_for_what_is_at_work_and_begins_no_more(monkeypatch):
    begun, finished, ending = [], [], threading.Event()

    class Pool(pipeline.ThreadPoolExecutor):
        def shutdown(self, *arguments, **options):
            ending.set()
            super().shutdown(*arguments, **options)
    monkeypatch.setattr(pipeline, "ThreadPoolExecutor", Pool)

    def items():
        yield from range(3)
        while not begun:
            time.sleep(0.001)
        raise KeyboardInterrupt

    def write(i):
        begun.append(i)
        assert ending.wait(60)
        time.sleep(0.05)        # the first is at work, and the end waits for it
        finished.append(i)
    with pytest.raises(KeyboardInterrupt):
        list(ahead(write, items(), 1, 10))
    assert begun == finished == [0] and not ahead_threads()


def test_closing_ends_all_of_a_chain():
    begun = []

    def read(i):
        begun.append(i)
        return i
    with pytest.raises(KeyboardInterrupt), Stages() as stages:
        results = range(1000)
        for _ in range(3):
            results = stages.ahead(read, results)
        for i in results:
            if i == 5:
                raise KeyboardInterrupt
    assert not ahead_threads() and max(begun) < 20


# --- what predict.py makes of it -------------------------------------------------------------------------------------

@pytest.fixture
def one_after_another(monkeypatch):
    """one_after_another(): from now on nothing is done ahead."""
    return lambda: monkeypatch.setattr(pipeline.Stages, "ahead", lambda self, function, items, *_: map(function, items))


@pytest.fixture
def folder(tmp_path):
    """Nine images; of the fifth nothing can be read."""
    (tmp_path / "in").mkdir()
    for i in range(9):
        cv2.imwrite(str(tmp_path / "in" / f"{i}.png"), random.integers(0, 256, (40 + i, 60, 3), dtype=np.uint8))
    (tmp_path / "in" / "4.png").write_bytes(b"no picture")
    return tmp_path / "in"


def written(folder) -> dict:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_predictions_are_those_of_one_after_another(folder, tmp_path, monkeypatch, capfd, one_after_another):
    own, made, said, threads = small(confidence=True), [], [], set()
    seen = own.predict

    def predict(*args, **options):
        threads.add(threading.current_thread())
        return seen(*args, **options)
    monkeypatch.setattr(own, "predict", predict)
    monkeypatch.setattr(predictor.logger, "warning", lambda line: print(line, file=sys.stderr, flush=True))
    for out in ("at once", "in turn"):
        with pytest.raises(ValueError, match="1 of 9 images left out"):
            predictor.predict(own, sorted(map(str, folder.iterdir())), str(folder), str(tmp_path / out), STYLE,
                              ["overlay", "ids", "confidence", "legend"])
        made.append(written(tmp_path / out))
        said.append([re.sub(", .* left$", "", line) for line in capfd.readouterr().err.splitlines()])
        one_after_another()
    assert made[0] == made[1] and len(made[0]) == 4 * 8
    assert said[0] == said[1] and said[0][4].startswith("left out: cannot read the image")
    assert said[0][3:6:2] == ["4/9 images", "5/9 images"]
    assert threads == {threading.main_thread()}        # as Paddle has settings of its own for each thread


def test_a_picture_that_cannot_be_written_ends_a_prediction(folder, tmp_path):
    (tmp_path / "out" / "ids" / "2.png").mkdir(parents=True)
    with pytest.raises(OSError, match="cannot write .*ids/2.png"):
        predictor.predict(small(), sorted(map(str, folder.iterdir())), str(folder), str(tmp_path / "out"), STYLE,
                          ["ids"])
    assert sorted(written(tmp_path / "out")) == ["ids/0.png", "ids/1.png"]


@pytest.mark.parametrize("times", [range(20), [0, 1, 2, 5, 5.1, 5.2, 6, 9, *range(10, 22)]])
def test_a_video_is_that_of_one_after_another(times, tmp_path, monkeypatch, one_after_another):
    """Frame by frame, also where frames come unevenly."""
    writer = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for _ in times:
        writer.write(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    decode = video.timed_frames
    monkeypatch.setattr(video, "timed_frames", lambda *args: (
        (time / 10, frame) for time, (_, frame) in zip(times, decode(*args))))
    files = []
    for out in ("at once", "in turn"):
        files.append(video.predict_video(small(), str(tmp_path / "film.avi"), str(tmp_path / out), STYLE))
        one_after_another()
    with open(files[0], "rb") as first, open(files[1], "rb") as second:
        assert first.read() == second.read()
    assert video.count_frames(files[0]) == times[-1] + 1
