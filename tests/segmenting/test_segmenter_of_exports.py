"""Segmenter of an export: what tools/infer.py writes, and what the live network says."""

import numpy as np
import pytest
import yaml
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
    np.testing.assert_allclose(seen.presence, live.presence, atol=1e-6)      # float32, summed in another order
    again = Segmenter(str(folder / "deploy.yaml"))(image)
    np.testing.assert_array_equal(again.ids, seen.ids)


@pytest.mark.parametrize("config, output_op", [("resizing", "none"), ("small_config", "softmax")])
def test_export_of_scores_is_the_live_network(exported, lively_weights, image, config, output_op, request):
    config = request.getfixturevalue(config)
    live = Segmenter(config, lively_weights, device="cpu")(image)
    seen = Segmenter(exported(config, "--output_op", output_op))(image)
    np.testing.assert_array_equal(seen.image, live.image)
    np.testing.assert_array_equal(seen.colors, live.colors)
    np.testing.assert_allclose(seen.presence, live.presence, atol=1e-6)
    assert len(np.unique(live.ids)) > 2
    # Paddle Inference sums in another order, so that a tie may go the other way and a rounding by one.
    assert (seen.ids == live.ids).mean() > 0.999
    assert np.abs(seen.confidence.astype(int) - live.confidence).max() <= 1


def test_export_of_a_fixed_batch_and_size(exported, small_config, segmenter, image, pixels):
    folder = exported(small_config, "--input_shape", 2, 3, 64, 128)
    fixed = Segmenter(folder)
    assert (fixed(image).ids == segmenter(image).ids).mean() > 0.999
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


def test_a_device_that_no_export_runs_on(tmp_path):
    """Found out before its files are read."""
    (tmp_path / "deploy.yaml").write_text("Deploy: {model: network, params: network}")
    (tmp_path / "network").touch()
    with pytest.raises(ValueError, match='an export runs on device "cpu" or "gpu", got \'npu\''):
        Segmenter(tmp_path, device="npu")


def test_windows_and_flips_of_an_export_are_the_live_networks(exported, small_config, lively_weights, image):
    options = dict(is_slide=True, crop_size=[64, 64], stride=[48, 48], aug_pred=True, flip_horizontal=True)
    live = Segmenter(small_config, lively_weights, device="cpu", **options)(image)
    seen = Segmenter(exported(small_config, "--output_op", "none"), **options)(image)
    assert (seen.ids == live.ids).mean() > 0.999 and len(np.unique(live.ids)) > 2
    assert np.abs(seen.confidence.astype(int) - live.confidence).max() <= 1
