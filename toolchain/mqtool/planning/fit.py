"""From allocation steps to widths that fill a budget to within 1 KB.

The steps are followed until the folder fits; the layer of the last step is then split by rows, as
many as fit staying at the wider width. A split costs a few hundred bytes of nodes of its own, so
up to about 1 KB may be left where no whole row fits; the layer with the shortest rows then takes
the rest.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable

from mqtool.errors import BudgetError
from mqtool.packing.size import KB, SizeModel
from mqtool.planning.schedules import Step
from mqtool.quantization.bits import FLOAT_BITS, WIDTHS

__all__ = [
    "check_bounds",
    "check_budget",
    "feasible_kilobytes",
    "fit_budget",
]

Mutable = dict[str, tuple[int, int]]


def feasible_kilobytes(sizes: SizeModel, most_bits: int = FLOAT_BITS) -> tuple[int, int]:
    """The least and the greatest budget in whole KB that `check_budget` takes.

    The budget is written into the folder, whose size so depends on its number of digits.
    """

    def size(bits: int) -> int:
        kilobytes = -(-sizes.uniform(bits, sizes.folder.bytes) // KB)
        return sizes.uniform(bits, kilobytes * KB)

    return -(-size(1) // KB), (size(most_bits) + _spare(most_bits)) // KB


def check_budget(sizes: SizeModel, budget_bytes: int, most_bits: int = FLOAT_BITS) -> None:
    """Refuse what cannot be filled.

    Args:
        sizes: of the model.
        budget_bytes: of all files.
        most_bits: the greatest width that every layer can have.

    Raises:
        BudgetError: the budget is below the smallest or above the largest feasible size.
    """
    if budget_bytes < sizes.uniform(1, budget_bytes):
        raise _too_small(budget_bytes, feasible_kilobytes(sizes)[0])
    if budget_bytes - _spare(most_bits) > sizes.uniform(most_bits, budget_bytes):
        raise _too_large(budget_bytes, feasible_kilobytes(sizes, most_bits)[1])


def _spare(most_bits: int) -> int:
    """Bytes that may be left at the largest size. Where wider rows cannot be, they would be."""
    return KB - 1 if most_bits == FLOAT_BITS else 0


def check_bounds(bounds: tuple[int, int], budget_bytes: int) -> None:
    """Refuse what coded weights cannot fill.

    Args:
        bounds: the least and the greatest size, bytes.
        budget_bytes: of all files.

    Raises:
        BudgetError: the budget is outside.
    """
    smallest, largest = bounds
    if budget_bytes < smallest:
        raise _too_small(budget_bytes, -(-smallest // KB))
    if budget_bytes - KB >= largest:
        raise _too_large(budget_bytes, -(-largest // KB))


def _too_small(budget_bytes: int, smallest_kb: int) -> BudgetError:
    return BudgetError(
        f"budget {budget_bytes / KB:.0f} KB is below the smallest feasible size: "
        f"give at least --budget-kb {smallest_kb}"
    )


def _too_large(budget_bytes: int, largest_kb: int) -> BudgetError:
    return BudgetError(
        f"budget {budget_bytes / KB:.0f} KB is above the largest feasible size: "
        f"give at most --budget-kb {largest_kb}"
    )


def fit_budget(
    sizes: SizeModel, steps: Iterable[Step], budget_bytes: int, most_bits: int = FLOAT_BITS
) -> Mutable:
    """Widths whose folder has `budget_bytes - 1 KB < bytes <= budget_bytes`.

    Args:
        sizes: size model of the folder.
        steps: the way down from 32 bits (see `mqtool.planning.schedules`).
        budget_bytes: every file of the packed folder counts; feasible (`check_budget`).
        most_bits: the greatest width of any layer, as of `check_budget`.
    """
    search = _Search(sizes, list(steps), budget_bytes, most_bits)
    taken = search.first_fitting()
    widths = search.widths_after(taken)
    if taken:
        search.fill_rows(widths, search.steps[taken - 1][0])
    for layer in sorted(sizes.folder.layers, key=lambda layer: layer.columns):
        if search.slack(widths) < KB:
            break
        if widths[layer.name][1] == 0:
            search.fill_rows(widths, layer.name)
    return widths


class _Search:
    def __init__(
        self, sizes: SizeModel, steps: list[Step], budget_bytes: int, most_bits: int
    ) -> None:
        self.sizes, self.steps, self.budget, self.most = sizes, steps, budget_bytes, most_bits
        self.rows = {layer.name: layer.rows for layer in sizes.folder.layers}
        self.columns = {layer.name: layer.columns for layer in sizes.folder.layers}

    def widths_after(self, taken: int) -> Mutable:
        bits = dict.fromkeys(self.rows, FLOAT_BITS) | dict(self.steps[:taken])
        return {name: (min(width, self.most), 0) for name, width in bits.items()}

    def slack(self, widths: Mutable) -> int:
        return self.budget - self.sizes.exact(widths, self.budget)

    def first_fitting(self) -> int:
        """The least number of steps after which the folder fits."""
        saved = [0]
        for name, width in self.steps:
            upper = WIDTHS[WIDTHS.index(width) + 1]
            saved.append(saved[-1] + self.rows[name] * self.columns[name] * (upper - width) // 8)

        def guess(taken: int, slack: int) -> int:
            return int(bisect_left(saved, saved[taken] - slack))

        return _boundary(len(self.steps), lambda n: self.slack(self.widths_after(n)), guess)

    def fill_rows(self, widths: Mutable, name: str) -> None:
        """Raise as many rows of one whole layer by one width as the slack allows."""
        whole = widths[name][0]
        if whole == self.most:
            return
        raised = WIDTHS[WIDTHS.index(whole) + 1]
        row_bits: int = self.columns[name] * (raised - whole)

        def split(lowered: int) -> tuple[int, int]:
            return (raised, lowered) if lowered < self.rows[name] else (whole, 0)

        def slack(lowered: int) -> int:
            return self.slack({**widths, name: split(lowered)})

        def guess(lowered: int, slack: int) -> int:
            return lowered - (slack * 8) // row_bits

        widths[name] = split(_boundary(self.rows[name], slack, guess))


INTERPOLATIONS = 8


def _boundary(last: int, slack: Callable[[int], int], guess: Callable[[int, int], int]) -> int:
    """A count whose slack is not negative while its predecessor's is, in 0..last.

    `last` is known to fit. Sizes take a while to compute and are nearly linear in the count, so
    the next count to try is `guess(count, slack)`; if a few guesses do not settle it, halving does.
    """
    low, high, middle, tries = 0, last, last // 2, 0
    while low < high:
        left = slack(middle)
        if left >= 0:
            high = middle
        else:
            low = middle + 1
        tries += 1
        wanted = guess(middle, left) if tries < INTERPOLATIONS else (low + high) // 2
        middle = max(low, min(wanted, high - 1))
    return low
