"""Searching a range: the one whose quantized layer output is nearest to the float one.

Each layer is searched by itself against the float model's inputs (the paper's S2.2, after PTQ4ViT).
All candidate scales of a layer are tried on a sample of its input at once, by matrix products.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mqtool.observe.samples import InputSample
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.coded import CodedWeight
from mqtool.quantization.objectives import Objective
from mqtool.quantization.ranges import MAX_SHIFT, bit_range, minmax_range, scaled_range
from mqtool.quantization.weights import QuantizedWeight

__all__ = ["CANDIDATES", "ROUNDS", "search_range"]

Float = NDArray[np.float32]

CANDIDATES = 100
"""Scales tried in each search, the paper's t."""

ROUNDS = 3
"""Times that the scale of both ranges and the shift between them are searched in turn."""

LARGEST_FRACTION = 1.2
"""The widest candidate reaches so far beyond the largest value (beta of PTQ4ViT)."""

BLOCK_VALUES = 2**22
"""About how many outputs are computed at a time."""


def search_range(
    blank: ActivationRange,
    sample: InputSample,
    exact: Float,
    weight: QuantizedWeight | CodedWeight,
    objective: Objective,
    gradients: Float | None = None,
) -> ActivationRange:
    """The candidate range of least loss; never worse than no calibration or min/max.

    Candidates are the min/max range times evenly spaced factors up to 1.2. Of two ranges the scale
    (with the shift m fixed) and m (with S_R2 fixed) are searched in turn, three times each; m is
    such that int32 holds the sum of both ranges' products.

    Args:
        blank: width and number of ranges.
        sample: of the layer's input.
        exact: the float weight, float32 [rows, columns].
        weight: the weight as it will be packed.
        objective: what the loss is.
        gradients: of the model's output divergence by the layer's output at the sampled positions,
            float32 [positions, rows]; for objectives that weigh by them.
    """
    rounded = weight.dequantize()
    target = sample.outputs(exact)

    def loss(candidates: Sequence[ActivationRange]) -> NDArray[np.float64]:
        return _losses_of(candidates, sample, rounded, target, objective, gradients)

    widest = minmax_range(blank, sample.low, sample.high)
    most = _largest_shift(blank, weight)
    if blank.split is not None:
        widest = _with_shift(widest, min(widest.shift, most))
    factors = np.linspace(0, LARGEST_FRACTION, CANDIDATES - 1)[1:]
    given = [bit_range(blank), widest]
    best = _best(given + [scaled_range(widest, float(factor)) for factor in factors], loss)
    if blank.split is None:
        return best
    for _ in range(ROUNDS):
        before = best
        shifts = [_with_shift(best, shift) for shift in range(most + 1)]
        best = _best([best, *shifts], loss)
        scales = [scaled_range(_with_shift(widest, best.shift), float(f)) for f in factors]
        best = _best([best, *scales], loss)
        if best == before:
            break
    return best


Loss = Callable[[Sequence[ActivationRange]], NDArray[np.float64]]


def _best(candidates: Sequence[ActivationRange], loss: Loss) -> ActivationRange:
    """The first of those with the least loss."""
    return candidates[int(np.argmin(loss(candidates)))]


def _losses_of(
    candidates: Sequence[ActivationRange],
    sample: InputSample,
    rounded: Float,
    target: Float,
    objective: Objective,
    gradients: Float | None,
) -> NDArray[np.float64]:
    found = []
    step = max(1, BLOCK_VALUES // max(target.size, sample.rows.size))
    for start in range(0, len(candidates), step):
        block = candidates[start : start + step]
        rows = np.concatenate([candidate.quantize(sample.rows) for candidate in block])
        outputs = replace(sample, rows=rows).outputs(rounded)
        difference = outputs.reshape(len(block), *target.shape)
        difference -= target
        found.append(objective(difference, target, gradients))
    return np.concatenate(found)


def _largest_shift(blank: ActivationRange, weight: QuantizedWeight | CodedWeight) -> int:
    """The largest m with which no sum of products leaves int32."""
    sums = np.abs(weight.multiplied).sum(axis=1, dtype=np.int64)
    largest = int(sums.max()) * blank.highest
    room = (2**31 - 1) // max(largest, 1) - 1
    return min(max(room, 1).bit_length() - 1, MAX_SHIFT)


def _with_shift(given: ActivationRange, shift: int) -> ActivationRange:
    """The same S_R2 with another m."""
    return replace(given, scale=given.scale * 2.0 ** (given.shift - shift), shift=shift)
