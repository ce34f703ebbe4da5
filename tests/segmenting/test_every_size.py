"""Images that follow one another in all sizes from 1 x 1, through a network that takes 32 x 32 at least.

In each form of an export each is answered as by one that has seen no other, and as live.
"""

import numpy as np
import paddle
import pytest
from exports import HERE, exported, written
from near_ties import assert_same_classes
from networks import randomised
from paddleseg.transforms import Compose, Normalize

from paddleseg_encnet.config import building
from paddleseg_encnet.live import LiveNetwork
from segrun.classes import Classes
from segrun.segmenter import Segmenter
from segrun.tiling import run_padded, tiling_of

# Height, width: a large one before small ones, whose buffers a runtime may keep; both sides below 32, one, none.
SIZES = [(64, 96), (33, 17), (1, 1), (70, 45), (1, 50), (32, 32), (31, 31), (64, 96)]
CLASSES = Classes([f"class {i}" for i in range(11)])


@pytest.fixture(scope="module")
def network():
    paddle.seed(5)
    return randomised(building.read_config("encnet_lite0_camvid_480x360", pretrained=False).model)


@pytest.fixture(scope="module")
def folder(network, image, tmp_path_factory):
    return written(network, tmp_path_factory.mktemp("export"), "none", image)


@pytest.fixture(scope="module")
def live(network):
    return LiveNetwork(network, Compose([Normalize()]), CLASSES)


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(6)
    return [random.integers(0, 256, [*size, 3], np.uint8) for size in SIZES]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend, precision", HERE, ids=["-".join(form) for form in HERE])
def test_no_image_is_answered_with_another_ones(backend, precision, threads, folder, live, images):
    used = exported(folder, backend, precision, threads=threads)
    for image in images:
        batch = live.prepare(image, "an image").image[np.newaxis]
        found = run_padded(used, batch).values
        assert found.shape == (1, 11, *image.shape[:2])
        if threads == 1 and min(image.shape[:2]) < 32:
            fresh = run_padded(exported(folder, backend, precision), batch).values
            np.testing.assert_allclose(found, fresh, rtol=0, atol=1e-5 * np.abs(fresh).max())      # one runtime's sums
        if precision == "fp32":
            scores = run_padded(live, batch).values.numpy()[0]
            assert_same_classes(found[0].argmax(axis=0), scores.argmax(axis=0), scores)


def test_live_takes_every_size_whole_in_windows_and_at_small_scales(live, images):
    windows, scales = dict(is_slide=True, crop_size=(20, 20), stride=(10, 10)), dict(augments=True, scales=[0.25, 1.0])
    for options in ({}, windows, scales):
        segmenter = Segmenter.of(live, tiling_of(**options))
        assert [segmenter(image).ids.shape for image in images] == SIZES


def test_what_the_network_can_take_stands_in_the_export(folder, live):
    assert live.least_side == exported(folder).least_side == 32
