"""Where the axis of a figure ends, so that a few models that break do not flatten all others.

A speech model that breaks repeats words without end. That it broke matters, whether its error rate
is then 500 or 3000 % does not: such points are marked at the end of the axis, with their value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["Limits", "Point", "difference_limits", "rate_limits"]

Point = tuple[float, float, float]
"""A value and the ends of its interval."""

_FAR = 4.0  # times the median rate from which on a point is marked at the end of the axis
_FAR_OFF = 6.0  # the same of differences, most of which are next to nothing
_SURE = 100.0  # percent; more wrong words than were said


@dataclass(frozen=True)
class Limits:
    """Both ends of an axis."""

    low: float
    high: float

    def clip(self, value: float) -> float:
        """The value, or the end of the axis that it lies beyond."""
        return min(max(value, self.low), self.high)

    def hold(self, value: float) -> bool:
        """Whether the value lies on the axis."""
        return self.low <= value <= self.high


def rate_limits(points: Sequence[Point]) -> Limits:
    """An axis for rates in percent.

    It leaves out rates above 100 % and above four times their median, except the smallest ones,
    and begins at zero unless all rates are far from it.

    Args:
        points: rates of at least 0, with their intervals; at least one.
    """
    rates = sorted(value for value, _, _ in points if value > 0) or [1.0]
    most = max(min(_FAR * median(rates), _SURE), 2 * rates[0])
    kept = [point for point in points if point[0] <= most]
    high = min(max(max(point) for point in kept), most)
    low = min(min(point) for point in kept)
    margin = 0.05 * max(high - low, 1.0)
    ends = high + margin
    if high <= _SURE:
        ends = min(ends, _SURE)
    return Limits(0.0 if low < 0.3 * high else max(low - margin, 0.0), ends)


def difference_limits(points: Sequence[Point]) -> Limits:
    """An axis for differences in points of percent, with zero well inside.

    It leaves out what is above six times the median distance from zero of all values and ends of
    intervals.

    Args:
        points: differences with their intervals.
    """
    ends = [end for point in points for end in point]
    most = _FAR_OFF * median([abs(end) for end in ends if end] or [0.25])
    low, high = max(min(ends, default=0.0), -most), min(max(ends, default=0.0), most)
    margin = 0.1 * max(high - low, 1.0)
    return Limits(min(low, 0.0) - margin, max(high, 0.0) + margin)
