"""Steps for a size: how finely each layer is rounded when its codes are entropy-coded.

Rounding n weights with step s does damage k s^2 to the model's own output and takes n log2(1 / s)
bits and a constant. The least damage for a number of bits has the same ratio of the two changes in
every layer (Lagrange), so that one number decides all steps:

    s^2 = lambda n / k
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["StepRange", "lambda_for", "steps_at"]


@dataclass(frozen=True)
class StepRange:
    """What is known of one layer.

    Attributes:
        weights: how many it has.
        damage: nats an output position for a step of 1 (k); at least 0, which a layer that the
            recordings do not need at all seems to have.
        finest: least step: codes of int8 reach no further.
        coarsest: greatest step: a layer that looks free on a few recordings is not.
    """

    weights: int
    damage: float
    finest: float
    coarsest: float

    def at(self, lagrange: float) -> float:
        """The step for a lambda."""
        wanted = math.inf
        if self.damage > 0:
            wanted = math.sqrt(lagrange * self.weights / self.damage)
        return min(max(wanted, self.finest), max(self.coarsest, self.finest))


def steps_at(ranges: Mapping[str, StepRange], lagrange: float) -> dict[str, float]:
    """The step of every layer, by name, for one lambda."""
    return {name: known.at(lagrange) for name, known in ranges.items()}


LEAST_LAMBDA, GREATEST_LAMBDA = 2.0**-80, 2.0**40


def lambda_for(size: Callable[[float], float], wanted: float) -> float:
    """The least lambda, to a ten-thousandth, whose size is at most what is wanted.

    Args:
        size: bytes for a lambda; does not grow with it.
        wanted: bytes; where no lambda gives so few, the greatest one is returned.
    """
    low, high = math.log2(LEAST_LAMBDA), math.log2(GREATEST_LAMBDA)
    if size(2.0**low) <= wanted:
        return float(2.0**low)
    while high - low > math.log2(1.0001):
        middle = (low + high) / 2
        if size(2.0**middle) <= wanted:
            high = middle
        else:
            low = middle
    return float(2.0**high)
