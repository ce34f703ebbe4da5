"""Segmenter of a live network, whatever holds the image."""

import pathlib
import subprocess
import sys

import numpy as np
import paddle
import pytest
from conftest import ROOT
from near_ties import assert_same_classes, live_scores
from networks import network_of, normalized
from PIL import Image, ImageOps
from segmenters import random

import paddleseg_encnet
from paddleseg_encnet.runtime import devices
from segrun import Segmenter
from segrun.palettes import CITYSCAPES


@pytest.mark.parametrize("kind", [str, pathlib.Path, lambda path: np.array(Image.open(path)), Image.open,
                                  lambda path: pathlib.Path(path).read_bytes()],
                         ids=["text", "path", "array", "PIL image", "bytes"])
def test_whatever_holds_the_image_the_result_is_the_same(segmenter, image, kind):
    """That of tools/predict.py: test_answers.py."""
    seen, expected = segmenter(kind(str(image))), segmenter(image)
    assert len(np.unique(expected.ids)) > 3, "an image of one class shows little"
    for name in ("ids", "confidence", "presence", "image"):
        np.testing.assert_array_equal(getattr(seen, name), getattr(expected, name))
    assert seen.names == segmenter.names == list(CITYSCAPES)


def test_colors_and_names_of_the_config_and_keys_that_are_set(small_config, lively_weights, image, tmp_path):
    config = tmp_path / "config.yml"
    config.write_text(f"_base_: {small_config}\ntest_config: {{custom_color: {[1, 2, 3] * 19}}}\n")
    seen = Segmenter(config, lively_weights, device="cpu")(image)
    assert (seen.overlay(alpha=1) == [1, 2, 3]).all() and (seen.overlay(alpha=0) == seen.image).all()
    own = Segmenter(small_config, lively_weights, device="cpu", opts=["val_dataset.type=Dataset"])
    assert own.names == [str(i) for i in range(19)]


def test_a_list_gives_what_its_images_give_alone(segmenter, image, pixels):
    mirrored = pixels[:, ::-1]      # not contiguous
    both = segmenter([image, mirrored])
    assert [len(both), len(segmenter(())), len(segmenter([]))] == [2, 0, 0]
    np.testing.assert_array_equal(both[0].ids, segmenter(image).ids)
    np.testing.assert_array_equal(both[1].ids, segmenter(mirrored.copy()).ids)
    assert (both[0].ids != both[1].ids).any()


def test_what_is_given_stays_as_it_is(segmenter, pixels):
    given = pixels.copy()
    given.flags.writeable = False
    seen = segmenter(given)
    np.testing.assert_array_equal(seen.image, pixels)
    seen.image[:] = 0
    np.testing.assert_array_equal(given, pixels)


# --- files and PIL images of other kinds -----------------------------------------------------------------------------

def test_orientation_is_followed_in_a_path_and_left_in_a_pil_image(segmenter, pixels, tmp_path):
    path, exif = tmp_path / "turned.png", Image.Exif()
    exif[0x0112] = 6        # to be shown turned by a quarter to the right
    Image.fromarray(pixels).save(path, exif=exif)
    upright = np.rot90(pixels, -1)
    np.testing.assert_array_equal(segmenter(path).ids, segmenter(upright).ids)
    np.testing.assert_array_equal(segmenter(Image.open(path)).ids, segmenter(pixels).ids)
    np.testing.assert_array_equal(segmenter(ImageOps.exif_transpose(Image.open(path))).ids, segmenter(upright).ids)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_pil_images_are_taken_as_their_files_are(segmenter, pixels, tmp_path, mode):
    made = Image.fromarray(pixels).quantize(16) if mode == "P" else Image.fromarray(pixels).convert(mode)
    if mode == "RGBA":
        made.putalpha(Image.fromarray(random.integers(0, 256, pixels.shape[:2], dtype=np.uint8)))
    made.save(tmp_path / "image.png")
    np.testing.assert_array_equal(segmenter(made).image, segmenter(tmp_path / "image.png").image)


# --- presence --------------------------------------------------------------------------------------------------------

def test_presence_is_the_sigmoid_of_the_se_branch(segmenter, small_config, lively_weights, pixels):
    network = network_of(small_config)
    network.set_state_dict(paddle.load(str(lively_weights)))
    network.eval()
    with paddle.no_grad():
        context, _ = network.enc_module(network.fuse(network.backbone(paddle.to_tensor(normalized(pixels)))))
        logits = network.se_layer(context).numpy()[0].astype(np.float64)
    found = segmenter(pixels).presence
    assert found.dtype == np.float32 and found.shape == (19,)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), rtol=1e-5)     # float32
    assert found.max() - found.min() > 0.1


def test_presence_in_windows_is_the_largest_of_them(segmenter, small_config, lively_weights, pixels):
    windows = Segmenter(small_config, lively_weights, device="cpu", is_slide=True, crop_size=[64, 64], stride=[64, 64])
    halves = [segmenter(pixels[:, :64]).presence, segmenter(pixels[:, 64:]).presence]
    np.testing.assert_allclose(windows(pixels).presence, np.max(halves, axis=0), rtol=1e-5)
    assert (halves[0] != halves[1]).any()


# --- the process ----------------------------------------------------------------------------------------------------

def test_device_is_the_segmenters_own(small_config, lively_weights, image, monkeypatch):
    chosen = []
    set_device = paddle.set_device
    monkeypatch.setattr(paddle, "get_device", lambda: chosen[-1] if chosen else "somewhere:3")
    monkeypatch.setattr(paddle, "set_device", lambda name: chosen.append(name) or set_device("cpu"))
    segmenter = Segmenter(small_config, lively_weights, device="cpu")
    assert chosen == ["cpu", "somewhere:3"]
    segmenter(image)
    assert chosen == ["cpu", "somewhere:3"] * 2


def test_device_that_is_there_is_taken_without_a_word(small_config, lively_weights, image, segmenter, monkeypatch):
    lines = []
    monkeypatch.setattr(devices.logger, "warning", lines.append)
    assert_same_classes(Segmenter(small_config, lively_weights)(image).ids, segmenter(image).ids,
                        live_scores(small_config, lively_weights, image))
    if not paddle.is_compiled_with_cuda():
        assert lines == []
        Segmenter(small_config, lively_weights, device="gpu")
        assert len(lines) == 1 and "no gpu" in lines[0]


def test_importing_the_package_imports_no_more_than_before():
    code = ("import sys, paddleseg_encnet\n"
            "rooms = ('live', 'training', 'evaluation', 'explaining', 'deployment', 'weights', 'cli')\n"
            "print([name for name in sys.modules if name.split('.')[1:2] and name.split('.')[1] in rooms\n"
            "       and name.startswith('paddleseg_encnet.')])\n"
            "assert {'Segmenter', 'train', 'score'} <= set(dir(paddleseg_encnet))\n"
            "from paddleseg_encnet import Segmenter, score, train\n"
            "print(Segmenter.__name__, score.__name__, train.__name__)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    before, after = done.stdout.splitlines()[-2:]
    assert "live" not in before and "from_config" not in before and after == "Segmenter score train", before
    with pytest.raises(AttributeError, match="module 'paddleseg_encnet' has no attribute 'Segmentor'"):
        print(paddleseg_encnet.Segmentor)
