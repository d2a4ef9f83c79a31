"""Graphs of int8 codes compute what the rounded weights say, wherever onnxruntime runs them."""

from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mqtool.packing.coded_rewrite
from coded_toys import WIDE, coded_toy, float_toy
from mqruntime.engine.session import Session
from mqtool.model.folder import set_layer_weight
from mqtool.model.graph_files import save_graph
from mqtool.model.layers import find_layers
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.coded import CodedWeight, storable_step
from tiny_graph import toy_graph

PCM = np.random.default_rng(1).normal(0, 0.3, (2, 208)).astype(np.float32)


def logits(path: Path, **options) -> np.ndarray:
    return Session(path, threads=1, **options).run({"pcm": PCM})["logits"]


@pytest.fixture(params=["lookup", "whole-table"])
def lookup(request, monkeypatch) -> None:
    limit = 0 if request.param == "lookup" else 10**9
    monkeypatch.setattr(mqtool.packing.coded_rewrite, "LOOKUP_PARAMS", limit)


def reference(tmp_path: Path, scale: int, *, clip: bool) -> np.ndarray:
    model, layers, weights = float_toy(scale)
    if clip:
        wide = next(layer for layer in layers if layer.name == WIDE)
        codes = np.clip(weights[WIDE].codes, -127, 127)
        set_layer_weight(model, wide, CodedWeight(codes, weights[WIDE].scale).dequantize())
    save_graph(model, tmp_path / "float.onnx", external=False)
    return logits(tmp_path / "float.onnx")


@pytest.mark.usefixtures("lookup")
def test_float_activations_give_the_rounded_graph(tmp_path):
    path = coded_toy(2, tmp_path / "coded.onnx", "float")
    expected = reference(tmp_path, 2, clip=False)
    for options in ({}, {"optimize": False}):
        np.testing.assert_allclose(logits(path, **options), expected, rtol=0, atol=1e-4)


@pytest.mark.usefixtures("lookup")
def test_integer_kernels_stay_close_to_it(tmp_path):
    path = coded_toy(2, tmp_path / "coded.onnx", "dynamic")
    model = onnx.load(path, load_external_data=False)
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("MatMulInteger") == 3
    assert operators.count("DynamicQuantizeLinear") == 2
    assert (model.opset_import[0].version, model.ir_version) == (21, 10)
    codes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    assert list(codes["embed.codes"]) == [48, 80], "once, column by column"
    assert codes[f"{WIDE}.codes"][0] > 48
    assert {"embed.repeats", f"{WIDE}.repeats"} & set(codes) == {f"{WIDE}.repeats"}
    expected = reference(tmp_path, 2, clip=False)
    found = logits(path)
    assert np.abs(found - expected).max() <= 0.02 * np.ptp(expected)
    clipped = reference(tmp_path, 2, clip=True)
    assert np.abs(clipped - expected).max() > 0.02 * np.ptp(expected), "wide codes matter"
    np.testing.assert_allclose(logits(path, optimize=False), found, rtol=0, atol=1e-4)


def test_it_computes_the_same_where_weights_are_unsigned(tmp_path):
    path = coded_toy(2, tmp_path / "coded.onnx", "dynamic", external=False)
    expected = logits(path)
    with mock.patch("mqruntime.engine.session.products_saturate", return_value=True):
        np.testing.assert_array_equal(logits(path), expected)


@pytest.mark.usefixtures("lookup")
def test_static_activations(tmp_path):
    plain = reference(tmp_path, 2, clip=False)
    names = [layer.name for layer in find_layers(toy_graph(scale=2).graph, "model")]
    ranges = {name: ActivationRange(8, 0.04, 128) for name in names if name.startswith("layer")}
    path = coded_toy(2, tmp_path / "coded.onnx", "static", ranges=ranges)
    for options in ({}, {"optimize": False}):
        found = logits(path, **options)
        assert 0 < np.abs(found - plain).max() <= 0.1 * np.ptp(plain)


def test_layers_that_some_releases_multiply_wrongly_compute_in_float(tmp_path):
    path = coded_toy(1, tmp_path / "coded.onnx", "dynamic")
    operators = [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]
    assert operators.count("MatMulInteger") == 1, "the head, of 40 rows"
    expected = reference(tmp_path, 1, clip=False)
    assert np.abs(logits(path) - expected).max() <= 0.02 * np.ptp(expected)


@given(
    st.lists(st.integers(-3000, 3000), min_size=1, max_size=30),
    st.integers(1, 5),
)
def test_parts_add_up_to_the_codes(values, rows):
    columns = -(-len(values) // rows)
    codes = np.zeros(rows * columns, np.int32)
    codes[: len(values)] = values
    codes = codes.reshape(rows, columns)
    parts, repeated = CodedWeight(codes, np.ones(rows, np.float32)).int8_parts()
    assert np.abs(parts.astype(int)).max(initial=0) <= 127
    total = parts[:columns].astype(int)
    np.add.at(total, repeated, parts[columns:].astype(int))
    np.testing.assert_array_equal(total, codes.T)
    assert len(repeated) == sum(
        max(-(-np.abs(codes[:, j]).max() // 127) - 1, 0) for j in range(columns)
    )


def test_steps_are_never_zero_and_bfloat16():
    steps = storable_step(np.array([0.0, 1e-60, 0.1, 3.0]))
    assert (steps > 0).all()
    assert ((steps.view(np.uint32) & 0xFFFF) == 0).all()
    assert abs(steps[2] - 0.1) < 0.0005
