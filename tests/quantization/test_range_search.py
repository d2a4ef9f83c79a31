"""The search finds what a slow, obvious one finds, and never less than it started from."""

from dataclasses import replace

import numpy as np
import pytest

from mqtool.model.layers import Layer
from mqtool.observe.samples import InputSample
from mqtool.quantization import range_search as search
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.objectives import cosine, hess, l1, l2, linw_l2, sqw_l2
from mqtool.quantization.range_search import search_range
from mqtool.quantization.ranges import bit_range, minmax_range, scaled_range
from mqtool.quantization.rounding import quantize_weight
from mqtool.quantization.weights import QuantizedWeight

OBJECTIVES = {
    "l1": l1,
    "l2": l2,
    "linw-l2": linw_l2,
    "sqw-l2": sqw_l2,
    "hess": hess,
    "cosine": cosine,
}
ROWS, COLUMNS, POSITIONS = 10, 12, 40


def slow_loss(output, target, objective, gradient):
    """One candidate, one position and one row at a time."""
    total = 0.0
    for found, wanted, weight in zip(output, target, gradient, strict=True):
        if objective == "cosine":
            total += 1 - found @ wanted / np.sqrt((found @ found) * (wanted @ wanted))
            continue
        for f, w, g in zip(found, wanted, weight, strict=True):
            d = f - w
            total += {
                "l1": abs(d),
                "l2": d * d,
                "linw-l2": abs(w) * d * d,
                "sqw-l2": (w * d) ** 2,
                "hess": (g * d) ** 2,
            }[objective] / len(found)
    return total / len(output)


def made(split, seed=0, groups=1, scale=1.0):
    """A layer, a sample of its input, its weights, and gradients of its output."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_t(3, (POSITIONS, groups, COLUMNS)).astype(np.float32) * np.float32(scale)
    if split == "sign":
        rows = (np.maximum(rows, 0) + 0.17 * np.tanh(np.minimum(rows, 0))).astype(np.float32)
    elif split == "magnitude":
        rows = np.exp(3 * rows)
        rows /= rows.sum(axis=-1, keepdims=True)
    bias = rng.normal(0, 0.1, ROWS).astype(np.float32)
    sample = InputSample(rows, bias, False, float(rows.min()), float(rows.max()))
    layer = Layer("l", "linear", "model", "l.weight", (ROWS, COLUMNS))
    exact = rng.normal(0, 0.3, (ROWS, COLUMNS)).astype(np.float32)
    gradients = rng.normal(0, 1, (POSITIONS, ROWS)).astype(np.float32)
    return sample, exact, quantize_weight(layer, exact, 6, 0, "nearest"), gradients


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_losses_are_those_of_the_slow_reference(objective):
    rng = np.random.default_rng(1)
    outputs = rng.normal(0, 1, (3, 5, 7)).astype(np.float32)
    target, gradient = rng.normal(0, 1, (2, 5, 7)).astype(np.float32)
    expected = [slow_loss(o.astype(float), target, objective, gradient) for o in outputs]
    found = OBJECTIVES[objective](outputs - target, target, gradient)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cosine_distances_far_below_float32_are_told_apart():
    """Candidates that are 1e-4 and 1e-5 off differ by a factor of a hundred: 1e-10 is not noise."""
    rng = np.random.default_rng(2)
    target, noise = rng.normal(0, 1, (2, 6, 500)).astype(np.float32)
    outputs = np.stack([target + noise * np.float32(size) for size in (1e-4, 1e-5)])
    found = cosine(outputs - target, target)
    assert found[0] == pytest.approx(0.5e-8, rel=0.2)
    assert found[1] == pytest.approx(0.5e-10, rel=0.2)
    nothing = np.zeros((2, 3, 4), np.float32)
    assert cosine(nothing - nothing[0], nothing[0]).tolist() == [0, 0]
    assert cosine(nothing - nothing[0] - 1, nothing[0] + 1).tolist() == [1, 1]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("groups", [1, 2])
def test_one_range_is_the_best_of_all_candidates(objective, groups):
    sample, exact, weight, gradients = made(None, groups=groups)
    blank = ActivationRange(5, 1.0)
    found = search_range(blank, sample, exact, weight, OBJECTIVES[objective], gradients)
    widest = minmax_range(blank, sample.low, sample.high)
    factors = [1.2 * step / 98 for step in range(1, 99)]
    candidates = [bit_range(blank), widest] + [scaled_range(widest, f) for f in factors]
    assert len(candidates) == search.CANDIDATES
    by_group = np.split(exact, groups), np.split(weight.dequantize(), groups)
    target = (
        np.concatenate([sample.rows[:, g] @ w.T for g, w in enumerate(by_group[0])], axis=1)
        + sample.bias
    )
    slow = []
    for candidate in candidates:
        rows = candidate.quantize(sample.rows)
        output = np.concatenate([rows[:, g] @ w.T for g, w in enumerate(by_group[1])], axis=1)
        slow.append(slow_loss(output + sample.bias, target, objective, gradients))
    best = candidates[int(np.argmin(slow))]
    assert found.zero_point == best.zero_point
    assert found.scale == pytest.approx(best.scale, rel=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("split", [None, "sign", "magnitude"])
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_no_search_is_worse_than_its_start_and_more_bits_never_hurt(split, objective, scale):
    sample, exact, weight, gradients = made(split, scale=scale if split is None else 1.0)
    target = sample.outputs(exact)

    def loss(given):
        found = search._losses_of(
            [given], sample, weight.dequantize(), target, OBJECTIVES[objective], gradients
        )
        return float(found[0])

    falling = []
    for bits in (4, 5, 6, 7, 8, 10, 12, 16):
        blank = ActivationRange(bits, 1.0, split=split)
        found = search_range(blank, sample, exact, weight, OBJECTIVES[objective], gradients)
        assert (found.bits, found.split) == (bits, split)
        best = loss(found)
        assert best <= loss(bit_range(blank))
        assert best <= loss(minmax_range(blank, sample.low, sample.high)) * (1 + 1e-6)
        falling.append(best)
    # At 10 bits and more what is left is the error of the 6-bit weight, and it may go either way.
    assert falling[:5] == sorted(falling[:5], reverse=True)
    assert max(falling[5:]) <= falling[4] * 1.02


@pytest.mark.parametrize("objective", ["hess", "cosine"])
def test_two_ranges_beat_one_where_most_of_what_a_gelu_gives_is_negative(objective):
    """One range that begins at the least value has all its codes for the positive side, twice as
    many as R2; two pay where that range's step would swallow the negative values."""
    sample, exact, weight, gradients = made("sign", seed=5)
    rows = np.minimum(sample.rows, 0)
    rows[:, 0, ::6] = sample.rows[:, 0, ::6] * 8
    sample = replace(sample, rows=rows, high=float(rows.max()))
    target = sample.outputs(exact)
    found = {}
    for split in (None, "sign"):
        blank = ActivationRange(5, 1.0, split=split)
        best = search_range(blank, sample, exact, weight, OBJECTIVES[objective], gradients)
        found[split] = search._losses_of(
            [best], sample, weight.dequantize(), target, OBJECTIVES[objective], gradients
        )[0]
    assert found["sign"] < found[None]


def test_the_shift_leaves_room_in_32_bits():
    _, exact, _, _ = made("sign")
    for size in (COLUMNS, 100 * COLUMNS):
        wide = np.tile(exact, (1, size // COLUMNS))
        layer = Layer("l", "linear", "model", "l.weight", (ROWS, size))
        weight = quantize_weight(layer, wide, 8, 0, "nearest")
        blank = ActivationRange(8, 1.0, split="sign")
        most = search._largest_shift(blank, weight)
        largest = np.abs(weight.codes).sum(axis=1).max() * 127
        assert largest * (2**most + 1) < 2**31
        assert most == search.MAX_SHIFT or largest * (2 ** (most + 1) + 1) >= 2**31


def test_no_sum_of_products_leaves_32_bits_whatever_the_sign_of_group_scales():
    """Two ranges shift one of the two sums by m bits."""
    columns = 4096
    signs = np.where(np.arange(columns // 32) % 2, -1, 1)
    weight = QuantizedWeight(
        bits=5,
        rows_at_lower_bits=0,
        codes=np.full((1, columns), 15, np.int32),
        scale=np.ones(1, np.float32),
        weight=np.zeros((1, columns), np.float32),
        group_scales=7 * signs[None].astype(np.int32),
    )
    blank = ActivationRange(8, 1.0, 0, split="sign", shift=0)
    shift = search._largest_shift(blank, weight)
    assert columns * 15 * 7 * blank.highest * (2**shift + 1) < 2**31
