"""A table with its frequent rows apart computes what the table computed."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import mqtool.packing.rewrite
from mqruntime.engine.mapped_file import map_file
from mqruntime.engine.planes import unpack_model
from mqruntime.engine.session import Session
from mqtool.model import frequent
from mqtool.model.folder import layer_weight
from mqtool.model.frequent import has_frequent_rows, split_tables
from mqtool.model.graph_files import save_graph
from mqtool.model.layers import Layer, find_layers
from mqtool.packing.size import PackOptions, packed_graph
from mqtool.quantization.rounding import quantize_weight
from mqtool.quantization.weights import PackedWeight, encode_weight
from tiny_graph import toy_graph

ROWS, FREQUENT = 160, 40
PCM = np.random.default_rng(3).normal(0, 0.3, (2, 480)).astype(np.float32)


@pytest.fixture(autouse=True)
def few_frequent_rows(monkeypatch):
    monkeypatch.setattr(frequent, "FREQUENT_ROWS", FREQUENT)


def order() -> np.ndarray:
    return np.random.default_rng(1).permutation(ROWS).astype(np.int32)


def split_toy(rows: np.ndarray | None = None) -> ir.Model:
    model = toy_graph(scale=4)
    orders = {"embed": order() if rows is None else rows}
    split_tables(model.graph, find_layers(model.graph, "model"), orders)
    return model


def logits(model: ir.Model, path) -> np.ndarray:
    save_graph(model, path, external=False)
    return Session(path, threads=1).run({"pcm": PCM})["logits"]


def test_logits_are_equal_whatever_the_order(tmp_path):
    expected = logits(toy_graph(scale=4), tmp_path / "whole.onnx")
    for rows in (order(), np.arange(ROWS, dtype=np.int32), np.arange(ROWS, dtype=np.int32)[::-1]):
        found = logits(split_toy(rows), tmp_path / "split.onnx")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    onnx.checker.check_model(onnx.load(tmp_path / "split.onnx"), full_check=True)


def test_both_parts_are_layers_and_hold_the_rows_in_order():
    whole, model = toy_graph(scale=4), split_toy()
    layers = {layer.name: layer for layer in find_layers(model.graph, "model")}
    assert {name: layer.op for name, layer in layers.items() if name.startswith("embed")} == {
        "embed.frequent": "embedding",
        "embed": "embedding",
    }
    parts = [layer_weight(model, layers[name]) for name in ("embed.frequent", "embed")]
    table = whole.graph.initializers["embed.weight"].const_value.numpy()
    np.testing.assert_array_equal(np.concatenate(parts), table[order()])
    assert len(parts[0]) == FREQUENT
    stored = model.graph.initializers["embed.rank"].const_value
    assert stored.dtype == ir.DataType.UINT16
    np.testing.assert_array_equal(stored.numpy()[order()], np.arange(ROWS))


def test_only_large_tables_that_are_heads_too_are_split(monkeypatch):
    graph = toy_graph(scale=4).graph
    layers = find_layers(graph, "model")
    assert [layer.name for layer in layers if has_frequent_rows(graph, layer)] == ["embed"]
    monkeypatch.setattr(frequent, "FREQUENT_ROWS", ROWS // 4 + 1)
    assert not any(has_frequent_rows(graph, layer) for layer in layers)


@pytest.mark.parametrize("lookup", [True, False], ids=["lookup", "whole-table"])
@pytest.mark.parametrize("opset", [18, 25])
def test_packed_parts_compute_like_the_rounded_table(opset, lookup, tmp_path, monkeypatch):
    """With a width of their own, and each split between two."""
    monkeypatch.setattr(mqtool.packing.rewrite, "LOOKUP_PARAMS", 0 if lookup else 10**9)
    model, rounded = split_toy(), split_toy()
    layers = [layer for layer in find_layers(model.graph, "model") if layer.op == "embedding"]
    widths = {"embed.frequent": (6, 7), "embed": (4, 30), "positions": (5, 0)}
    weights = {}
    for layer in layers:
        exact = layer_weight(model, layer)
        weights[layer.name] = quantize_weight(layer, exact, *widths[layer.name], "grouped")
        dequantized = ir.Tensor(weights[layer.name].dequantize(), name=layer.initializer)
        rounded.graph.initializers[layer.initializer].const_value = dequantized
    expected = logits(rounded, tmp_path / "rounded.onnx")
    encoded = {layer.name: encode_weight(layer, weights[layer.name], opset) for layer in layers}
    for activations, tolerance in (("float", 1e-3), ("dynamic", 0.02)):
        packed = packed_graph(model.clone(), layers, encoded, PackOptions(activations, opset))
        found = logits(packed, tmp_path / "packed.onnx")
        assert np.abs(found - expected).max() <= tolerance * np.ptp(expected)
        decoded = unpack_model(map_file(tmp_path / "packed.onnx"))
        if activations == "dynamic":
            assert decoded is not None
            assert decoded.codes.keys() == {"embed.ordered.codes"}
            heads = [node for node in packed.graph if node.op_type == "MatMulInteger"]
            assert [node.inputs[1].name for node in heads] == ["embed.ordered.codes"]
            stock = Session(tmp_path / "packed.onnx", threads=1, unpack=False)
            np.testing.assert_array_equal(stock.run({"pcm": PCM})["logits"], found)


@pytest.mark.parametrize("lower", [0, 7])
def test_rows_of_ids_of_known_rank_are_reshaped_by_constants(lower, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(mqtool.packing.rewrite, "LOOKUP_PARAMS", 0)
    found, shapes = [], []
    for is_known in (False, True):
        model = toy_graph(scale=4)
        ids = next(node for node in model.graph if node.op_type == "Gather").inputs[1]
        if is_known:
            ids.shape, ids.type = ir.Shape(["n"]), ir.TensorType(ir.DataType.INT64)
        split_tables(model.graph, find_layers(model.graph, "model"), {"embed": order()})
        save_graph(model.clone(), tmp_path / "split.onnx", external=False)
        packed = packed_graph(model, *packed_tables(model, lower), PackOptions())
        found.append(logits(packed, tmp_path / "packed.onnx"))
        shapes.append(sum(node.op_type == "Shape" for node in packed.graph))
    np.testing.assert_array_equal(found[0], found[1])
    assert shapes[1] == 2 < shapes[0]  # the toy's own
    assert not caplog.records


def packed_tables(model: ir.Model, lower: int = 0) -> tuple[list[Layer], dict[str, PackedWeight]]:
    """Both parts of the table at 4 bits, `lower` rows of each at 3."""
    layers = [layer for layer in find_layers(model.graph, "model") if "embed" in layer.name]
    weights = {
        layer.name: quantize_weight(layer, layer_weight(model, layer), 4, lower, "grouped")
        for layer in layers
    }
    return layers, {layer.name: encode_weight(layer, weights[layer.name], 25) for layer in layers}


def test_an_order_that_is_none_is_left_to_onnxruntime(tmp_path):
    model = split_toy()
    packed = packed_graph(model, *packed_tables(model), PackOptions())
    for ranks in (np.zeros(ROWS, np.uint16), np.arange(ROWS - 1, dtype=np.uint16)):
        packed.graph.initializers["embed.rank"].const_value = ir.Tensor(ranks, name="embed.rank")
        save_graph(packed, tmp_path / "packed.onnx", external=False)
        assert unpack_model(map_file(tmp_path / "packed.onnx")) is None


@pytest.mark.parametrize("rows", [order(), np.arange(ROWS, dtype=np.int32)], ids=["mixed", "apart"])
def test_tables_of_many_blocks_are_decoded(rows, tmp_path, monkeypatch):
    """Where rows are apart, a block has rows of one part alone."""
    monkeypatch.setattr("mqruntime.engine.planes._BLOCK", 500)
    model = split_toy(rows)
    packed = packed_graph(model, *packed_tables(model, lower=7), PackOptions())
    found = logits(packed, tmp_path / "packed.onnx")
    assert unpack_model(map_file(tmp_path / "packed.onnx")) is not None
    stock = Session(tmp_path / "packed.onnx", threads=1, unpack=False)
    np.testing.assert_array_equal(stock.run({"pcm": PCM})["logits"], found)
