"""Ways down: in which order layers lose bits, from 32 to 1."""

import heapq
from collections.abc import Callable, Iterator, Sequence

from mqtool.model.layers import Layer
from mqtool.quantization.bits import WIDTHS

__all__ = ["Step", "marginal_steps", "round_robin"]

Step = tuple[str, int]
"""A layer's name and the width it goes down to."""


def round_robin(order: Sequence[str]) -> Iterator[Step]:
    """Over and over the layers in one order, each losing one width a visit."""
    for width in reversed(WIDTHS[:-1]):
        for name in order:
            yield name, width


def marginal_steps(
    layers: Sequence[Layer], expected: Callable[[str, int], float], least: int = 1
) -> Iterator[Step]:
    """Steps in ascending order of added divergence per byte saved, the greedy knapsack.

    Args:
        layers: the model's layers.
        expected: divergence with a layer (by name) at a width, any consistent unit. For the
            steps to be optimal at each size it should fall convexly with the width.
        least: below this width layers go down one bit together, whatever it costs.
    """
    sizes = {layer.name: layer.params for layer in layers}

    def price(name: str, width_index: int) -> tuple[int, float, float, str, int]:
        lower, upper = WIDTHS[width_index - 1], WIDTHS[width_index]
        added = expected(name, lower) - expected(name, upper)
        saved = sizes[name] * (upper - lower)
        # Equal prices (all zero at high widths) go widest first, so that widths stay level.
        below = max(least - lower, 0)
        return below, max(added, 0.0) / saved, -upper, name, width_index - 1

    queue = [price(layer.name, len(WIDTHS) - 1) for layer in layers]
    heapq.heapify(queue)
    while queue:
        _, _, _, name, width_index = heapq.heappop(queue)
        yield name, WIDTHS[width_index]
        if width_index > 0:
            heapq.heappush(queue, price(name, width_index))
