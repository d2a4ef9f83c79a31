import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtool.model.layers import Layer
from mqtool.quantization.bits import code_range
from mqtool.quantization.rounding import quantize_weight
from mqtool.quantization.weights import group_scale_range, is_grouped


def layer_of(rows: int, columns: int) -> Layer:
    return Layer("layer", "linear", "model", "layer.weight", (rows, columns))


def error(weight, bits, rounding, lower=0):
    quantized = quantize_weight(layer_of(*weight.shape), weight, bits, lower, rounding)
    return float(np.square(quantized.dequantize() - weight).sum())


def test_nearest_by_hand():
    """Largest magnitude 7 at 4 bits: scale 1, so every weight rounds to an integer."""
    weight = np.array([[7.0, -3.4, 0.5, 1.5]], np.float32)
    quantized = quantize_weight(layer_of(1, 4), weight, 4, 0, "nearest")
    assert quantized.scale.tolist() == [1.0]
    assert quantized.codes.tolist() == [[7, -3, 0, 2]]


def test_one_bit_is_sign_times_mean_magnitude():
    weight = np.array([[1.0, -3.0, 2.0, -2.0]], np.float32)
    quantized = quantize_weight(layer_of(1, 4), weight, 1, 0, "nearest")
    assert quantized.codes.tolist() == [[1, -1, 1, -1]]
    assert quantized.scale.tolist() == [2.0]


def test_a_row_of_zeros_stays_zero():
    weight = np.zeros((2, 64), np.float32)
    for rounding in ("nearest", "clipped", "grouped"):
        quantized = quantize_weight(layer_of(2, 64), weight, 4, 0, rounding)
        assert np.isfinite(quantized.scale).all()
        assert not quantized.dequantize().any()


def test_groups_by_hand():
    """One group reaches to 64 above zero, one to -8: group scales -8 and 1, both fit exactly."""
    weight = np.concatenate([np.tile([64.0, -40.0], 16), np.tile([-8.0, 5.0], 16)])
    quantized = quantize_weight(layer_of(1, 64), weight[None].astype(np.float32), 4, 0, "grouped")
    assert quantized.group_scales.tolist() == [[-8, 1]]
    assert quantized.scale.tolist() == [1.0]
    assert quantized.codes[0, [0, 1, 32, 33]].tolist() == [-8, 5, -8, 5]
    np.testing.assert_array_equal(quantized.dequantize()[0], weight)


@pytest.mark.parametrize("bits", range(2, 6))
def test_all_codes_are_used_whichever_end_is_larger(bits):
    low, high = code_range(bits)
    weight = np.resize(np.arange(low, high + 1, dtype=np.float32), (1, 32))
    for turned in (weight, -weight):
        assert error(turned, bits, "grouped") < 1e-4 * np.square(weight).sum()


def test_groups_of_one_bit_keep_the_sign_of_every_weight():
    weight = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    rounded = quantize_weight(layer_of(4, 64), weight, 1, 0, "grouped").dequantize()
    np.testing.assert_array_equal(np.sign(rounded), np.sign(weight))


@given(st.integers(2, 8), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_codes_scales_and_multipliers_are_storable(bits, lower, seed):
    weight = np.random.default_rng(seed).standard_t(3, (4, 64)).astype(np.float32)
    layer = layer_of(4, 64)
    for rounding in ("nearest", "clipped", "grouped"):
        quantized = quantize_weight(layer, weight, bits, lower, rounding)
        np.testing.assert_array_equal(
            quantized.scale, quantized.scale.astype(ml_dtypes.bfloat16).astype(np.float32)
        )
        low, high = code_range(bits)
        assert low <= quantized.codes.min() <= quantized.codes.max() <= high
        if rounding == "grouped":
            products = quantized.codes * np.repeat(quantized.group_scales, 32, axis=1)
            assert -128 <= products.min() <= products.max() <= 127
            if is_grouped(layer, bits):
                least, most = group_scale_range(bits - 1 if lower else bits)
                assert least <= quantized.group_scales.min() <= quantized.group_scales.max() <= most
                assert (quantized.group_scales != 0).all()


@pytest.mark.parametrize("bits", range(2, 8))
def test_more_search_never_hurts_and_more_bits_help(bits):
    weight = np.random.default_rng(bits).standard_t(4, (64, 96)).astype(np.float32)
    nearest, clipped = (error(weight, bits, rounding) for rounding in ("nearest", "clipped"))
    assert clipped <= nearest
    for rounding in ("nearest", "clipped", "grouped"):
        assert error(weight, bits + 1, rounding) < error(weight, bits, rounding)
        assert error(weight, bits + 1, rounding, 20) < error(weight, bits, rounding)
    if bits <= 4:
        assert error(weight, bits, "grouped") < 0.85 * clipped
