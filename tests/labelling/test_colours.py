"""Colour masks: each colour by its table, and a decision for those that no table has."""

import numpy as np
import projects
import pytest
from PIL import Image

from paddleseg_encnet.labelling.colours import read_table
from segrun.palettes import PASCAL_VOC, bit_reversed


@pytest.fixture
def convert(run_tool, tmp_path, capsys):
    """convert(project, flags...) converts into tmp_path/own by labelmap.txt and returns what was printed."""
    def run(project, *flags) -> str:
        table = () if "--table" in flags else ("--table", project / "labelmap.txt")
        run_tool("convert_labels", "colours", project / "masks", "--images", project / "photos", "--save_dir",
                 tmp_path / "own", *table, *flags)
        return capsys.readouterr().out
    return run


@pytest.fixture
def project(tmp_path):
    """Folder and ids of a project of PNG masks."""
    return tmp_path / "project", projects.colours(tmp_path / "project")


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_labelmap(tmp_path, project, convert, mode):
    folder, written = project
    for path in (folder / "masks").iterdir():
        picture = Image.open(path)
        (picture.quantize(256) if mode == "P" else picture.convert(mode)).save(path)
        assert Image.open(path).mode == mode
    assert "nothing was left to be decided" in convert(folder)
    for name, ids in written.items():
        assert np.array_equal(projects.mask(tmp_path / "own", name), ids)
    assert (tmp_path / "own" / "labels.txt").read_text().split() == list(projects.COLORS)
    palette = np.array(Image.open(tmp_path / "own" / "masks" / "0.png").getpalette()).reshape(-1, 3)
    assert palette[:4].tolist() == [list(color) for color in projects.COLORS.values()]


def test_table_of_numbers_before_names_and_ignored(tmp_path, project, convert):
    folder, written = project
    (folder / "colors.txt").write_text("0 0 0\tbackground\n128 0 0   car\n0 128 0 tree\n10 200 250 window\n")
    convert(folder, "--table", folder / "colors.txt", "--ignore", "background", "tree")
    wanted = np.array([255, 0, 255, 1], np.uint8)       # car and window are left
    for name, ids in written.items():
        assert np.array_equal(projects.mask(tmp_path / "own", name), wanted[ids])


def test_voc(tmp_path, convert):
    """Its palette in palette pictures; the border is 255."""
    ids = projects.blocks(np.random.default_rng(0), [*range(21), 255])
    for i in range(2):
        projects.photo(tmp_path / "project" / "photos" / f"{i}.jpg", i)
        picture = Image.fromarray(np.roll(ids, i, 0))
        picture.putpalette(bit_reversed(range(256)).tobytes())
        (tmp_path / "project" / "masks").mkdir(exist_ok=True)
        picture.save(tmp_path / "project" / "masks" / f"{i}.png")
    convert(tmp_path / "project", "--table", "voc")
    assert np.array_equal(projects.mask(tmp_path / "own", "0"), ids)
    assert (tmp_path / "own" / "labels.txt").read_text().splitlines() == list(PASCAL_VOC)


def test_palette_png_as_table(tmp_path, project, convert):
    folder, written = project
    picture = Image.new("P", (1, 1))
    picture.putpalette([value for color in projects.COLORS.values() for value in color])
    picture.save(folder / "palette.png")
    with pytest.raises(SystemExit, match="palette.png gives colours and no names: add --labels FILE"):
        convert(folder, "--table", folder / "palette.png")
    (folder / "names.txt").write_text("\n".join(projects.COLORS))
    convert(folder, "--table", folder / "palette.png", "--labels", folder / "names.txt")
    for name, ids in written.items():
        assert np.array_equal(projects.mask(tmp_path / "own", name), ids)


def test_colours_that_jpeg_moved(tmp_path, convert):
    folder = tmp_path / "project"
    written = projects.colours(folder, ending=".jpg")
    table = np.array(list(projects.COLORS.values()))
    words = r"0.jpg: \d+ pixels in \d+ colours, most of them \(.*\), which the table does not have; the nearest, off " \
            r"by \d+, is .*add --tolerance 32, which takes \d\d% of them for the class near them, and --unknown ignore"
    with pytest.raises(SystemExit, match=words):
        convert(folder)
    assert not (tmp_path / "own").exists()
    printed = convert(folder, "--tolerance", 40, "--unknown", "ignore")
    assert "4 x masks with colours near those of a class: taken for it (--tolerance 40)" in printed
    for name, ids in written.items():
        # The rule written out, a pixel and a class at a time.
        pixels = np.asarray(Image.open(folder / "masks" / f"{name}.jpg").convert("RGB")).astype(int)
        wanted = np.empty(ids.shape, np.uint8)
        for place in np.ndindex(ids.shape):
            off = [(max(abs(pixels[place] - color)), sum((pixels[place] - color) ** 2), i)
                   for i, color in enumerate(table)]
            wanted[place] = min(off)[2] if min(off)[0] <= 40 else 255
        assert np.array_equal(projects.mask(tmp_path / "own", name), wanted)
        inside = np.zeros(ids.shape, bool)      # away from the blocks' borders, where JPEG mixes colours
        inside.reshape(ids.shape[0] // 8, 8, ids.shape[1] // 8, 8)[:, 3:5, :, 3:5] = True
        assert np.array_equal(wanted[inside], ids[inside])


def test_colour_of_no_class(tmp_path, project, convert):
    folder, written = project
    pixels = np.asarray(Image.open(folder / "masks" / "1.png")).copy()
    pixels[0, :5] = 255
    Image.fromarray(pixels).save(folder / "masks" / "1.png")
    with pytest.raises(SystemExit, match=r"1.png: 5 pixels in 1 colours, most of them \(255, 255, 255\), which the "
                                         "table does not have.*--tolerance 32, which takes 0% of them"):
        convert(folder)
    printed = convert(folder, "--unknown", "ignore")
    assert "1 x masks with colours that the table does not have: ignored (255)\n" in printed
    ignored = projects.mask(tmp_path / "own", "1") == 255
    assert ignored[0, :5].all() and ignored.sum() == 5


def test_masks_and_images_without_each_other(tmp_path, project, convert):
    folder, _ = project
    (folder / "masks" / "0.png").unlink()
    (folder / "photos" / "1.png").unlink()
    with pytest.raises(SystemExit, match="the mask .*masks/1.png has no image 1.* in .*photos; say with --images"):
        convert(folder)
    printed = convert(folder, "--missing", "leave_out")
    assert "1 x annotations whose image is not there: left out" in printed
    assert "1 x images without annotation: left out" in printed
    assert sorted(path.name for path in (tmp_path / "own" / "masks").iterdir()) == ["2.png", "3.png"]


def test_suffix(tmp_path, project, convert):
    folder, written = project
    for path in list((folder / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    convert(folder, "--mask_suffix", "_mask")
    assert np.array_equal(projects.mask(tmp_path / "own", "2"), written["2"])


def test_masks_among_the_images(tmp_path, project, run_tool, capsys):
    folder, written = project
    for path in list((folder / "masks").iterdir()):
        path.rename(folder / "photos" / f"{path.stem}_mask.png")
    run_tool("convert_labels", "colours", folder / "photos", "--images", folder / "photos", "--table",
             folder / "labelmap.txt", "--mask_suffix", "_mask", "--save_dir", tmp_path / "own")
    assert "nothing was left to be decided" in capsys.readouterr().out
    assert np.array_equal(projects.mask(tmp_path / "own", "2"), written["2"])


@pytest.mark.parametrize("text, words", [
    ("", "the table of colours .* is empty"),
    ("car:1,2\n", "line 1: 'car:1,2' is neither name:R,G,B nor R G B name, of 0 to 255"),
    ("car:1,2,256::\n", "line 1: 'car:1,2,256::' is neither"),
    ("car:1,2,3::\ncar:1,2,4::\n", r"line 2: car has a colour already, \(1, 2, 3\)"),
    ("car:1,2,3::\ntree:1,2,3::\n", r"car and tree have one colour, \(1, 2, 3\): which a pixel is can't be told")])
def test_table_without_sense(project, convert, text, words):
    (project[0] / "labelmap.txt").write_text(text)
    with pytest.raises(SystemExit, match=words):
        convert(project[0])


def test_names_with_digits_and_spaces(tmp_path):
    (tmp_path / "table.txt").write_text("zone 3:1,2,3::\n4 5 6 lane 7\n")
    assert read_table(str(tmp_path / "table.txt")).colors == {"zone 3": (1, 2, 3), "lane 7": (4, 5, 6)}


def test_masks_without_sense(tmp_path, project, convert):
    folder, _ = project
    Image.fromarray(np.full((96, 128), 40000, np.uint16)).save(folder / "masks" / "0.png")
    with pytest.raises(SystemExit, match="0.png has more than 8 bits a pixel"):
        convert(folder)
    Image.new("RGBA", (128, 96), (0, 0, 0, 7)).save(folder / "masks" / "0.png")
    with pytest.raises(SystemExit, match="0.png is transparent in places: save it without"):
        convert(folder)
    (folder / "masks" / "0.png").write_bytes(b"\x89PNG or not")
    with pytest.raises(SystemExit, match="cannot read the mask .*0.png"):
        convert(folder)
    Image.new("RGB", (128, 95)).save(folder / "masks" / "0.png")
    with pytest.raises(SystemExit, match="0.png is for 128 x 95 pixels, the image has 128 x 96"):
        convert(folder)
    assert not (tmp_path / "own").exists()
