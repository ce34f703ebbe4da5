"""Windows, scales and flips: PaddleSeg's own inference to the last bit, in the memory of one row of windows."""

import numpy as np
import paddle
import pytest
from paddleseg.core import infer
from paddleseg.transforms import Compose, Normalize, Padding, Resize
from segmenters import Edges, picture, small

from segrun import tiling
from segrun.network import Output
from segrun.tiling import Tiling, asked_for


class NHWC(paddle.nn.Layer):
    """A network for images [B, H, W, C], as PaddleSeg has them with --data_format NHWC."""
    data_format = "NHWC"

    def __init__(self):
        super().__init__()
        self.inner = Edges()

    def forward(self, images):
        return [self.inner(images.transpose([0, 3, 1, 2]))[0].transpose([0, 2, 3, 1])]


# --- equal to PaddleSeg's ---------------------------------------------------------------------------------------------

WINDOWS = {"whole": {}, "windows": dict(is_slide=True, crop_size=(24, 16), stride=(11, 7)),
           "windows side by side": dict(is_slide=True, crop_size=(32, 16), stride=(32, 16)),
           "one window": dict(is_slide=True, crop_size=(99, 99), stride=(1, 1))}
AVERAGED = {"once": {}, "scales": dict(aug_pred=True, scales=[0.5, 1.0, 1.25]),
            "one scale": dict(aug_pred=True, scales=0.75),
            "flipped": dict(aug_pred=True, flip_horizontal=True),
            "upside down": dict(aug_pred=True, flip_vertical=True),
            "all of them": dict(aug_pred=True, scales=[1.0, 0.75, 1.5], flip_horizontal=True, flip_vertical=True)}
CHANGED = {"own size": [Normalize()], "resized": [Resize(target_size=(48, 32)), Normalize()],
           "resized and padded": [Resize(target_size=(50, 30)), Padding(target_size=(64, 48)), Normalize()]}


def paddlesegs(model, data: dict, options: dict):
    """Class ids [H, W] and logits [1, C, H, W]."""
    options = dict(options)
    with paddle.no_grad():
        run = infer.aug_inference if options.pop("aug_pred", False) else infer.inference
        ids, logits = run(model, paddle.to_tensor(data["img"][np.newaxis]), trans_info=data["trans_info"], **options)
    return ids.numpy()[0, 0], logits.numpy()


@pytest.mark.parametrize("changed", CHANGED)
@pytest.mark.parametrize("averaged", AVERAGED)
@pytest.mark.parametrize("windows", WINDOWS)
def test_every_way_is_paddlesegs_to_the_last_bit(windows, averaged, changed):
    options, transforms = {**WINDOWS[windows], **AVERAGED[averaged]}, Compose(CHANGED[changed])
    own, image = small(transforms=transforms, **options), picture(41, 67)
    data = transforms({"img": image.astype("float32")})
    ids, logits = paddlesegs(own.network.model, data, options)
    found = own.infer(data["img"][np.newaxis], own.network.prepare(image, "x").undo)
    np.testing.assert_array_equal(np.asarray(found.values), logits)
    assert np.asarray(found.values).dtype == logits.dtype      # float64 of windows, as PaddleSeg adds them
    np.testing.assert_array_equal(own.segment(image).ids, ids)
    assert len(np.unique(ids)) == 5, "an image of one class shows little"


@pytest.mark.parametrize("averaged", AVERAGED)
def test_networks_with_the_channels_last(averaged):
    """In windows PaddleSeg takes their width for a height: there the same network with the channels first tells."""
    last, first, image = NHWC(), Edges(), picture(32, 48)
    data = Compose([Normalize()])({"img": image.astype("float32")})
    ids, logits = paddlesegs(last, data, AVERAGED[averaged])
    found = small(last, **AVERAGED[averaged]).infer(data["img"][np.newaxis], [])
    np.testing.assert_array_equal(np.asarray(found.values), logits)
    options = {**WINDOWS["windows"], **AVERAGED[averaged]}
    ids, logits = paddlesegs(first, data, options)
    np.testing.assert_array_equal(np.asarray(small(last, **options).infer(data["img"][np.newaxis], []).values), logits)
    np.testing.assert_array_equal(small(last, **options).segment(image).ids, ids)


@pytest.mark.parametrize("size, crop, stride", [
    ((41, 67), (16, 16), (11, 7)), ((41, 67), (32, 16), (32, 16)), ((20, 90), (32, 32), (8, 8)),
    ((30, 30), (64, 64), (64, 64)), ((64, 32), (32, 10), (16, 3))])
def test_strips_are_paddlesegs_sliding_window_to_the_last_bit(size, crop, stride):
    image = picture(*size)
    own = small(is_slide=True, crop_size=crop, stride=stride, confidence=True)
    assert own.in_strips
    model, tensor = own.network.model, paddle.to_tensor(own.network.prepare(image, "x").image[None])
    with paddle.no_grad():
        stock = infer.slide_inference(model, tensor, crop, stride).numpy()[0]
        logits = np.concatenate([strip.copy() for _, strip in tiling.strips(
            lambda top, bottom, left, right: model(tensor[:, :, top:bottom, left:right])[0][0].numpy(),
            size, crop, stride)], axis=1)
    np.testing.assert_array_equal(logits, stock)
    seen = own.segment(image)
    np.testing.assert_array_equal(seen.ids, stock.argmax(0))
    sure = np.exp(stock).max(0) / np.exp(stock).sum(0)
    np.testing.assert_allclose(seen.confidence, sure * 255, atol=0.5 + 1e-3)     # rounded; logits up to 20


# --- memory ----------------------------------------------------------------------------------------------------------

def test_strips_hold_one_row_of_windows():
    """Of 64 windows one above the other, with overlap."""
    strips = tiling.strips(lambda top, bottom, left, right: np.zeros([3, bottom - top, right - left]),
                           (8 * 63 + 16, 20), (20, 16), (20, 8))
    rows = [(first, strip.shape[1], strip.base.shape[1]) for first, strip in strips]
    assert [first for first, _, _ in rows] == list(range(0, 8 * 64, 8)) and rows[-1][1] == 16
    assert max(held for _, _, held in rows) == 16


@pytest.mark.parametrize("options, transforms", [
    ({}, [Resize(target_size=(32, 32)), Normalize()]), (dict(aug_pred=True, flip_horizontal=True), [Normalize()])])
def test_what_changes_sizes_or_is_averaged_keeps_the_scores_of_the_whole_image(options, transforms):
    own = small(transforms=Compose(transforms), is_slide=True, crop_size=(16, 16), stride=(8, 8), **options)
    assert not own.in_strips and own.segment(picture()).ids.shape == (40, 60)


def test_an_image_smaller_than_the_network_takes_is_padded_with_its_edge():
    class Least(Edges):
        """Refuses what is smaller than 24."""
        backbone = type("Backbone", (), {"least_side": 24})

        def forward(self, images):
            assert min(images.shape[-2:]) >= 24
            return super().forward(images)
    image = picture(10, 30)
    padded = np.pad(image, [(0, 14), (0, 0), (0, 0)], mode="edge")
    np.testing.assert_array_equal(small(Least()).segment(image).ids, small().segment(padded).ids[:10])
    windows = small(Least(), is_slide=True, crop_size=(16, 16), stride=(16, 16)).segment(image)
    assert windows.ids.shape == (10, 30)


# --- what is asked for -----------------------------------------------------------------------------------------------

def test_windows_that_leave_pixels_out():
    with pytest.raises(ValueError, match="stride 16 20 of sliding windows must be at least 1, and at most their"):
        small(is_slide=True, crop_size=(16, 16), stride=(16, 20))
    with pytest.raises(ValueError, match="--stride 20 is larger than --crop_size 16"):
        list(tiling.strips(lambda *place: np.zeros([1, 16, 16]), (40, 60), (16, 16), (16, 20)))


@pytest.mark.parametrize("scales", [0, [1.0, 0.0], -1.0, [], float("nan"), float("inf"), ["1"], True])
def test_scales_that_are_none(scales):
    with pytest.raises(ValueError, match=r"scales \(--scales, or scales in test_config\) must be numbers above 0, got"):
        small(aug_pred=True, scales=scales)


def test_flags_come_before_the_configs_test_config():
    config = {"is_slide": True, "crop_size": [8, 8], "stride": [4, 4], "custom_color": [1, 2, 3]}
    assert asked_for({}, config) == Tiling((8, 8), (4, 4))
    assert asked_for({"is_slide": True, "crop_size": [6, 6], "stride": [5, 5]}, config) == Tiling((6, 6), (5, 5))
    assert asked_for({"aug_pred": True, "scales": 0.5}) == asked_for({"aug_eval": True, "scales": [0.5]})
    assert asked_for({"scales": [0.5], "flip_vertical": True}) == Tiling()       # without aug_pred
    both = asked_for({"aug_eval": True, "scales": [0.5, 1.0], "flip_horizontal": True}, config)
    assert asked_for(both.options()) == both and Tiling().options() == {}
    with pytest.raises(TypeError, match="there is no argument slide; of inference there are is_slide"):
        asked_for({"slide": True})
    with pytest.raises(ValueError, match="sliding windows .* need crop_size and stride, both W H"):
        asked_for({}, {"is_slide": True})
    with pytest.raises(ValueError, match="test_config has the key slide; there are aug_eval, is_slide"):
        asked_for({}, {"slide": True})


def test_an_export_of_classes_cannot_be_averaged():
    class Ids:
        meaning, least_side = "ids", 1

        def run(self, batch):
            return Output(batch[:, 0].astype(np.int32))

        def resize(self, values, size):
            return values
    batch = np.zeros([1, 3, 8, 8], np.float32)
    assert tiling.infer(Ids(), batch).values.shape == (1, 8, 8)
    for asked in (Tiling((4, 4), (4, 4)), Tiling(scales=(0.5,)), Tiling(flip_vertical=True)):
        with pytest.raises(ValueError, match="this export gives classes alone: export it with --output_op softmax"):
            tiling.infer(Ids(), batch, asked)
