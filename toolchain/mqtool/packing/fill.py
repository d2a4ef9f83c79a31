"""Meeting a size with coded weights: to less than 1 KB below it, whatever the codes came out as.

How long codes are is known only once they are there, and roundings differ between processors, so a
plan's steps hit a size to a few tenths of a percent and the rest is done on the codes themselves.
Too long: codes of one become zero, in all layers alike those whose weights are less than so many
steps. Where steps are those of one lambda (`mqtool.planning.steps`), an error of a step does the
same damage in every layer. Too short: the first bytes are not coded.
"""

from bisect import bisect_left
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
    if size(weights, 0) <= budget:
        kept = _most(most_kept, lambda count: size(weights, count) <= budget)
        return Filled(dict(weights), kept)
    last = int(np.float32(np.inf).view(np.int32))
    if (least := size(_zeroed(weights, exact, last), 0)) > budget:
        raise BudgetError(
            f"{least:,} bytes are left with every code of one at zero, {budget:,} are wanted; "
            "plan with a larger budget"
        )
    spared = _most(last, lambda bits: size(_zeroed(weights, exact, last - bits), 0) <= budget)
    found = _zeroed(weights, exact, last - spared)
    zeroed = sum(int((weights[name].codes != found[name].codes).sum()) for name in weights)
    return Filled(found, 0, zeroed)


def _zeroed(
    weights: Mapping[str, CodedWeight], exact: Callable[[str], Float], bits: int
) -> dict[str, CodedWeight]:
    """With codes of one at zero where the weight is less than a number of steps.

    `bits` are those of the number as float32, which are in the order of the numbers.
    """
    most = np.int32(bits).view(np.float32)
    found = {}
    for name, weight in weights.items():
        is_near = np.abs(exact(name) / weight.scale[:, None]) < most
        is_near &= np.abs(weight.codes) == 1
        found[name] = replace(weight, codes=np.where(is_near, 0, weight.codes))
    return found


def _most(last: int, fits: Callable[[int], bool]) -> int:
    """The greatest count in 0..last that fits, where 0 does and what fits is nearly an interval."""
    return bisect_left(range(1, last + 1), True, key=lambda count: not fits(count))
