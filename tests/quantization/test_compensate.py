"""Compensated rounding against a slow, obvious form of it, and against plain rounding."""

import numpy as np
import pytest

from mqtool.model.layers import Layer
from mqtool.observe.moments import InputMoments
from mqtool.quantization.compensate import DAMPING, Compensator
from mqtool.quantization.rounding import LOOKUP_WEIGHT, LayerInput, layer_inputs, quantize_weight
from toy_layers import correlated, layer_of


def optimal_brain_rounding(weight, step, second, low, high):
    """GPTQ eq. 2 and 3 as they stand: invert what is left of the matrix anew for every column."""
    order = np.argsort(-np.diagonal(second), kind="stable")
    matrix = second.astype(np.float64)
    matrix = matrix + np.eye(len(matrix)) * DAMPING * np.diagonal(matrix).mean()
    left, codes = weight.astype(np.float64).copy(), np.zeros(weight.shape, int)
    for index, column in enumerate(order):
        inverse = np.linalg.inv(matrix[np.ix_(order[index:], order[index:])])
        codes[:, column] = np.clip(np.rint(left[:, column] / step[:, column]), low, high)
        error = (left[:, column] - codes[:, column] * step[:, column]) / inverse[0, 0]
        left[:, order[index:]] -= error[:, None] * inverse[0]
    return codes


@pytest.mark.parametrize("columns", [8, 70])  # one block of columns, and more than one
def test_same_codes_as_the_slow_form(columns):
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 1, (9, columns)).astype(np.float32)
    step = np.full(weight.shape, 0.3, np.float32)
    second = correlated(columns).gram[0]
    low, high = np.full(9, -8), np.full(9, 7)
    codes = Compensator(second).round(weight, step, low, high)
    slow = optimal_brain_rounding(weight, step, second, -8, 7)
    assert (codes == slow).mean() > 0.99, "ties may fall either way in float32"


def test_inputs_without_correlation_are_rounded_to_nearest():
    weight = np.random.default_rng(2).normal(0, 1, (5, 16)).astype(np.float32)
    step = np.full(weight.shape, 0.25, np.float32)
    ends = np.full(5, -8), np.full(5, 7)
    codes = Compensator(np.eye(16, dtype=np.float32)).round(weight, step, *ends)
    np.testing.assert_array_equal(codes, np.clip(np.rint(weight / 0.25), -8, 7))


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_outputs_error_shrinks(bits):
    weight = np.random.default_rng(bits).standard_t(4, (48, 96)).astype(np.float32)
    layer, moments = layer_of(48, 96), correlated(96)
    inputs = LayerInput(moments)
    plain = quantize_weight(layer, weight, bits, 0, "grouped").dequantize()
    compensated = quantize_weight(layer, weight, bits, 0, "compensated", inputs).dequantize()
    assert moments.error(compensated - weight) < 0.7 * moments.error(plain - weight)


def test_rows_of_two_widths_keep_to_their_ranges():
    weight = np.random.default_rng(5).standard_t(4, (48, 96)).astype(np.float32)
    rounded = quantize_weight(
        layer_of(48, 96), weight, 4, 20, "compensated", LayerInput(correlated(96))
    )
    assert rounded.codes[:28].min() >= -8
    assert rounded.codes[:28].max() <= 7
    assert rounded.codes[28:].min() >= -4
    assert rounded.codes[28:].max() <= 3


def test_one_bit_has_signs_only():
    weight = np.random.default_rng(6).normal(0, 1, (16, 64)).astype(np.float32)
    inputs = LayerInput(correlated(64))
    rounded = quantize_weight(layer_of(16, 64), weight, 1, 0, "compensated", inputs)
    assert set(np.unique(rounded.codes)) == {-1, 1}


def test_grouped_convolutions_use_their_own_groups():
    """Two groups of channels: each half of the rows is rounded for the inputs it sees."""
    moments = correlated(24, groups=2)
    weight = np.random.default_rng(7).normal(0, 1, (10, 24)).astype(np.float32)
    layer = Layer("conv", "conv", "model", "conv.weight", (10, 8, 3))
    whole = quantize_weight(layer, weight, 4, 0, "compensated", LayerInput(moments))
    for group in range(2):
        rows = slice(5 * group, 5 * group + 5)
        alone = LayerInput(InputMoments.of(moments.gram[[group]], moments.abs_max[[group]]))
        half = Layer("conv", "conv", "model", "conv.weight", (5, 8, 3))
        expected = quantize_weight(half, weight[rows], 4, 0, "compensated", alone)
        np.testing.assert_array_equal(whole.codes[rows], expected.codes)


def test_diagonals_alone_weigh_the_search_for_scales():
    moments = correlated(64)
    diagonal = InputMoments.of(moments.diagonal, moments.abs_max)
    weight = np.random.default_rng(8).standard_t(3, (32, 64)).astype(np.float32)
    plain = quantize_weight(layer_of(32, 64), weight, 3, 0, "grouped").dequantize()
    weighed = quantize_weight(
        layer_of(32, 64), weight, 3, 0, "compensated", LayerInput(diagonal)
    ).dequantize()
    assert diagonal.error(weighed - weight) < diagonal.error(plain - weight)


def test_layers_of_one_input_share_it_and_a_tied_table_weighs_its_two_uses():
    moments = correlated(32)
    names = ("embed", "positions", "q", "k")
    layers = [
        Layer(name, op, "model", f"{name}.weight", (50, 32))
        for name, op in zip(names, ("embedding", "embedding", "linear", "linear"), strict=True)
    ]
    inputs = layer_inputs(layers, dict.fromkeys(("embed", "q", "k"), moments))
    assert inputs.keys() == {"embed", "q", "k"}, "a table that is only looked up has no moments"
    assert inputs["q"] is inputs["k"]
    added = inputs["embed"].moments.gram[0] - moments.gram[0]
    expected = LOOKUP_WEIGHT * moments.diagonal.mean() * np.eye(32)
    np.testing.assert_allclose(added, expected, atol=1e-4)


def test_a_tied_table_errs_less_as_a_head_and_hardly_more_where_it_is_looked_up():
    moments = correlated(32)
    weight = np.random.default_rng(9).normal(0, 1, (200, 32)).astype(np.float32)
    table = Layer("embed", "embedding", "model", "embed.weight", weight.shape)
    inputs = layer_inputs([table], {"embed": moments})["embed"]
    errors = {
        name: quantize_weight(table, weight, 4, 0, rounding, known).dequantize() - weight
        for name, rounding, known in (
            ("alone", "grouped", None),
            ("both", "compensated", inputs),
            ("head", "compensated", LayerInput(moments)),
        )
    }
    as_head = {name: moments.error(error) for name, error in errors.items()}
    looked_up = {name: float(np.square(error).sum()) for name, error in errors.items()}
    assert as_head["head"] < as_head["both"] < 0.8 * as_head["alone"]
    assert looked_up["both"] < 1.1 * looked_up["alone"]
    assert looked_up["both"] < looked_up["head"]
