"""codebook_start: features in a training: placed once, told at each evaluation, and resumed to the bit."""

import json
import shutil

import launched
import numpy as np
import paddle
import pytest
from ranks_on_cpu import launch, recorded

from paddleseg_encnet.models import codebook
from paddleseg_encnet.weights import checkpoint

LAYER = "enc_module.encoding.0."


@pytest.fixture(scope="module")
def config(small_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "features.yml"
    path.write_text(f"_base_: {small_config}\nmodel: {{codebook_start: features}}\n")
    return path


def weights(folder) -> dict:
    return checkpoint.read_weights(folder / "model.pdparams")


def test_resumed_it_is_not_placed_again(run_tool, config, tmp_path, capsys):
    one_go, resumed = tmp_path / "one_go", tmp_path / "resumed"
    flags = ["--config", config, "--seed", 3, "--save_interval", 2, "--no_data_check"]
    run_tool("train", *flags, "--do_eval", "--save_dir", one_go)
    said = capsys.readouterr().out
    assert said.count("Codebook: ") == 2 and "has collapsed" not in said
    shutil.copytree(one_go / "iter_2", resumed / "iter_2")
    run_tool("train", *flags, "--do_eval", "--save_dir", resumed, "--resume_model", "auto")
    ours, theirs = weights(resumed / "iter_4"), weights(one_go / "iter_4")
    assert [name for name in theirs if not np.array_equal(ours[name], theirs[name])] == []
    # The factors are held; codewords stay near where they were placed, which published ones of 4 are not: 0.29 long.
    factors = theirs[LAYER + "scale"]
    assert np.array_equal(factors, weights(one_go / "iter_2")[LAYER + "scale"]) and len(set(factors)) == 1
    assert np.linalg.norm(theirs[LAYER + "codewords"], axis=1).mean() > 0.5


def test_scores_tell_how_the_codebook_is_used(run_tool, config, tmp_path):
    run_tool("train", "--config", config, "--seed", 3, "--no_data_check", "--save_dir", tmp_path)
    run_tool("val", "--config", config, "--model_path", tmp_path / "iter_4" / "model.pdparams", "--save_json",
             tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    used, alike = scores["codewords_used"], scores["codewords_at_a_position"]
    assert 1 <= alike <= used <= 4
    assert scores["codebook_information"] == pytest.approx(np.log(used / alike), abs=1e-9)


def test_given_weights_are_left_alone(run_tool, config, small_config, tmp_path):
    """Those of a network with the published start, of which nothing says that they are to be placed."""
    run_tool("train", "--config", small_config, "--seed", 3, "--no_data_check", "--save_dir", tmp_path / "published")
    given = tmp_path / "published" / "iter_4"
    finetuned = tmp_path / "finetuned.yml"
    finetuned.write_text(f"_base_: {config}\nmodel: {{pretrained: {given}/model.pdparams}}\n")
    run_tool("train", "--config", finetuned, "--no_data_check", "--iters", 1, "--save_dir", tmp_path / "on")
    before, after = weights(given), weights(tmp_path / "on" / "iter_1")
    assert np.array_equal(after[LAYER + "scale"], before[LAYER + "scale"])
    np.testing.assert_allclose(after[LAYER + "codewords"], before[LAYER + "codewords"], atol=0.05)


def test_two_ranks_place_what_the_first_one_sees(config, tmp_path):
    """Over gloo. The factors, which are held, are those of a codebook on the first batch of the first rank."""
    ranks = recorded(tmp_path, launch(tmp_path, launched.__file__, "train", config, tmp_path, 2))
    for name in ("codewords", "scale"):
        assert np.array_equal(ranks[0][LAYER + name], ranks[1][LAYER + name])

    model, _, _, dataset = launched.parts(config)
    images = paddle.to_tensor(np.stack([dataset[int(index)]["img"] for index in ranks[0]["asked"][:2]]))
    model.train()
    model(images)
    layer = model.enc_module.encoding[0]
    assert ranks[0][LAYER + "scale"] == pytest.approx(layer.scale.numpy(), rel=1e-4)    # sums in another order
    # Two steps at the warm-up's rate have hardly moved them.
    near = codebook.squared_distances(ranks[0][LAYER + "codewords"], layer.codewords.numpy())
    assert near.min(axis=1).max() < 0.01 * near.mean()
