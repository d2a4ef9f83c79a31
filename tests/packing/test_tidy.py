import numpy as np
import onnx
import onnx_ir as ir

from mqruntime.engine.session import Session
from mqtool.model.graph_files import save_graph
from mqtool.packing.tidy import set_opset, shorten_names, store_half

GELU = """
<ir_version: 10, opset_import: ["" : 20]>
gelu (float[n] pcm) => (float[n] logits)
<int64 one = {1}>
{
   steps = Shape (pcm)
   more = Add (steps, one)
   active = Gelu (pcm)
   logits = Identity (active)
}
"""


def test_gelu_below_opset_20_is_spelled_out_beside_constants_of_other_types(tmp_path):
    """The graph has an int64 constant named `one`, as exported front ends do."""
    pcm = np.linspace(-6, 6, 101, dtype=np.float32)
    results = []
    for name, opset in (("new", 25), ("old", 18)):
        model = ir.from_onnx_text(GELU)
        set_opset(model, opset)
        shorten_names(model.graph)
        save_graph(model, tmp_path / f"{name}.onnx", external=False)
        onnx.checker.check_model(onnx.load(tmp_path / f"{name}.onnx"))
        results.append(Session(tmp_path / f"{name}.onnx").run({"pcm": pcm})["logits"])
    assert "Gelu" not in [node.op_type for node in onnx.load(tmp_path / "old.onnx").graph.node]
    np.testing.assert_allclose(results[0], results[1], atol=1e-6)


def graph_with(values: np.ndarray, op: str = "Add") -> ir.Model:
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 20]>\n'
        f"g (float[n] pcm, float bias) => (float[n] logits) {{ logits = {op} (pcm, bias) }}"
    )
    bias = model.graph.inputs[1]
    bias.const_value = ir.Tensor(values, name="bias")
    bias.shape = ir.Shape(values.shape)
    model.graph.inputs.remove(bias)
    model.graph.register_initializer(bias)
    return model


def stored_type(model: ir.Model) -> ir.DataType:
    store_half(model.graph)
    tensor = model.graph.initializers["bias"].const_value
    assert tensor is not None
    return tensor.dtype


def test_addends_are_stored_in_half_precision():
    values = np.random.default_rng(0).normal(0, 3, 100).astype(np.float32)
    assert stored_type(graph_with(values)) == ir.DataType.FLOAT16


def test_what_half_precision_would_harm_stays_float():
    values = np.random.default_rng(0).normal(0, 3, 100).astype(np.float32)
    assert stored_type(graph_with(values[:20])) == ir.DataType.FLOAT, "too small to pay"
    assert stored_type(graph_with(values, "Div")) == ir.DataType.FLOAT, "ratios matter"
    assert stored_type(graph_with(values * np.float32(1e5))) == ir.DataType.FLOAT, "overflow"
    values[3] = np.nan
    assert stored_type(graph_with(values)) == ir.DataType.FLOAT, "not finite"
