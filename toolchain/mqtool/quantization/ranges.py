"""Ranges from the bit width alone and from the least and the largest value."""

from dataclasses import replace

import numpy as np

from mqtool.quantization.activations import ActivationRange

__all__ = [
    "MAX_SHIFT",
    "affine_range",
    "bit_range",
    "minmax_range",
    "scaled_range",
    "twin_range",
]

MAX_SHIFT = 12
"""The largest m of S_R2 = 2**m * S_R1 that is tried."""

_LEAST_SCALE = 2.0**-100


def bit_range(blank: ActivationRange) -> ActivationRange:
    """The paper's "no calibration": the scale follows from the width, inputs are in [-1, 1).

    Of two ranges both have that scale.
    """
    scale = 2.0 ** (1 - blank.bits)
    zero_point = 2 ** (blank.bits - 1) if blank.split is None else 0
    return replace(blank, scale=scale, zero_point=zero_point, shift=0)


def affine_range(blank: ActivationRange, low: float, high: float) -> ActivationRange:
    """Equations 2 and 3: one range from `low` to `high`, stretched to hold 0, which is exact.

    The paper prints S = (high - low) / 2**(b - 1), with which half of the codes would never be
    used; with 2**b - 1 equation 3 sends `low` to the first code and `high` to the last. Codes here
    are unsigned: equation 3 plus 2**(b - 1).
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = _storable((high - low) / blank.highest)
    zero_point = int(np.clip(round(-low / scale), 0, blank.highest))
    return replace(blank, scale=scale, zero_point=zero_point)


def twin_range(blank: ActivationRange, reach: float, shift: int) -> ActivationRange:
    """Two ranges of which R2 reaches to `reach`, and R1 to 2**-shift of that."""
    scale = _storable(reach / blank.highest / 2**shift)
    return replace(blank, scale=scale, shift=shift)


def minmax_range(blank: ActivationRange, low: float, high: float) -> ActivationRange:
    """The range that holds all values from `low` to `high`.

    Of two ranges R2 reaches to `high`. After a GELU R1 reaches at least to `low`, and as near as a
    power of two allows; after a softmax its steps are finer by about half the width.
    """
    if blank.split is None:
        return affine_range(blank, low, high)
    if blank.split == "magnitude":
        return twin_range(blank, high, min((blank.bits - 1) // 2 + 1, MAX_SHIFT))
    return sign_range(blank, low, high)


def sign_range(blank: ActivationRange, low: float, high: float) -> ActivationRange:
    """Two ranges, the negative one from `low`, the positive one to `high`."""
    below, above = max(-low, 0.0), max(high, 0.0)
    if above <= below or not below:
        return twin_range(blank, max(above, below), 0)
    shift = min(int(np.floor(np.log2(above / below))), MAX_SHIFT)
    return twin_range(blank, above, shift)


def scaled_range(given: ActivationRange, factor: float) -> ActivationRange:
    """The same codes in steps `factor` times as long."""
    return replace(given, scale=_storable(given.scale * factor))


def _storable(scale: float) -> float:
    """A float32 value above 0."""
    return float(np.float32(max(scale, _LEAST_SCALE)))
