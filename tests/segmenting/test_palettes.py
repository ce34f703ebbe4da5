"""Colours of classes: those of the data sets, of PaddleSeg, and a user's own."""

import numpy as np
from paddleseg import datasets
from paddleseg.utils import visualize

from segrun.classes import Classes
from segrun.palettes import ADE20K, CAMVID, PALETTES, PASCAL_VOC, bit_reversed, color_table


def test_palettes_have_the_classes_of_paddlesegs_datasets():
    for name in ("Cityscapes", "ADE20K", "PascalVOC", "PascalContext"):
        assert len(PALETTES[name]) == getattr(datasets, name).NUM_CLASSES
    assert len(PALETTES["CamVid"]) == 11 and len(PALETTES["PascalContext59"]) == 59
    assert [list(ADE20K).index(name) for name in ("wall", "sky", "person", "flag")] == [0, 2, 12, 149]
    assert PASCAL_VOC["person"] == (192, 128, 128) and PASCAL_VOC["background"] == (0, 0, 0)
    assert list(PALETTES["PascalContext"]).index("wood") == 59 and list(PALETTES["PascalContext59"]).index("wood") == 58


def test_colors_that_no_palette_has_are_paddlesegs():
    assert color_table(None)[:255].reshape(-1).tolist() == visualize.get_color_map_list(256)[:255 * 3]
    assert bit_reversed([1, 6, 255]).tolist() == [[128, 0, 0], [0, 128, 128], [224, 224, 192]]     # as in VOC's masks


def test_custom_colors_come_first():
    table = color_table(CAMVID, [1, 2, 3])
    assert table[0].tolist() == [1, 2, 3] and tuple(table[1]) == CAMVID["building"]
    assert table[255].tolist() == [0, 0, 0] and color_table(PASCAL_VOC)[255].tolist() == [224, 224, 192]
    assert color_table(None, size=65536)[300].tolist() == bit_reversed([301])[0].tolist()


def test_classes_of_an_export_are_those_of_its_palette():
    named = Classes.of_export({"class_names": list(CAMVID), "palette": [list(color) for color in CAMVID.values()]})
    np.testing.assert_array_equal(named.colors, color_table(CAMVID))
    assert named.names == list(CAMVID) and named.name(10) == "bicyclist"
    assert named.name(11) == named.name(255) == "unknown"


def test_classes_of_an_export_without_names_have_numbers_and_paddlesegs_colors():
    nameless = Classes.of_export({})
    assert nameless.names[:2] == ["class 0", "class 1"] and len(nameless.names) == 255
    np.testing.assert_array_equal(nameless.colors, color_table(None))
    assert Classes.of_export({"class_names": [7, True]}).names == ["7", "True"]     # what YAML takes for no text


def test_shares_are_of_all_masks_the_largest_first():
    masks = [np.array([[2, 2, 2, 1]], np.uint8), np.array([[1, 1, 255, 2]], np.uint8)]
    shares = Classes(["a", "b", "c"]).shares(*masks)
    assert list(shares.items()) == [(2, 4 / 8), (1, 3 / 8), (255, 1 / 8)]
