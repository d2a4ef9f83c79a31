"""Rounding a float weight to codes and one scale a row.

Scales and group scales are chosen to make the least squared error, in the layer's output where the
moments of its inputs are known, else in the weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal, get_args

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from mqtool.model.layers import Layer
from mqtool.observe.moments import InputMoments
from mqtool.quantization.bits import FLOAT_BITS, code_range
from mqtool.quantization.compensate import Compensators
from mqtool.quantization.weights import (
    GROUP_SIZE,
    QuantizedWeight,
    group_scale_range,
    is_grouped,
    part_rows,
)

__all__ = [
    "LOOKUP_WEIGHT",
    "ROUNDINGS",
    "STEP_ROUNDINGS",
    "LayerInput",
    "Rounding",
    "is_compensating",
    "is_grouping",
    "layer_inputs",
    "quantize_weight",
    "round_groups",
    "round_rows",
    "sharing_moments",
    "weighed",
]

Rounding = Literal["nearest", "clipped", "grouped", "compensated"]
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)
STEP_ROUNDINGS: tuple[Rounding, ...] = ("nearest", "compensated")
"""Those that steps can have (`mqtool.quantization.coded`)."""

Float = NDArray[np.float32]
Codes = NDArray[np.int32]


def is_grouping(rounding: Rounding) -> bool:
    """Whether narrow parts get group scales (see `mqtool.quantization.weights`)."""
    return rounding in ("grouped", "compensated")


def is_compensating(rounding: Rounding) -> bool:
    """Whether rounding needs recordings: the moments of what goes into the layers."""
    return rounding == "compensated"


class LayerInput:
    """What rounding knows of the input of layers that share one.

    Args:
        moments: of the input.
    """

    def __init__(self, moments: InputMoments) -> None:
        self.moments = moments

    @cached_property
    def compensators(self) -> Compensators:
        """What makes codes make up for each other's errors."""
        return Compensators(self.moments)

    def root_importance(self, rows: slice, count: int) -> Float:
        """Root mean square of what some of `count` rows multiply, [1 or rows, columns]."""
        root: Float = np.sqrt(self.moments.diagonal)
        if len(root) == 1:
            return root
        return root[np.arange(count)[rows] // (count // len(root))]


LOOKUP_WEIGHT = 3.0
"""What an error counts where a table is looked up, in mean squares of what its head multiplies.

A third to three times as much gives nearly the same divergence on recordings of the speaker that
were not among them; with less, tokens of a language that was not among them suffer as they are
looked up."""


def weighed(layer: Layer, moments: InputMoments) -> InputMoments:
    """Moments of a layer's input as its errors count.

    A table has moments only where it is the output head too. Rounding that suits what the head
    multiplies alone would be paid for wherever a word is looked up, so both uses are weighed:
    errors count by the head's moments and, alike in all directions, by `LOOKUP_WEIGHT`.
    """
    return moments.damped(LOOKUP_WEIGHT) if layer.op == "embedding" else moments


def sharing_moments(
    layers: Sequence[Layer], moments: Mapping[str, InputMoments]
) -> list[list[Layer]]:
    """Layers that have moments, together where these are the same and errors count alike."""
    sharing: dict[tuple[int, bool], list[Layer]] = {}
    for layer in layers:
        if layer.name in moments:
            key = id(moments[layer.name]), layer.op == "embedding"
            sharing.setdefault(key, []).append(layer)
    return list(sharing.values())


def layer_inputs(
    layers: Sequence[Layer], moments: Mapping[str, InputMoments]
) -> dict[str, LayerInput]:
    """By layer name; layers that share their moments share the work of inverting them."""
    found: dict[str, LayerInput] = {}
    for alike in sharing_moments(layers, moments):
        made = LayerInput(weighed(alike[0], moments[alike[0].name]))
        found |= {layer.name: made for layer in alike}
    return found


def quantize_weight(
    layer: Layer,
    weight: Float,
    bits: int,
    rows_at_lower_bits: int,
    rounding: Rounding,
    inputs: LayerInput | None = None,
) -> QuantizedWeight:
    """Quantize a layer, symmetric, with one scale a row.

    Args:
        layer: whose weight it is.
        weight: float32 [rows, columns]; rows are output channels.
        bits: width of the first rows.
        rows_at_lower_bits: how many of the last rows have the next lower width.
        rounding: "nearest" takes the scale from each row's largest magnitude; "clipped" tries
            smaller scales and keeps the one with the least squared error; "grouped" does so with
            a group scale for every 32 weights of a row where a part has them; "compensated" does
            that and rounds with `mqtool.quantization.compensate`.
        inputs: for "compensated"; None for a table that is no output head.
    """
    codes = np.zeros(weight.shape, np.int32)
    scale = np.ones(layer.rows, np.float32)
    group_scales = None
    if is_grouping(rounding) and layer.columns % GROUP_SIZE == 0:
        group_scales = np.ones((layer.rows, layer.columns // GROUP_SIZE), np.int32)
    for rows, width in _blocks(layer, bits, rows_at_lower_bits):
        root = None if inputs is None else inputs.root_importance(rows, layer.rows)
        if group_scales is not None and is_grouped(layer, width):
            codes[rows], group_scales[rows], scale[rows] = round_groups(weight[rows], width, root)
        else:
            codes[rows], scale[rows] = round_rows(weight[rows], width, rounding, root)
    rounded = QuantizedWeight(bits, rows_at_lower_bits, codes, scale, weight, group_scales)
    return rounded if inputs is None else _compensated(layer, rounded, inputs)


COMPENSATED_MAX_BITS = 8
"""With all rows above, what rounding loses is not worth making up for."""


def _compensated(layer: Layer, rounded: QuantizedWeight, inputs: LayerInput) -> QuantizedWeight:
    """The same steps, with codes that make up for each other's errors, and scales to match."""
    spans = part_rows(layer.rows, rounded.bits, rounded.rows_at_lower_bits)
    if spans[-1][2] > COMPENSATED_MAX_BITS or not inputs.moments.is_matrix:
        return rounded
    low, high = np.empty((2, layer.rows), np.int32)
    for start, stop, bits in spans:
        low[start:stop], high[start:stop] = code_range(bits)
    weight, scale, unit = rounded.weight, rounded.scale, np.ones_like(rounded.weight)
    if rounded.group_scales is not None:
        unit = np.repeat(rounded.group_scales, GROUP_SIZE, axis=1).astype(np.float32)
    codes = inputs.compensators.round(weight, unit * scale[:, None], low, high)
    scale = _best_scale(weight, codes * unit, inputs.moments, scale)
    return replace(rounded, codes=codes, scale=scale)


def _best_scale(weight: Float, unit: Float, moments: InputMoments, scale: Float) -> Float:
    """For each row the scale with which scale * unit errs least in the layer's output."""
    seen = moments.times(unit)
    size = np.einsum("rc,rc->r", seen, unit)
    wanted = np.einsum("rc,rc->r", seen, weight) / np.where(size > 0, size, 1)
    return np.where(wanted > 0, _storable(wanted), scale).astype(np.float32)


BLOCK_VALUES = 2**16
"""Rows are rounded so many weights at a time: the search over scales then stays in the cache."""


def _blocks(layer: Layer, bits: int, rows_at_lower_bits: int) -> Iterator[tuple[slice, int]]:
    """Rows to round together, and their width; rows left in float32 are passed over."""
    step = max(1, BLOCK_VALUES // layer.columns)
    for start, stop, width in part_rows(layer.rows, bits, rows_at_lower_bits):
        if width != FLOAT_BITS:
            for first in range(start, stop, step):
                yield slice(first, min(first + step, stop)), width


def round_rows(
    weight: Float, bits: int, rounding: Rounding, root: Float | None = None
) -> tuple[Codes, Float]:
    """Codes int32 [rows, columns] and bfloat16-valued scales float32 [rows].

    `root` is by how much an error of each weight counts, [1 or rows, columns]; None for alike.
    """
    if bits == 1:
        scale = _storable(np.abs(weight).mean(axis=1))
        return _codes(weight, scale[:, None], bits), scale
    _, high = code_range(bits)
    widest = _storable(np.abs(weight).max(axis=1) / high)
    if rounding == "nearest":
        return _codes(weight, widest[:, None], bits), widest
    return _least_error(weight, widest, bits, root)


def round_groups(weight: Float, bits: int, root: Float | None = None) -> tuple[Codes, Codes, Float]:
    """Codes [rows, columns], group scales [rows, groups] and scales [rows]; `root` as above.

    The sign of a group scale lets the larger end of a group have the one code more. The group with
    the largest range gets the largest group scale; the others the one with the least squared error
    under that row's scale. A few scales are tried for each row.
    """
    rows, columns = weight.shape
    groups = weight.reshape(rows, -1, GROUP_SIZE)
    root_groups = None if root is None else root.reshape(len(root), -1, GROUP_SIZE)
    top, bottom = groups.max(axis=2), -groups.min(axis=2)
    if bits == 1:  # two codes alike, and no range to cover: the best step is the mean magnitude
        sign, reach = np.ones(top.shape, np.int64), np.abs(groups).mean(axis=2)
    else:
        sign = np.where(top > bottom, -1, 1)
        reach = np.maximum(top, bottom) / np.float32(-code_range(bits)[0])
    low, high = group_scale_range(bits)
    most = np.where(sign < 0, -low, high)
    best_error = np.full(rows, np.inf, np.float32)
    best_scale = np.ones(rows, np.float32)
    best_group_scales = np.ones(reach.shape, np.int32)
    for fraction in np.linspace(1.0, SMALLEST_GROUP_CLIP[bits], SCALE_TRIES):
        scale = _storable((reach / most).max(axis=1) * np.float32(fraction))
        covering = np.clip(np.ceil(reach / scale[:, None]), 1, most)
        group_scales, error = _best_group_scales(groups, sign, covering, scale, bits, root_groups)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
        best_group_scales[better] = group_scales[better]
    step = (best_group_scales * best_scale[:, None])[:, :, None]
    codes = _codes(groups, step, bits).reshape(rows, columns)
    return codes, best_group_scales, best_scale


SMALLEST_GROUP_CLIP = {1: 1.0, 2: 0.35, 3: 0.5, 4: 0.65, 5: 0.75}
"""By width: the least part of a group's range that is worth covering."""

SCALE_TRIES = 4
GROUP_SCALE_TRIES = 7


def _best_group_scales(
    groups: Float,
    sign: Codes,
    covering: Codes,
    scale: Float,
    bits: int,
    root: Float | None,
) -> tuple[Codes, Float]:
    """Multipliers [rows, groups] of least squared error, and that error summed by row.

    Args:
        groups: weights, [rows, groups, 32].
        sign: of each group's group scale, [rows, groups].
        covering: magnitudes that cover the whole range of each group, [rows, groups].
        scale: [rows].
        bits: width.
        root: as for `round_groups`, by group.
    """
    best, best_error = covering, np.full(covering.shape, np.inf, np.float32)
    for fraction in np.linspace(1.0, SMALLEST_GROUP_CLIP[bits], GROUP_SCALE_TRIES):
        tried = sign * np.maximum(np.rint(covering * fraction), 1).astype(np.int32)
        step = (tried * scale[:, None])[:, :, None].astype(np.float32)
        error = _squared_error(groups, step, bits, root)
        better = error < best_error
        best = np.where(better, tried, best)
        best_error = np.where(better, error, best_error)
    total: Float = best_error.sum(axis=1)
    return best, total


CLIP_CANDIDATES = 40
SMALLEST_CLIP = 0.3
"""No row tried here did best below this fraction of its widest scale, at 2 bits or more."""


def _least_error(
    weight: Float, widest: Float, bits: int, root: Float | None
) -> tuple[Codes, Float]:
    best_scale, best_error = widest, np.full(len(widest), np.inf, np.float32)
    for fraction in np.linspace(1.0, SMALLEST_CLIP, CLIP_CANDIDATES, dtype=np.float32):
        scale = _storable(widest * fraction)
        error = _squared_error(weight, scale[:, None], bits, root)
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


def _squared_error(weight: Float, step: Float, bits: int, root: Float | None) -> Float:
    """Squared rounding error, each counting as `root` says, summed over the last axis."""
    residual = _round(weight, step, bits)
    residual *= step
    residual -= weight
    if root is not None:
        residual *= root
    error: Float = np.einsum("...c,...c->...", residual, residual)
    return error


def _storable(scale: Float) -> Float:
    """Scales as the packed file holds them: bfloat16, never zero."""
    narrow = scale.astype(ml_dtypes.bfloat16).astype(np.float32)
    return np.where(narrow > 0, narrow, np.float32(1)).astype(np.float32)
