"""The tools with joint pyramid upsampling in the config, as with every EncNet."""

import pytest
import yaml


@pytest.fixture(scope="module")
def config(small_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("jpu") / "jpu.yml"
    path.write_text(yaml.safe_dump({"_base_": str(small_config), "model": {
        "use_jpu": True, "add_lateral": False, "backbone": {"output_stride": 32}}}))
    return path


def test_train_evaluate_explain_and_export(config, image, run_tool, tmp_path, capsys):
    run_tool("train", "--config", config, "--iters", 2, "--do_eval", "--use_vdl", "--save_dir", tmp_path / "run")
    weights = tmp_path / "run" / "best_model" / "model.pdparams"
    run_tool("val", "--config", config, "--model_path", weights, "--is_slide", "--crop_size", 50, 40, "--stride", 30,
             20)
    assert "mIoU" in capsys.readouterr().out
    run_tool("explain", image, "--config", config, "--model_path", weights, "--save_dir", tmp_path / "pages")
    assert list((tmp_path / "pages").rglob("*.html"))
    run_tool("export", "--config", config, "--model_path", weights, "--save_dir", tmp_path / "export", "--verify",
             image)
    assert "Paddle Inference: largest logit difference" in capsys.readouterr().out
