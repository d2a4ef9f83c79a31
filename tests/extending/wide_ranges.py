"""A calibration: twice what was seen."""

from mqtool.planning.calibrations.calibration import Calibration, LayerEvidence
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.ranges import minmax_range


def _choose(evidence: LayerEvidence) -> ActivationRange:
    sample = evidence.sample
    assert sample is not None
    return minmax_range(evidence.spec, 2 * sample.low, 2 * sample.high)


CALIBRATION = Calibration(_choose)
