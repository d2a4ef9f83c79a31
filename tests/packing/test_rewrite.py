"""A packed graph computes what its codes and scales say, in every form."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import mqtool.packing.rewrite
from mqruntime.engine.saturation import products_saturate
from mqruntime.engine.session import Session
from mqtool.model.folder import layer_weight
from mqtool.model.graph_files import load_graph, save_graph, saved_bytes
from mqtool.model.layers import find_layers
from mqtool.packing.rewrite import CODES_SUFFIX
from mqtool.packing.size import PackOptions, packed_graph
from mqtool.quantization.rounding import quantize_weight
from mqtool.quantization.weights import StoredLayer, encode_weight, read_layers, weight_spec
from tiny_graph import toy_graph

PCM = np.random.default_rng(1).normal(0, 0.3, (2, 208)).astype(np.float32)


def logits(model: ir.Model, path: Path, *, optimize: bool = True) -> np.ndarray:
    save_graph(model, path, external=False)
    onnx.checker.check_model(onnx.load(path))
    return Session(path, optimize=optimize).run({"pcm": PCM})["logits"]


def quantized_toy(bits: int, rows_at_lower_bits: int, rounding="nearest", scale: int = 1):
    """The toy's layers, quantized, and a float graph with the dequantized weights."""
    model = toy_graph(scale=scale)
    layers = find_layers(model.graph, "model")
    weights = {}
    for layer in layers:
        exact = layer_weight(model, layer)
        weights[layer.name] = quantize_weight(layer, exact, bits, rows_at_lower_bits, rounding)
        values = layer.to_stored(weights[layer.name].dequantize())
        tensor = ir.Tensor(values, name=layer.initializer)
        model.graph.initializers[layer.initializer].const_value = tensor
    return layers, weights, model


@pytest.mark.parametrize("opset", [18, 25])
@pytest.mark.parametrize("lookup", [True, False], ids=["lookup", "whole-table"])
@pytest.mark.parametrize("rows_at_lower_bits", [0, 5])
@pytest.mark.parametrize("bits", [*range(1, 17), 32])
def test_packed_graph_equals_the_dequantized_one(
    bits, rows_at_lower_bits, lookup, opset, tmp_path, monkeypatch
):
    if bits == 1 and rows_at_lower_bits:
        pytest.skip("there is no width below 1")
    monkeypatch.setattr(mqtool.packing.rewrite, "LOOKUP_PARAMS", 0 if lookup else 10**9)
    layers, weights, reference = quantized_toy(bits, rows_at_lower_bits)
    expected = logits(reference, tmp_path / "float.onnx")
    encoded = {layer.name: encode_weight(layer, weights[layer.name], opset) for layer in layers}
    packed = packed_graph(toy_graph(), layers, encoded, PackOptions("float", opset))
    for optimize in (True, False):
        found = logits(packed, tmp_path / "packed.onnx", optimize=optimize)
        # The toy has one bias and no norm; float16 storage of it is the only difference.
        assert np.abs(found - expected).max() <= 1e-3 * np.ptp(expected)

    blank = {layer.name: weight_spec(layer, bits, rows_at_lower_bits, opset) for layer in layers}
    sized = packed_graph(toy_graph(), layers, blank, PackOptions("float", opset))
    size = (tmp_path / "packed.onnx").stat().st_size
    assert saved_bytes(sized, tmp_path / "packed.onnx", external=False) == size

    stored = read_layers(load_graph(tmp_path / "packed.onnx").graph)
    widths = [bits, 16 if bits == 32 else bits - 1] if rows_at_lower_bits else [bits]
    assert {name: layer.widths for name, layer in stored.items()} == {
        layer.name: widths for layer in layers
    }


OPTIMIZE = [True] if products_saturate() else [True, False]
"""With which products are exact on this processor."""


@pytest.mark.parametrize("opset", [18, 25])
@pytest.mark.parametrize("lookup", [True, False], ids=["lookup", "whole-table"])
@pytest.mark.parametrize("rows_at_lower_bits", [0, 5])
@pytest.mark.parametrize("bits", range(1, 8))
def test_multipliers_are_applied_exactly(
    bits, rows_at_lower_bits, lookup, opset, tmp_path, monkeypatch
):
    """At scale 4 rows are 96 long, three groups; those of the first convolution are not grouped."""
    if bits == 1 and rows_at_lower_bits:
        pytest.skip("there is no width below 1")
    monkeypatch.setattr(mqtool.packing.rewrite, "LOOKUP_PARAMS", 0 if lookup else 10**9)
    layers, weights, reference = quantized_toy(bits, rows_at_lower_bits, "grouped", scale=4)
    has_signs = 1 < bits <= 5 or (bits, rows_at_lower_bits) == (6, 5)
    assert (weights["embed"].group_scales.min() < -1) == has_signs
    assert weights["front.conv"].group_scales is None
    expected = logits(reference, tmp_path / "float.onnx")
    encoded = {layer.name: encode_weight(layer, weights[layer.name], opset) for layer in layers}
    for activations, tolerance in (("float", 1e-3), ("dynamic", 0.02)):
        packed = packed_graph(toy_graph(scale=4), layers, encoded, PackOptions(activations, opset))
        for optimize in OPTIMIZE:
            found = logits(packed, tmp_path / "packed.onnx", optimize=optimize)
            assert np.abs(found - expected).max() <= tolerance * np.ptp(expected)
        blank = {
            layer.name: weight_spec(layer, bits, rows_at_lower_bits, opset, grouped=True)
            for layer in layers
        }
        sized = packed_graph(toy_graph(scale=4), layers, blank, PackOptions(activations, opset))
        size = (tmp_path / "packed.onnx").stat().st_size
        assert saved_bytes(sized, tmp_path / "packed.onnx", external=False) == size


@pytest.mark.parametrize("bits", range(2, 9))
def test_dynamic_activations_stay_close_and_use_integer_kernels(bits, tmp_path):
    layers, weights, reference = quantized_toy(bits, 3, scale=2)
    expected = logits(reference, tmp_path / "float.onnx")
    encoded = {layer.name: encode_weight(layer, weights[layer.name], 25) for layer in layers}
    packed = packed_graph(toy_graph(scale=2), layers, encoded, PackOptions("dynamic", 25))
    operators = [node.op_type for node in packed.graph]
    assert operators.count("MatMulInteger") == 3
    assert operators.count("DynamicQuantizeLinear") == 2, "Q and K share their input's codes"
    assert "MatMul" not in operators
    for optimize in OPTIMIZE:
        found = logits(packed, tmp_path / "packed.onnx", optimize=optimize)
        assert np.abs(found - expected).max() <= 0.02 * np.ptp(expected)


def test_layers_above_8_bits_compute_in_float(tmp_path):
    layers, weights, _ = quantized_toy(9, 3)
    encoded = {layer.name: encode_weight(layer, weights[layer.name], 25) for layer in layers}
    packed = packed_graph(toy_graph(), layers, encoded, PackOptions("dynamic", 25))
    assert "MatMulInteger" not in [node.op_type for node in packed.graph]


@pytest.mark.parametrize("activations", ["dynamic", "static"])
@pytest.mark.parametrize("scale", [1, 2])
def test_layers_that_some_releases_multiply_wrongly_compute_in_float(scale, activations):
    layers, weights, _ = quantized_toy(7, 0, scale=scale)
    encoded = {layer.name: encode_weight(layer, weights[layer.name], 25) for layer in layers}
    options = PackOptions(activations, 25)
    packed = packed_graph(toy_graph(scale=scale), layers, encoded, options)
    integers = {str(value.name) for node in packed.graph for value in node.outputs}
    integers = {name for name in integers if name.endswith(CODES_SUFFIX)}
    wide = {layer.name for layer in layers if layer.name.startswith(("layer", "embed"))}
    assert {layer.rows for layer in layers if layer.name in wide} == {24 * scale, 40 * scale}
    wide -= {layer.name for layer in layers if layer.rows == 24}
    assert integers == {name + CODES_SUFFIX for name in wide}


def test_inputs_and_outputs_keep_their_names_and_types():
    layers, weights, _ = quantized_toy(4, 0)
    encoded = {layer.name: encode_weight(layer, weights[layer.name], 25) for layer in layers}
    packed = packed_graph(toy_graph(), layers, encoded, PackOptions())
    assert [value.name for value in packed.graph.inputs] == ["pcm"]
    assert [(value.name, value.dtype) for value in packed.graph.outputs] == [
        ("logits", ir.DataType.FLOAT)
    ]


def test_tied_table_is_stored_once(tmp_path):
    layers, weights, _ = quantized_toy(8, 0)
    encoded = {layer.name: encode_weight(layer, weights[layer.name], 25) for layer in layers}
    packed = packed_graph(toy_graph(), layers, encoded, PackOptions())
    save_graph(packed, tmp_path / "packed.onnx", external=False)
    stored = read_layers(load_graph(tmp_path / "packed.onnx").graph)
    # 40 x 24 codes of one byte and 40 scales of two.
    assert stored["embed"] == StoredLayer([8], 40 * 24 + 40 * 2)


def test_external_data_has_the_predicted_size(tmp_path):
    layers, weights, _ = quantized_toy(6, 5)
    encoded = {layer.name: encode_weight(layer, weights[layer.name], 25) for layer in layers}
    packed = packed_graph(toy_graph(), layers, encoded, PackOptions())
    inside = logits(packed, tmp_path / "inside.onnx")
    blank = {layer.name: weight_spec(layer, 6, 5, 25) for layer in layers}
    sized = packed_graph(toy_graph(), layers, blank, PackOptions())
    predicted = saved_bytes(sized, tmp_path / "model.onnx", external=True)
    save_graph(packed, tmp_path / "model.onnx", external=True)
    files = [tmp_path / "model.onnx", tmp_path / "model.onnx.data"]
    assert sum(file.stat().st_size for file in files) == predicted
    outside = Session(files[0]).run({"pcm": PCM})["logits"]
    np.testing.assert_array_equal(outside, inside)


def test_layers_at_32_bits_are_left_alone():
    layers, weights, _ = quantized_toy(32, 0)
    encoded = {layer.name: encode_weight(layer, weights[layer.name], 25) for layer in layers}
    packed = packed_graph(toy_graph(), layers, encoded, PackOptions())
    stored = read_layers(packed.graph)
    assert stored == {layer.name: StoredLayer([32], 4 * layer.params) for layer in layers}


@pytest.mark.parametrize("lower", [0, 7])
def test_rows_of_ids_of_known_rank_are_reshaped_by_constants(lower, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(mqtool.packing.rewrite, "LOOKUP_PARAMS", 0)
    layers, weights, _ = quantized_toy(4, lower, "grouped", scale=4)
    encoded = {layer.name: encode_weight(layer, weights[layer.name], 25) for layer in layers}
    found, shapes = [], []
    for is_known in (False, True):
        model = toy_graph(scale=4)
        ids = next(node for node in model.graph if node.op_type == "Gather").inputs[1]
        if is_known:
            ids.shape, ids.type = ir.Shape(["n"]), ir.TensorType(ir.DataType.INT64)
        packed = packed_graph(model, layers, encoded, PackOptions())
        shapes.append(sum(node.op_type == "Shape" for node in packed.graph))
        found.append(logits(packed, tmp_path / "packed.onnx"))
    np.testing.assert_array_equal(found[0], found[1])
    assert shapes[1] < shapes[0]
    assert not caplog.records
