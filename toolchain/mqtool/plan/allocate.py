"""Allocation: in which order layers lose bits.

An allocation method gives the whole way down, from every layer at 32 bits to every layer at one
bit, as steps that each take one layer to its next lower width. The budget then only says how far
to go, and splits the layer of the last step by rows (`mqtool.plan.fit`).
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence

from mqtool.graph.bits import WIDTHS
from mqtool.graph.layers import Layer

__all__ = ["Step", "algorithm_1", "marginal_steps", "uniform_steps"]

Step = tuple[str, int]
"""A layer's name and the width it goes down to."""


def algorithm_1(sensitivity: Mapping[str, float]) -> Iterator[Step]:
    """The paper's Algorithm 1: take a bit from each layer in turn, least sensitive first.

    Layers are visited in ascending order of `sensitivity` (the absolute median of their output;
    equal ones in the order given), over and over, each losing one bit a visit. The paper starts
    at 32 and passes 31 to 17, which no ONNX type can hold; here the step below 32 is 16. From 16
    bits down the order, and so every result, is the paper's.
    """
    order = sorted(sensitivity, key=lambda name: abs(sensitivity[name]))
    for width in reversed(WIDTHS[:-1]):
        for name in order:
            yield name, width


def uniform_steps(layers: Sequence[Layer]) -> Iterator[Step]:
    """One width for all layers, as nearly as the budget allows; in the order of the model."""
    return algorithm_1(dict.fromkeys((layer.name for layer in layers), 0.0))


def marginal_steps(layers: Sequence[Layer], damage: Callable[[str, int], float]) -> Iterator[Step]:
    """Steps in ascending order of added damage per byte saved, the greedy knapsack.

    Args:
        layers: the model's layers.
        damage: expected harm of holding a layer (by name) at a width, any consistent unit. For
            the steps to be optimal at each size it should fall convexly with the width.
    """
    sizes = {layer.name: layer.params for layer in layers}

    def price(name: str, width_index: int) -> tuple[float, float, str, int]:
        lower, upper = WIDTHS[width_index - 1], WIDTHS[width_index]
        added = damage(name, lower) - damage(name, upper)
        saved = sizes[name] * (upper - lower)
        # Equal prices (all zero at high widths) go widest first, so that widths stay level.
        return max(added, 0.0) / saved, -upper, name, width_index - 1

    queue = [price(layer.name, len(WIDTHS) - 1) for layer in layers]
    heapq.heapify(queue)
    while queue:
        _, _, name, width_index = heapq.heappop(queue)
        yield name, WIDTHS[width_index]
        if width_index > 0:
            heapq.heappush(queue, price(name, width_index))
