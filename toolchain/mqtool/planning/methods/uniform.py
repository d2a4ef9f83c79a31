"""One width for all layers, as nearly as the budget allows."""

from collections.abc import Iterator, Sequence

from mqtool.model.layers import Layer
from mqtool.planning.methods.method import Allocation, Evidence, Method
from mqtool.planning.schedules import Step, round_robin

__all__ = ["METHOD", "uniform_steps"]


def uniform_steps(layers: Sequence[Layer]) -> Iterator[Step]:
    """A bit from each layer in turn, in the order of the model."""
    return round_robin([layer.name for layer in layers])


def _allocate(evidence: Evidence) -> Allocation:
    return Allocation(list(uniform_steps(evidence.layers)))


METHOD = Method(_allocate, needs_recordings=False)
