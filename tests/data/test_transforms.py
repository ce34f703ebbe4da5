"""Cropping first gives what PaddleSeg's transforms give, for the same random numbers."""

import random

import cv2
import numpy as np
import pytest
from paddleseg.transforms import (
    Compose,
    Normalize,
    RandomDistort,
    RandomHorizontalFlip,
    RandomPaddingCrop,
    ResizeStepScaling,
)

from paddleseg_encnet.data import transforms as transforms_module
from paddleseg_encnet.data.datasets import CamVid
from paddleseg_encnet.data.pascal import PascalContext59
from paddleseg_encnet.data.transforms import (
    CropFirst,
    Float32Normalize,
    NormalizeOfBytes,
    around,
    nearest_window,
    resized_window,
)

# Of 255. With IPP the last digit of float32 differs at some sizes. OpenCV's own weights lose digits far from the
# corner, as it computes them from float32 positions.
IPP = cv2.ipp.useIPP()
TOLERANCE = 2e-5 if IPP else 0.02


def transforms(crop, distort=False, **scaling):
    """As in the Cityscapes config, with and without the transform that rounds; hues are test_distort.py's."""
    colour = [RandomDistort(brightness_range=0.4, contrast_range=0.4, saturation_range=0.4, hue_prob=0)]
    return [ResizeStepScaling(**scaling), RandomPaddingCrop(crop), RandomHorizontalFlip(), *colour[:distort],
            Normalize()]


def outcome(compose, image, label, seed, fields=("label",)):
    random.seed(seed)
    np.random.seed(seed)
    sample = compose({"img": image, "label": label, "gt_fields": list(fields), "trans_info": []})
    return sample["img"], sample["label"], (random.random(), np.random.rand())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """files(width, height) -> paths of an image and a label of that size."""
    folder = tmp_path_factory.mktemp("images")

    def write(width, height):
        generator = np.random.default_rng(0)
        image, label = str(folder / f"{width}x{height}.png"), str(folder / f"{width}x{height}_label.png")
        cv2.imwrite(image, generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        cv2.imwrite(label, generator.integers(0, 256, (height, width), dtype=np.uint8))
        return image, label
    return write


STEPS = dict(min_scale_factor=0.5, max_scale_factor=2.0, scale_step_size=0.25)
CASES = [
    ("as Cityscapes", (256, 128), (128, 64), STEPS, {}),
    ("padded", (100, 60), (128, 100), STEPS, {}),
    ("padded on one side", (60, 200), (96, 64), STEPS, {}),
    ("sides without a common divisor", (211, 97), (64, 64), STEPS, {}),
    ("any scale", (160, 120), (96, 64), dict(STEPS, scale_step_size=0), {}),
    ("one scale, exactly the crop", (64, 48), (96, 72), dict(STEPS, min_scale_factor=1.5, max_scale_factor=1.5), {}),
    ("grey", (96, 64), (48, 48), STEPS, dict(img_channels=1)),
    ("BGR", (96, 64), (48, 48), STEPS, dict(to_rgb=False)),
]


@pytest.mark.parametrize("name, size, crop, scaling, options", CASES, ids=[case[0] for case in CASES])
def test_same_pixels_labels_and_random_numbers(files, name, size, crop, scaling, options):
    image, label = files(*size)
    stock = Compose(transforms(crop, **scaling), **options)
    ours = CropFirst(stock)
    assert ours.crop is not None
    for seed in range(20):
        expected, got = (outcome(compose, image, label, seed) for compose in (stock, ours))
        assert got[0].dtype == expected[0].dtype == np.float32 and got[0].shape == expected[0].shape
        assert np.abs(got[0] - expected[0]).max() <= TOLERANCE / 127.5
        assert np.array_equal(got[1], expected[1]) and got[1].dtype == expected[1].dtype
        assert got[2] == expected[2]


def test_same_bits_at_the_size_of_cityscapes(files):
    """Without IPP, RandomDistort, which cuts to whole numbers, leaves a few pixels one level or two apart."""
    image, label = files(2048, 1024)
    stock = Compose(transforms((1024, 512), distort=True, **STEPS))
    for seed in range(4):
        expected, got = (outcome(compose, image, label, seed) for compose in (stock, CropFirst(stock)))
        assert got[2] == expected[2] and np.array_equal(got[1], expected[1])
        assert np.array_equal(got[0], expected[0]) if IPP else (got[0] != expected[0]).mean() < 0.1


@pytest.mark.parametrize("change", [CamVid.__new__(CamVid).void_to_ignored,
                                    PascalContext59.__new__(PascalContext59).background_to_ignored])
def test_a_data_set_that_changes_ids_first_is_cropped_first_too(files, change):
    image, label = files(100, 60)
    stock = Compose([change, *transforms((128, 100), **STEPS)])
    ours = CropFirst(stock)
    assert ours.crop is not None
    for seed in range(20):
        expected, got = (outcome(compose, image, label, seed) for compose in (stock, ours))
        assert np.abs(got[0] - expected[0]).max() <= TOLERANCE / 127.5
        assert np.array_equal(got[1], expected[1]) and got[1].dtype == expected[1].dtype and got[2] == expected[2]


@pytest.mark.parametrize("head", [
    [], [RandomPaddingCrop((64, 48))], [RandomHorizontalFlip(), ResizeStepScaling(), RandomPaddingCrop((64, 48))],
    [lambda data: data, ResizeStepScaling(), RandomPaddingCrop((64, 48))],
    [ResizeStepScaling(), RandomPaddingCrop((64, 48), category_max_ratio=0.5)]], ids=range(5))
def test_other_lists_of_transforms_are_left_to_paddleseg(files, head):
    image, label = files(96, 64)
    stock = Compose([*head, Normalize()])
    assert CropFirst(stock).crop is None
    for seed in range(3):
        expected, got = (outcome(compose, image, label, seed) for compose in (stock, CropFirst(stock)))
        assert np.array_equal(got[0], expected[0]) and np.array_equal(got[1], expected[1]) and got[2] == expected[2]


def test_the_dataset_keeps_its_transforms(files):
    stock = Compose(transforms((64, 48), **STEPS))
    before = list(stock.transforms)
    CropFirst(stock)
    assert stock.transforms == before


def test_windows_of_resized_pictures():
    generator = np.random.default_rng(0)
    for _ in range(300):
        height, width = (int(side) for side in generator.integers(2, 90, 2))
        size = tuple(int(round(side * generator.choice([0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, generator.uniform(0.5, 2)])))
                     for side in (height, width))
        rows, columns = (tuple(sorted(int(cut) for cut in generator.choice(side + 1, 2, replace=False)))
                         for side in size)
        image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        label = generator.integers(0, 256, (height, width), dtype=np.uint8)
        window = (slice(*rows), slice(*columns))
        whole = cv2.resize(image.astype("float32"), size[::-1])
        assert np.abs(resized_window(image, size, rows, columns) - whole[window]).max() <= TOLERANCE
        assert np.array_equal(nearest_window(label, size, rows, columns),
                              cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)[window])


def test_around_by_hand():
    """8 pixels made 12: every 2 source pixels are 3 target pixels. Target 4 and 5 lie in the second such piece; one
    piece on each side is added."""
    assert around(8, 12, 4, 6) == ((0, 6), (0, 9))
    assert around(8, 12, 9, 12) == ((4, 8), (6, 12))
    assert around(7, 9, 4, 5) == ((0, 7), (0, 9))       # no common divisor: all of it


def test_normalize_is_exact():
    image = np.arange(256, dtype="float32").reshape(16, 16, 1).repeat(3, -1)
    image = np.concatenate([image, np.random.default_rng(0).uniform(0, 255, (500, 16, 3)).astype("float32")])
    for stock in (Normalize(), Normalize([0.5, 0.25, 0.125], [0.75, 3, 0.5])):
        ours = Float32Normalize(stock)
        assert np.array_equal(ours({"img": image.copy()})["img"], stock({"img": image.copy()})["img"])
    # float32 does not hold these, and would round otherwise.
    ours = CropFirst(Compose([Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])).whole
    assert type(ours.transforms[0]) is Normalize


def test_flipped_arrays_are_in_order_and_as_paddlesegs():
    generator = np.random.default_rng(0)
    stock = RandomHorizontalFlip(prob=0.7)
    ours = CropFirst(Compose([stock])).whole.transforms[0]
    for dtype, channels in ((np.uint8, (3,)), (np.float32, (3,)), (np.float32, ()), (np.uint16, (6,))):
        for label in (np.uint8, np.int64):
            image = generator.integers(0, 256, (5, 7, *channels)).astype(dtype)
            mask = generator.integers(0, 9, (5, 7)).astype(label)
            for seed in range(8):
                expected, got = (outcome(transform, image, mask, seed) for transform in (stock, ours))
                assert all(np.array_equal(expected[i], got[i]) and expected[i].dtype == got[i].dtype for i in (0, 1))
                assert got[2] == expected[2]
    ours.probability = 1
    mirrored = ours({"img": np.zeros((4, 4, 3), np.uint8), "label": np.zeros((4, 4), np.uint8), "gt_fields": ["label"]})
    assert mirrored["img"].flags.c_contiguous and mirrored["label"].flags.c_contiguous


@pytest.mark.parametrize("size, crop", [((256, 128), (128, 64)), ((100, 60), (128, 100))])
def test_bytes_before_distort_are_those_of_floats(files, size, crop):
    """Also padded ones, where 127.5 is cut to 127."""
    image, label = files(*size)
    stock = Compose(transforms(crop, distort=True, **STEPS))
    ours = CropFirst(stock)
    assert ours.to_bytes
    for seed in range(12):
        expected, got = (outcome(compose, image, label, seed) for compose in (stock, ours))
        assert got[2] == expected[2] and np.array_equal(got[1], expected[1])
        assert np.abs(got[0] - expected[0]).max() <= 4 / 127.5
        assert (got[0] != expected[0]).mean() < (1e-3 if IPP else 0.1)


def test_strips_are_the_whole(monkeypatch):
    """Windows that are higher than a strip, from sizes with and without a common divisor."""
    monkeypatch.setattr(transforms_module, "STRIP", 64 * 50 * 3)
    generator = np.random.default_rng(0)
    for height, factor in ((400, 0.5), (400, 1.25), (401, 0.75), (360, 1.75), (397, 1.1)):
        image = generator.integers(0, 256, (height, 50, 3), dtype=np.uint8)
        size = (int(round(height * factor)), int(round(50 * factor)))
        whole = cv2.resize(image.astype("float32"), size[::-1])
        rows = (3, size[0] - 2)
        window = resized_window(image, size, rows, (1, size[1]))
        assert np.abs(window - whole[slice(*rows), 1:]).max() <= TOLERANCE
        cut = resized_window(image, size, rows, (1, size[1]), "uint8")
        assert np.array_equal(cut, window.astype("uint8"))


@pytest.mark.parametrize("mean, std", [([0.5], [0.5]), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
                                       ([0.5, 0.25, 0.125], [0.75, 3, 0.5])])
@pytest.mark.parametrize("channels", [1, 3])
def test_normalize_of_bytes_is_exact(mean, std, channels):
    """After a RandomDistort, whatever comes before it; grey has a mean of one number."""
    if channels == 1 and len(mean) > 1:
        mean, std = mean[:1], std[:1]
    stock = Compose([RandomDistort(hue_prob=0), Normalize(mean, std)], img_channels=channels)
    ours = CropFirst(stock).whole
    assert type(ours.transforms[1]) is NormalizeOfBytes
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3)[:2 + (channels == 3)]).astype("float32")
    for seed in range(6):
        expected, got = (outcome(compose, image.copy(), np.zeros((40, 50)), seed) for compose in (stock, ours))
        assert got[0].dtype == expected[0].dtype == np.float32
        np.testing.assert_array_equal(got[0], expected[0])
