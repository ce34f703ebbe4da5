"""explain() is tools/explain.py from Python: the same pages."""


import pytest

import paddleseg_encnet
from segrun.errors import DataError


def test_images_left_out_are_told_when_the_page_is_there(small_config, lively_weights, image, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "whole.png").write_bytes(image.read_bytes())
    (tmp_path / "images" / "broken.png").write_bytes(image.read_bytes()[:100])
    with pytest.raises(DataError, match="1 of 2 images left out: .*broken.png"):
        paddleseg_encnet.explain(small_config, lively_weights, tmp_path / "images", tmp_path / "own", device="cpu")
    assert (tmp_path / "own" / "codewords.html").exists()


def test_a_label_is_of_one_image(small_config, lively_weights, image, tmp_path):
    with pytest.raises(ValueError, match="--label is the label of one image"):
        paddleseg_encnet.explain(small_config, lively_weights, image.parent, tmp_path / "own", label=image)
    assert not (tmp_path / "own").exists()
