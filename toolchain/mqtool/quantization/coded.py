"""Weights of one step a row, made for entropy coding: as many codes as it takes, not 2**b.

    weight[i, j] is about scale[i] * codes[i, j]

Uniform steps with entropy-coded codes are within about a quarter of a bit of the rate-distortion
bound at every rate (Gish and Pierce, "Asymptotically efficient quantizing", 1968); a fixed number
of levels is not. The kernels multiply int8. A few input columns hold weights beyond 127 steps:
such a column is multiplied more than once, each time with the part of its codes that int8 holds,

    x[j] * codes[i, j] = x[j] * part_0[i, j] + x[j] * part_1[i, j] + ...

which is exact in integers, and what the later parts hold is nearly all zeros.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from mqtool.model.layers import Layer
from mqtool.quantization.rounding import LayerInput

__all__ = ["HIGHEST_CODE", "HIGHEST_TABLE_CODE", "CodedWeight", "round_to_steps", "storable_step"]

HIGHEST_CODE = 127
"""Largest magnitude of a code that int8 kernels take; -128 is not used."""

HIGHEST_TABLE_CODE = 64
"""Of a table that is an output head too: two products with uint8 never saturate (255 * 64 * 2 is
below 2**15), so that its one tensor, which is looked up as well, is right on every processor."""

_UNBOUNDED = 1 << 20


@dataclass(frozen=True)
class CodedWeight:
    """Codes and steps of a layer.

    Attributes:
        codes: int32 [rows, columns].
        scale: float32 [rows], each a bfloat16 value above 0.
    """

    codes: NDArray[np.int32]
    scale: NDArray[np.float32]

    def dequantize(self) -> NDArray[np.float32]:
        """The weight as the device will use it, float32 [rows, columns]."""
        weight: NDArray[np.float32] = (self.codes * self.scale[:, None]).astype(np.float32)
        return weight

    def int8_parts(self) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """Codes as int8 kernels take them.

        Returns:
            int8 [columns + n, rows], where the last n stand for columns that are multiplied again;
            and which column each of these n repeats, int64 [n].
        """
        left = self.codes.T.copy()
        parts = [_clipped(left)]
        repeated: list[NDArray[np.int64]] = []
        left -= parts[0]
        while (columns := np.flatnonzero(left.any(axis=1))).size:
            part = _clipped(left[columns])
            left[columns] -= part
            parts.append(part)
            repeated.append(columns.astype(np.int64))
        return np.concatenate(parts), np.concatenate([*repeated, np.empty(0, np.int64)])


def _clipped(codes: NDArray[np.int32]) -> NDArray[np.int8]:
    return np.clip(codes, -HIGHEST_CODE, HIGHEST_CODE).astype(np.int8)


def storable_step(step: NDArray[np.float64]) -> NDArray[np.float32]:
    """Steps as files hold them: bfloat16, which the least of float32's normal numbers bounds."""
    least = np.finfo(np.float32).tiny
    return np.maximum(step, least).astype(ml_dtypes.bfloat16).astype(np.float32)


def round_to_steps(
    layer: Layer,
    weight: NDArray[np.float32],
    scale: NDArray[np.float32],
    inputs: LayerInput | None = None,
    *,
    highest: int | None = None,
) -> CodedWeight:
    """Codes of a weight for given steps.

    Args:
        layer: whose weight it is.
        weight: float32 [rows, columns].
        scale: step of each row, as stored (`storable_step`), float32 [rows].
        inputs: what the layer multiplies, for codes that make up for each other's errors
            (`mqtool.quantization.compensate`); None to round each weight to the nearest code.
        highest: largest magnitude of a code; None for as large as they come.
    """
    most = _UNBOUNDED if highest is None else highest
    compensators = [] if inputs is None else inputs.compensators
    if not compensators:
        codes = np.rint(weight / scale[:, None]).clip(-most, most).astype(np.int32)
        return CodedWeight(codes, scale)
    codes = np.empty(weight.shape, np.int32)
    step = np.broadcast_to(scale[:, None], weight.shape)
    bound = np.full(layer.rows, most, np.int32)
    each = layer.rows // len(compensators)
    for group, compensator in enumerate(compensators):
        rows = slice(group * each, (group + 1) * each)
        codes[rows] = compensator.round(weight[rows], step[rows], -bound[rows], bound[rows])
    return CodedWeight(codes, scale)
