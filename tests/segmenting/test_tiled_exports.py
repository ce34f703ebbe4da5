"""Windows, scales and flips over an export: what the live network gives, up to rounding; classes alone are refused."""

import numpy as np
import pytest
from exports import HERE, NORMALIZE, exported, live_logits, written
from near_ties import assert_same_classes
from paddleseg.cvlibs import manager
from paddleseg.transforms import Compose
from segmenters import scores_of

from paddleseg_encnet.live import LiveNetwork
from segrun.classes import Classes
from segrun.exports import Export, write_deploy
from segrun.segmenter import Segmenter

WINDOWS = dict(is_slide=True, crop_size=[50, 40], stride=[30, 20])
TURNS = dict(aug_pred=True, scales=[0.5, 1.0, 1.5], flip_horizontal=True, flip_vertical=True)
FP32 = [backend for backend, precision in HERE if precision == "fp32"]
RESIZE = [{"type": "Resize", "target_size": [96, 80]}, *NORMALIZE]


@pytest.fixture(scope="module")
def folder(lively_network, tmp_path_factory):
    """folder(output_op, transforms) of an export, which is written once."""
    made = {}

    def of(output_op: str, transforms=NORMALIZE) -> str:
        key = output_op, str(transforms)
        if key not in made:
            made[key] = written(lively_network, tmp_path_factory.mktemp("export"), output_op, transforms=transforms)
        return made[key]
    return of


def live(network, transforms, tiling) -> Segmenter:
    steps = [manager.TRANSFORMS[each["type"]](**{k: v for k, v in each.items() if k != "type"}) for each in transforms]
    return Segmenter.of(LiveNetwork(network, Compose(steps), Classes(["x"] * 19)), tiling)


@pytest.mark.parametrize("inference", [WINDOWS, TURNS, {**WINDOWS, **TURNS}], ids=["windows", "turns", "both"])
@pytest.mark.parametrize("transforms", [NORMALIZE, RESIZE], ids=["strips", "resized"])
@pytest.mark.parametrize("backend", FP32)
def test_as_the_live_network(backend, transforms, inference, lively_network, folder, image):
    segmenter = Segmenter(folder("none", transforms), backend=backend, device="cpu", **inference)
    stock = live(lively_network, transforms, segmenter.tiling)
    seen, expected = segmenter(image), stock(image)
    scores, logits = (scores_of(each, image) for each in (segmenter, stock))
    assert scores.shape == logits.shape == (1, 19, 64, 128) and logits.std(axis=(2, 3)).max() > 1e-3
    assert np.abs(scores - logits).max() < 1e-4 * np.abs(logits).max()
    assert_same_classes(seen.ids, expected.ids, logits[0])
    assert np.abs(seen.confidence.astype(int) - expected.confidence).max() <= 1
    # The mean is of logits, and an export's probabilities know none beyond 16.6, where float32 has 1.
    assert np.abs(seen.presence - expected.presence).max() < (1e-3 if inference == TURNS else 1e-5)


def test_it_makes_a_difference(folder, image):
    whole = Segmenter(folder("none"), device="cpu")(image)
    for inference in (WINDOWS, TURNS):
        assert (Segmenter(folder("none"), device="cpu", **inference)(image).ids != whole.ids).any()


def test_probabilities_are_averaged_where_they_come_out(lively_network, folder, image):
    """An export with softmax has no logits; by hand for an image and its mirror."""
    segmenter = Segmenter(folder("softmax"), device="cpu", aug_pred=True, flip_horizontal=True)
    batch = Export(folder("softmax")).batch_of(str(image))
    logits = [live_logits(lively_network, batch)[0], live_logits(lively_network, batch[..., ::-1].copy())[0][..., ::-1]]
    exponents = [np.exp(each - each.max(axis=0)) for each in logits]
    mean = sum(each / each.sum(axis=0) for each in exponents) / 2
    seen = segmenter(image)
    assert_same_classes(seen.ids, mean.argmax(axis=0), mean)
    assert np.abs(seen.confidence - 255 * mean.max(axis=0)).max() < 1
    np.testing.assert_allclose(segmenter.infer(batch, []).values[0], mean, atol=1e-5)


@pytest.mark.parametrize("inference", [WINDOWS, TURNS, {**WINDOWS, **TURNS}], ids=["windows", "turns", "both"])
@pytest.mark.parametrize("transforms", [NORMALIZE, RESIZE], ids=["strips", "resized"])
@pytest.mark.parametrize("says_so", [True, False])
def test_classes_alone_are_refused(says_so, transforms, inference, folder, image, tmp_path):
    """Also where deploy.yaml, of PaddleSeg's own tool, does not say what comes out."""
    network = exported(folder("argmax", transforms))
    if not says_so:
        write_deploy(str(tmp_path / "deploy.yaml"), {**network.export.content, "output_op": ""})
        network = type(network).of(Export(str(tmp_path)), network.runtime)
    tiling = Segmenter(folder("none", transforms), device="cpu", **inference).tiling
    for _ in range(2):
        with pytest.raises(ValueError, match="^windows, scales and flips need scores to average, and this export gives "
                                             "classes alone: export it with --output_op softmax or none$"):
            Segmenter.of(network, tiling)(image)
    assert Segmenter.of(network)(image).ids.shape == (64, 128)


def test_windows_of_the_one_size_that_an_export_takes(lively_network, image, tmp_path):
    from paddleseg_encnet.deployment import exporting
    exporting.export_network(lively_network, str(tmp_path), {"transforms": NORMALIZE}, "none", [2, 3, 40, 48])
    inference = dict(is_slide=True, crop_size=[48, 40], stride=[40, 24])
    segmenter = Segmenter(tmp_path, device="cpu", **inference)
    stock = live(lively_network, NORMALIZE, segmenter.tiling)
    assert_same_classes(segmenter(image).ids, stock(image).ids, scores_of(stock, image)[0])
    with pytest.raises(ValueError, match="comes to the network as 50 x 40, but that was exported for 48 x 40"):
        Segmenter(tmp_path, device="cpu", **WINDOWS)(image)
