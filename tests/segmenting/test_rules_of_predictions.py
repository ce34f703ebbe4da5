"""Any image, any transforms: predicted, resized back, written."""

import os

import numpy as np
import paddle
import pytest
import yaml
from hypothesis import strategies as st
from paddleseg import transforms
from paddleseg.transforms import Compose
from PIL import Image
from rules import images, labels, rule, seeds
from segmenters import small, visible

from segrun import Segmentation, outputs
from segrun.classes import Classes, id_type
from segrun.exports import Export
from segrun.preprocess import resize_arrays, restore

# --- predicted and resized back --------------------------------------------------------------------------------------

SIZES = st.tuples(st.integers(1, 30), st.integers(1, 30)).map(list)
UNDONE = {
    "Resize": st.fixed_dictionaries({"target_size": SIZES, "keep_ratio": st.booleans(), "interp": st.sampled_from(
        ["LINEAR", "NEAREST", "CUBIC", "AREA"]), "size_divisor": st.sampled_from([None, 4])}),
    "ResizeByLong": st.fixed_dictionaries({"long_size": st.integers(1, 30)}),
    "ResizeByShort": st.fixed_dictionaries({"short_size": st.integers(1, 30), "max_size": st.integers(30, 60)}),
    "LimitLong": st.fixed_dictionaries({"max_long": st.integers(10, 30), "min_long": st.integers(1, 10)}),
    "Padding": st.fixed_dictionaries({"target_size": st.tuples(st.integers(20, 60), st.integers(20, 60)).map(list)}),
}
CHAIN = st.lists(st.sampled_from(sorted(UNDONE)).flatmap(
    lambda name: UNDONE[name].map(lambda options: {"type": name, **options})), max_size=3)
CLASSES = 4


class OfPixels(paddle.nn.Layer):
    def __init__(self, classes: int = CLASSES):
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, classes, 1)
        self.conv.weight.set_value(np.random.default_rng(0).normal(size=(classes, 3, 1, 1)).astype("float32"))

    def forward(self, x):
        return [self.conv(x)]


NETWORK = OfPixels()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rules")


@rule(image=images(), chain=CHAIN, confidence=st.booleans(), min_conf=st.sampled_from([0.0, 0.0, 0.5]))
def test_rule_predictions_have_the_images_size_and_infer_prepares_the_same(image, chain, confidence, min_conf, folder):
    """What the two make of an image before the network is equal; what they do after it, tests/deployment compares."""
    chain = [*chain, {"type": "Normalize"}]
    made = Compose([getattr(transforms, options["type"])(**{key: value for key, value in options.items()
                                                            if key != "type"}) for options in chain])
    (folder / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": {"transforms": chain}}))
    export = Export(str(folder / "deploy.yaml"))
    path = folder / "image.png"
    Image.fromarray(image[..., ::-1]).save(path, compress_level=0)
    try:
        own = small(NETWORK, made, confidence=confidence, min_conf=min_conf)
        found = own(path)
    except ValueError as error:         # larger than Padding's size, for instance
        assert "\n" not in str(error)
        with pytest.raises(ValueError):
            export.prepare(export.read(str(path)), str(path))
        return
    unknown = {255} if min_conf else set()
    assert found.ids.shape == image.shape[:2] and found.ids.dtype == np.uint8
    assert set(np.unique(found.ids)) <= {*range(CLASSES), *unknown}
    np.testing.assert_array_equal(found.image, image[..., ::-1])
    if confidence or min_conf:
        assert found.confidence.shape == image.shape[:2] and found.confidence.dtype == np.uint8
    prepared = export.prepare(export.read(str(path)), str(path))
    live = own.network.prepare(own.read(str(path), "x"), "x")
    np.testing.assert_allclose(prepared.image, live.image, atol=1e-6)        # float32 of numbers up to 1
    ids = NETWORK(paddle.to_tensor(prepared.image[np.newaxis]))[0].numpy().argmax(1)
    classes, = restore(ids.astype(np.int32), prepared.undo, resize_arrays)
    assert classes.shape == image.shape[:2] and set(np.unique(classes)) <= set(range(CLASSES))


# --- written ---------------------------------------------------------------------------------------------------------

@st.composite
def predictions(draw):
    image = draw(images(60))
    size, classes = image.shape[:2], draw(st.sampled_from([1, 5, 255, 300]))
    random = np.random.default_rng(draw(seeds()))
    kind = id_type(classes)
    ids = random.integers(0, classes, size).astype(kind)
    ids[random.random(size) < draw(st.floats(0, 1))] = np.iinfo(kind).max
    label = draw(labels(size, min(classes, 200))) if draw(st.booleans()) else None
    confidence = random.integers(0, 256, size, dtype=np.uint8)
    named = Classes([f"class {i}" for i in range(classes)])
    return Segmentation(image, ids, named, confidence, label=label)


@rule(seen=predictions(), ending=st.sampled_from([".png", ".jpg", ".gif", ".tif", ".PNG", ""]),
      kind=st.sampled_from(sorted(outputs.FOLDERS)))
def test_rule_pictures_are_written_and_masks_come_back(seen, ending, kind, folder):
    before = [array.copy() for array in (seen.image, seen.ids, seen.confidence)]
    path = outputs.save_below(kind, seen, str(folder / "out"), f"a name{ending}")
    assert visible(os.path.dirname(path)) == [os.path.basename(path)]        # nothing half-written beside it
    with Image.open(path) as file:
        pixels = np.array(file)
    os.remove(path)
    for array, earlier in zip((seen.image, seen.ids, seen.confidence), before):
        np.testing.assert_array_equal(array, earlier)
    height, width = seen.ids.shape
    if kind == "ids" or kind == "palette" and seen.ids.dtype == np.uint8:
        np.testing.assert_array_equal(pixels, seen.ids)
    elif kind == "confidence":
        np.testing.assert_array_equal(pixels, seen.confidence)
    elif kind in ("overlay", "palette"):
        assert pixels.shape == (height, width, 3)
    else:
        assert pixels.shape[0] > height and pixels.shape[1] >= width and pixels.shape[2] == 3
