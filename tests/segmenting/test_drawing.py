"""Pictures of class ids: overlay, errors, legend."""

import cv2
import numpy as np
from paddleseg.utils import visualize
from segmenters import CLASSES, picture, random

from segrun import drawing
from segrun.palettes import ADE20K, color_table


def test_overlay_is_paddlesegs(tmp_path):
    image, ids, colors = picture(), random.integers(0, 5, (40, 60), dtype=np.uint8), CLASSES.colors
    cv2.imwrite(str(tmp_path / "x.png"), image)
    stock = visualize.visualize(str(tmp_path / "x.png"), ids, colors.reshape(-1).tolist(), weight=0.6)
    np.testing.assert_array_equal(drawing.draw_overlay(image, ids, colors[:, ::-1], alpha=0.4), stock)


def test_error_map():
    label, ids = np.array([[0, 1, 255]]), np.array([[0, 2, 2]])
    assert drawing.error_map(label, ids)[0].tolist() == [list(drawing.RIGHT), list(drawing.WRONG),
                                                         list(drawing.UNLABELLED)]


def test_legend_shows_each_class_seen_within_the_width():
    colors = color_table(ADE20K)
    shown = [0, 12, 60, 149]
    drawn = drawing.draw_legend(list(ADE20K), colors, shown, width=160)
    assert drawn.shape[1] == 160 and drawn.shape[0] >= 2 * 24
    seen = {tuple(color) for color in drawn.reshape(-1, 3)}
    assert {tuple(colors[i]) for i in shown} <= seen and tuple(colors[5]) not in seen


def test_names_in_opencvs_letters():
    assert [drawing.writable(name, 7) for name in ("road", "Fläche")] == ["road", "Flache"]
