"""The paper's "reversed" baseline: Algorithm 1 with the most sensitive layer first."""

from collections.abc import Iterator, Mapping

from mqtool.planning.methods.method import Allocation, Evidence, Method
from mqtool.planning.schedules import Step, round_robin

__all__ = ["METHOD", "reversed_algorithm_1"]


def reversed_algorithm_1(sensitivity: Mapping[str, float]) -> Iterator[Step]:
    """Algorithm 1 with the most sensitive layer first.

    The paper reverses the bit depths along the ranking, which would change the size with layers
    of different sizes; reversing the order of the visits meets any budget.
    """
    return round_robin(sorted(sensitivity, key=lambda name: -abs(sensitivity[name])))


def _allocate(evidence: Evidence) -> Allocation:
    sensitivity = evidence.sensitivities()
    steps = list(reversed_algorithm_1(sensitivity))
    return Allocation(steps, sensitivity, evidence.recipe.sensitivity)


METHOD = Method(_allocate, ranks=True)
