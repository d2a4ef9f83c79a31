"""Rounding a float weight to codes and one scale a row."""

from collections.abc import Iterator
from typing import Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from mqtool.graph.bits import FLOAT_BITS, code_range
from mqtool.graph.layers import Layer
from mqtool.graph.weights import (
    GROUP_SIZE,
    QuantizedWeight,
    is_grouped,
    largest_multiplier,
    part_rows,
)

__all__ = ["Rounding", "is_grouping", "quantize_weight", "round_rows"]

Rounding = Literal["nearest", "clipped", "grouped"]

Float = NDArray[np.float32]
Codes = NDArray[np.int32]


def is_grouping(rounding: Rounding) -> bool:
    """Whether narrow parts get multipliers (see `mqtool.graph.weights`)."""
    return rounding == "grouped"


def quantize_weight(
    layer: Layer, weight: Float, bits: int, rows_at_lower_bits: int, rounding: Rounding
) -> QuantizedWeight:
    """Quantize a layer, symmetric, with one scale a row.

    Args:
        layer: whose weight it is.
        weight: float32 [rows, columns]; rows are output channels.
        bits: width of the first rows.
        rows_at_lower_bits: how many of the last rows have the next lower width.
        rounding: "nearest" takes the scale from each row's largest magnitude; "clipped" tries
            smaller scales and keeps the one with the least squared error; "grouped" does so with
            a multiplier for every 32 weights of a row where a part has them.
    """
    codes = np.zeros(weight.shape, np.int32)
    scale = np.ones(layer.rows, np.float32)
    multipliers = None
    if is_grouping(rounding) and layer.columns % GROUP_SIZE == 0:
        multipliers = np.ones((layer.rows, layer.columns // GROUP_SIZE), np.int32)
    for rows, width in _blocks(layer, bits, rows_at_lower_bits):
        if multipliers is not None and is_grouped(layer, width):
            codes[rows], multipliers[rows], scale[rows] = round_groups(weight[rows], width)
        else:
            codes[rows], scale[rows] = round_rows(weight[rows], width, rounding)
    return QuantizedWeight(bits, rows_at_lower_bits, codes, scale, weight, multipliers)


BLOCK_VALUES = 2**16
"""Rows are rounded so many weights at a time: the search over scales then stays in the cache."""


def _blocks(layer: Layer, bits: int, rows_at_lower_bits: int) -> Iterator[tuple[slice, int]]:
    """Rows to round together, and their width; rows left in float32 are passed over."""
    step = max(1, BLOCK_VALUES // layer.columns)
    for start, stop, width in part_rows(layer.rows, bits, rows_at_lower_bits):
        if width != FLOAT_BITS:
            for first in range(start, stop, step):
                yield slice(first, min(first + step, stop)), width


def round_rows(weight: Float, bits: int, rounding: Rounding) -> tuple[Codes, Float]:
    """Codes int32 [rows, columns] and bfloat16-valued scales float32 [rows]."""
    if bits == 1:
        scale = _storable(np.abs(weight).mean(axis=1))
        return _codes(weight, scale[:, None], bits), scale
    _, high = code_range(bits)
    widest = _storable(np.abs(weight).max(axis=1) / high)
    if rounding == "nearest":
        return _codes(weight, widest[:, None], bits), widest
    return _least_error(weight, widest, bits)


def round_groups(weight: Float, bits: int) -> tuple[Codes, Codes, Float]:
    """Codes [rows, columns], multipliers [rows, groups] and scales [rows].

    The group with the largest range gets the largest multiplier; the others the multiplier with
    the least squared error under that row's scale. A few scales are tried for each row.
    """
    rows, columns = weight.shape
    groups = weight.reshape(rows, -1, GROUP_SIZE)
    most = largest_multiplier(bits)
    magnitudes = np.abs(groups)
    # One bit has no range to cover: its best step is the mean magnitude.
    reach = magnitudes.mean(axis=2) if bits == 1 else magnitudes.max(axis=2) / code_range(bits)[1]
    best_error = np.full(rows, np.inf, np.float32)
    best_scale = np.ones(rows, np.float32)
    best_multipliers = np.ones(reach.shape, np.int32)
    for fraction in np.linspace(1.0, SMALLEST_GROUP_CLIP[bits], SCALE_TRIES):
        scale = _storable(reach.max(axis=1) * np.float32(fraction / most))
        multipliers, error = _best_multipliers(groups, reach, scale, bits)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
        best_multipliers[better] = multipliers[better]
    step = (best_multipliers * best_scale[:, None])[:, :, None]
    codes = _codes(groups, step, bits).reshape(rows, columns)
    return codes, best_multipliers, best_scale


SMALLEST_GROUP_CLIP = {1: 1.0, 2: 0.35, 3: 0.5, 4: 0.65, 5: 0.75}
"""By width: the least part of a group's range that is worth covering."""

SCALE_TRIES = 4
MULTIPLIER_TRIES = 7


def _best_multipliers(groups: Float, reach: Float, scale: Float, bits: int) -> tuple[Codes, Float]:
    """Multipliers [rows, groups] of least squared error, and that error summed by row."""
    most = largest_multiplier(bits)
    covering = np.clip(np.ceil(reach / scale[:, None]), 1, most).astype(np.int32)
    best, best_error = covering, np.full(reach.shape, np.inf, np.float32)
    for fraction in np.linspace(1.0, SMALLEST_GROUP_CLIP[bits], MULTIPLIER_TRIES):
        tried = np.maximum(np.rint(covering * fraction), 1).astype(np.int32)
        step = (tried * scale[:, None])[:, :, None].astype(np.float32)
        error = _squared_error(groups, step, bits)
        better = error < best_error
        best = np.where(better, tried, best)
        best_error = np.where(better, error, best_error)
    total: Float = best_error.sum(axis=1)
    return best, total


CLIP_CANDIDATES = 40
SMALLEST_CLIP = 0.3
"""No row tried here did best below this fraction of its widest scale, at 2 bits or more."""


def _least_error(weight: Float, widest: Float, bits: int) -> tuple[Codes, Float]:
    best_scale, best_error = widest, np.full(len(widest), np.inf, np.float32)
    for fraction in np.linspace(1.0, SMALLEST_CLIP, CLIP_CANDIDATES, dtype=np.float32):
        scale = _storable(widest * fraction)
        error = _squared_error(weight, scale[:, None], bits)
        better = error < best_error
        best_scale = np.where(better, scale, best_scale)
        best_error = np.where(better, error, best_error)
    return _codes(weight, best_scale[:, None], bits), best_scale


def _codes(weight: Float, step: Float, bits: int) -> Codes:
    return _round(weight, step, bits).astype(np.int32)


def _round(weight: Float, step: Float, bits: int) -> Float:
    """Codes as float32."""
    if bits == 1:
        return np.where(weight < 0, np.float32(-1), np.float32(1))
    codes: Float = weight / step
    np.rint(codes, out=codes)
    return np.clip(codes, *code_range(bits), out=codes)


def _squared_error(weight: Float, step: Float, bits: int) -> Float:
    """Squared rounding error, summed over the last axis."""
    residual = _round(weight, step, bits)
    residual *= step
    residual -= weight
    error: Float = np.einsum("...c,...c->...", residual, residual)
    return error


def _storable(scale: Float) -> Float:
    """Scales as the packed file holds them: bfloat16, never zero."""
    narrow = scale.astype(ml_dtypes.bfloat16).astype(np.float32)
    return np.where(narrow > 0, narrow, np.float32(1)).astype(np.float32)
