"""What is given to be predicted: files that are passed over are named, and no picture takes another's place."""

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from segrun import inputs, outputs

random = np.random.default_rng(0)


def picture() -> np.ndarray:
    return random.integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two images that differ in their endings alone, a third, a GIF, a moving one, and what is no image."""
    folder = tmp_path / "in"
    (folder / "b").mkdir(parents=True)
    for name in ("a.jpg", "a.png", "b/c.png"):
        cv2.imwrite(str(folder / name), picture())
    frames = [Image.fromarray(picture()) for _ in range(2)]
    frames[0].save(folder / "b" / "moving.gif", save_all=True, append_images=frames[1:])
    for name in ("notes.txt", "b/more.TXT", "raw.heic", "LICENCE", ".hidden", "b/.hidden.png"):
        (folder / name).write_bytes(b"no image")
    return folder


# --- what is passed over ---------------------------------------------------------------------------------------------

def test_files_that_are_no_images_are_counted_and_named(folder):
    images, root, _ = inputs.find_images(str(folder))
    assert [os.path.relpath(path, root) for path in images] == ["a.jpg", "a.png", "b/c.png", "b/moving.gif"]
    assert inputs.passed_over(str(folder)) == (
        f"4 files in {folder} are passed over, by their endings no images: 1 x .heic, 2 x .txt, 1 x no ending; the "
        f"first: {folder}/LICENCE")
    assert inputs.passed_over(str(folder / "b")).startswith("1 files in ")
    assert inputs.passed_over(str(folder / "a.png")) == inputs.passed_over("nowhere") == ""


def test_an_avif_is_an_image_where_pillow_reads_it():
    assert inputs.is_image("x.AVIF") == (".avif" in Image.registered_extensions())


# --- names of pictures -----------------------------------------------------------------------------------------------

def test_only_names_that_collide_keep_their_endings():
    names = inputs.output_names(["in/a.jpg", "in/a.png", "in/b/a.png", "in/c.jpg"], "in")
    assert names == {"in/a.jpg": "a.jpg.jpg", "in/a.png": "a.png.png", "in/b/a.png": "b/a.png", "in/c.jpg": "c.jpg"}
    assert inputs.kept_endings(names) == ("2 images differ from another in their endings alone, and what is written of "
                                          "them keeps these: a.jpg.png of in/a.jpg")
    assert inputs.kept_endings(inputs.output_names(["in/a.jpg", "in/b/a.jpg"], "in")) == ""


@pytest.mark.parametrize("images", [
    ["a.jpg", "a.png", "a.jpg.bmp"], ["a", "a.png", "a.png.bmp"], ["a.jpg", "a.png", "a.jpg.jpg", "a.png.jpg.bmp"]])
def test_names_with_their_endings_do_not_collide_again(images):
    names = inputs.output_names([f"in/{image}" for image in images], "in")
    assert len({os.path.splitext(name)[0] for name in names.values()}) == len(images)


def test_pictures_stay_below_the_folder_they_are_saved_in():
    names = inputs.output_names(["data/a/x.png", "data/a/x.png", "/elsewhere/y.png", "other/z.png"], "data")
    assert names == {"data/a/x.png": "a/x.png", "/elsewhere/y.png": "y.png", "other/z.png": "z.png"}


def test_images_of_one_name_outside_the_lists_folder():
    with pytest.raises(ValueError, match="a/x.png and b/x.png would be written to the same pictures; move the list"):
        inputs.output_names(["a/x.png", "b/x.png"], "lists")
    with pytest.raises(ValueError, match="a/x.png and b/x.png would be written to the same pictures"):
        inputs.output_names(["a/x.png", "b/x.png"], None)


# --- the tools -------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def weights(small_config, tmp_path_factory):
    import paddle
    from paddleseg.cvlibs import Config, SegBuilder
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(SegBuilder(Config(str(small_config))).model.state_dict(), str(path))
    return path


def test_predict_and_infer_write_the_same_names_and_tell_the_same(folder, weights, small_config, run_tool, tmp_path,
                                                                  capsys):
    run_tool("export", "--config", small_config, "--model_path", weights, "--save_dir", tmp_path / "export")
    capsys.readouterr()
    run_tool("predict", "--config", small_config, "--model_path", weights, "--image_path", folder, "--save_dir",
             tmp_path / "out", "--save", "ids", "overlay")
    said = capsys.readouterr().out
    run_tool("infer", "--config", tmp_path / "export" / "deploy.yaml", "--image_path", folder, "--save_dir",
             tmp_path / "masks")
    for output in (said, capsys.readouterr().out):
        assert output.count("4 files in") == output.count("keeps these: a.jpg.png of") == 1
    stems = ["a.jpg", "a.png", "b/c", "b/moving"]
    for written in (tmp_path / "out" / outputs.FOLDERS["ids"], tmp_path / "masks"):
        assert sorted(str(path.relative_to(written)) for path in written.rglob("*.*")) == [f"{s}.png" for s in stems]
    for stem in stems:      # and they are the same classes, the GIF's too
        live = cv2.imread(str(tmp_path / "out" / outputs.FOLDERS["ids"] / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        exported = np.array(Image.open(tmp_path / "masks" / f"{stem}.png"))
        # A pixel may fall to the other side where two logits are equal to rounding.
        assert (live == exported).mean() > 0.999, stem
    overlays = tmp_path / "out" / outputs.FOLDERS["overlay"]
    assert sorted(str(path.relative_to(overlays)) for path in overlays.rglob("*.*")) == [
        "a.jpg.jpg", "a.png.png", "b/c.png", "b/moving.png"]


def test_explain_and_calibration_name_what_they_pass_over(folder, weights, small_config, run_tool, tmp_path, capsys,
                                                          monkeypatch):
    run_tool("explain", folder, "--config", small_config, "--model_path", weights, "--save_dir", tmp_path / "explain")
    assert capsys.readouterr().out.count("4 files in") == 1
    import conftest
    module, calibrated = conftest.tool("export"), []
    monkeypatch.setattr(module, "export", lambda *arguments: calibrated.extend(arguments[6]))
    (tmp_path / "export").mkdir()
    module.main(module.flags().parse_args(["--config", str(small_config), "--model_path", str(weights), "--int8",
                                           str(folder), "--save_dir", str(tmp_path / "export")]))
    assert capsys.readouterr().out.count("4 files in") == 1
    assert [os.path.basename(path) for path in calibrated] == ["a.jpg", "a.png", "c.png", "moving.gif"]
