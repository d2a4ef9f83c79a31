"""Min-max interpolation between two widths, the common method of the paper's Table 1."""

import math
from collections.abc import Iterator, Mapping

from mqtool.planning.methods.method import Allocation, Evidence, Method
from mqtool.planning.schedules import Step
from mqtool.quantization.bits import WIDTHS

__all__ = ["METHOD", "minmax_steps", "minmax_targets", "minmax_widths"]


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


def _allocate(evidence: Evidence) -> Allocation:
    sensitivity = evidence.sensitivities()
    targets = minmax_targets(sensitivity, *evidence.recipe.minmax)
    ranked_by = evidence.recipe.sensitivity
    steps, mapped = list(minmax_steps(targets)), minmax_widths(targets)
    return Allocation(steps, sensitivity, ranked_by, mapped)


METHOD = Method(_allocate, ranks=True)
