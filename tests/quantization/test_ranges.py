"""Ranges by hand: equations 2 and 3, no calibration, and two ranges a power of two apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.ranges import bit_range, minmax_range

ONE = ActivationRange(8, 1.0)

GELU_LOWEST = 0.16997124
"""-min over x of GELU(x)."""


def test_equations_2_and_3_by_hand():
    found = minmax_range(ActivationRange(4, 1.0), -1.0, 2.0)
    assert found.scale == np.float32(3 / 15)
    assert found.zero_point == 5
    values = np.array([-9, -1, -0.31, 0, 0.1, 0.11, 1.99, 2, 9], np.float32)
    assert found.codes(values).tolist() == [0, 0, 3, 5, 5, 6, 15, 15, 15]
    np.testing.assert_allclose(found.quantize(values)[[0, 2, 3, 8]], [-1, -0.4, 0, 2], rtol=1e-6)


@given(
    st.floats(-100, 100, width=32), st.floats(-100, 100, width=32), st.sampled_from([4, 6, 8, 16])
)
def test_a_range_holds_its_ends_to_a_step_and_zero_exactly(one, other, bits):
    low, high = sorted((one, other))
    found = minmax_range(ActivationRange(bits, 1.0), low, high)
    ends = np.array([low, high, 0], np.float32)
    assert np.abs(found.quantize(ends) - ends).max() <= found.scale * 1.01
    assert found.quantize(ends)[2] == 0
    assert 0 <= found.zero_point <= found.highest


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_no_calibration_holds_minus_one_to_one(bits):
    found = bit_range(ActivationRange(bits, 1.0))
    values = np.array([-3, -1, 0, 3], np.float32)
    assert found.quantize(values).tolist() == [-1, -1, 0, 1 - 2.0 ** (1 - bits)]


def test_twin_ranges_of_a_gelu_by_hand():
    """R1 in steps of 1/16 to -7/16; R2, with m = 2, in steps of 1/4 to 7/4."""
    found = ActivationRange(4, 1 / 16, 0, "sign", 2)
    values = np.array([-1, -0.17, -0.03, 0, 0.12, 0.13, 1.7, 9], np.float32)
    first, second = found.twin_codes(values)
    assert first.tolist() == [-7, -3, 0, 0, 0, 0, 0, 0]
    assert second.tolist() == [0, 0, 0, 0, 0, 1, 7, 7]
    assert found.quantize(values).tolist() == [-7 / 16, -3 / 16, 0, 0, 0, 0.25, 1.75, 1.75]


def test_twin_ranges_of_a_softmax_by_hand():
    """R1 in steps of 1/64 to 7/64; above it R2, with m = 3, in steps of 1/8 to 7/8."""
    found = ActivationRange(4, 1 / 64, 0, "magnitude", 3)
    values = np.array([0, 0.01, 7 / 64, 0.12, 0.2, 1], np.float32)
    first, second = found.twin_codes(values)
    assert first.tolist() == [0, 1, 7, 0, 0, 0]
    assert second.tolist() == [0, 0, 0, 1, 2, 7]
    assert found.quantize(values).tolist() == [0, 1 / 64, 7 / 64, 1 / 8, 1 / 4, 7 / 8]


@pytest.mark.parametrize("high", [0.01, 0.3, 5.0, 80.0])
def test_minmax_of_two_ranges_holds_both_ends(high):
    found = minmax_range(ActivationRange(8, 1.0, split="sign"), -GELU_LOWEST, high)
    (low, _), (_, top) = found.twin_limits()
    assert low <= -GELU_LOWEST * 0.999
    assert top >= high * 0.999
    assert min(low / -GELU_LOWEST, top / high) < 2.01


def test_an_input_that_is_always_zero_has_a_range():
    for split in (None, "sign", "magnitude"):
        found = minmax_range(ActivationRange(8, 1.0, split=split), 0.0, 0.0)
        assert found.scale > 0
        assert found.quantize(np.zeros(3, np.float32)).tolist() == [0, 0, 0]
