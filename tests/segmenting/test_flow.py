"""Many images through one Segmenter: their order, few in memory, errors at their turn, several threads."""

import re
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import paddle
import pytest
from near_ties import assert_same_classes
from paddleseg.cvlibs import Config, SegBuilder
from paddleseg.transforms import Compose, Normalize, Resize
from segmenters import CLASSES, Edges, picture, scores_of, small

from paddleseg_encnet.live import LiveNetwork
from segrun import Segmenter, stages
from segrun.errors import DataError
from segrun.image import frames_of

SIZES = [(20, 30), (20, 30), (20, 30), (24, 30), (20, 30), (20, 30), (8, 8), (20, 30)]


def assert_same(found, expected, own: Segmenter = None):
    """To the last pixel; where they come from batches of other sizes, of the segmenter `own`, but for ties."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(one.image, other.image)
        if own:
            assert_same_classes(one.ids, other.ids, scores_of(own, other.image)[0])
            assert np.abs(one.confidence.astype(int) - other.confidence).max() <= 1
        else:
            np.testing.assert_array_equal(one.ids, other.ids)
            np.testing.assert_array_equal(one.confidence, other.confidence)


# --- stream ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("transforms", [[Normalize()], [Resize(target_size=(32, 16)), Normalize()]],
                         ids=["own size", "resized"])
@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_images_of_mixed_sizes_come_in_their_order_and_are_those_of_single_calls(batch_size, threads, transforms):
    own = small(transforms=Compose(transforms), confidence=True)
    images = [picture(*size) for size in SIZES]
    expected = [own(image) for image in images]
    found = list(own.stream(images, batch_size, threads))
    assert_same(found, expected, own)
    assert all(seen.source is image for seen, image in zip(found, images))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_images_of_one_size_share_a_batch(batch_size, monkeypatch):
    own, shapes = small(), []
    run = own.network.run
    monkeypatch.setattr(own.network, "run", lambda batch: shapes.append(batch.shape) or run(batch))
    list(own.stream([picture(*size) for size in SIZES], batch_size))
    assert all(len(shape) == 4 and shape[1] == 3 for shape in shapes)
    assert [shape[0] for shape in shapes] == {1: [1] * 8, 2: [2, 1, 1, 2, 1, 1], 3: [3, 1, 2, 1, 1]}[batch_size]


def test_windows_have_no_batch_and_are_the_same(monkeypatch):
    own = small(is_slide=True, crop_size=(16, 16), stride=(8, 8), confidence=True)
    images = [picture(*size) for size in SIZES]
    assert own.in_strips
    assert_same(list(own.stream(images, 3)), [own(image) for image in images])


@pytest.mark.parametrize("threads, batch_size, most", [(0, 1, 0), (1, 1, 2), (3, 1, 4), (1, 3, 6)])
def test_few_images_are_taken_ahead_and_held(threads, batch_size, most):
    """However many there are, beyond the caller's one: the next one of which `then` is done, and `threads` that are
    read; with batches the rest of this one, and as many as the next one has."""
    class Image(np.ndarray):
        pass
    taken = []

    def images():
        for _ in range(60):
            image = picture(12, 12).view(Image)
            taken.append(weakref.ref(image))
            yield image
    held = 0
    own = small()
    for done, _ in enumerate(own.stream(images(), batch_size, threads), 1):
        time.sleep(0.001)
        held = max(held, sum(image() is not None for image in taken))
        assert len(taken) <= done + most, (len(taken), done)
    assert done == 60 and held <= most + 1


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_broken_image_raises_at_its_turn(threads, batch_size, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    images = [picture(20, 30) for _ in range(9)]
    images[4] = str(tmp_path / "broken.png")
    seen = []
    with pytest.raises(DataError, match="cannot read the image .*broken.png"):
        for segmentation in small().stream(images, batch_size, threads):
            seen.append(segmentation.source)
    assert len(seen) == 4 and all(source is image for source, image in zip(seen, images))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_a_path_is_an_image_or_a_video(film, tmp_path):
    own = small(confidence=True)
    found = list(own.stream(film, batch_size=2))
    assert_same(found, [own(frame) for frame in frames_of(film)], own)
    assert len(found) == 7
    cv2.imwrite(str(tmp_path / "x.png"), picture())
    assert_same(list(own.stream(tmp_path / "x.png")), [own(tmp_path / "x.png")])


# --- flow ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_failed_images_are_told_in_their_order_and_the_others_follow(threads, batch_size, tmp_path, monkeypatch):
    """One that can't be read, one that the network can't take, one of which `then` makes nothing."""
    (tmp_path / "broken.png").write_bytes(b"no image")
    own, images = small(), [np.full((8, 8, 3), i, np.uint8) for i in range(9)]
    images[2], told = str(tmp_path / "broken.png"), []
    run = own.network.run

    def refuse(batch):
        if (np.abs(batch - (4 / 255 - 0.5) / 0.5).max(axis=(1, 2, 3)) < 1e-6).any():
            raise ValueError("four is too much")
        return run(batch)

    def then(seen):
        if seen.image[0, 0, 0] == 6:
            raise ValueError("nothing comes of six")
        told.append(int(seen.image[0, 0, 0]))
        return int(seen.image[0, 0, 0])
    monkeypatch.setattr(own.network, "run", refuse)
    found = list(own.flow(images, then, batch_size, threads, failed=lambda image, error: told.append((image, error))))
    assert found == [0, 1, 3, 5, 7, 8]
    assert [each if isinstance(each, int) else "failed" for each in told] == [
        0, 1, "failed", 3, "failed", 5, "failed", 7, 8]
    (first, unread), (second, refused), (third, unmade) = (each for each in told if isinstance(each, tuple))
    assert first == images[2] and second is images[4] and third is images[6]
    assert "broken.png" in str(unread) and str(refused) == "the image: four is too much"
    assert str(unmade) == "the image: nothing comes of six"


@pytest.mark.parametrize("threads", [0, 1])
def test_what_then_cannot_write_ends_it(threads):
    def then(seen):
        raise OSError("full")
    with pytest.raises(OSError, match="full"):
        list(small().flow([picture(), picture()], then, threads=threads, failed=lambda image, error: None))


@pytest.mark.parametrize("error", [TypeError("returns Tensor"), OSError("(External) the driver"),
                                   RuntimeError("no memory")])
def test_an_error_that_is_no_images_ends_it(error, monkeypatch):
    """What a network of another kind returns, or a driver that fails, would fail for each image."""
    own, told = small(), []
    monkeypatch.setattr(own.network, "run", lambda batch: (_ for _ in ()).throw(error))
    with pytest.raises(type(error), match=re.escape(str(error))):
        list(own.flow([picture(), picture()], lambda seen: None, failed=lambda *what: told.append(what)))
    assert not told


def test_the_network_computes_in_the_callers_thread(monkeypatch):
    """Paddle has settings of its own for each thread."""
    own, threads = small(transforms=Compose([Resize(target_size=(32, 16)), Normalize()])), set()
    run = own.network.run
    monkeypatch.setattr(own.network, "run", lambda batch: threads.add(threading.current_thread()) or run(batch))
    list(own.stream([picture() for _ in range(4)]))
    assert threads == {threading.main_thread()}


def test_times_are_told_of_each_image():
    times = stages.Times()
    list(small().flow([picture() for _ in range(5)], lambda seen: None, batch_size=2, times=times))
    assert [len(values) for values in times.seconds.values()] == [5, 5, 5]


# --- several threads -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{}, dict(is_slide=True, crop_size=(64, 64), stride=(32, 32)),
                                     dict(aug_pred=True, scales=[0.5, 1.0], flip_horizontal=True)])
def test_threads_that_share_one_have_what_one_after_the_other_has(small_config, options, monkeypatch):
    """With an SE branch, which is seen through a hook: that of another thread's image would be seen as well."""
    model = SegBuilder(Config(str(small_config))).model
    own = small(model, transforms=Compose([Resize(target_size=(96, 64)), Normalize()]) if not options else None,
                confidence=True, **options)
    hooks = [len(layer._forward_post_hooks) for layer in model.sublayers(include_self=True)]
    images = [picture(64, 96 + 8 * i) for i in range(3)]
    expected = [own(image) for image in images]
    assert all(seen.presence is not None for seen in expected)
    assert len({seen.presence.tobytes() for seen in expected}) == 3
    before, begun = paddle.get_device(), threading.Barrier(3)

    def see(image):
        begun.wait()
        return [own(image) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for seen, alone in zip(pool.map(see, images), expected):
            assert_same(seen, [alone] * 3)
            assert all(np.array_equal(each.presence, alone.presence) for each in seen)
    assert paddle.get_device() == before
    assert [len(layer._forward_post_hooks) for layer in model.sublayers(include_self=True)] == hooks


def test_the_device_is_as_it_was_and_no_hook_is_left_after_an_error_either(small_config, monkeypatch):
    """Of two that share a process each runs on its own device."""
    chosen, set_device = ["a:0"], paddle.set_device
    monkeypatch.setattr(paddle, "get_device", lambda: chosen[-1])
    monkeypatch.setattr(paddle, "set_device", lambda name: chosen.append(name) or set_device("cpu"))
    model = SegBuilder(Config(str(small_config))).model
    own = Segmenter.of(LiveNetwork(model, Compose([Normalize()]), CLASSES, device="b:1"))
    other = Segmenter.of(LiveNetwork(Edges(), Compose([Normalize()]), CLASSES, device="a:0"))
    own(picture(64, 64)), other(picture(64, 64))
    assert chosen == ["a:0", "b:1", "a:0"]
    monkeypatch.setattr(model.head, "forward", lambda *inputs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        own(picture(64, 64))
    assert chosen == ["a:0", "b:1", "a:0", "b:1", "a:0"]
    assert not model.enc_module._forward_post_hooks
