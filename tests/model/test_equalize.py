"""An equalized graph computes what the graph computed, with its channels alike."""

import numpy as np
import onnx_ir as ir
import pytest

from mqruntime.engine.session import Session
from mqtool.model.equalize import equalize, shared_inputs, smoothing_factors
from mqtool.model.graph_files import save_graph
from mqtool.model.layers import find_layers

COLUMNS, ROWS = 6, 4

BLOCK = """
<ir_version: 10, opset_import: ["" : 20]>
block (float[batch, time, 6] pcm, float[6] gain, float[6] shift, float q__weight, float k__weight,
       float out__weight) => (float[batch, time, 4] logits)
{
   normed = LayerNormalization <axis = -1> (pcm, gain, shift)
   q = MatMul (normed, q__weight)
   k = MatMul (normed, k__weight)
   mixed = Mul (q, k)
   logits = MatMul (mixed, out__weight)
}
"""


def block(text: str = BLOCK) -> ir.Model:
    rng = np.random.default_rng(0)
    model = ir.from_onnx_text(text)
    shapes = {"gain": (6,), "shift": (6,), "out.weight": (ROWS, ROWS)}
    for value in list(model.graph.inputs)[1:]:
        value.name = value.name.replace("__", ".")
        array = rng.normal(1, 0.5, shapes.get(value.name, (COLUMNS, ROWS))).astype(np.float32)
        value.const_value = ir.Tensor(array, name=value.name)
        value.shape = ir.Shape(array.shape)
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


def run(model: ir.Model, path) -> np.ndarray:
    save_graph(model, path, external=False)
    pcm = np.random.default_rng(1).normal(0, 1, (2, 5, COLUMNS)).astype(np.float32)
    return Session(path).run({"pcm": pcm})["logits"]


def factors_of(model: ir.Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    groups = shared_inputs(model.graph, find_layers(model.graph, "model"))
    return {g.name: rng.uniform(1, 50, g.columns).astype(np.float32) for g in groups}


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_linears_of_one_tensor_are_found_together():
    model = block()
    groups = shared_inputs(model.graph, find_layers(model.graph, "model"))
    assert [[layer.name for layer in group.layers] for group in groups] == [["q", "k"], ["out"]]
    assert [group.name for group in groups] == ["q", "out"]


def test_division_goes_into_the_norm_where_only_linears_read_it(tmp_path):
    model = block()
    before, factors = run(model, tmp_path / "before.onnx"), factors_of(model)
    gain = model.graph.initializers["gain"].const_value.numpy()
    weight = model.graph.initializers["k.weight"].const_value.numpy()
    equalize(model.graph, find_layers(model.graph, "model"), factors)
    np.testing.assert_allclose(run(model, tmp_path / "after.onnx"), before, rtol=2e-5, atol=1e-5)
    # One Mul more: in front of `out`, which no norm precedes.
    assert sorted(operators(model)) == sorted([*operators(block()), "Mul"])
    folded = model.graph.initializers["gain"].const_value.numpy()
    np.testing.assert_allclose(folded * factors["q"], gain, rtol=1e-6)
    scaled = model.graph.initializers["k.weight"].const_value.numpy()
    np.testing.assert_allclose(scaled, weight * factors["q"][:, None], rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        BLOCK.replace("mixed = Mul (q, k)", "sum = ReduceMean (normed)\n mixed = Add (q, sum)"),
        BLOCK.replace("q = MatMul", "second = LayerNormalization (pcm, gain, shift)\n q = MatMul")
        .replace("(q, k)", "(q, kk)")
        .replace("mixed =", "extra = ReduceMean (second)\n kk = Add (k, extra)\n mixed ="),
    ],
    ids=["norm read by another node", "norm's weights used twice"],
)
def test_division_stays_apart_where_the_norm_serves_others(text, tmp_path):
    model = block(text)
    before, factors = run(model, tmp_path / "before.onnx"), factors_of(model)
    gain = model.graph.initializers["gain"].const_value.numpy()
    equalize(model.graph, find_layers(model.graph, "model"), factors)
    np.testing.assert_allclose(run(model, tmp_path / "after.onnx"), before, rtol=2e-5, atol=1e-5)
    np.testing.assert_array_equal(model.graph.initializers["gain"].const_value.numpy(), gain)


def test_only_channels_that_stand_out_are_divided():
    largest = np.array([0.0, 1e-6, 1, 2, 2, 2, 3, 200], np.float32)
    factors = smoothing_factors(largest)
    assert (factors[:6] == 1).all(), "what is small here may be large in other recordings"
    assert 1 < factors[6] < 1.5
    assert 10 < factors[7] < 100


def test_a_silent_tensor_has_factors_of_one():
    np.testing.assert_array_equal(smoothing_factors(np.zeros(5, np.float32)), np.ones(5))


def test_channels_that_are_never_used_set_no_range():
    """As after a Relu: the others are compared among themselves."""
    largest = np.zeros(9, np.float32)
    largest[:3] = 1, 2, 8
    factors = smoothing_factors(largest)
    np.testing.assert_allclose(factors, [1, 1, 4**0.7, *[1] * 6], rtol=1e-6)
    assert (smoothing_factors(np.zeros(4, np.float32)) == 1).all()
