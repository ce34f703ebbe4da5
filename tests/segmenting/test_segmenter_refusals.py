"""What a Segmenter refuses, each in one line that says what to do."""

import pathlib

import numpy as np
import paddle
import pytest
from conftest import ROOT
from PIL import Image

from segrun import Segmenter
from segrun.errors import DataError


def ones(*shape, dtype=np.uint8):
    return np.ones(shape, dtype)


@pytest.mark.parametrize("given, error, words", [
    (ones(8, 9, 3, dtype=np.float32), TypeError, "image is an array of float32: it must be uint8, RGB from 0 to 255"),
    (ones(8, 9, 3, dtype=np.int64), TypeError, "an array of int64: it must be uint8"),
    (ones(8, 9), ValueError, r"of shape \[8, 9\]: it must be \[H, W, 3\], RGB; np.stack"),
    (ones(8, 9, 1), ValueError, r"of shape \[8, 9, 1\]: .*image.repeat"),
    (ones(8, 9, 4), ValueError, r"of shape \[8, 9, 4\]: .*of RGBA take image\[..., :3\]"),
    (ones(2, 8, 9, 3), ValueError, r"of shape \[2, 8, 9, 3\]: .*list\(images\)"),
    (ones(3, 8, 9), ValueError, r"of shape \[3, 8, 9\]: .*transpose\(1, 2, 0\)"),
    (ones(8, 9, 5), ValueError, r"of shape \[8, 9, 5\]: it must be \[H, W, 3\], RGB$"),
    (ones(0, 9, 3), ValueError, r"of shape \[0, 9, 3\]: .*at least one pixel"),
    (None, TypeError, "the image is a NoneType; give a path, the bytes of a file, an array"),
    (paddle.ones([8, 9, 3]), TypeError, "the image is a Tensor; give a path"),
    ([ones(8, 9, 3), ones(8, 9)], ValueError, r"image 1 of the list is an array of shape \[8, 9\]"),
    ([ones(8, 9, 3), 7], TypeError, "image 1 of the list is a int; give a path"),
    ([[ones(8, 9, 3)]], TypeError, "image 0 of the list is a list; give a path"),
    (Image.new("F", (9, 8)), ValueError, "the image is a PIL image of mode F, whose values go beyond 255"),
    (Image.new("I;16", (9, 8)), ValueError, "the image is a PIL image of mode I;16"),
    ("nowhere.png", FileNotFoundError, "there is no image nowhere.png$"),
    (str(ROOT), FileNotFoundError, "there is no image .*, it is a folder"),
    (b"no image", DataError, "cannot read the image the image: it is damaged, cut short or no image"),
    (pathlib.Path(__file__), DataError, "cannot read the image .*test_segmenter_refusals.py: it is damaged"),
])
def test_what_is_no_image_is_refused_in_one_line(segmenter, given, error, words):
    with pytest.raises(error, match=words) as raised:
        segmenter(given)
    assert "\n" not in str(raised.value)


def test_advice_for_arrays_is_good_advice(segmenter, pixels):
    """Each expression of the messages, applied, gives an image that is taken."""
    np.testing.assert_array_equal(segmenter((255 * (pixels / 255)).round().astype('uint8')).ids, segmenter(pixels).ids)
    grey = pixels[..., 0]
    for image in (np.stack([grey] * 3, axis=2), grey[..., None].repeat(3, axis=2)):
        np.testing.assert_array_equal(segmenter(image).image, np.dstack([grey] * 3))
    np.testing.assert_array_equal(segmenter(pixels.transpose(2, 0, 1).transpose(1, 2, 0)).image, pixels)
    assert len(segmenter(list(np.stack([pixels] * 2)))) == 2


@pytest.mark.parametrize("arguments, options, error, words", [
    (["nowhere.yml", "weights"], {}, FileNotFoundError, "there is no config nowhere.yml"),
    (["CONFIG"], {}, ValueError, "a config needs weights"),
    (["CONFIG", "/nowhere.pdparams"], {}, ValueError, "/nowhere.pdparams: does not exist"),
    (["CONFIG", "WEIGHTS"], {"slide": True}, TypeError, "there is no argument slide; of inference there are is_slide"),
    (["CONFIG", "WEIGHTS"], {"is_slide": True}, ValueError, "need crop_size and stride"),
    (["FOLDER"], {}, FileNotFoundError, "there is no .*deploy.yaml; give the deploy.yaml of an export"),
    (["FOLDER", "WEIGHTS"], {}, ValueError, "is taken for an export, which has weights of its own.*leave weights out"),
    (["CONFIG", "WEIGHTS"], {"backend": "onnx"}, ValueError, "backend and precision are for exports, .* is not one"),
    (["FOLDER"], {"opts": ["iters=2"]}, ValueError, "leave opts out"),
])
def test_mistakes_in_the_making(small_config, lively_weights, tmp_path, arguments, options, error, words):
    there = {"CONFIG": small_config, "WEIGHTS": lively_weights, "FOLDER": tmp_path}
    with pytest.raises(error, match=words) as raised:
        Segmenter(*(there.get(argument, argument) for argument in arguments), **options)
    assert "\n" not in str(raised.value)
