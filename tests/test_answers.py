"""The tools and Segmenter answer what they answered when tests/answers/recorded was written (answers.py, which has
more of it, for one machine, without tolerances).

Another processor, or the other Paddle, adds up sums in another order. ROUNDING is what that may move a logit by. Logits
go up to 16; those of Paddle Inference and ONNX Runtime, whose sums are in as different an order as any, differ from the
live network's by 3e-5 (docs/deployment.md); with a thirtyfold of that 12 of the 82717 pixels of "whole" may have either
class. A class may differ only where the two largest logits are not further apart.
"""

import importlib.util

import answers
import numpy as np
import pytest

from paddleseg_encnet import Segmenter

ROUNDING = 1e-3
SURE = 1            # of 255, of a confidence: a probability that lies between two of its steps may go to either
# Of numbers between 0 and 1, as the presence and the shares of explain's table, and relative to the other numbers
# there: a logit that is off by ROUNDING moves a probability by a quarter of it. Means move less.
SCORE = ROUNDING
RECORDED = answers.load(answers.RECORDED)
IMAGES = sorted(path.name for path in answers.IMAGES.iterdir())


def assert_same_classes(found: np.ndarray, way: str, image: str):
    """Classes [H, W] of an image, but for those that rounding decides."""
    recorded, margin = RECORDED[ids_of(way, image)], RECORDED[f"margin {way}/{image}"]
    assert found.shape == recorded.shape and found.dtype == recorded.dtype
    wrong = (found != recorded) & (margin > ROUNDING)
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} pixels have another class, the margin of the surest of " \
                            f"them is {margin[wrong].max():.3g}"


def ids_of(way: str, image: str) -> str:
    return f"predict {way}/ids/{image.split('.')[0]}.png"


def confidence_of(way: str, image: str) -> str:
    return ids_of(way, image).replace("/ids/", "/confidence/")


def assert_same_confidence(found: np.ndarray, way: str, image: str):
    """uint8 [H, W], within SURE."""
    recorded = RECORDED[confidence_of(way, image)]
    assert found.shape == recorded.shape and found.dtype == recorded.dtype
    assert np.abs(found.astype(int) - recorded.astype(int)).max() <= SURE


def near_ties(way: str) -> int:
    """How many labelled pixels rounding decides the class of."""
    return sum(int((RECORDED[f"margin {way}/{image}"] <= ROUNDING).sum()) for image in IMAGES if image.endswith("png"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """folder(run_tool, config): an export that gives logits, made once."""
    made = {}

    def folder(run_tool, config: str):
        if config not in made:
            made[config] = tmp_path_factory.mktemp("exports") / config
            answers.export(run_tool, made[config], config, "none", ["--onnx"] if has_onnx() else [])
        return made[config]
    return folder


def has_onnx() -> bool:
    return all(importlib.util.find_spec(name) for name in ("paddle2onnx", "onnxruntime"))


def test_the_recorded_images_leave_little_to_rounding():
    for way in answers.WAYS:
        for image in IMAGES:
            assert (RECORDED[f"margin {way}/{image}"] <= ROUNDING).mean() < 0.001, (way, image)


@pytest.mark.parametrize("way", answers.WAYS)
def test_predict(way, run_tool, tmp_path):
    found = answers.predict(run_tool, tmp_path, way, answers.IMAGES, ("ids", "confidence"))
    for image in IMAGES:
        assert_same_classes(found[ids_of(way, image)], way, image)
        if way in answers.JUDGED:
            assert_same_confidence(found[confidence_of(way, image)], way, image)


@pytest.mark.parametrize("way", answers.SCORED)
def test_val(way, run_tool, tmp_path):
    """Counts differ by as many pixels as rounding decides, and a score by no more than these are of the class."""
    name = f"val {way}"
    found, recorded = answers.val(run_tool, tmp_path, way)[name], RECORDED[name]
    moved = np.abs(np.array(found.pop("confusion")) - np.array(recorded["confusion"])).sum()
    assert moved <= 2 * near_ties(way)
    fewest = min(filter(None, (sum(row) for row in recorded["confusion"])))
    allowed = max(SCORE, 2 * near_ties(way) / fewest) if moved else SCORE
    assert_close(found, {key: value for key, value in recorded.items() if key != "confusion"}, allowed)


def assert_close(found, recorded, allowed: float):
    """What JSON knows: numbers within `allowed`, of 1 and of themselves, all else equal."""
    found, recorded = dict(answers.leaves(found)), dict(answers.leaves(recorded))
    assert found.keys() == recorded.keys()
    for key, value in recorded.items():
        close = pytest.approx(value, rel=allowed, abs=allowed) if isinstance(value, float) else value
        assert found[key] == close, key


@pytest.mark.parametrize("config, way", [("shipped", "whole"), ("resized", "resized")])
@pytest.mark.parametrize("backend", ["paddle", "onnx"])
def test_infer(backend, config, way, exported, run_tool, tmp_path):
    """The exported network has the live one's classes. What comes to it in a batch, or resized, too."""
    if backend == "onnx" and not has_onnx():
        pytest.skip("paddle2onnx or onnxruntime is not installed")
    found = answers.infer(run_tool, tmp_path, exported(run_tool, config), answers.IMAGES, "it",
                          ["--backend", backend, "--batch_size", 3])
    for image in IMAGES:
        assert_same_classes(found[f"infer it/{image.split('.')[0]}.png"], way, image)


def test_segmenter():
    segmenter = Segmenter(answers.CONFIGS["shipped"], answers.WEIGHTS, device="cpu")
    found = answers.segment(segmenter, {image: answers.IMAGES / image for image in IMAGES}, "live")
    for image in IMAGES:
        name = f"segmenter live/{image}"
        assert_same_classes(found[f"{name}/ids"], "whole", image)
        assert_same_confidence(found[f"{name}/confidence"], "whole", image)
        assert found[f"{name}/presence"] == pytest.approx(RECORDED[f"{name}/presence"], rel=0, abs=SCORE)
        assert found[f"{name}/repr"] == RECORDED[f"{name}/repr"]        # its shares are whole per cents


def test_segmenter_of_an_export(exported, run_tool):
    segmenter = Segmenter(exported(run_tool, "shipped"), device="cpu")
    found = answers.segment(segmenter, {image: answers.IMAGES / image for image in IMAGES}, "export")
    for image in IMAGES:
        assert_same_classes(found[f"segmenter export/{image}/ids"], "whole", image)
        assert_same_confidence(found[f"segmenter export/{image}/confidence"], "whole", image)


def test_explain(run_tool, tmp_path):
    found = answers.explain_folder(run_tool, tmp_path, answers.IMAGES)["explain codewords.csv"]
    assert_close(found, RECORDED["explain codewords.csv"], SCORE)


def test_compare_finds_each_kind_of_difference(capsys):
    first = {"ids": np.zeros([2, 3], np.uint8), "overlay": np.zeros([2, 3, 3], np.uint8),
             "scores": {"iou": [0.5, None]}, "text": "a\nb", "gone": "a"}
    second = {"ids": np.eye(2, 3, dtype=np.uint8), "overlay": np.full([2, 3, 3], 7, np.uint8),
              "scores": {"iou": [0.75, None]}, "text": "a\nc"}
    assert answers.compare(first, second) == 5
    assert capsys.readouterr().out.splitlines() == [
        "gone: only in the first", "ids: 2 of 6 pixels differ, the largest difference is 1",
        "overlay: 6 of 6 pixels differ, the largest difference is 7",
        "scores: 1 of 2 entries differ, the largest difference is 0.25; the first is /iou/0: 0.5, 0.75",
        "text: text, 1 of 2 lines differ", "5 of 5 answers differ"]
    assert answers.compare(first, first) == 0
