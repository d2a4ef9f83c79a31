"""Meeting a size with coded weights: to less than 1 KB below it, whatever the codes came out as.

How long codes are is known only once they are there, and roundings differ between processors, so a
plan's steps hit a size to a few tenths of a percent and the rest is done on the codes themselves.
Too long: codes of one become zero, in all layers alike those whose weights are less than so many
steps. Where steps are those of one lambda (`mqtool.planning.steps`), an error of a step does the
same damage in every layer. Too short: the first bytes are not coded.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mqtool.errors import BudgetError
from mqtool.quantization.coded import CodedWeight

__all__ = ["Filled", "fill"]

Float = NDArray[np.float32]
Size = Callable[[Mapping[str, CodedWeight], int], int]


@dataclass(frozen=True)
class Filled:
    """Weights that meet a size.

    Attributes:
        weights: by layer name.
        kept: bytes that are not coded (`mqtool.packing.coded_data.coded_file`).
        zeroed: how many codes became zero.
    """

    weights: dict[str, CodedWeight]
    kept: int = 0
    zeroed: int = 0


def fill(
    weights: Mapping[str, CodedWeight],
    exact: Callable[[str], Float],
    size: Size,
    budget: int,
    most_kept: int,
) -> Filled:
    """Make weights take `budget` bytes, or a few less.

    Args:
        weights: by layer name.
        exact: the float weight of a layer, [rows, columns], by its name.
        size: bytes for weights and so many bytes that are not coded.
        budget: what is wanted.
        most_kept: bytes there are.

    Raises:
        BudgetError: with every code of one at zero it is still too large.
    """
    total = size(weights, 0)
    if total <= budget:
        kept = _found(lambda most: size(weights, int(most)), budget, most_kept, 0)
        return Filled(dict(weights), int(kept))

    limit = _limits(weights, exact)

    def shrunk(share: float) -> int:
        return size(_zeroed(weights, exact, limit(share)), 0)

    if (least := shrunk(1.0)) > budget:
        raise BudgetError(
            f"{least:,} bytes are left with every code of one at zero, {budget:,} are wanted; "
            "plan with a larger budget"
        )
    found = _zeroed(weights, exact, limit(_found(shrunk, budget, 0.0, 1.0)))
    zeroed = sum(int((weights[name].codes != found[name].codes).sum()) for name in weights)
    return Filled(found, 0, zeroed)


def _limits(
    weights: Mapping[str, CodedWeight], exact: Callable[[str], Float]
) -> Callable[[float], float]:
    """About which weight, in steps, is greater than a share of those whose codes are one."""
    counts = np.zeros(_BINS, np.int64)
    for name, weight in weights.items():
        ones = _distances(weight, exact(name))[np.abs(weight.codes) == 1]
        counts += np.histogram(ones, _BINS, (0.0, _FARTHEST))[0]
    shares = np.cumsum(counts) / max(counts.sum(), 1)
    edges = np.linspace(0.0, _FARTHEST, _BINS + 1)

    def limit(share: float) -> float:
        # Codes that make up for others' errors may be any distance from their weights.
        return math.inf if share >= 1 else float(np.interp(share, np.append(0.0, shares), edges))

    return limit


_BINS, _FARTHEST = 1 << 14, 8.0


def _distances(weight: CodedWeight, exact: Float) -> Float:
    """From zero, in steps of each row."""
    distances: Float = (np.abs(exact) / weight.scale[:, None]).astype(np.float32)
    return distances


def _zeroed(
    weights: Mapping[str, CodedWeight], exact: Callable[[str], Float], limit: float
) -> dict[str, CodedWeight]:
    """With codes of one at zero where the weight is less than so many steps."""
    found = {}
    for name, weight in weights.items():
        is_near = _distances(weight, exact(name)) < np.float32(limit)
        is_near &= np.abs(weight.codes) == 1
        codes = np.where(is_near, weight.codes.dtype.type(0), weight.codes)
        found[name] = replace(weight, codes=codes)
    return found


def _found(size: Callable[[float], int], budget: int, too_large: float, fits: float) -> float:
    """A point that fits, with less than `_NEAR` bytes left where there is one.

    Regula falsi with the weights of the Illinois method, for sizes that are nearly linear.

    Args:
        size: bytes at a point.
        budget: what fits.
        too_large: a point; if it fits as well, it is the one.
        fits: a point.
    """
    goal = budget - _NEAR / 2
    above, below = size(too_large) - goal, size(fits) - goal
    if above <= budget - goal:
        return too_large
    end = 0
    for _ in range(_TRIES):
        if below > goal - budget:
            break
        middle = fits - below * (too_large - fits) / (above - below)
        found = size(middle) - goal
        if found <= budget - goal:
            fits, below = middle, found
            above = above / 2 if end == 1 else above
            end = 1
        else:
            too_large, above = middle, found
            below = below / 2 if end == -1 else below
            end = -1
    return fits


_NEAR = 256
_TRIES = 40
