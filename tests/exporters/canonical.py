"""What every exported graph must look like."""

from collections import Counter
from pathlib import Path

import onnx
from onnx import ModelProto, numpy_helper

from mqruntime.engine.session import Session

LEFT_OVER = {"Identity", "Dropout", "Constant", "Gemm", "BatchNormalization", "CastLike"}


def check_canonical(path: Path, parameters: set[str]) -> None:
    """Assert mqtool's canonical form; `parameters` are those of the source model."""
    model = onnx.load(path)
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    assert len(stored) == len(graph.initializer)
    assert all(readers[name] for name in stored), "unused initializer"
    assert not {node.op_type for node in graph.node} & LEFT_OVER

    assert not graph.value_info
    assert not model.metadata_props
    described = [model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer]
    assert not any(item.doc_string for item in described)
    notes = [*graph.node, *graph.input, *graph.output, *graph.initializer]
    assert not any(item.metadata_props for item in notes)
    assert not any(node.metadata_props for node in graph.node)

    contents = Counter(
        (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
        for name, tensor in stored.items()
        if "." not in name
    )
    assert max(contents.values(), default=1) == 1, "a constant is stored twice"
    assert {name for name in stored if name.endswith((".weight", ".bias"))} <= parameters

    for node in graph.node:
        if node.op_type == "MatMul":
            assert node.input[0] not in stored
            assert node.input[1] not in stored or node.input[1].endswith(".weight")
        if node.op_type == "Conv" and node.input[1] in stored:
            name = node.input[1].removesuffix(".weight")
            assert list(node.input[1:]) in ([f"{name}.weight"], [f"{name}.weight", f"{name}.bias"])
        if node.op_type == "Transpose" and node.input[0] in stored:
            assert readers[node.input[0]] == 2, "only a tied embedding is transposed in the graph"
        if node.op_type == "Add" and any(name.endswith("_proj.bias") for name in node.input):
            (bias,) = (name for name in node.input if name in stored)
            (maker,) = (made for made in graph.node if node.input[0] in made.output)
            assert maker.name == bias.removesuffix(".bias")

    check_newest_opset(model, path.with_suffix(".newest.onnx"))


def check_newest_opset(model: ModelProto, path: Path) -> None:
    """Assert that the graph stays valid and loads with the opset that packed graphs use."""
    model.opset_import[0].version = 25
    model.ir_version = 13
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    try:
        Session(path)
    finally:
        path.unlink()
