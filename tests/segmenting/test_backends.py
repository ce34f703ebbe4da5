"""An export in each runtime: the same classes and presence as live, from several threads too; wrong forms in a line."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import paddle
import pytest
import yaml
from conftest import ROOT
from exports import HERE, NORMALIZE, each_form, exported, random_images, written
from near_ties import assert_same_classes, live_scores

from segrun.backends import AUTO, BACKENDS, FORMS, PRECISIONS, form_of, forms_of
from segrun.backends.exported import Exported
from segrun.exports import Export, write_deploy
from segrun.image import read_file
from segrun.segmenter import Segmenter

OUTPUT_OPS = ("argmax", "softmax", "none")


@pytest.fixture(scope="module")
def live(segmenter, image):
    """What the live network sees."""
    return segmenter(image)


@pytest.fixture(scope="module")
def exports(lively_network, image, logits_export, tmp_path_factory):
    """{output_op: folder of an export in every form}"""
    return {"none": logits_export, **{op: written(lively_network, tmp_path_factory.mktemp(op), op, image)
                                      for op in ("argmax", "softmax")}}


@pytest.fixture(scope="module")
def assert_classes(live, small_config, lively_weights, image):
    """assert_classes(SEEN, PRECISION): those of the live network, for the most part where 8 bits decide."""
    scores = live_scores(small_config, lively_weights, image)

    def check(seen, precision):
        if precision == "int8":
            assert (seen.ids == live.ids).mean() > 0.5
        else:
            assert_same_classes(seen.ids, live.ids, scores)
    return check


# --- the same as live ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("output_op", OUTPUT_OPS)
@each_form
def test_classes_confidence_and_presence_are_the_live_ones(backend, precision, output_op, exports, live, image,
                                                           assert_classes):
    seen = Segmenter(exports[output_op], backend=backend, precision=precision, device="cpu")(image)
    assert live.presence.dtype == seen.presence.dtype == np.float32 and live.presence.std() > 0.01
    # Float32 in another order of sums; of 8 bits the mean over the image is hardly touched.
    assert np.abs(seen.presence - live.presence).max() < (0.05 if precision == "int8" else 1e-5)
    assert_classes(seen, precision)
    if output_op == "argmax":
        assert seen.confidence is None
    elif precision == "fp32":
        assert np.abs(seen.confidence.astype(int) - live.confidence).max() <= 1       # of 255: rounding


@each_form
def test_an_export_that_says_nothing_of_presence(backend, precision, exports, image, assert_classes, tmp_path):
    """As those before it had it: other programs' second outputs may be anything."""
    shutil.copytree(exports["none"], tmp_path / "old")
    content = yaml.safe_load((tmp_path / "old" / "deploy.yaml").read_text())["Deploy"]
    assert content.pop("presence") is True
    write_deploy(str(tmp_path / "old" / "deploy.yaml"), content)
    seen = Segmenter(tmp_path / "old", backend=backend, precision=precision, device="cpu")(image)
    assert seen.presence is None
    assert_classes(seen, precision)


class Alone(paddle.nn.Layer):
    """A network of one output, as exports had it before."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images)[:1]


@pytest.mark.parametrize("said", [False, True])
def test_a_model_of_one_output(said, lively_network, image, assert_classes, tmp_path):
    written(Alone(lively_network), tmp_path, "argmax", image)
    content = yaml.safe_load((tmp_path / "deploy.yaml").read_text())["Deploy"]
    assert "presence" not in content
    write_deploy(str(tmp_path / "deploy.yaml"), {**content, **({"presence": True} if said else {})})
    for backend, precision in HERE:
        seen = Segmenter(tmp_path, backend=backend, precision=precision, device="cpu")(image)
        assert seen.presence is None
        assert_classes(seen, precision)


def test_probabilities_at_their_ends_have_logits(exports, image):
    """float32 knows 0 and 1 of a sure network; the mean over scales stays a number."""
    export = Export(exports["none"])
    sure = np.array([[0.0, 1.0, 0.5]], np.float32)
    network = Exported.of(export, Fake(lambda batch: [np.zeros([1, 3, *batch.shape[2:]], np.float32), sure]))
    logits = network.run(random_images(1, 3, 8, 8)).presence
    assert np.isfinite(logits).all() and logits[0, 2] == 0 and logits[0, 0] == pytest.approx(-logits[0, 1], rel=1e-3)
    assert np.abs(Segmenter.of(network)(image).presence - sure[0]).max() < 1e-6


# --- several threads -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("backend, precision", [(None, "fp32"), *HERE, (AUTO, "fp32")], ids=str)
def test_two_threads_at_once(backend, precision, exports, scenes, tmp_path, capsys):
    shutil.copytree(exports["softmax"], tmp_path / "export")        # deploy.yaml remembers what "auto" has found
    segmenter = Segmenter(tmp_path / "export", backend=backend, precision=precision, device="cpu", threads=1)
    images = [read_file(str(path)) for path in sorted((scenes / "leftImg8bit").rglob("*.png"))[:4]]
    expected = [segmenter.segment(pixels) for pixels in images]
    assert len({seen.ids.tobytes() for seen in expected}) == 4
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: [segmenter.segment(pixels) for pixels in 3 * images], range(2)))
    for results in found:
        assert len(results) == 12
        for seen, alone in zip(results, 3 * expected):
            np.testing.assert_array_equal(seen.ids, alone.ids)
            np.testing.assert_array_equal(seen.confidence, alone.confidence)
            np.testing.assert_array_equal(seen.presence, alone.presence)
    assert ("--backend auto: " in capsys.readouterr().out) == (backend == AUTO)


# --- forms -----------------------------------------------------------------------------------------------------------

def test_the_table_of_forms_is_the_one_place(exports):
    found = [(form.backend, form.precision) for form in forms_of(Export(exports["none"]).content)]
    assert [form for form in found if form != ("openvino", "bf16")] == HERE      # which not every processor has
    assert all(form_of(form.backend, form.precision) is form for form in FORMS)
    assert len({(form.backend, form.precision) for form in FORMS}) == len(FORMS)
    for tool in ("infer", "serve"):
        source = (ROOT / "tools" / f"{tool}.py").read_text()
        assert "[*BACKENDS, AUTO]" in source and not re.search(r"choices=\[\"(paddle|fp32)", source)


@pytest.mark.parametrize("backend, precision, said", [
    ("tensorrt", "fp32", "there is no backend tensorrt; there are paddle, onnx, openvino, auto"),
    ("paddle", "int8", "the backend paddle runs fp32 and fp16, not int8"),
    ("onnx", "fp16", "the backend onnx runs fp32 and int8, not fp16"),
    ("openvino", "fp16", "the backend openvino runs fp32 and bf16 and int8, not fp16"),
    *((backend, "int4", "there is no precision int4; there are fp32, fp16, int8, bf16")
      for backend in ("paddle", AUTO, None))], ids=str)
def test_a_form_that_there_is_not(backend, precision, said, exports):
    assert set(BACKENDS) == {"paddle", "onnx", "openvino"} and set(PRECISIONS) == {"fp32", "fp16", "bf16", "int8"}
    with pytest.raises(ValueError, match=f"^{said}$"):
        Segmenter(exports["none"], backend=backend, precision=precision)


@pytest.mark.parametrize("device", ["banana", "gpu:x", "xpu", ""])
@pytest.mark.parametrize("backend", [None, AUTO, *dict(HERE)])
def test_a_device_that_there_is_not(backend, device, exports):
    if device:
        with pytest.raises(ValueError, match=f"^an export runs on device \"cpu\" or \"gpu\", got '{device}'$"):
            Segmenter(exports["none"], backend=backend, device=device)
    else:
        assert Segmenter(exports["none"], backend=backend, device="cpu:0").network.requests == 1


# --- outputs belong to their inputs ----------------------------------------------------------------------------------

class Fake:
    requests = 1

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, batch, release=False):
        return self.answer(batch)


def stale(outputs):
    """A runtime that returns what it has made of the batch before, if there was one."""
    before = []

    def answer(batch):
        before.append(outputs(batch))
        return before[-2] if len(before) > 1 else before[-1]
    return Fake(answer)


@pytest.mark.parametrize("shape", [(1, 3, 8, 12), (1, 3, 12, 8), (2, 3, 8, 8)])
@pytest.mark.parametrize("output_op", OUTPUT_OPS)
def test_another_images_result_is_refused(output_op, shape, tmp_path):
    write_deploy(str(tmp_path / "deploy.yaml"), {"transforms": NORMALIZE, "output_op": output_op})
    network = Exported.of(Export(str(tmp_path)), stale(lambda batch: [np.zeros(
        [len(batch), *([] if output_op == "argmax" else [5]), *batch.shape[2:]], np.float32)]))
    network.run(random_images(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"the runtime gives \[1, .*8, 8\] for images \[.*\]: it can't run this netw"):
        network.run(random_images(*shape))


def test_another_batchs_presence_is_refused(tmp_path):
    write_deploy(str(tmp_path / "deploy.yaml"), {"transforms": NORMALIZE, "presence": True})
    network = Exported.of(Export(str(tmp_path)), Fake(lambda batch: [np.zeros([len(batch), 5, *batch.shape[2:]]),
                                                                     np.zeros([1, 5])]))
    assert network.run(random_images(1, 3, 8, 8)).presence.shape == (1, 5)
    with pytest.raises(ValueError, match="the runtime gives"):
        network.run(random_images(2, 3, 8, 8))


def test_a_fixed_batch_is_filled_up_and_cut_off(lively_network, tmp_path):
    from paddleseg_encnet.deployment import exporting
    exporting.export_network(lively_network, str(tmp_path), {"transforms": NORMALIZE}, "none", [4, 3, 32, 48])
    images = random_images(3, 3, 32, 48)
    found = exported(tmp_path).run(images)
    assert found.values.shape == (3, 19, 32, 48) and found.presence.shape == (3, 19)
    free = [exported(tmp_path).run(images[i:i + 1]) for i in range(3)]
    np.testing.assert_allclose(found.values, np.concatenate([each.values for each in free]), atol=1e-5)
    np.testing.assert_allclose(found.presence, np.concatenate([each.presence for each in free]), atol=1e-5)
