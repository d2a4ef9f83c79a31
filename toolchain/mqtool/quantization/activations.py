"""How the inputs of layers are quantized, in numpy: what `mqtool.packing.static` writes as nodes.

A range of b bits maps float32 values to codes and back:

    code = clip(round(x / scale) + zero_point, 0, 2**b - 1)        x' = scale * (code - zero_point)

Twin ranges (PTQ4ViT, Yuan et al. 2022, section 3.2) are two ranges of 2**(b - 1) codes whose scales
differ by a power of two, S_R2 = 2**m * S_R1, so that integers of both can be added after a shift:

    split "sign" (after GELU)           R1 holds x <= 0 and R2 x >= 0
    split "magnitude" (after softmax)   R1 holds 0 <= x <= S_R1 * (2**(b - 1) - 1), R2 what is above

    x' = S_R1 * q1, or S_R1 * 2**m * q2, with |q| <= 2**(b - 1) - 1
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["ACTIVATION_BITS", "ActivationRange", "Split"]

Float = NDArray[np.float32]

Split = Literal["sign", "magnitude"]
"""Which values of an input go to which of two ranges."""

ACTIVATION_BITS = (*range(4, 17), 32)
"""Widths an input can have; 32 leaves it in float32."""


@dataclass(frozen=True)
class ActivationRange:
    """How one layer's input is quantized (see the top of this file).

    Attributes:
        bits: 4 to 16.
        scale: a float32 value above 0; S_R1 where there are two ranges.
        zero_point: the code of 0.0; not used where there are two ranges.
        split: None for one range.
        shift: m of S_R2 = 2**m * S_R1; 0 for one range.
    """

    bits: int
    scale: float
    zero_point: int = 0
    split: Split | None = None
    shift: int = 0

    @property
    def highest(self) -> int:
        """The largest code of one range; the largest magnitude of a code where there are two."""
        return (1 << (self.bits if self.split is None else self.bits - 1)) - 1

    def limits(self) -> tuple[float, float]:
        """Lowest and highest value of one range, as float32 holds them."""
        return self._times(-self.zero_point), self._times(self.highest - self.zero_point)

    def twin_limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Lowest and highest value of R1 and of R2, as float32 holds them."""
        reach = self._times(self.highest)
        first = (-reach, 0.0) if self.split == "sign" else (0.0, reach)
        return first, (0.0, reach * 2**self.shift)

    def _times(self, code: int) -> float:
        return float(np.float32(code) * np.float32(self.scale))

    def codes(self, values: Float) -> NDArray[np.int32]:
        """Codes of one range, of the shape of `values`."""
        steps: NDArray[np.int32] = self._steps(values).astype(np.int32)
        return steps + self.zero_point

    def twin_codes(self, values: Float) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Signed codes (q1, q2) of two ranges: at each place at least one of them is 0."""
        first, second = self._twin_steps(values)
        return first.astype(np.int32), second.astype(np.int32)

    def quantize(self, values: Float) -> Float:
        """What the layer will see in place of `values`, float32 of the same shape."""
        if self.split is None:
            steps = self._steps(values)
        else:
            # float32 holds every code, and shifted ones, exactly.
            steps, second = self._twin_steps(values)
            second *= np.float32(2**self.shift)
            steps += second
        steps *= np.float32(self.scale)
        return steps

    def _steps(self, values: Float) -> Float:
        return _round(values, self.limits(), self.scale)

    def _twin_steps(self, values: Float) -> tuple[Float, Float]:
        first, second = self.twin_limits()
        small = large = values
        if self.split == "magnitude":
            is_large = values > first[1]
            small = np.where(is_large, np.float32(0), values)
            large = np.where(is_large, values, np.float32(0))
        wide = self.scale * 2**self.shift
        return _round(small, first, self.scale), _round(large, second, wide)


def _round(values: Float, limits: tuple[float, float], scale: float) -> Float:
    """Clipped values in whole steps."""
    steps: Float = np.clip(values, *limits)
    steps /= np.float32(scale)
    return np.rint(steps, out=steps)
