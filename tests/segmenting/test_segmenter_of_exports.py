"""Segmenter of an export: what tools/infer.py writes, and what the live network says."""

import numpy as np
import pytest
import yaml
from near_ties import assert_same_classes, live_scores
from PIL import Image

from segrun import Segmenter
from segrun.palettes import CITYSCAPES, color_table


@pytest.fixture
def exported(run_tool, lively_weights, tmp_path):
    """exported(CONFIG, *flags): the folder of an export."""
    def export(config, *flags):
        run_tool("export", "--config", config, "--model_path", lively_weights, "--save_dir", tmp_path / "export",
                 *flags)
        return tmp_path / "export"
    return export


def test_export_of_classes(exported, resizing, lively_weights, image, run_tool, tmp_path):
    folder = exported(resizing)
    seen = Segmenter(folder, device="cpu")(image)
    run_tool("infer", "--config", folder / "deploy.yaml", "--image_path", image, "--save_dir", tmp_path / "masks")
    np.testing.assert_array_equal(seen.ids, np.array(Image.open(tmp_path / "masks" / image.name)))
    assert seen.ids.dtype == np.uint8 and seen.ids.shape == (64, 128)
    assert seen.confidence is None and seen.names == list(CITYSCAPES)
    live = Segmenter(resizing, lively_weights, device="cpu")(image)
    np.testing.assert_array_equal(seen.image, live.image)
    np.testing.assert_array_equal(seen.colors, live.colors)
    np.testing.assert_allclose(seen.presence, live.presence, atol=1e-6)      # float32, summed in another order
    again = Segmenter(str(folder / "deploy.yaml"))(image)
    np.testing.assert_array_equal(again.ids, seen.ids)


def test_export_of_a_fixed_batch_and_size(exported, small_config, lively_weights, segmenter, image, pixels):
    folder = exported(small_config, "--input_shape", 2, 3, 64, 128)
    fixed = Segmenter(folder)
    assert_same_classes(fixed(image).ids, segmenter(image).ids, live_scores(small_config, lively_weights, image))
    with pytest.raises(ValueError, match="image 1 of the list comes to the network as 100 x 64, but that was"):
        fixed([pixels, pixels[:, :100]])

    # PaddleSeg's own export names no classes.
    content = yaml.safe_load((folder / "deploy.yaml").read_text())
    del content["Deploy"]["class_names"], content["Deploy"]["palette"]
    (folder / "deploy.yaml").write_text(yaml.safe_dump(content))
    seen = Segmenter(folder)(image)
    assert seen.names[:3] == ["class 0", "class 1", "class 2"]
    assert seen.names[seen.ids.max()] == f"class {seen.ids.max()}"
    np.testing.assert_array_equal(seen.colors, color_table(None))
    assert seen._repr_png_().startswith(b"\x89PNG")

