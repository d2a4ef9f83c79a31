"""The paper's own method (myQASR, Algorithm 1)."""

from collections.abc import Iterator, Mapping

from mqtool.planning.methods.method import Allocation, Evidence, Method
from mqtool.planning.schedules import Step, round_robin

__all__ = ["METHOD", "algorithm_1"]


def algorithm_1(sensitivity: Mapping[str, float]) -> Iterator[Step]:
    """The paper's Algorithm 1: take a bit from each layer in turn, least sensitive first.

    Layers are visited in ascending order of `sensitivity` (the absolute median of their output;
    equal ones in the order given), over and over, each losing one bit a visit. The paper starts
    at 32 and passes 31 to 17, which no ONNX type can hold; here the step below 32 is 16. From 16
    bits down the order, and so every result, is the paper's.
    """
    return round_robin(sorted(sensitivity, key=lambda name: abs(sensitivity[name])))


def _allocate(evidence: Evidence) -> Allocation:
    sensitivity = evidence.sensitivities()
    return Allocation(list(algorithm_1(sensitivity)), sensitivity, evidence.recipe.sensitivity)


METHOD = Method(_allocate, ranks=True)
