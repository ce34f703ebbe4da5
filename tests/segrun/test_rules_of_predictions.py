"""Any image, any transforms: predicted, resized back, written; and what stands in any list of images."""

import os

import cv2
import numpy as np
import paddle
import pytest
import yaml
from hypothesis import strategies as st
from paddleseg import transforms
from paddleseg.transforms import Compose
from PIL import Image
from rules import images, labels, one_clear_line, rule, seeds

from paddleseg_encnet import predictor
from segrun import inputs, outputs
from segrun.palettes import color_table
from segrun.preprocess import Images

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
    deployed = Images(str(folder / "deploy.yaml"))
    path = folder / "image.png"
    Image.fromarray(image[..., ::-1]).save(path, compress_level=0)
    try:
        seen = predictor.Predictor(NETWORK, made, confidence, min_conf)
        found = seen.predict(seen.read(str(path)))
    except ValueError as error:         # larger than Padding's size, for instance
        assert "\n" not in str(error)
        with pytest.raises(ValueError):
            deployed.prepare(str(path))
        return
    unknown = {255} if min_conf else set()
    assert found.ids.shape == image.shape[:2] and found.ids.dtype == np.uint8
    assert set(np.unique(found.ids)) <= {*range(CLASSES), *unknown}
    np.testing.assert_array_equal(found.image, image[..., ::-1])
    if confidence or min_conf:
        assert found.confidence.shape == image.shape[:2] and found.confidence.dtype == np.uint8
    prepared, history = deployed.prepare(str(path))
    live = made({"img": seen.read(str(path)).astype("float32")})
    np.testing.assert_allclose(prepared, live["img"], atol=1e-6)        # float32 of numbers up to 1
    classes = deployed.finish(NETWORK(paddle.to_tensor(prepared[np.newaxis]))[0].numpy().argmax(1)[0], history)
    assert classes.shape == image.shape[:2] and set(np.unique(classes)) <= set(range(CLASSES))


# --- written ---------------------------------------------------------------------------------------------------------

@st.composite
def predictions(draw):
    image = draw(images(60))
    size, classes = image.shape[:2], draw(st.sampled_from([1, 5, 255, 300]))
    random = np.random.default_rng(draw(seeds()))
    kind = predictor.mask_type(classes)
    ids = random.integers(0, classes, size).astype(kind)
    ids[random.random(size) < draw(st.floats(0, 1))] = np.iinfo(kind).max
    label = draw(labels(size, min(classes, 200))) if draw(st.booleans()) else None
    confidence = random.integers(0, 256, size, dtype=np.uint8)
    return outputs.Predicted(image, ids, confidence, label), classes


@rule(prediction=predictions(), ending=st.sampled_from([".png", ".jpg", ".gif", ".tif", ".PNG", ""]),
      kind=st.sampled_from(sorted(outputs.FOLDERS)))
def test_rule_pictures_are_written_and_masks_come_back(prediction, ending, kind, folder):
    seen, classes = prediction
    style = outputs.Style([f"class {i}" for i in range(classes)],
                          color_table(None, size=np.iinfo(seen.ids.dtype).max + 1))
    before = [array.copy() for array in (seen.image, seen.ids, seen.confidence)]
    path = outputs.save(kind, seen, style, str(folder / "out"), f"a name{ending}")
    assert os.listdir(os.path.dirname(path)) == [os.path.basename(path)]        # nothing half-written beside it
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


# --- lists of images -------------------------------------------------------------------------------------------------

NAMES = ["a.jpg", "b c.png", "sub/d.png", "ü.png", "'e'.png", "f\"g.png", "back\\slash.png"]
LABEL = "label.png"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "sub").mkdir()
    for name in [*NAMES, LABEL]:
        (folder / name).write_bytes(cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes())
    return folder


def spaced(name: str) -> bool:
    return " " in name


@rule(lines=st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), min_size=1, max_size=6),
      tab=st.booleans(), bom=st.booleans(), end=st.sampled_from(["\n", "\r\n", "\n\n", " \n", "\t\n"]),
      last=st.booleans())
def test_rule_lists_name_what_they_name(lines, tab, bom, end, last, pictures):
    """With a tab between image and label, or spaces where no name has any."""
    written = [name + (("\t" if tab or spaced(name) else "  ") + LABEL if labelled else "") for name, labelled in lines]
    text = end.join(written) + end * last
    (pictures / "list.txt").write_bytes(b"\xef\xbb\xbf" * bom + text.encode())
    found, root, labelled = inputs.find_images(str(pictures / "list.txt"))
    expected = {os.path.join(str(pictures), name): with_label for name, with_label in lines}
    assert found == sorted(expected) and root == str(pictures)
    assert labelled == {image: os.path.join(str(pictures), LABEL) for image, with_label in expected.items()
                        if with_label}


@rule(content=st.one_of(
    st.binary(max_size=60), st.text(max_size=60), st.lists(st.tuples(
        st.sampled_from([*NAMES, "", "gone.png", "/", ".", "..", "sub", "\0", "x" * 300, "sub\\d.png"]),
        st.sampled_from(["", " ", "\t", ",", ";", "  ", "\t\t"]), st.sampled_from(["", LABEL, "gone.png", "sub"])),
        max_size=5).map(lambda parts: "\n".join("".join(part) for part in parts))))
def test_rule_any_list_names_files_or_is_refused(content, pictures):
    path = pictures / "list.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    with one_clear_line(str(path)):
        found, _, labelled = inputs.find_images(str(path))
        assert found and all(map(os.path.isfile, [*found, *labelled.values()]))
        inputs.output_names(found, str(pictures))


@rule(names=st.lists(st.lists(st.sampled_from(["a", "b", "a.png", "b.jpg", "a.jpg", ".", "..", "c.d.png"]), min_size=1,
                              max_size=3).map("/".join), min_size=1, max_size=6, unique=True),
      root=st.sampled_from([None, "", "a", "/", "a/b"]))
def test_rule_no_two_images_have_the_same_pictures(names, root):
    try:
        found = inputs.output_names(names, root)
    except ValueError as error:
        assert "would be written to the same pictures" in str(error)
        return
    stems = [os.path.splitext(name)[0] for name in found.values()]
    assert list(found) == names and len(set(stems)) == len(names)


