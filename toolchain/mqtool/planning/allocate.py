"""Allocation: in which order layers lose bits.

An allocation method gives the whole way down, from every layer at 32 bits to every layer at one
bit, as steps that each take one layer to its next lower width. The budget then only says how far
to go, and splits the layer of the last step by rows (`mqtool.planning.fit`).
"""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from mqtool.model.layers import Layer
from mqtool.quantization.bits import WIDTHS

__all__ = [
    "Step",
    "algorithm_1",
    "marginal_steps",
    "minmax_steps",
    "minmax_targets",
    "minmax_widths",
    "reversed_algorithm_1",
    "shuffled_steps",
    "uniform_steps",
]

Step = tuple[str, int]
"""A layer's name and the width it goes down to."""


def algorithm_1(sensitivity: Mapping[str, float]) -> Iterator[Step]:
    """The paper's Algorithm 1: take a bit from each layer in turn, least sensitive first.

    Layers are visited in ascending order of `sensitivity` (the absolute median of their output;
    equal ones in the order given), over and over, each losing one bit a visit. The paper starts
    at 32 and passes 31 to 17, which no ONNX type can hold; here the step below 32 is 16. From 16
    bits down the order, and so every result, is the paper's.
    """
    return _passes(sorted(sensitivity, key=lambda name: abs(sensitivity[name])))


def reversed_algorithm_1(sensitivity: Mapping[str, float]) -> Iterator[Step]:
    """`algorithm_1` with the most sensitive layer first: the paper's "reversed" baseline.

    The paper reverses the bit depths along the ranking, which would change the size with layers
    of different sizes; reversing the order of the visits meets any budget.
    """
    return _passes(sorted(sensitivity, key=lambda name: -abs(sensitivity[name])))


def shuffled_steps(layers: Sequence[Layer], seed: int) -> Iterator[Step]:
    """`algorithm_1` with the layers in random order: the paper's "shuffled" baseline.

    The same seed and layers give the same order (NumPy's PCG64).
    """
    names = [layer.name for layer in layers]
    order = np.random.default_rng(seed).permutation(len(names))
    return _passes([names[index] for index in order])


def uniform_steps(layers: Sequence[Layer]) -> Iterator[Step]:
    """One width for all layers, as nearly as the budget allows; in the order of the model."""
    return algorithm_1(dict.fromkeys((layer.name for layer in layers), 0.0))


def minmax_targets(
    sensitivity: Mapping[str, float], min_bits: int, max_bits: int
) -> dict[str, float]:
    """Real-valued widths between two given ones, the common method of the paper's Table 1.

    As the paper words it, a "linear interpolation mapping highest (lowest) activation value to
    the min (max) bit depth": the layer of the largest |sensitivity| gets `min_bits`. That is the
    opposite of Algorithm 1, which keeps bits where the value is high.

    Args:
        sensitivity: layer name -> value.
        min_bits: width at the highest value, 1 to `max_bits`.
        max_bits: width at the lowest value, at most 16; of all layers when all values are equal.
    """
    values = {name: abs(value) for name, value in sensitivity.items()}
    lowest, highest = min(values.values()), max(values.values())
    span = (highest - lowest) or 1.0
    return {
        name: max_bits - (max_bits - min_bits) * (value - lowest) / span
        for name, value in values.items()
    }


def minmax_widths(targets: Mapping[str, float]) -> dict[str, int]:
    """Targets rounded to whole bits, halves upwards: the paper's allocation, of its own size."""
    return {name: math.floor(target + 0.5) for name, target in targets.items()}


def minmax_steps(targets: Mapping[str, float]) -> Iterator[Step]:
    """A way down that passes through `minmax_widths(targets)`.

    The mapping fixes the widths, and with them the size. To meet any other size all targets are
    moved up or down by one common amount before rounding: above the mapping's own size no layer
    is narrower than the mapping says, below none is wider, and at it the widths are the mapping's.
    """
    crossings = [
        (width + 0.5 - target, name, width)
        for name, target in targets.items()
        for width in WIDTHS[:-1]
    ]
    # Stable: of layers that cross together, the one named first goes first.
    for _, name, width in sorted(crossings, key=lambda crossing: -crossing[0]):
        yield name, width


def marginal_steps(
    layers: Sequence[Layer], damage: Callable[[str, int], float], least: int = 1
) -> Iterator[Step]:
    """Steps in ascending order of added damage per byte saved, the greedy knapsack.

    Args:
        layers: the model's layers.
        damage: expected harm of holding a layer (by name) at a width, any consistent unit. For
            the steps to be optimal at each size it should fall convexly with the width.
        least: below this width layers go down one bit together, whatever the damage.
    """
    sizes = {layer.name: layer.params for layer in layers}

    def price(name: str, width_index: int) -> tuple[int, float, float, str, int]:
        lower, upper = WIDTHS[width_index - 1], WIDTHS[width_index]
        added = damage(name, lower) - damage(name, upper)
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


def _passes(order: Sequence[str]) -> Iterator[Step]:
    """Over and over the layers in one order, each losing one width a visit."""
    for width in reversed(WIDTHS[:-1]):
        for name in order:
            yield name, width
