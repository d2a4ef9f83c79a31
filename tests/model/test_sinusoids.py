"""Positions that are sinusoids are computed; others stay a table."""

import numpy as np
import onnx_ir as ir
import pytest

from mqruntime.engine.session import Session
from mqtool.model.graph_files import save_graph
from mqtool.model.layers import find_layers
from mqtool.model.sinusoids import formulate_sinusoids

ROWS, COLUMNS = 1500, 64


def sinusoids() -> np.ndarray:
    """As openai/whisper makes them."""
    half = COLUMNS // 2
    inverse = np.exp(-np.log(10000) / (half - 1) * np.arange(half))
    angles = np.arange(ROWS)[:, None] * inverse
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def positions(table: np.ndarray) -> ir.Model:
    """y = x + table[:n]"""
    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        graph (float[n, {COLUMNS}] x, int64[1] n) => (float[n, {COLUMNS}] y)
        <int64[1] zero = {{0}}> {{
            rows = Slice(positions, zero, n, zero)
            y = Add(x, rows)
        }}"""
    )
    tensor = ir.Tensor(table, name="positions")
    value = ir.Value(
        name=tensor.name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    model.graph.register_initializer(value)
    node = next(iter(model.graph))
    node.replace_input_with(0, value)
    return model


def formulated(table: np.ndarray) -> ir.Model:
    model = positions(table)
    layers = find_layers(model.graph, "model")
    assert [layer.name for layer in layers] == ["positions"]
    formulate_sinusoids(model.graph, layers)
    return model


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("optimize", [True, False])
def test_sinusoids_are_computed(kind, optimize, tmp_path):
    table = sinusoids().astype(kind).astype(np.float32)
    model = formulated(table)
    assert not find_layers(model.graph, "model")
    save_graph(model, tmp_path / "model.onnx", external=False)
    assert (tmp_path / "model.onnx").stat().st_size < 2000
    session = Session(tmp_path / "model.onnx", optimize=optimize)
    x = np.zeros((700, COLUMNS), np.float32)
    found = session.run({"x": x, "n": np.array([700])})["y"]
    np.testing.assert_allclose(found, table[:700], rtol=0, atol=1e-3)


@pytest.mark.parametrize("change", ["tuned", "learned", "odd"])
def test_other_tables_stay(change):
    table = sinusoids()
    if change == "tuned":
        table[700, 3] += 0.002
    elif change == "learned":
        table = np.random.default_rng(0).normal(0, 1, table.shape).astype(np.float32)
    else:
        table = table[:, ::-1].copy()
    assert find_layers(formulated(table).graph, "model")
