"""Ranges searched for the least loss of the layer's output (the paper's Table 3)."""

from functools import partial

from mqtool.planning.calibrations.calibration import Calibration, LayerEvidence
from mqtool.quantization import objectives
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.objectives import Objective
from mqtool.quantization.range_search import search_range

__all__ = ["COSINE", "HESS", "L1", "L2", "LINW_L2", "SQW_L2"]


def _search(objective: Objective, evidence: LayerEvidence) -> ActivationRange:
    assert evidence.sample is not None
    return search_range(
        evidence.spec,
        evidence.sample,
        evidence.exact(),
        evidence.quantized(),
        objective,
        evidence.gradients,
    )


L1 = Calibration(partial(_search, objectives.l1))
L2 = Calibration(partial(_search, objectives.l2))
LINW_L2 = Calibration(partial(_search, objectives.linw_l2))
SQW_L2 = Calibration(partial(_search, objectives.sqw_l2))
HESS = Calibration(partial(_search, objectives.hess), needs_gradients=True)
COSINE = Calibration(partial(_search, objectives.cosine))
