"""Codes for given steps: as large as they come, and making up for each other's errors."""

import numpy as np
import pytest

from mqtool.model.layers import Layer
from mqtool.quantization.coded import (
    FINEST_ROW,
    CodedWeight,
    highest_code,
    round_to_steps,
    row_factors,
    row_steps,
    storable_step,
)
from mqtool.quantization.compensate import Compensators
from toy_layers import correlated, layer_of

ROWS, COLUMNS = 48, 96


def weights(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (ROWS, COLUMNS)).astype(np.float32)


def steps(least: float, most: float) -> np.ndarray:
    return storable_step(np.random.default_rng(1).uniform(least, most, ROWS))


def test_without_inputs_each_weight_takes_the_nearest_code():
    weight, scale = weights(), steps(0.2, 0.4)
    found = round_to_steps(weight, scale)
    assert np.abs(found.dequantize() - weight).max() <= scale.max() / 2 + 1e-6
    np.testing.assert_array_equal(found.scale, scale)


@pytest.mark.parametrize("step", [0.2, 0.6, 1.2])
def test_errors_make_up_for_each_other_in_the_output(step):
    moments, weight = correlated(COLUMNS), weights()
    scale = steps(step, step * 1.5)
    nearest = round_to_steps(weight, scale)
    compensated = round_to_steps(weight, scale, Compensators(moments))
    before = moments.error(nearest.dequantize() - weight)
    assert moments.error(compensated.dequantize() - weight) < 0.7 * before


def test_codes_go_as_far_as_they_may():
    weight = weights()
    weight[3, 5] = 300.0
    scale, inputs = steps(0.2, 0.2), Compensators(correlated(COLUMNS))
    for known in (None, inputs):
        free = round_to_steps(weight, scale, known)
        assert free.codes[3, 5] > 1400
        assert abs(free.dequantize()[3, 5] - 300) < 5
        bound = round_to_steps(weight, scale, known, highest=64)
        assert np.abs(bound.codes).max() == 64


def test_groups_of_a_convolution_are_rounded_for_their_own_inputs():
    moments = correlated(COLUMNS, groups=2)
    weight, scale = weights(), steps(0.5, 0.5)
    whole = round_to_steps(weight, scale, Compensators(moments))
    half = ROWS // 2
    for group in range(2):
        rows = slice(group * half, (group + 1) * half)
        alone = Compensators(type(moments)(moments.stored[[group]], moments.abs_max[[group]]))
        found = round_to_steps(weight[rows], scale[rows], alone)
        np.testing.assert_array_equal(whole.codes[rows], found.codes)


def test_the_weight_is_what_float32_makes_of_code_times_step():
    codes = np.array([[3, -7], [100_000, 1]], np.int32)
    scale = storable_step(np.array([0.1, 0.3]))
    expected = codes.astype(np.float32) * scale[:, None]
    found = CodedWeight(codes, scale).dequantize()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_frequent_rows_are_finer():
    probabilities = np.array([0.5, 0.3, 0.1999, 1e-4, 0.0])
    factors = row_factors(probabilities)
    assert (np.diff(factors) >= 0).all()
    assert factors[0] == FINEST_ROW
    assert factors[-1] == 1
    # Half of the recordings in another language: those of this one have its tokens as often.
    np.testing.assert_allclose(row_factors(probabilities / 2, languages=2), factors)


def test_steps_are_coarser_only_in_rows_that_reach_too_far():
    weight = weights()
    weight[4, 9] = 200.0
    table = Layer("t", "embedding", "model", "t.weight", weight.shape)
    highest = highest_code(table, is_head=True)
    scale = row_steps(weight, 0.25, highest)
    assert scale[4] >= 200 / 64
    np.testing.assert_array_equal(np.delete(scale, 4), 0.25)
    assert np.abs(round_to_steps(weight, scale).codes).max() <= 64
    finer = row_steps(weight, 0.25, highest, np.linspace(0.5, 1, ROWS))
    assert finer[0] == 0.125
    assert (
        row_steps(weight, 0.25, highest_code(layer_of(ROWS, COLUMNS), is_head=False)) == 0.25
    ).all()
