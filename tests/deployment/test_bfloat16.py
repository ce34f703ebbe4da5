"""--precision bf16, and what an ONNX file has of the Encoding layer's cut-off."""

import importlib.util
from unittest import mock

import numpy as np
import paddle
import pytest
from conftest import ROOT
from exports import needs_onnx

from paddleseg_encnet.config import building
from paddleseg_encnet.deployment import exporting
from paddleseg_encnet.models.encoding import LEAST, NOTHING
from paddleseg_encnet.weights import checkpoint
from segrun import backends
from segrun.backends import openvino_runtime
from segrun.backends.exported import Exported
from segrun.exports import Export

pytestmark = needs_onnx
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An export of the network in weights/, with ONNX."""
    folder = tmp_path_factory.mktemp("export")
    with paddle.utils.unique_name.guard():
        network = building.read_config("encnet_lite0_camvid_480x360", pretrained=False).model
    checkpoint.fill_layer(network, str(ROOT / "weights" / "encnet_lite0_camvid.safetensors"))
    network.eval()
    exporting.export_network(network, str(folder), {"transforms": [{"type": "Normalize"}]}, "argmax", onnx=True)
    return folder


def test_the_onnx_file_cuts_the_assignment(folder):
    """relu(exp(clip(logits, NOTHING)) - LEAST), as models/encoding.py has it."""
    import onnx
    model = onnx.load(folder / "model.onnx")
    nodes = {output: node for node in model.graph.node for output in node.output}
    constants = {node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t) for node in model.graph.node
                 if node.op_type == "Constant"}
    constants.update((each.name, onnx.numpy_helper.to_array(each)) for each in model.graph.initializer)

    def values(node):
        """Of all constants that come into it, through what only hands them on."""
        found = []
        for name in node.input:
            while name in nodes and nodes[name].op_type in ("Cast", "Squeeze", "Identity"):
                name = nodes[name].input[0]
            found += constants[name].ravel().tolist() if name in constants else []
        return found
    exp, = (node for node in model.graph.node if node.op_type == "Exp")
    clip = nodes[exp.input[0]]
    assert clip.op_type == "Clip" and NOTHING in values(clip)
    subtracted, last = [], exp
    while last.op_type != "Relu":
        last = next(node for node in model.graph.node if last.output[0] in node.input)
        subtracted += values(last)
    # paddle2onnx 1.3 takes so small a number for 0 and leaves it out: e^-40 is left then, which is not denormal either.
    left_out = paddle.__version__.startswith("2.")
    assert any(value == pytest.approx(-LEAST, rel=1e-6) for value in subtracted) != left_out


@needs_openvino
def test_bfloat16_is_refused_in_a_line_where_the_processor_has_none(folder):
    with mock.patch.object(openvino_runtime, "has_bfloat16", return_value=False), \
            pytest.raises(ValueError, match="^--precision bf16 needs a processor that computes in it") as raised:
        Exported(Export(str(folder / "deploy.yaml")), "openvino", "bf16", "cpu", 1)
    assert "\n" not in str(raised.value)


@needs_openvino
@pytest.mark.parametrize("there", [True, False])
def test_bfloat16_is_offered_where_the_processor_has_it(there, folder):
    content = Export(str(folder / "deploy.yaml")).content
    with mock.patch.object(backends, "has_bfloat16", return_value=there):
        offered = [form.precision for form in backends.forms_of(content) if form.backend == "openvino"]
    assert offered == ["fp32", *["bf16"] * there]


@needs_openvino
def test_bfloat16_gives_nearly_the_same_classes(folder):
    """On the street: bfloat16 has 8 bits, so that pixels between two classes may change."""
    if not backends.has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    made = Export(str(folder / "deploy.yaml"))
    path = str(ROOT / "docs" / "images" / "street.jpg")
    batch = made.prepare(made.read(path), path).image[np.newaxis]
    whole, half = (np.array(Exported(made, "openvino", precision, "cpu", 1).run(batch).values)
                   for precision in ("fp32", "bf16"))
    assert 0.97 < (whole == half).mean() < 1
