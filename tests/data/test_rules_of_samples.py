"""Any image and label: read, transformed, cropped."""

import os
import random

import cv2
import numpy as np
import pytest
from hypothesis import strategies as st
from paddleseg import transforms
from paddleseg.datasets import Dataset
from PIL import Image
from pixel_types import EXACT, LOSSY, OFF, REFUSED, decoded_by_pillow, pillow
from rules import images, labels, one_clear_line, rule, seeds, sides

from paddleseg_encnet.data.reading import check_mask, read_label
from paddleseg_encnet.data.samples import Checked
from paddleseg_encnet.data.transforms import CropFirst
from segrun.errors import DataError
from segrun.image import PictureError, decode_image

KINDS = sorted({**EXACT, **LOSSY, **REFUSED})


def alpha_of(colours: np.ndarray) -> np.ndarray:
    """Transparency that has nothing to do with the colours, and every value."""
    return np.resize(np.arange(255, -1, -1), colours.shape[:2]).astype(np.uint8)


# --- read ------------------------------------------------------------------------------------------------------------

@rule(name=st.sampled_from(KINDS), colours=images(300))
def test_rule_images_are_read_as_they_are_meant(name, colours):
    if name in REFUSED:
        write, words = REFUSED[name]
        colours[0, 0] = 255
        with pytest.raises(PictureError, match="cannot read the image street.x: .*" + words):
            decode_image(write(colours, alpha_of(colours)), "street.x")
        return
    data = EXACT[name].write(colours, alpha_of(colours)) if name in EXACT else LOSSY[name](colours, alpha_of(colours))
    expected = EXACT[name].shows(colours) if name in EXACT else decoded_by_pillow(data)
    found, grey = decode_image(data, "street.x"), decode_image(data, "street.x", channels=1)
    assert found.dtype == grey.dtype == np.uint8 and found.shape == expected.shape
    assert np.abs(found[..., ::-1].astype(int) - expected).max() <= (0 if name in EXACT else OFF)
    # libpng, libjpeg and OpenCV round the sum of 0.299 R, 0.587 G and 0.114 B each in its own way; JPEG has it in the
    # file, before the colours are rounded and cut at 0 and 255.
    if "JPEG" not in name:
        assert np.abs(grey.astype(int) - cv2.cvtColor(found, cv2.COLOR_BGR2GRAY)).max() <= 1


@rule(name=st.sampled_from(KINDS), colours=images(12), kept=st.floats(0, 1, exclude_max=True),
      channels=st.sampled_from([1, 3, 3, 4]))
def test_rule_a_file_that_is_cut_short_is_refused_or_the_same(name, colours, kept, channels):
    write = EXACT[name].write if name in EXACT else LOSSY[name] if name in LOSSY else REFUSED[name][0]
    data = write(colours, alpha_of(colours))
    try:
        part = decode_image(data[:int(kept * len(data))], "street.x", channels)
    except PictureError as error:
        assert "street.x" in str(error)
    else:
        np.testing.assert_array_equal(part, decode_image(data, "street.x", channels))


@rule(name=st.sampled_from(KINDS), colours=images(12), seed=seeds(), count=st.integers(1, 20),
      place=st.sampled_from(["anywhere", "head"]))
def test_rule_a_damaged_file_is_a_picture_or_refused(name, colours, seed, count, place):
    write = EXACT[name].write if name in EXACT else LOSSY[name] if name in LOSSY else REFUSED[name][0]
    data, generator = bytearray(write(colours, alpha_of(colours))), np.random.default_rng(seed)
    end = min(len(data), 64) if place == "head" else len(data)
    for index in generator.integers(0, end, count if end else 0):
        data[index] = generator.integers(0, 256)
    for channels in (1, 3, 4):
        try:
            found = decode_image(bytes(data), "street.x", channels)
        except PictureError as error:
            assert "street.x" in str(error) and "\n" not in str(error)
        else:
            assert found.ndim == (2 if channels == 1 else 3) and found.size
            assert channels == 4 or found.dtype == np.uint8


LABELS = {
    "PNG": (255, lambda ids: pillow("PNG", "L")(np.dstack([ids] * 3).astype(np.uint8), None)),
    "PNG, palette": (255, lambda ids: pillow("PNG", "P")(np.dstack([ids] * 3).astype(np.uint8), None)),
    "PNG of 1 bit": (1, lambda ids: pillow("PNG", "1")(np.dstack([ids * 255] * 3).astype(np.uint8), None)),
    "PNG of 16 bits": (65535, lambda ids: cv2.imencode(".png", ids.astype(np.uint16))[1].tobytes()),
    "BMP": (255, lambda ids: pillow("BMP", "L")(np.dstack([ids] * 3).astype(np.uint8), None)),
    "TIFF": (255, lambda ids: written(ids.astype(np.uint8))),
    "TIFF of 16 bits": (65535, lambda ids: written(ids.astype(np.uint16))),
    "TIFF of 32 bits": (2 ** 31 - 1, lambda ids: written(ids.astype(np.int32))),
    "TIFF of 16 bits, tiles": (65535, lambda ids: written(ids.astype(np.uint16), tile=(16, 16))),
}


def written(ids: np.ndarray, **options) -> bytes:
    import io

    import tifffile
    file = io.BytesIO()
    tifffile.imwrite(file, ids, photometric="minisblack", metadata=None, **options)
    return file.getvalue()


@rule(name=st.sampled_from(sorted(LABELS)), size=st.tuples(sides(300), sides(300)), seed=seeds(),
      largest=st.sampled_from([1, 18, 255, 256, 65535, 2 ** 31 - 1]))
def test_rule_labels_are_the_ids_that_were_written(name, size, seed, largest, folder):
    most, write = LABELS[name]
    ids = np.random.default_rng(seed).integers(0, min(most, largest) + 1, size)
    path = folder / "label"
    path.write_bytes(write(ids))
    label = read_label(str(path))
    np.testing.assert_array_equal(label, ids)
    assert label.dtype == np.uint8 or ids.max() > 255
    if ids.max() <= 255:
        check_mask(label, size, "label")


@rule(name=st.sampled_from(KINDS), colours=images(12), damage=st.sampled_from(["none", "cut", "changed"]), seed=seeds())
def test_rule_whatever_is_given_as_a_label_is_ids_or_refused(name, colours, damage, seed, folder):
    write = EXACT[name].write if name in EXACT else LOSSY[name] if name in LOSSY else REFUSED[name][0]
    data, generator = bytearray(write(colours, alpha_of(colours))), np.random.default_rng(seed)
    if damage == "cut":
        data = data[:generator.integers(0, len(data) + 1)]
    for index in generator.integers(0, len(data), 5) if damage == "changed" and data else ():
        data[index] = generator.integers(0, 256)
    (folder / "label").write_bytes(data)
    try:
        label = read_label(str(folder / "label"))
        check_mask(label, colours.shape[:2], "label")
    except DataError as error:
        assert "label" in str(error) and "\n" not in str(error)
    else:
        assert label.ndim == 2 and label.dtype.kind in "uib"


# --- transformed and cropped -----------------------------------------------------------------------------------------

def pairs_of(low: int, high: int) -> st.SearchStrategy:
    return st.tuples(st.integers(low, high), st.integers(low, high)).map(list)


TRANSFORMS = {
    "ResizeStepScaling": st.fixed_dictionaries({
        "min_scale_factor": st.sampled_from([0.25, 0.5, 1.0]), "max_scale_factor": st.sampled_from([1.0, 1.5, 2.0]),
        "scale_step_size": st.sampled_from([0, 0.1, 0.25])}),
    "RandomPaddingCrop": st.fixed_dictionaries({
        "crop_size": pairs_of(1, 40), "category_max_ratio": st.sampled_from([1.0, 1.0, 0.75])}),
    "RandomHorizontalFlip": st.just({}),
    "RandomVerticalFlip": st.just({"prob": 0.5}),
    "Resize": st.fixed_dictionaries({"target_size": pairs_of(1, 40), "interp": st.sampled_from(["LINEAR", "NEAREST"])}),
    "ResizeByLong": st.fixed_dictionaries({"long_size": st.integers(1, 40)}),
    "ResizeByShort": st.fixed_dictionaries({"short_size": st.integers(1, 40)}),
    "LimitLong": st.fixed_dictionaries({"max_long": st.integers(20, 40), "min_long": st.integers(1, 20)}),
    "Padding": st.fixed_dictionaries({"target_size": pairs_of(1, 60)}),
    "RandomCenterCrop": st.fixed_dictionaries({"retain_ratio": st.just([0.5, 1.0])}),
    "RandomScaleAspect": st.just({}),
    "RandomRotation": st.just({}),
    "RandomDistort": st.just({}),
    "RandomBlur": st.just({"prob": 0.5}),
    "RandomNoise": st.just({"prob": 0.5}),
    "ScalePadding": st.fixed_dictionaries({"target_size": pairs_of(1, 40)}),
}
CHAIN = st.one_of(
    st.tuples(TRANSFORMS["ResizeStepScaling"], TRANSFORMS["RandomPaddingCrop"]).map(
        lambda both: [("ResizeStepScaling", both[0]), ("RandomPaddingCrop", both[1])]),
    st.lists(st.sampled_from(sorted(TRANSFORMS)).flatmap(
        lambda name: TRANSFORMS[name].map(lambda options: (name, options))), max_size=4))
OF_CLASSES = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rules")


def dataset(folder, mode: str, chain: list, colours: np.ndarray, label: np.ndarray) -> Dataset:
    """One image and its label, as PaddleSeg reads them."""
    Image.fromarray(colours).save(folder / "image.png", compress_level=0)
    Image.fromarray(label).save(folder / "label.png", compress_level=0)
    (folder / "list.txt").write_text("image.png label.png\n")
    made = [getattr(transforms, name)(**options) for name, options in chain]
    return Dataset(mode, str(folder), [*made, transforms.Normalize()], OF_CLASSES,
                   **{f"{mode}_path": str(folder / "list.txt")})


def drawn(read, seed: int) -> dict:
    """What `read` gives with these random numbers."""
    random.seed(seed)
    np.random.seed(seed)
    return read()


@st.composite
def samples(draw):
    colours = draw(images())
    return colours, draw(labels(colours.shape[:2], OF_CLASSES))


@rule(sample=samples(), chain=CHAIN, seed=seeds(), mode=st.sampled_from(["train", "val"]))
def test_rule_samples_keep_their_ids_and_fit_their_labels(sample, chain, seed, mode, folder):
    colours, label = sample
    data = dataset(folder, mode, chain, colours, label)
    with one_clear_line("image.png"):
        found = drawn(lambda: Checked(data).read(0), seed)
        assert found["img"].dtype == np.float32 and found["img"].shape[0] == 3 and found["img"].size
        assert np.isfinite(found["img"]).all()
        seen = found["label"]
        if mode == "val":           # a label that is scored stays as it is in the file
            np.testing.assert_array_equal(seen[0], label)
            return
        assert seen.shape == found["img"].shape[1:]
        assert set(np.unique(seen)) <= set(np.unique(label)) | {255}
        if chain and chain[-1][0] in ("RandomPaddingCrop", "Resize"):
            size = chain[-1][1].get("crop_size") or chain[-1][1].get("target_size")
            assert list(seen.shape[::-1]) == size


@rule(sample=samples(), chain=CHAIN, seed=seeds())
def test_rule_cropping_first_gives_what_paddleseg_gives(sample, chain, seed, folder):
    colours, label = sample
    data = dataset(folder, "train", chain, colours, label)
    try:
        expected = drawn(lambda: data[0], seed)
    except Exception:
        with pytest.raises(DataError, match="image.png"):
            drawn(lambda: Checked(data).read(0), seed)
        return
    found = drawn(lambda: Checked(data).read(0), seed)
    np.testing.assert_array_equal(found["label"], expected["label"])
    assert found["img"].shape == expected["img"].shape
    # Interpolated in another order: up to 0.02 of 255 (transforms.py), which is one shade where bytes are made of it.
    bytes_made = CropFirst(data.transforms).of_bytes
    off = np.abs(found["img"] - expected["img"]) * 127.5
    assert off.max() <= (0.02 if not bytes_made else 255) + 1e-3


@rule(size=st.tuples(sides(60), sides(60)), seed=seeds(), crop=pairs_of(1, 70))
def test_rule_what_a_crop_adds_is_ignored(size, seed, crop, folder):
    label = np.random.default_rng(seed).integers(0, OF_CLASSES, size).astype(np.uint8)
    colours = np.repeat(label[..., np.newaxis] * np.uint8(50), 3, axis=2)
    data = dataset(folder, "train", [("RandomPaddingCrop", {"crop_size": crop})], colours, label)
    found = drawn(lambda: Checked(data).read(0), seed)
    real = found["label"] != 255
    assert real.sum() == min(size[1], crop[0]) * min(size[0], crop[1])
    # Each pixel has kept its own label.
    shades = np.rint((found["img"][0] + 1) * 127.5)
    np.testing.assert_array_equal(shades[real], found["label"][real] * 50)


def test_no_rule_leaves_files_behind(folder):
    assert set(os.listdir(folder)) <= {"image.png", "label.png", "list.txt", "label"}


