"""Streaming statistics of one layer's output values, in memory that does not grow with the data."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXACT_VALUES", "RELATIVE_ERROR", "OutputStatistics", "QuantileSketch"]

EXACT_VALUES = 2**17
"""Up to this many values quantiles are exact."""

RELATIVE_ERROR = 2**-8
"""Above, a quantile is off by at most this fraction of itself (of normal float32 values)."""

_BINS = 2**16


class QuantileSketch:
    """Quantiles of a stream of float32 values.

    Values are kept until there are more than `EXACT_VALUES`. From then on they are counted by the
    upper 16 bits of their float32 form (sign, exponent, 7 bits of mantissa), so that a bin is
    2^-7 of its values wide, and the middle of a bin within 2^-8 of any of them. Every value is
    counted: the rank is exact.
    """

    def __init__(self) -> None:
        self._values: list[NDArray[np.float32]] = []
        self._pending = 0
        self._counts: NDArray[np.int64] | None = None

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values of any shape; the array may be changed by the caller afterwards."""
        if self._counts is not None and values.size > EXACT_VALUES // 8:
            self._counts += _histogram(values)
            return
        self._values.append(values.astype(np.float32).reshape(-1))
        self._pending += values.size
        if self._pending > EXACT_VALUES:
            self._flush()

    def median(self) -> float:
        """The median, as `numpy.median` defines it for the exact case; NaN without values."""
        if self._counts is None:
            return float(np.median(np.concatenate(self._values))) if self._pending else np.nan
        self._flush()
        keys = np.concatenate([np.arange(_BINS - 1, _BINS // 2 - 1, -1), np.arange(_BINS // 2)])
        ranks = np.cumsum(self._counts[keys])
        middle = (ranks[-1] - 1) // 2
        key = int(keys[np.searchsorted(ranks, middle, side="right")])
        low = np.array(key << 16, np.uint32).view(np.float32)
        high = np.array((key << 16) + 0x10000 - 1, np.uint32).view(np.float32)
        return float((np.float64(low) + np.float64(high)) / 2)

    def _flush(self) -> None:
        if self._counts is None:
            self._counts = np.zeros(_BINS, np.int64)
        for values in self._values:
            self._counts += _histogram(values)
        self._values, self._pending = [], 0


def _histogram(values: NDArray[np.float32]) -> NDArray[np.int64]:
    keys = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint16)[1::2]
    return np.bincount(keys, minlength=_BINS)


class OutputStatistics:
    """What the reductions of the paper's Table 2 need of a layer's output."""

    def __init__(self) -> None:
        self.count = 0
        self.min = np.inf
        self.max = -np.inf
        self._sum = 0.0
        self._squares = 0.0
        self._sketch = QuantileSketch()

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in the values of one run."""
        flat = values.reshape(-1)
        self.count += flat.size
        self.min = min(self.min, float(flat.min()))
        self.max = max(self.max, float(flat.max()))
        self._sum += float(flat.sum(dtype=np.float64))
        self._squares += float(np.dot(flat, flat))
        self._sketch.add(values)

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return self._sum / self.count

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return float(np.sqrt(max(self._squares / self.count - self.mean**2, 0.0)))

    @property
    def median(self) -> float:
        """Median: exact up to `EXACT_VALUES` values, then within `RELATIVE_ERROR`."""
        return self._sketch.median()

    @property
    def absmax(self) -> float:
        """Largest magnitude."""
        return max(abs(self.min), abs(self.max))
