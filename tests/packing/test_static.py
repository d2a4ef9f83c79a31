"""Inputs quantized in fixed ranges: what the graph computes is what numpy says of codes."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from mqruntime.engine.session import Session
from mqtool.model.equalize import equalize
from mqtool.model.folder import layer_weight
from mqtool.model.graph_files import load_graph, save_graph, saved_bytes
from mqtool.model.layers import Layer, find_layers
from mqtool.packing.size import PackOptions, packed_graph
from mqtool.packing.static import range_specs, read_ranges
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.rounding import quantize_weight
from mqtool.quantization.weights import encode_weight

ROWS, COLUMNS = 40, 32
FORMS = {"plain": "Neg (pcm)", "gelu": "Gelu (pcm)", "softmax": "Softmax (pcm)"}
SPLITS = {"plain": None, "gelu": "sign", "softmax": "magnitude"}


def one_layer(op: str, source: str, shape: tuple[int, ...]) -> tuple[ir.Model, Layer]:
    """pcm -> source -> one layer -> logits; the layer's input is an output, too."""
    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        one (float[b, n, m] pcm, float l__weight, float l__bias)
            => (float[b, n, m] hidden, float[b, k, l] logits)
        {{ hidden = {FORMS[source]}
           {op} }}"""
    )
    rng = np.random.default_rng(3)
    for value in list(model.graph.inputs)[1:]:
        value.name = value.name.replace("__", ".")
        size = shape if value.name == "l.weight" else (ROWS,)
        array = rng.normal(0, 0.2, size).astype(np.float32)
        value.const_value = ir.Tensor(array, name=value.name)
        value.shape = ir.Shape(size)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model, find_layers(model.graph, "model")[0]


def linear(source: str) -> tuple[ir.Model, Layer]:
    return one_layer(
        "o = MatMul (hidden, l__weight) logits = Add (o, l__bias)", source, (COLUMNS, ROWS)
    )


CONVS = {
    "kernel3": ("<kernel_shape = [3], pads = [1, 1]>", (ROWS, COLUMNS, 3)),
    "stride2": ("<kernel_shape = [3], strides = [2], pads = [1, 0]>", (ROWS, COLUMNS, 3)),
    "stride4": ("<kernel_shape = [2], strides = [4]>", (ROWS, COLUMNS, 2)),
    "pointwise": ("", (ROWS, COLUMNS, 1)),
    "grouped": ("<kernel_shape = [4], group = 4, pads = [2, 2]>", (ROWS, COLUMNS // 4, 4)),
    "dilated": ("<kernel_shape = [3], dilations = [2]>", (ROWS, COLUMNS, 3)),
}


def conv(kind: str, source: str) -> tuple[ir.Model, Layer]:
    attributes, shape = CONVS[kind]
    return one_layer(f"logits = Conv {attributes} (hidden, l__weight, l__bias)", source, shape)


def range_for(source: str, values: np.ndarray, bits: int, twin: bool) -> ActivationRange:
    """A range that clips the outermost values, so that clipping is tested as well."""
    split = SPLITS[source] if twin else None
    if split is not None:
        reach = 0.17 if split == "sign" else 0.05
        codes = 2 ** (bits - 1) - 1
        shift = int(np.log2(np.abs(values).max() * 0.9 / reach))
        return ActivationRange(bits, float(np.float32(reach / codes)), 0, split, shift)
    low, high = 0.9 * min(values.min(), 0), 0.9 * max(values.max(), 0)
    scale = np.float32((high - low) / (2**bits - 1))
    return ActivationRange(bits, float(scale), round(float(-low / scale)))


def check(made: tuple[ir.Model, Layer], source: str, options: PackOptions, path: Path, bits=6):
    """Pack the model and compare with the float model fed with quantized input; return it."""
    model, layer = made
    pcm = np.random.default_rng(1).normal(0, 2, (2, 17, COLUMNS)).astype(np.float32)
    if layer.op == "conv":
        pcm = np.ascontiguousarray(pcm.transpose(0, 2, 1))
    save_graph(model, path, external=False)
    hidden = Session(path).run({"pcm": pcm})["hidden"]
    model.graph.outputs.pop(0)
    given = range_for(source, hidden, options.input_bits, options.twin_ranges)
    weight = quantize_weight(layer, layer_weight(model, layer), bits, 0, "nearest")

    reference = model.clone()
    values = ir.Tensor(layer.to_stored(weight.dequantize()), name="l.weight")
    reference.graph.initializers["l.weight"].const_value = values
    node = next(n for n in reference.graph if n.op_type in ("MatMul", "Conv"))
    fed = ir.val("fed", ir.DataType.FLOAT, ["b", "n", "m"])
    reference.graph.inputs.append(fed)
    node.replace_input_with(0, fed)
    save_graph(reference, path, external=False)
    expected = Session(path).run({"pcm": pcm, "fed": given.quantize(hidden)})["logits"]

    encoded = {layer.name: encode_weight(layer, weight, options.opset)}
    packed = packed_graph(model.clone(), [layer], encoded, options, {layer.name: given})
    save_graph(packed, path, external=False)
    onnx.checker.check_model(onnx.load(path))
    for optimize in (True, False):
        found = Session(path, optimize=optimize).run({"pcm": pcm})["logits"]
        # Codes are equal; float32 sums are not in the same order.
        assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()
    assert read_ranges(load_graph(path).graph) == [given]
    blank = packed_graph(model.clone(), [layer], encoded, options)
    assert saved_bytes(blank, path, external=False) == path.stat().st_size
    return path


def kernels(path: Path) -> list[str]:
    """Operators after onnxruntime's optimization."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(options.optimized_model_filepath).graph
    return [node.op_type for node in graph.node]


@pytest.mark.parametrize("opset", [18, 25])
@pytest.mark.parametrize("act_bits", [4, 6, 8])
@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("twin", [True, False], ids=["twin", "one"])
def test_a_linear_uses_integer_kernels(source, act_bits, opset, twin, tmp_path):
    options = PackOptions("static", opset, act_bits=act_bits, twin_ranges=twin)
    path = check(linear(source), source, options, tmp_path / "m.onnx")
    integer = "MatMulInteger" if twin and SPLITS[source] else "MatMulIntegerToFloat"
    assert integer in kernels(path)
    assert "MatMul" not in kernels(path)


@pytest.mark.parametrize("opset", [18, 25])
@pytest.mark.parametrize("act_bits", [5, 8])
@pytest.mark.parametrize("source", ["plain", "gelu"])
@pytest.mark.parametrize("kind", CONVS)
def test_a_conv_uses_integer_kernels_unless_grouped_or_dilated(
    kind, source, act_bits, opset, tmp_path
):
    options = PackOptions("static", opset, act_bits=act_bits, twin_ranges=source == "gelu")
    path = check(conv(kind, source), source, options, tmp_path / "m.onnx")
    if kind in ("grouped", "dilated"):
        assert "Conv" in kernels(path)
    else:
        integer = "MatMulInteger" if source == "gelu" else "MatMulIntegerToFloat"
        assert integer in kernels(path)
        assert "Conv" not in kernels(path)


@pytest.mark.parametrize("act_bits", [9, 10, 12, 16])
@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("twin", [True, False], ids=["twin", "one"])
def test_above_8_bits_the_product_is_float(source, act_bits, twin, tmp_path):
    options = PackOptions("static", act_bits=act_bits, twin_ranges=twin)
    check(linear(source), source, options, tmp_path / "m.onnx")
    check(conv("stride2", source), source, options, tmp_path / "m.onnx")


@pytest.mark.parametrize("bits", [12, 32])
@pytest.mark.parametrize("twin", [True, False], ids=["twin", "one"])
def test_inputs_of_wide_weights_are_quantized_too(bits, twin, tmp_path):
    options = PackOptions("static", act_bits=6, twin_ranges=twin)
    check(linear("gelu"), "gelu", options, tmp_path / "m.onnx", bits)
    check(conv("kernel3", "gelu"), "gelu", options, tmp_path / "m.onnx", bits)


def test_32_bits_leave_inputs_alone(tmp_path):
    model, layer = linear("gelu")
    weight = quantize_weight(layer, layer_weight(model, layer), 8, 0, "nearest")
    encoded = {layer.name: encode_weight(layer, weight, 25)}
    static = packed_graph(model.clone(), [layer], encoded, PackOptions("static", act_bits=32))
    plain = packed_graph(model.clone(), [layer], encoded, PackOptions("float"))
    assert [node.op_type for node in static.graph] == [node.op_type for node in plain.graph]


@pytest.mark.parametrize("source", ["gelu", "softmax"])
def test_twin_ranges_in_integers_equal_the_float_result_exactly(source, tmp_path):
    """With weights, scales and values that float32 holds exactly there is nothing to round."""
    model, layer = linear(source)
    rng = np.random.default_rng(0)
    whole = rng.integers(-8, 8, (ROWS, COLUMNS)).astype(np.float32)
    model.graph.initializers["l.bias"].const_value = ir.Tensor(
        np.zeros(ROWS, np.float32), name="l.bias"
    )
    model.graph.initializers["l.weight"].const_value = ir.Tensor(
        layer.to_stored(whole), name="l.weight"
    )
    given = ActivationRange(8, 2.0**-10, 0, SPLITS[source], 5)
    weight = quantize_weight(layer, whole, 8, 0, "nearest")
    # Scales of 1: the codes are the weights.
    weight.scale[:] = 1
    weight.codes[:] = whole
    encoded = {layer.name: encode_weight(layer, weight, 25)}
    options = PackOptions("static", act_bits=8, twin_ranges=True)
    packed = packed_graph(model.clone(), [layer], encoded, options, {layer.name: given})
    save_graph(packed, tmp_path / "m.onnx", external=False)
    pcm = rng.normal(0, 2, (3, 50, COLUMNS)).astype(np.float32)
    for optimize in (True, False):
        found = Session(tmp_path / "m.onnx", optimize=optimize).run({"pcm": pcm})
        first, second = given.twin_codes(found["hidden"])
        assert np.abs(first).max() > 100
        assert second.max() > 10
        integers = (second.astype(np.int64) << 5) + first
        expected = (integers @ whole.T.astype(np.int64)).astype(np.float64) * 2.0**-10
        np.testing.assert_array_equal(found["logits"], expected)
        in_float = given.quantize(found["hidden"]).astype(np.float64) @ whole.T.astype(np.float64)
        np.testing.assert_array_equal(found["logits"], in_float)


def test_two_ranges_are_found_through_shapes_and_equalizers():
    model, layer = linear("gelu")
    equalize(model.graph, [layer], {"l": np.full(COLUMNS, 2.0, np.float32)})
    assert "Mul" in [node.op_type for node in model.graph]
    assert range_specs(model.graph, [layer], 8, twin=True)["l"].split == "sign"
    assert range_specs(model.graph, [layer], 8, twin=False)["l"].split is None

    model, layer = linear("softmax")
    node = next(node for node in model.graph if node.op_type == "MatMul")
    source = node.inputs[0]
    turned = ir.node("Transpose", [source], attributes={"perm": [0, 2, 1]})
    model.graph.insert_before(node, turned)
    node.replace_input_with(0, turned.outputs[0])
    assert range_specs(model.graph, [layer], 8, twin=True)["l"].split == "magnitude"
    model, layer = linear("plain")
    assert range_specs(model.graph, [layer], 8, twin=True)["l"].split is None
