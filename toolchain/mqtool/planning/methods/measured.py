"""Allocation by what quantizing each layer does to the model's own output on the recordings.

Layers are probed one at a time (`mqtool.planning.probing`). Coded weights get the steps of one
lambda (`mqtool.planning.steps`). For whole numbers of bits, steps down are taken in ascending order
of added divergence (`mqtool.planning.sensitivity_curves`) per byte saved.
"""

from mqtool.planning.methods.method import Allocation, Evidence, Method
from mqtool.planning.schedules import marginal_steps
from mqtool.planning.sensitivity_curves import LEAST_BITS, STATED_BITS

__all__ = ["METHOD"]


def _allocate(evidence: Evidence) -> Allocation:
    curves = evidence.curves()
    steps = marginal_steps(evidence.layers, lambda name, bits: curves[name].at(bits), LEAST_BITS)
    stated = {name: curve.at(STATED_BITS) for name, curve in curves.items()}
    return Allocation(list(steps), stated, "kl")


METHOD = Method(_allocate, rounding="compensated", step_ranges=lambda evidence: evidence.ranges())
