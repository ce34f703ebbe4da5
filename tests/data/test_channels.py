"""Images of 1, 2, 4 and 6 channels: read as they were written, refused with a line where they are others."""

import random
import sys

import cv2
import numpy as np
import paddleseg.transforms as stock
import pytest
import tifffile
from paddleseg.datasets import Dataset
from PIL import Image

from paddleseg_encnet.data import looking
from paddleseg_encnet.data.reading import read_image
from paddleseg_encnet.data.transforms import CropFirst
from segrun import bands
from segrun.errors import DataError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, [12, 16, 6], dtype=np.uint8)
WIDE = RNG.integers(0, 4000, [12, 16, 6], dtype=np.uint16)
# How TIFFs of four and more bands are found in the world.
WRITTEN = {
    "contiguous": lambda path, image: tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig"),
    "planes": lambda path, image: tifffile.imwrite(path, np.moveaxis(image, 2, 0), photometric="minisblack",
                                                   planarconfig="separate"),
    "pages": lambda path, image: tifffile.imwrite(path, np.moveaxis(image, 2, 0), photometric="minisblack"),
    "colours and more": lambda path, image: tifffile.imwrite(path, image, photometric="rgb", planarconfig="contig",
                                                             extrasamples=["unspecified"] * (image.shape[2] - 3)),
    "with transparency": lambda path, image: tifffile.imwrite(path, image, photometric="rgb", planarconfig="contig",
                                                              extrasamples=["unassalpha"] * (image.shape[2] - 3)),
    "deflated": lambda path, image: tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig",
                                                     compression="zlib", predictor=image.dtype.kind == "u"),
    "big": lambda path, image: tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig",
                                                bigtiff=True),
}


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("image", [BYTES[..., :4], BYTES, WIDE, WIDE.astype("float32") / 7],
                         ids=["4 bytes", "6 bytes", "6 of 16 bits", "6 floats"])
def test_a_tiff_is_read_as_it_was_written(tmp_path, form, image):
    path = str(tmp_path / "x.tif")
    WRITTEN[form](path, image)
    read = read_image(path, image.shape[2])
    assert read.dtype == image.dtype
    np.testing.assert_array_equal(read, image)
    if form != "pages":
        assert looking.header_of(path, "image", image.shape[2])[0] == (12, 16)


@pytest.mark.parametrize("form", ["contiguous", "planes", "pages"])
def test_two_channels(tmp_path, form):
    path = str(tmp_path / "x.tif")
    WRITTEN[form](path, BYTES[..., :2])
    np.testing.assert_array_equal(read_image(path, 2), BYTES[..., :2])


def test_a_png_has_its_colours_in_their_order(tmp_path):
    path = str(tmp_path / "x.png")
    Image.fromarray(BYTES[..., :4], "RGBA").save(path)
    np.testing.assert_array_equal(read_image(path, 4), BYTES[..., :4])


def test_grey_and_colour_are_as_before(tmp_path):
    for channels_, name in ((1, "x.png"), (3, "y.png"), (3, "y.tif"), (1, "x.tif")):
        path = str(tmp_path / name)
        written = np.ascontiguousarray(BYTES[..., :channels_].squeeze())
        cv2.imwrite(path, written)
        np.testing.assert_array_equal(read_image(path, channels_), written)
    Image.fromarray(BYTES[..., :4], "RGBA").save(tmp_path / "z.tif")        # its alpha is no band
    assert read_image(str(tmp_path / "z.tif")).shape == (12, 16, 3)


@pytest.mark.parametrize("form", ["contiguous", "planes", "colours and more", "deflated", "big"])
@pytest.mark.parametrize("found, expected", [(4, 3), (4, 1), (6, 3), (6, 4), (4, 6)])
def test_a_wrong_number_of_channels(tmp_path, form, found, expected):
    path = str(tmp_path / "x.tif")
    WRITTEN[form](path, BYTES[..., :found])
    with pytest.raises(DataError, match=f"the image {path} has {found} channels, but in_channels is {expected}: set "
                                        f"in_channels to {found}, or give images of {expected}"):
        read_image(path, expected)


def test_other_images_with_a_wrong_number(tmp_path):
    for name, image, found in (("grey.png", BYTES[..., 0], "1 channel"), ("colour.jpg", BYTES[..., :3], "3 channels"),
                               ("alpha.png", BYTES[..., :4], "4 channels")):
        cv2.imwrite(str(tmp_path / name), np.ascontiguousarray(image))
        with pytest.raises(DataError, match=f"{name} has {found}, but in_channels is 6"):
            read_image(str(tmp_path / name), 6)


def test_what_is_no_image_of_bands(tmp_path):
    path = tmp_path / "x.tif"
    for content, said in ((b"", "damaged, cut short or no image"), (b"II*\0", "cannot be read"), (b"text", "no image")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"the image {path} .*{said}"):
            read_image(str(path), 6)
    WRITTEN["contiguous"](str(path), WIDE)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=f"the image {path} cannot be read"):
        read_image(str(path), 6)
    tifffile.imwrite(path, np.zeros([2, 3, 12, 16], np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match="height, width and channels are expected"):
        read_image(str(path), 6)
    with pytest.raises(DataError, match="there is no file"):
        read_image(str(tmp_path / "nowhere.tif"), 6)


def test_without_tifffile(tmp_path, monkeypatch):
    WRITTEN["contiguous"](str(tmp_path / "x.tif"), WIDE)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DataError, match="x.tif is a TIFF of other than one or three channels.*pip install tifffile"):
        read_image(str(tmp_path / "x.tif"), 6)
    with pytest.raises(DataError, match="has 6 channels, but in_channels is 3"):
        read_image(str(tmp_path / "x.tif"), 3)


# --- shown -----------------------------------------------------------------------------------------------------------

def test_what_is_shown_of_an_image():
    np.testing.assert_array_equal(bands.shown(BYTES), BYTES[..., :3])
    np.testing.assert_array_equal(bands.shown(np.ascontiguousarray(BYTES[..., :3])), BYTES[..., 2::-1])
    for grey in (BYTES[..., 0], BYTES[..., :1], BYTES[..., :2]):
        np.testing.assert_array_equal(bands.shown(grey), np.repeat(BYTES[..., :1], 3, axis=2))
    ramp = np.repeat(np.arange(0, 10001, dtype=np.float32).reshape(73, 137, 1), 4, axis=2)
    picture = bands.shown(ramp)
    assert picture.dtype == np.uint8 and picture.shape == (73, 137, 3)
    assert picture.reshape(-1, 3)[[0, 200, 5000, 9800, 10000], 0].tolist() == [0, 0, 127, 255, 255]
    assert bands.shown(np.full([4, 5, 6], np.nan, "float32")).max() == 0


# --- PaddleSeg's transforms ------------------------------------------------------------------------------------------

TRANSFORMS = [
    lambda: stock.ResizeStepScaling(0.5, 2, 0.25), lambda: stock.RandomPaddingCrop([20, 20]),
    lambda: stock.Padding([20, 20]), lambda: stock.PaddingByAspectRatio(1), lambda: stock.RandomRotation(30),
    lambda: stock.RandomHorizontalFlip(1.0), lambda: stock.RandomVerticalFlip(1.0), lambda: stock.RandomCenterCrop(),
    lambda: stock.RandomScaleAspect(), lambda: stock.Resize((9, 7)), lambda: stock.ResizeByLong(24),
    lambda: stock.ResizeByShort(24), lambda: stock.LimitLong(12), lambda: stock.RandomAffine((20, 20)),
    lambda: stock.ScalePadding((20, 20)), lambda: stock.RandomBlur(1.0),
    lambda: stock.Normalize([0.1 * i + 0.1 for i in range(6)], [0.2] * 6)]


@pytest.mark.parametrize("make", TRANSFORMS, ids=lambda make: type(make()).__name__)
def test_a_transform_does_to_six_channels_what_it_does_to_each(make):
    """With the same random numbers. 0.01 of 255, or 1 of bytes: OpenCV has IPP for up to four channels alone."""
    def transformed(image, seed=4):
        random.seed(seed)
        np.random.seed(seed)
        label = np.arange(192, dtype=np.uint8).reshape(12, 16) % 3
        data = {"img": image.astype("float32"), "label": label, "gt_fields": ["label"], "trans_info": []}
        return make()(data)["img"]

    normalizes, of_bytes = (isinstance(make(), kind) for kind in (stock.Normalize, stock.ScalePadding))
    six = transformed(BYTES)
    for i in range(6):
        if normalizes:
            alone = (BYTES[..., i] / 255 - (0.1 * i + 0.1)) / 0.2
        else:
            alone = transformed(np.ascontiguousarray(BYTES[..., i]))
        np.testing.assert_allclose(six[..., i], alone, atol=1e-5 if normalizes else 1 if of_bytes else 0.01)


def test_crop_first_is_paddlesegs_for_six_channels(tmp_path):
    path, label = str(tmp_path / "x.tif"), str(tmp_path / "x.png")
    WRITTEN["contiguous"](path, WIDE)
    cv2.imwrite(label, BYTES[..., 0] % 3)
    compose = stock.Compose([stock.ResizeStepScaling(0.5, 2, 0.25), stock.RandomPaddingCrop([20, 20]),
                             stock.RandomHorizontalFlip(), stock.Normalize()], img_channels=6)
    for seed in range(8):
        seen = []
        for transform in (compose, CropFirst(compose)):
            np.random.seed(seed)
            random.seed(seed)
            seen.append(transform({"img": path, "label": read_label(label), "gt_fields": ["label"]}))
        assert seen[0]["img"].shape == (6, 20, 20)
        np.testing.assert_allclose(seen[1]["img"], seen[0]["img"], atol=1e-3 * 4000 / 255)
        np.testing.assert_array_equal(seen[0]["label"], seen[1]["label"])


def read_label(path):
    return cv2.imread(path, cv2.IMREAD_GRAYSCALE)


@pytest.mark.parametrize("make", [stock.RandomBlur, stock.RandomNoise, stock.ScalePadding, stock.RandomAffine])
def test_a_transform_of_bytes_does_not_cut_16_bits(tmp_path, make):
    path = str(tmp_path / "x.tif")
    WRITTEN["contiguous"](path, WIDE)
    transform = CropFirst(stock.Compose([make()], img_channels=6))
    with pytest.raises(DataError, match=f"{path} has numbers of type uint16, and {make.__name__} is for 8 bits alone"):
        transform({"img": path, "gt_fields": []})
    WRITTEN["contiguous"](path, BYTES)
    transform({"img": path, "gt_fields": []})


def test_a_dataset_of_six_channels_in_paddlesegs_own_hands(tmp_path):
    """Its Compose reads the file too, as its own loops let it."""
    WRITTEN["contiguous"](str(tmp_path / "x.tif"), WIDE)
    cv2.imwrite(str(tmp_path / "x.png"), BYTES[..., 0] % 3)
    (tmp_path / "train.txt").write_text("x.tif x.png\n")
    dataset = Dataset("train", str(tmp_path), [stock.Normalize()], 3, 6, str(tmp_path / "train.txt"))
    sample = dataset[0]
    assert dataset.img_channels == 6
    np.testing.assert_allclose(sample["img"], (WIDE.transpose(2, 0, 1) / 255 - 0.5) / 0.5, rtol=1e-5, atol=1e-5)
