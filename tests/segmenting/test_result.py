"""A Segmentation: classes, confidence, shares, outlines, pictures of it; what a Segmenter decides by."""

import json

import cv2
import numpy as np
import paddle
import pytest
from full_disk import full_disk
from hypothesis import strategies as st
from PIL import Image
from rules import rule, seeds, sides
from segmenters import CLASSES, Edges, picture, small

from segrun import Segmentation, outputs
from segrun.classes import Classes
from segrun.result import confidence_of, mask_of, sigmoid

# --- what is decided -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"aug_pred": True, "scales": [0.5, 1.0], "flip_horizontal": True}])
def test_confidence_is_the_softmax_of_what_decides(options):
    image = picture()
    own = small(confidence=True, **options)
    logits = own.infer(own.network.prepare(image, "x").image[np.newaxis], []).values
    expected = paddle.nn.functional.softmax(logits, axis=1).max(axis=1)[0].numpy()
    seen = own.segment(image)
    np.testing.assert_array_equal(seen.ids, logits.numpy()[0].argmax(axis=0))
    np.testing.assert_allclose(seen.confidence, expected * 255, atol=0.5 + 1e-3)
    unsure = small(min_conf=0.7, **options).segment(image).ids
    np.testing.assert_array_equal(unsure, np.where(expected < 0.7, 255, seen.ids))
    assert 0 < (unsure == 255).mean() < 1
    plain = small(**options).segment(image)
    assert plain.confidence is None and plain.presence is None      # nobody asked for it; there is no SE branch


def test_probabilities_are_their_own_confidence():
    scores = np.array([[[0.1, 0.7]], [[0.9, 0.3]]], np.float32)
    np.testing.assert_array_equal(confidence_of(scores, "probabilities"), np.float32([[0.9, 0.7]]))
    np.testing.assert_allclose(confidence_of(np.log(scores), "logits"), [[0.9, 0.7]], rtol=1e-6)
    ids, sure = mask_of(np.array([[1, 0]], np.uint8), np.array([[0.9, 0.7]]), 0.8)
    assert ids.tolist() == [[1, 255]] and sure.tolist() == [[230, 178]]       # 229.5 and 178.5, to the even one


def test_presence_of_logits_however_large():
    np.testing.assert_array_equal(sigmoid(np.float32([0, 1e4, -1e2])), np.float32([0.5, 1, np.exp(-100.0)]))
    assert sigmoid(None) is None


def test_more_than_255_classes_have_16_bits(tmp_path):
    many = Classes([str(i) for i in range(300)])
    seen = small(Edges(300), classes=many, min_conf=0.5).segment(picture())
    assert seen.ids.dtype == np.uint16 and 65535 in seen.ids and 256 <= seen.ids[seen.ids < 65535].max() < 300
    for kind in ("ids", "palette", "legend", "comparison"):
        outputs.save_below(kind, seen, str(tmp_path), "x.png")
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "ids" / "x.png"), cv2.IMREAD_UNCHANGED), seen.ids)
    colors = cv2.imread(str(tmp_path / "pseudo_color_prediction" / "x.png"))[..., ::-1]
    np.testing.assert_array_equal(colors, many.colors[seen.ids])


# --- what it says of itself ------------------------------------------------------------------------------------------

@pytest.fixture
def seen() -> Segmentation:
    """5 x 4 pixels: 10 of class 2, 9 of class 0, 1 unknown; presence of five classes."""
    ids = np.array([[2, 2, 2, 2, 2], [2, 2, 2, 2, 2], [0, 0, 0, 0, 0], [0, 0, 0, 0, 255]], np.uint8)
    return Segmentation(picture(4, 5), ids, CLASSES, confidence=np.full((4, 5), 200, np.uint8),
                        presence=np.float32([0.9, 0.01, 1, 0, 1 / 3]), source="x.png")


def test_to_dict_is_plain_enough_for_json(seen):
    said = seen.to_dict()
    assert json.loads(json.dumps(said)) == said == {
        "width": 5, "height": 4,
        "classes": [
            {"id": 2, "name": "class 2", "share": 0.5, "color": CLASSES.colors[2].tolist()},
            {"id": 0, "name": "class 0", "share": 0.45, "color": CLASSES.colors[0].tolist()},
            {"id": 255, "name": "unknown", "share": 0.05, "color": [0, 0, 0]}],
        "presence": [{"id": i, "name": f"class {i}", "probability": value}
                     for i, value in enumerate([0.9, 0.01, 1.0, 0.0, 0.333333])]}
    assert repr(seen) == "<Segmentation of 5 x 4 pixels: class 2 50%, class 0 45%, unknown 5%>"
    seen.presence = None
    assert seen.to_dict()["presence"] is None


def filled(polygons, size) -> dict:
    """Masks by class: outlines filled, holes taken out. A hole's corners are pixels of the area around it."""
    masks = {}
    for polygon in polygons:
        mask = np.zeros(size, np.uint8)
        cv2.fillPoly(mask, [polygon.outline], 1)
        for hole in polygon.holes:
            inside = np.zeros(size, np.uint8)
            cv2.fillPoly(inside, [hole], 1)
            cv2.polylines(inside, [hole], True, 0)
            mask[inside > 0] = 0
        assert not (masks.setdefault(polygon.id, np.zeros(size, np.uint8)) & mask).any(), "two areas overlap"
        masks[polygon.id] |= mask
    return masks


@rule(size=st.tuples(sides(30), sides(30)), classes=st.integers(1, 4), grain=st.integers(1, 6), seed=seeds())
def test_rule_outlines_without_their_holes_are_the_mask(size, classes, grain, seed):
    """Also areas in holes of areas, lines of one pixel, and areas that touch at a corner."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, classes, [side // grain + 1 for side in size])
    ids = blocks.repeat(grain, axis=0).repeat(grain, axis=1)[:size[0], :size[1]].astype(np.uint8)
    polygons = Segmentation(np.zeros([*size, 3], np.uint8), ids, CLASSES).polygons()
    masks = filled(polygons, size)
    assert sorted(masks) == np.unique(ids).tolist() and all(polygon.name == f"class {polygon.id}"
                                                            for polygon in polygons)
    for number, mask in masks.items():
        np.testing.assert_array_equal(mask, ids == number)


def test_rings_in_rings_have_each_its_hole():
    ids = np.zeros([21, 21], np.uint8)
    for ring in range(0, 10, 2):
        ids[ring:21 - ring, ring:21 - ring] = 1
        ids[ring + 1:20 - ring, ring + 1:20 - ring] = 0
    polygons = Segmentation(np.zeros([21, 21, 3], np.uint8), ids, CLASSES).polygons()
    rings = [polygon for polygon in polygons if polygon.id == 1]
    assert [len(polygon.holes) for polygon in rings] == [1] * 5
    assert sorted(polygon.outline.min() for polygon in rings) == [0, 2, 4, 6, 8]
    assert all(polygon.outline.dtype == np.int32 and polygon.outline.shape[1] == 2 for polygon in polygons)


# --- its pictures ----------------------------------------------------------------------------------------------------

def test_each_kind_of_picture_is_saved_under_the_name_that_is_given(seen, tmp_path):
    seen.label = np.zeros((4, 5), np.uint8)
    for kind in outputs.FOLDERS:
        path = tmp_path / "new" / f"{kind}.png"
        seen.save(str(path), kind)
        pixels = np.array(Image.open(path))
        if kind in ("ids", "palette", "confidence"):
            np.testing.assert_array_equal(pixels, seen.confidence if kind == "confidence" else seen.ids)
        elif kind == "overlay":
            np.testing.assert_array_equal(pixels, seen.overlay())
        elif kind == "legend":
            np.testing.assert_array_equal(pixels[:4, :5], seen.overlay())
        else:
            np.testing.assert_array_equal(pixels[26:30, :5], seen.image)       # below its title
    seen.save(str(tmp_path / "alone.jpg"), "overlay", alpha=1)
    assert Image.open(tmp_path / "alone.jpg").format == "JPEG"
    seen.save(str(tmp_path / "default.png"))
    assert (tmp_path / "default.png").read_bytes() == (tmp_path / "new" / "legend.png").read_bytes()
    assert seen._repr_png_() == (tmp_path / "default.png").read_bytes()


def test_pictures_that_there_are_not(seen, tmp_path):
    with pytest.raises(ValueError, match="there is no picture mask; there are overlay, palette, ids, confidence"):
        seen.save(str(tmp_path / "x.png"), "mask")
    seen.confidence = None
    with pytest.raises(ValueError, match="there is no confidence: nobody asked for it, or an export gives classes"):
        seen.save(str(tmp_path / "x.png"), "confidence")
    for kind in ("overlay", "legend"):
        with pytest.raises(ValueError, match="alpha is the weight of the classes' colours, from 0 to 1, got 2"):
            seen.save(str(tmp_path / "x.png"), kind, alpha=2)
    for alpha in (2, -0.1, float("nan")):
        with pytest.raises(ValueError, match="alpha is the weight"):
            seen.overlay(alpha)
    assert not list(tmp_path.iterdir())


def test_overlay_goes_from_the_image_to_the_colors(seen):
    np.testing.assert_array_equal(seen.overlay(0), seen.image)
    np.testing.assert_array_equal(seen.overlay(1), CLASSES.colors[seen.ids])


@pytest.mark.parametrize("kind, width", [("legend", 400), ("comparison", 2 * 200 + 6)])
def test_pictures_for_people_are_not_larger_than_a_screen(kind, width, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "PANEL", 400)
    ids = np.repeat(np.arange(5, dtype=np.uint8), 200)[None].repeat(100, axis=0)
    wide = Segmentation(np.zeros([100, 1000, 3], np.uint8), ids, CLASSES, label=ids)
    drawn = cv2.imread(outputs.save_below(kind, wide, str(tmp_path), "x.png"))[..., ::-1]
    assert drawn.shape[1] == width and {tuple(color) for color in CLASSES.colors[:5]} <= {
        tuple(color) for color in drawn.reshape(-1, 3)}


@pytest.mark.parametrize("kind", sorted(outputs.FOLDERS))
def test_pictures_on_a_full_disk(kind, seen, tmp_path):
    words = f"^cannot write {tmp_path}/{outputs.FOLDERS[kind]}/a/x.png: File too large$"
    with pytest.raises(OSError, match=words), full_disk():
        outputs.save_below(kind, seen, str(tmp_path), "a/x.png")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
