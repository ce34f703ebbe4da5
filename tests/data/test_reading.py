"""Images of every type of pixel: read as they are meant, or refused by name, with one answer from every tool."""

import io
import struct

import cv2
import numpy as np
import pixel_types
import pytest
import yaml
from conftest import ROOT
from paddleseg.cvlibs import Config, SegBuilder
from PIL import Image
from segmenters import small

from paddleseg_encnet.data.checks import check_data, quick_check
from paddleseg_encnet.data.file_doubts import TURNED
from paddleseg_encnet.data.label_files import label_of
from paddleseg_encnet.data.reading import read_image
from paddleseg_encnet.data.samples import Checked
from paddleseg_encnet.explaining import explanations
from paddleseg_encnet.runtime.devices import Precision
from paddleseg_encnet.training.dashboard import validation_panels
from segrun.errors import DataError
from segrun.exports import Export

random = np.random.default_rng(0)
SIZE = (24, 32)


def tiff(pixels: np.ndarray, order: str = "<") -> bytes:
    """An uncompressed TIFF of these numbers, grey, RGB or RGBA: header, tags, what is too long for them, pixels."""
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(order))
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    bits = 8 * pixels.dtype.itemsize
    kind = {"u": 1, "i": 2, "f": 3, "c": 6}[pixels.dtype.kind]
    tags = [(256, [width]), (257, [height]), (258, [bits] * channels), (259, [1]), (262, [2 if channels > 1 else 1]),
            (273, None), (277, [channels]), (278, [height]), (279, [pixels.nbytes]), (339, [kind] * channels)]
    long = sum(2 * len(values) for _, values in tags if values and len(values) > 2)
    place = 8 + 2 + 12 * len(tags) + 4
    entries, beyond = b"", b""
    for tag, values in tags:
        if tag == 273 or tag == 279:
            entries += struct.pack(f"{order}HHII", tag, 4, 1, values[0] if values else place + long)
        elif len(values) > 2:
            entries += struct.pack(f"{order}HHII", tag, 3, len(values), place + len(beyond))
            beyond += struct.pack(f"{order}{len(values)}H", *values)
        else:
            entries += struct.pack(f"{order}HHI", tag, 3, len(values)) + struct.pack(
                f"{order}{len(values)}H", *values).ljust(4, b"\0")
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return start + entries + bytes(4) + beyond + pixels.tobytes()


@pytest.fixture
def color() -> np.ndarray:
    """RGB."""
    return random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def saved(picture: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


# --- read as they are meant ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_fractions_count_from_0_to_1(color, channels, order, tmp_path):
    """Numbers up to half a level about a level, less what float32 may round."""
    levels = np.concatenate([color, color[..., :1]], axis=2)[..., :channels]
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(((levels + random.uniform(-0.499, 0.499, levels.shape)).clip(0, 255) / 255).astype("float32")
                          .squeeze(), order))
    expected = levels.repeat(3, axis=2) if channels == 1 else levels[..., 2::-1]
    np.testing.assert_array_equal(read_image(str(path)), expected)
    grey = levels[..., 0] if channels == 1 else cv2.cvtColor(np.ascontiguousarray(expected), cv2.COLOR_BGR2GRAY)
    np.testing.assert_array_equal(read_image(str(path), channels=1), grey)


def test_fractions_as_opencv_writes_them(tmp_path):
    """Compressed as LogLuv, from which they come back with errors of up to 0.02: 5 of 255 levels."""
    picture = cv2.GaussianBlur(random.random((*SIZE, 3)), (9, 9), 3).astype("float32")
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    cv2.imwrite(str(tmp_path / "x.tif"), picture)
    assert np.abs(read_image(str(tmp_path / "x.tif")).astype(int) - np.rint(255 * picture)).max() <= 5


def test_a_gif_is_its_first_picture(color, tmp_path):
    first = Image.fromarray(color).quantize(16)
    first.save(tmp_path / "x.gif", save_all=True, append_images=[Image.fromarray(255 - color).quantize(16)],
               transparency=0)
    expected = np.array(first.convert("RGB"))[..., ::-1]       # what is transparent shows the colour below
    np.testing.assert_array_equal(read_image(str(tmp_path / "x.gif")), expected)
    np.testing.assert_array_equal(read_image(str(tmp_path / "x.gif"), channels=1),
                                  cv2.cvtColor(np.ascontiguousarray(expected), cv2.COLOR_BGR2GRAY))


# --- refused by name, and by every tool ------------------------------------------------------------------------------

REFUSED = [
    (np.float32, lambda pixels: 255 * pixels, "float32 from 0 to 255, and it does not say what is black"),
    (np.float32, lambda pixels: pixels - 0.1, "float32 from -0.1 to 0.9"),
    (np.float32, lambda pixels: np.where(pixels > 0, pixels, np.nan), "float32 from nan to nan"),
    (np.float16, lambda pixels: pixels, "float numbers of 16 bits"),
    (np.float64, lambda pixels: pixels, "float numbers of 64 bits"),
    (np.int8, lambda pixels: 100 * pixels, "signed numbers of 8 bits"),
    (np.int16, lambda pixels: 1000 * pixels, "signed numbers of 16 bits"),
    (np.int32, lambda pixels: 1000 * pixels, "signed numbers of 32 bits"),
    (np.uint32, lambda pixels: 1000 * pixels, "unsigned numbers of 32 bits"),
]
# TIFF in the other order of bytes, and compressed, tests/data/test_rules_of_samples.py reads.
READ = [name for name in (*pixel_types.EXACT, *pixel_types.LOSSY)
        if not name.startswith("TIFF of") or name.endswith(("strips, <", "tiles, <", "planes"))]


class Set:
    """A data set of one image, in train and val."""

    def __init__(self, root):
        self.path, self.label = root / "x.png", root / "label.png"      # OpenCV and Pillow look at what is in a file
        Image.fromarray(np.resize(np.uint8([0, 1]), SIZE)).save(self.label)
        (root / "list.txt").write_text("x.png label.png\n")
        split = f"{{type: Dataset, dataset_root: {root}, num_classes: 2, transforms: [{{type: Normalize}}], mode: "
        (root / "config.yml").write_text(f"""
_base_: {ROOT}/configs/_base_/encnet.yml
batch_size: 1
iters: 1
train_dataset: {split} train, train_path: {root}/list.txt}}
val_dataset: {split} val, val_path: {root}/list.txt}}
model: {{num_classes: 2, backbone: {{type: ResNet18_vd, output_stride: 16, pretrained: null}}, num_codes: 2,
  mid_channels: 8}}
optimizer: {{type: SGD}}
lr_scheduler: {{type: PolynomialDecay, learning_rate: 0.01}}
""")
        (root / "deploy.yaml").write_text(yaml.safe_dump({"Deploy": {"transforms": [{"type": "Normalize"}]}}))
        self.root = root

    def builder(self) -> SegBuilder:
        return SegBuilder(Config(str(self.root / "config.yml")))

    def answers(self, network) -> dict:
        """What each tool makes of the image: the network's input [3, H, W], or what it says."""
        builder = self.builder()
        view = Checked(builder.train_dataset)
        live = small(network, builder.val_dataset.transforms).network
        return {**asked({
            "training": lambda: view.read(0)["img"],
            "PaddleSeg's training": lambda: builder.train_dataset[0]["img"],
            "PaddleSeg's val": lambda: builder.val_dataset[0]["img"],
            "the dashboard": lambda: validation_panels(network, builder.val_dataset, Precision()) and None,
            "val": lambda: Checked(builder.val_dataset).read(0)["img"],
            "predict": lambda: live.prepare(small(network).read(str(self.path), "x"), "x").image,
            "infer and calibration": lambda: Export(str(self.root / "deploy.yaml")).batch_of(str(self.path))[0],
            "explain": lambda: explanations.explain_image(live, str(self.path))
            .image.transpose(2, 0, 1) / np.float32(127.5) - 1,
            "the start of training": lambda: quick_check(builder, with_val=False) and None,
        }), "check_data": self.found(builder)}

    def answers_of_labels(self) -> dict:
        """What each tool makes of the label: ids [H, W], or what it says."""
        builder = self.builder()
        return {**asked({
            "training": lambda: Checked(builder.train_dataset).read(0)["label"],
            "val": lambda: Checked(builder.val_dataset).read(0)["label"][0],
            "PaddleSeg's training": lambda: builder.train_dataset[0]["label"],
            "PaddleSeg's val": lambda: builder.val_dataset[0]["label"][0],
            "predict and explain": lambda: label_of(str(self.label), SIZE, 2, 0, 255),
            "the start of training": lambda: quick_check(builder, with_val=False) and None,
        }), "check_data": self.found(builder)}

    def found(self, builder):
        """The first fault that check_data finds in the training set. That an image is turned, whose label is not, is
        as these tests have it."""
        found = [example for split in check_data(builder)[:1] for kind, finding in split.findings.items()
                 for example in finding.examples if kind != TURNED]
        return found[0] if found else None


def asked(questions: dict) -> dict:
    answers = {}
    for tool, ask in questions.items():
        try:
            answers[tool] = ask()
        except ValueError as error:
            answers[tool] = str(error)
    return answers


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return Set(tmp_path_factory.mktemp("network")).builder().model


@pytest.mark.parametrize("name", READ)
def test_every_tool_reads_the_same(color, name, network, tmp_path):
    data, alpha = Set(tmp_path), random.integers(0, 256, SIZE, dtype=np.uint8)
    if name in pixel_types.EXACT:
        content, expected = pixel_types.EXACT[name].write(color, alpha), pixel_types.EXACT[name].shows(color)
    else:
        content = pixel_types.LOSSY[name](color, alpha)
        expected = pixel_types.decoded_by_pillow(content)
    data.path.write_bytes(content)
    answers = data.answers(network)
    for silent in ("check_data", "the start of training", "the dashboard"):
        assert answers.pop(silent) is None
    off = pixel_types.OFF if name in pixel_types.LOSSY else 1e-4        # float32 of numbers up to 1, times 127.5
    for tool, answer in answers.items():
        assert not isinstance(answer, str), f"{tool}: {answer}"
        np.testing.assert_allclose((answer + 1) * 127.5, expected.transpose(2, 0, 1), atol=off, err_msg=tool)


@pytest.mark.parametrize("dtype, change, words", REFUSED, ids=[f"{row[0].__name__}-{row[2]}" for row in REFUSED])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_tool_refuses_the_same(dtype, change, words, channels, network, tmp_path):
    pixels = np.linspace(0, 1, SIZE[0] * SIZE[1] * 3).reshape(*SIZE, 3)[..., :channels].squeeze()
    pixels = pixels / pixels.max()
    data = Set(tmp_path)
    data.path.write_bytes(tiff(change(pixels).astype(dtype)))
    answers = data.answers(network)
    for tool, answer in answers.items():
        assert isinstance(answer, str) and f"cannot read the image {data.path}: its pixels are {words}" in answer, tool


@pytest.mark.parametrize("name", pixel_types.REFUSED)
def test_every_tool_refuses_other_files_the_same(name, color, network, tmp_path):
    write, words = pixel_types.REFUSED[name]
    color[0, 0] = 255
    data = Set(tmp_path)
    data.path.write_bytes(write(color, color[..., 0]))
    for tool, answer in data.answers(network).items():
        assert isinstance(answer, str) and f"cannot read the image {data.path}: {words}" in answer, tool


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_damaged_header_that_claims_a_giant(channels, color, tmp_path):
    """OpenCV's error, which is no ValueError, came through for four channels."""
    data = bytearray(saved(Image.fromarray(color), "BMP"))
    data[18:22] = (2 ** 30).to_bytes(4, "little")       # its width
    (tmp_path / "x.bmp").write_bytes(data)
    with pytest.raises(DataError, match="x.bmp"):
        read_image(str(tmp_path / "x.bmp"), channels)


def test_damaged_tags_are_damaged_images(color, tmp_path):
    path = tmp_path / "x.tif"
    for damaged in (tiff(color)[:40], b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*" + bytes(20), b"II+\0" + bytes(9)):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="x.tif: it is damaged, cut short or no image"):
            read_image(str(path))


def test_damaged_gif(color, tmp_path):
    (tmp_path / "x.gif").write_bytes(saved(Image.fromarray(color).quantize(16), "GIF")[:200])
    with pytest.raises(DataError, match="x.gif: it is damaged, or this Pillow has no decoder"):
        read_image(str(tmp_path / "x.gif"))


# --- labels: the same by every tool --------------------------------------------------------------------------------

LABELS = {
    "8 bits": (lambda ids: saved(Image.fromarray(ids), "PNG"), None),
    "palette": (lambda ids: saved(pixel_types.indexed(np.dstack([ids] * 3)), "PNG"), None),
    "1 bit": (lambda ids: saved(Image.fromarray(ids > 0), "PNG"), None),
    "16 bits": (lambda ids: saved(Image.fromarray(ids.astype(np.uint16)), "PNG"), None),
    "TIFF, 32 bits": (lambda ids: tiff(ids.astype(np.int32)), None),
    "16 bits, beyond 255": (lambda ids: saved(Image.fromarray(ids.astype(np.uint16) * 300), "PNG"),
                            "has 16 bits a pixel"),
    "colours": (lambda ids: saved(Image.fromarray(np.dstack([ids] * 3)), "PNG"), "must be a mask with one channel"),
    "grey and alpha": (lambda ids: saved(Image.fromarray(np.dstack([ids] * 2), "LA"), "PNG"),
                       "must be a mask with one channel"),
    "fractions": (lambda ids: tiff(ids.astype(np.float32)), "class ids are whole numbers"),
    "cut short": (lambda ids: saved(Image.fromarray(ids), "PNG")[:60], "cannot read the label"),
    "text": (lambda ids: b"no mask", "cannot read the label"),
    "another size": (lambda ids: saved(Image.fromarray(ids[:, 1:]), "PNG"), "they must have one size"),
}


@pytest.mark.parametrize("name", LABELS)
def test_every_tool_takes_the_same_labels(name, tmp_path):
    write, words = LABELS[name]
    data, ids = Set(tmp_path), random.integers(0, 2, SIZE, dtype=np.uint8)
    Image.new("RGB", SIZE[::-1]).save(data.path)
    data.label.write_bytes(write(ids))
    answers = data.answers_of_labels()
    for tool, answer in answers.items():
        if words and "one channel" in words and tool.startswith("PaddleSeg's"):
            continue        # one of its data sets has labels of three channels
        if words:
            assert isinstance(answer, str) and words in answer and str(data.label) in answer, tool
        elif answer is not None:
            assert not isinstance(answer, str), f"{tool}: {answer}"
            np.testing.assert_array_equal(answer, ids, tool)
