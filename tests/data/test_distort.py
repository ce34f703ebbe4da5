"""RandomDistort, faster, beside PaddleSeg's."""

import colorsys
import random

import numpy as np
import pytest
from conftest import ROOT
from paddleseg.transforms import RandomDistort, functional
from PIL import Image, ImageEnhance

from paddleseg_encnet.data import distort

NOISE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
PHOTOGRAPH = np.asarray(Image.open(ROOT / "docs" / "images" / "street.jpg").convert("RGB"))[::6, ::6]


def outcome(transform, image, seed):
    random.seed(seed)
    np.random.seed(seed)
    return transform({"img": image})["img"], (random.random(), np.random.rand())


@pytest.mark.parametrize("image", [NOISE, NOISE[..., 0], PHOTOGRAPH], ids=["noise", "grey", "photograph"])
@pytest.mark.parametrize("options", [{}, dict(brightness_range=2, contrast_range=2, sharpness_prob=0.5)])
def test_same_bits_where_hues_are_not_turned(image, options):
    stock = RandomDistort(hue_prob=0, **options)
    for seed in range(40):
        expected, got = (outcome(transform, image.astype("float32"), seed)
                         for transform in (stock, distort.FasterDistort(stock)))
        assert got[0].dtype == np.float32 and got[1] == expected[1]
        np.testing.assert_array_equal(got[0], expected[0])


@pytest.mark.parametrize("strip", [1, 1000, 2 ** 18])
def test_saturation_is_pillows_however_it_is_cut(monkeypatch, strip):
    monkeypatch.setattr(distort, "STRIP", strip)
    for factor in (-0.7, 0, 0.3, 1, 1.4, 250):
        expected = np.asarray(ImageEnhance.Color(Image.fromarray(PHOTOGRAPH)).enhance(factor))
        np.testing.assert_array_equal(distort.saturation(PHOTOGRAPH, factor), expected)


@pytest.mark.parametrize("image", [NOISE, PHOTOGRAPH], ids=["noise", "photograph"])
@pytest.mark.parametrize("turn", [-18, -7.7, -0.4, 3.3, 12, 17.9, 140])
def test_turned_hues_are_as_near_to_the_truth_as_pillows(image, turn):
    """The truth: each pixel's hue turned without rounding."""
    def turned(pixel):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel / 255)
        return colorsys.hsv_to_rgb((hue + turn / 255) % 1, saturation, value)

    truth = 255 * np.apply_along_axis(turned, 2, image)
    errors = [np.abs(np.asarray(made, "float64") - truth)
              for made in (distort.hue(image, turn), functional.hue(Image.fromarray(image), turn, turn))]
    assert errors[0].mean() < 1.05 * errors[1].mean()
    # A step of 1/256 of the circle changes a channel by 6 shades where the colour is full; two are rounded.
    assert errors[0].max() < 12


def test_all_at_once_draws_the_same_numbers_and_is_near():
    stock = RandomDistort(hue_prob=1)
    for seed in range(20):
        expected, got = (outcome(transform, PHOTOGRAPH.astype("float32"), seed)
                         for transform in (stock, distort.FasterDistort(stock)))
        assert got[1] == expected[1]
        assert np.abs(got[0] - expected[0]).mean() < 1


def test_what_pillow_makes_of_other_channels_is_left_to_it():
    image = np.dstack([NOISE, NOISE[..., :1]]).astype("float32")
    stock = RandomDistort(hue_prob=0)
    expected, got = (outcome(transform, image.copy(), 1) for transform in (stock, distort.FasterDistort(stock)))
    np.testing.assert_array_equal(got[0], expected[0])
