"""Allocation by what quantizing each layer does to the model's own output on the recordings.

Coded weights get the steps of one lambda (`mqtool.planning.steps`). For whole numbers of bits,
steps down are taken in ascending order of added divergence (`mqtool.planning.probing`) per byte
saved. Layers are probed one at a time; together they do more (`mqtool.planning.choose`), so a
second, more level order is offered beside the first.
"""

from collections.abc import Callable, Mapping

from mqtool.model.frequent import FREQUENT_SUFFIX
from mqtool.planning.methods.method import Allocation, Evidence, Method
from mqtool.planning.probing import LEAST_BITS, PROBE_BITS, SensitivityCurve
from mqtool.planning.schedules import marginal_steps

__all__ = ["METHOD"]

ALTERNATIVE_EXPONENTS = (0.75,)
"""Powers of the divergence by which steps are ordered, besides 1: the lower, the more level."""

RARE_CLIPS = 16
"""Recordings with which the rare rows of a table count twice what they do on these.

Others need more of such rows, the more the fewer these are. At the size of 3.5 bits, nats on other
clips: whisper-tiny.en from 16 clips 0.149 at their own weight, 0.102 at three times it;
whisper-base from 80 clips in five languages 0.056 and 0.064."""


def _allocate(evidence: Evidence) -> Allocation:
    curves = evidence.curves()
    first, *others = (
        list(
            marginal_steps(
                evidence.layers, weighted_sensitivity(curves, exponent, evidence.clips), LEAST_BITS
            )
        )
        for exponent in (1.0, *ALTERNATIVE_EXPONENTS)
    )
    probed = {name: curve.probed[PROBE_BITS] for name, curve in curves.items()}
    return Allocation(first, probed, "kl", alternatives=others)


def weighted_sensitivity(
    curves: Mapping[str, SensitivityCurve], exponent: float, clips: int
) -> Callable[[str, int], float]:
    """Divergence by layer name and width, to a power, with rare rows counting more.

    Args:
        curves: of all layers.
        exponent: below 1 makes widths more level.
        clips: recordings they were measured on.
    """
    rare_weight = 1 + RARE_CLIPS / clips

    def value(name: str, bits: int) -> float:
        is_rare = name + FREQUENT_SUFFIX in curves
        return float(curves[name].at(bits) ** exponent) * (rare_weight if is_rare else 1.0)

    return value


METHOD = Method(_allocate, rounding="compensated", step_ranges=lambda evidence: evidence.ranges())
