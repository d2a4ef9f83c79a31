"""Meeting a size with coded weights: to less than 1 KB below it, whatever the codes came out as.

How long codes are is known only once they are there, and roundings differ between processors, so a
plan's steps hit a size to a few tenths of a percent and the rest is done on the codes themselves.
Too long: codes of one become zero, those first whose weights are nearest to it; what that costs is
least in the layer that minds errors least for its size. Too short: the first bytes are not coded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

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
    order: Sequence[str],
    size: Size,
    budget: int,
    most_kept: int,
) -> Filled:
    """Make weights take `budget` bytes, or a few less.

    Args:
        weights: by layer name.
        exact: the float weight of a layer, [rows, columns], by its name.
        order: layers whose codes may change, those that mind it least first.
        size: bytes for weights and so many bytes that are not coded.
        budget: what is wanted.
        most_kept: bytes there are.

    Raises:
        BudgetError: with every code of one at zero it is still too large.
    """
    if size(weights, 0) <= budget:
        kept = _most(most_kept, lambda count: size(weights, count) <= budget)
        return Filled(dict(weights), kept)
    changed, zeroed = dict(weights), 0
    for name in order:
        ones = _nearest_to_zero(weights[name], exact(name))
        search = _Zeros(changed, name, ones)
        if size(search.weights(len(ones)), 0) <= budget:
            spared = _most(len(ones), partial(_fits, search, size, budget))
            count = len(ones) - spared
            return Filled(search.weights(count), 0, zeroed + count)
        changed, zeroed = search.weights(len(ones)), zeroed + len(ones)
    raise BudgetError(
        f"{size(changed, 0):,} bytes are left with every code of one at zero, {budget:,} are "
        "wanted; plan with a larger budget"
    )


@dataclass(frozen=True)
class _Zeros:
    """Weights of which one layer's codes at some places become zero."""

    others: Mapping[str, CodedWeight]
    name: str
    places: NDArray[np.intp]

    def weights(self, count: int) -> dict[str, CodedWeight]:
        """With the codes at the first `count` places at zero."""
        codes = self.others[self.name].codes.copy()
        codes.reshape(-1)[self.places[:count]] = 0
        return {**self.others, self.name: replace(self.others[self.name], codes=codes)}


def _fits(search: _Zeros, size: Size, budget: int, spared: int) -> bool:
    return size(search.weights(len(search.places) - spared), 0) <= budget


def _nearest_to_zero(weight: CodedWeight, exact: Float) -> NDArray[np.intp]:
    """Places of codes of one in the flat weight, those first whose value is nearest to zero."""
    ones = np.flatnonzero(np.abs(weight.codes) == 1)
    ratios = np.abs(exact / weight.scale[:, None]).reshape(-1)[ones]
    return ones[np.argsort(ratios, kind="stable")]


def _most(last: int, fits: Callable[[int], bool]) -> int:
    """The greatest count in 0..last that fits, where 0 does and what fits is nearly an interval."""
    low, high = 0, last
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
