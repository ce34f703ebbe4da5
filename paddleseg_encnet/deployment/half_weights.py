"""ONNX files with weights in half precision, half as large: a Cast behind each weight makes float32 of it when the file
is loaded, and the network is computed in float32 as before."""

from typing import Any, List

from paddleseg_encnet.weights.halves import half

FEW = 16        # so few numbers stay: they may be no weights but a size or scale, and would save nothing


def halve(path: str) -> None:
    """Stores the float32 weights of an ONNX file in half precision; those that are too large for it stay."""
    import onnx
    content = onnx.load(path)
    graph, nodes = content.graph, []
    for tensor in graph.initializer:
        nodes += halved(tensor, tensor.name)
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            casts = halved(node.attribute[0].t, node.output[0])
            if casts:
                node.output[0] = casts[0].input[0]
            nodes += casts
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(
        nodes, graph.name, graph.input, graph.output, graph.initializer, value_info=graph.value_info),
        opset_imports=content.opset_import, ir_version=content.ir_version), path)


def halved(tensor: Any, name: str) -> List[Any]:
    """Makes a tensor of the graph float16, and returns the Cast that gives float32 under the name of before; nothing,
    where it stays."""
    import onnx
    values = onnx.numpy_helper.to_array(tensor)
    smaller = half(values)
    if values.dtype != "float32" or values.size < FEW or smaller.dtype != "float16":
        return []
    stored = f"{name}.float16"
    tensor.CopyFrom(onnx.numpy_helper.from_array(smaller, stored))
    return [onnx.helper.make_node("Cast", [stored], [name], f"{stored}.cast", to=onnx.TensorProto.FLOAT)]
