"""A method: the largest layer loses all its bits before the next one loses any."""

from mqtool.planning.methods.method import Allocation, Evidence, Method
from mqtool.planning.schedules import round_robin


def _allocate(evidence: Evidence) -> Allocation:
    by_size = sorted(evidence.layers, key=lambda layer: -layer.params)
    return Allocation([step for layer in by_size for step in round_robin([layer.name])])


METHOD = Method(_allocate, needs_recordings=False)
