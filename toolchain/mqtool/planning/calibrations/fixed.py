"""Ranges that need no search."""

from mqtool.planning.calibrations.calibration import Calibration, LayerEvidence
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.ranges import bit_range, minmax_range

__all__ = ["MINMAX", "NONE"]


def _none(evidence: LayerEvidence) -> ActivationRange:
    """The paper's "no calibration": [-1, 1), whatever goes in."""
    return bit_range(evidence.spec)


def _minmax(evidence: LayerEvidence) -> ActivationRange:
    """Equations 2 and 3: from the least to the largest value that was seen."""
    assert evidence.sample is not None
    return minmax_range(evidence.spec, evidence.sample.low, evidence.sample.high)


NONE = Calibration(_none, needs_recordings=False)
MINMAX = Calibration(_minmax)
