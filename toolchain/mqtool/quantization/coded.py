"""Weights of one step a row, made for entropy coding: as many codes as it takes, not 2**b.

    weight[i, j] is about scale[i] * codes[i, j]

Uniform steps with entropy-coded codes are within about a quarter of a bit of the rate-distortion
bound at every rate (Gish and Pierce, "Asymptotically efficient quantizing", 1968); a fixed number
of levels is not. The kernels multiply int8. A few input columns hold weights beyond 127 steps:
such a column is multiplied more than once, each time with the part of its codes that int8 holds,

    x[j] * codes[i, j] = x[j] * part_0[i, j] + x[j] * part_1[i, j] + ...

which is exact in integers, and what the later parts hold is nearly all zeros.

A table of tokens has finer steps in the rows of frequent ones: an error in a row does damage in
proportion to how often its token is meant (p), and the least damage for a number of bits is where
all rows do alike, step^2 ~ 1 / p (`mqtool.planning.steps`).
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from mqtool.model.layers import Layer
from mqtool.quantization.compensate import Compensators

__all__ = [
    "HIGHEST_CODE",
    "HIGHEST_HEAD_CODE",
    "CodedWeight",
    "highest_code",
    "round_to_steps",
    "row_factors",
    "row_steps",
    "storable_step",
]

HIGHEST_CODE = 127
"""Largest magnitude of a code that int8 kernels take; -128 is not used."""

HIGHEST_HEAD_CODE = 64
"""Of a table that is an output head too: two products with uint8 never saturate (255 * 64 * 2 is
below 2**15), so that its one tensor, which is looked up as well, is right on every processor."""

_UNBOUNDED = 1 << 20


@dataclass(frozen=True)
class CodedWeight:
    """Codes and steps of a layer.

    Attributes:
        codes: [rows, columns], of the narrowest integers that hold them and are signed.
        scale: float32 [rows], each a bfloat16 value above 0.
    """

    codes: NDArray[np.integer]
    scale: NDArray[np.float32]

    @property
    def multiplied(self) -> NDArray[np.integer]:
        """Integers that kernels multiply, [rows, columns]."""
        return self.codes

    def dequantize(self) -> NDArray[np.float32]:
        """The weight as the device will use it, float32 [rows, columns]."""
        weight: NDArray[np.float32] = self.codes.astype(np.float32)
        weight *= self.scale[:, None]
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


def _clipped(codes: NDArray[np.integer]) -> NDArray[np.int8]:
    clipped: NDArray[np.int8] = np.clip(codes, -HIGHEST_CODE, HIGHEST_CODE).astype(np.int8)
    return clipped


def storable_step(step: NDArray[np.float64]) -> NDArray[np.float32]:
    """Steps as files hold them: bfloat16, which the least of float32's normal numbers bounds."""
    least = np.finfo(np.float32).tiny
    return np.maximum(step, least).astype(ml_dtypes.bfloat16).astype(np.float32)


UNSEEN = 1e-5
"""Added to the probability of every token of a language: recordings do not hold all that will be
said. A token of one language in n is meant in an nth of the recordings."""

FINEST_ROW = 0.1
"""Least factor of a row. What it saves in damage is small by then, and int8 holds no more."""


def row_factors(probabilities: NDArray[np.float64], languages: int = 1) -> NDArray[np.float64]:
    """By what the step of each row of a table is multiplied, [rows], at most 1.

    Args:
        probabilities: how often each row's token is meant, [rows]; they add up to 1.
        languages: how many are spoken.
    """
    unseen = UNSEEN / languages
    factors: NDArray[np.float64] = np.sqrt(unseen / (probabilities + unseen))
    return np.maximum(factors, FINEST_ROW)


def highest_code(layer: Layer, *, is_head: bool) -> int | None:
    """Largest magnitude of a layer's codes; None where columns can be multiplied again.

    Args:
        layer: any.
        is_head: whether it is a table that is multiplied, too.
    """
    if layer.op == "linear":
        return None
    return HIGHEST_HEAD_CODE if is_head else HIGHEST_CODE


_ROUNDED_STEP = 1 + 2.0**-8
"""How much a step may shrink as it becomes a bfloat16."""


def row_steps(
    weight: NDArray[np.float32],
    step: float,
    highest: int | None,
    factors: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """The step of each row as it is stored, float32 [rows].

    Args:
        weight: float32 [rows, columns].
        step: of the layer.
        highest: of `highest_code`: a row whose weights reach further has a coarser step.
        factors: of `row_factors`.
    """
    steps = np.full(len(weight), step) if factors is None else step * factors
    if highest is not None:
        largest = np.abs(weight).max(axis=1).astype(np.float64)
        steps = np.maximum(steps, largest * (_ROUNDED_STEP / highest))
    return storable_step(steps)


def round_to_steps(
    weight: NDArray[np.float32],
    scale: NDArray[np.float32],
    compensators: Compensators | None = None,
    *,
    highest: int | None = None,
) -> CodedWeight:
    """Codes of a weight for given steps.

    Args:
        weight: float32 [rows, columns].
        scale: step of each row, as stored (`storable_step`), float32 [rows].
        compensators: of what the layer multiplies, for codes that make up for each other's errors;
            None to round each weight to the nearest code.
        highest: largest magnitude of a code; None for as large as they come.
    """
    most = _UNBOUNDED if highest is None else highest
    if compensators is None or not compensators.are_known:
        nearest = np.rint(weight / scale[:, None]).clip(-most, most)
        return CodedWeight(_narrow(nearest), scale)
    step = np.broadcast_to(scale[:, None], weight.shape)
    bound = np.full(len(weight), most, np.int32)
    return CodedWeight(_narrow(compensators.round(weight, step, -bound, bound)), scale)


def _narrow(codes: NDArray[np.generic]) -> NDArray[np.integer]:
    largest = max(codes.max(), -codes.min()) if codes.size else 0
    kind = np.int8 if largest < 1 << 7 else np.int16 if largest < 1 << 15 else np.int32
    narrow: NDArray[np.integer] = codes.astype(kind)
    return narrow
