"""Rounding a float weight to codes and one scale a row."""

from typing import Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from mqtool.graph.bits import FLOAT_BITS, code_range
from mqtool.graph.weights import QuantizedWeight, part_rows

__all__ = ["Rounding", "quantize_weight", "round_rows"]

Rounding = Literal["nearest", "clipped"]

Float = NDArray[np.float32]


def quantize_weight(
    weight: Float, bits: int, rows_at_lower_bits: int, rounding: Rounding
) -> QuantizedWeight:
    """Quantize `weight` [rows, columns], symmetric, per row.

    Args:
        weight: rows are output channels.
        bits: width of the first rows.
        rows_at_lower_bits: how many of the last rows have the next lower width.
        rounding: "nearest" takes the scale from each row's largest magnitude; "clipped" tries
            smaller scales and keeps the one with the least squared error.
    """
    codes = np.zeros(weight.shape, np.int32)
    scale = np.ones(weight.shape[0], np.float32)
    for start, stop, width in part_rows(weight.shape[0], bits, rows_at_lower_bits):
        if width != FLOAT_BITS:
            codes[start:stop], scale[start:stop] = round_rows(weight[start:stop], width, rounding)
    return QuantizedWeight(bits, rows_at_lower_bits, codes, scale, weight)


def round_rows(weight: Float, bits: int, rounding: Rounding) -> tuple[NDArray[np.int32], Float]:
    """Codes int32 [rows, columns] and bfloat16-valued scales float32 [rows]."""
    if bits == 1:
        scale = _storable(np.abs(weight).mean(axis=1))
        return np.where(weight < 0, -1, 1).astype(np.int32), scale
    _, high = code_range(bits)
    widest = _storable(np.abs(weight).max(axis=1) / high)
    if rounding == "nearest":
        return _codes(weight, widest, bits), widest
    return _least_error(weight, widest, bits)


CLIP_CANDIDATES = 40
SMALLEST_CLIP = 0.3
"""No row tried here did best below this fraction of its widest scale, at 2 bits or more."""


def _least_error(weight: Float, widest: Float, bits: int) -> tuple[NDArray[np.int32], Float]:
    best_scale, best_error = widest, np.full(len(widest), np.inf, np.float32)
    for fraction in np.linspace(1.0, SMALLEST_CLIP, CLIP_CANDIDATES, dtype=np.float32):
        scale = _storable(widest * fraction)
        residual = _codes(weight, scale, bits) * scale[:, None] - weight
        error = np.einsum("rc,rc->r", residual, residual)
        better = error < best_error
        best_scale = np.where(better, scale, best_scale)
        best_error = np.where(better, error, best_error)
    return _codes(weight, best_scale, bits), best_scale


def _codes(weight: Float, scale: Float, bits: int) -> NDArray[np.int32]:
    low, high = code_range(bits)
    codes: NDArray[np.int32] = np.clip(np.rint(weight / scale[:, None]), low, high).astype(np.int32)
    return codes


def _storable(scale: Float) -> Float:
    """Scales as the packed file holds them: bfloat16, never zero."""
    narrow = scale.astype(ml_dtypes.bfloat16).astype(np.float32)
    return np.where(narrow > 0, narrow, np.float32(1)).astype(np.float32)
