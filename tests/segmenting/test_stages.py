"""Stages that work at the same time: order, bound, errors in their place, nothing after the end."""

import contextlib
import threading
import time
import weakref

import pytest

from segrun import stages
from segrun.stages import Stages, Times, ahead, batches


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
    for _ in ahead(read, range(100), 1, 2):
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

    class Pool(stages.ThreadPoolExecutor):
        def shutdown(self, *arguments, **options):
            ending.set()
            super().shutdown(*arguments, **options)
    monkeypatch.setattr(stages, "ThreadPoolExecutor", Pool)

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


@pytest.mark.parametrize("size, expected", [
    (1, [["a1"], ["a2"], ["b1"], ["a3"], ["a4"], ["a5"]]), (2, [["a1", "a2"], ["b1"], ["a3", "a4"], ["a5"]]),
    (9, [["a1", "a2"], ["b1"], ["a3", "a4", "a5"]])])
def test_batches_are_of_one_kind_and_in_order(size, expected):
    taken = []
    items = (taken.append(item) or item for item in ["a1", "a2", "b1", "a3", "a4", "a5"])
    for batch, wanted in zip(batches(items, size, lambda item: item[0]), expected):
        assert batch == wanted
        assert len(taken) <= 1 + sum(map(len, expected[:expected.index(wanted) + 1]))       # one beyond, at most
    assert len(taken) == 6


def test_what_is_unlike_all_else_is_alone():
    assert list(batches("abc", 9, lambda item: object())) == [["a"], ["b"], ["c"]]


def test_times_of_a_batch_are_shared_by_its_images():
    times = Times()
    for step in times.seconds:
        with times.measure(step, 4):
            time.sleep(0.02)
        with times.measure(step):
            pass
    for values in times.seconds.values():
        assert len(values) == 5 and len(set(values[:4])) == 1 and sum(values) >= 0.02 > 0.01 > values[4]
    assert len(times.summary(1.0, detailed=True).splitlines()) == 4
    assert times.summary(1.0, detailed=False).endswith("with reading and writing 5.00 images/s")
    times.requests = 3
    assert ", 3 at a time; " in times.summary(1.0, detailed=False)
