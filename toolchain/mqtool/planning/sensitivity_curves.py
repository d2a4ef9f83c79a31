"""What whole widths of a layer do to the model's own output.

A layer is probed at one step (`mqtool.planning.probing`). At a width it is taken to do damage in
proportion to the squared rounding error of the layer's output (of its weight, where the inputs are
not known), to which the divergence is proportional for small errors (second-order expansion).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mqtool.model.layers import Layer
from mqtool.planning.probing import probe_step
from mqtool.planning.steps import StepRange
from mqtool.quantization.bits import FLOAT_BITS, WIDTHS
from mqtool.quantization.coded import CodedWeight, round_to_steps, row_steps
from mqtool.quantization.coded_layers import CodedLayers
from mqtool.quantization.rounding import Rounding, quantize_weight
from mqtool.quantization.weights import QuantizedWeight

__all__ = ["LEAST_BITS", "STATED_BITS", "SensitivityCurve", "sensitivity_curves"]

STATED_BITS = 4
"""The width whose damage plans state as a layer's sensitivity."""

LEAST_BITS = 3
"""Below this no layer loses a bit while another has more: one that a few short clips hardly use
looks free, and then long clips fail for want of it."""

ERROR_ROWS = 96
"""Rows of a layer, evenly spaced, whose rounding error stands for all."""


@dataclass(frozen=True)
class SensitivityCurve:
    """What holding one layer at a width does to the model's own output.

    Attributes:
        damage: mean KL divergence (nats per output position) at each width up to 8.
    """

    damage: Mapping[int, float]

    def at(self, bits: int) -> float:
        """Expected mean KL divergence at `bits`."""
        if bits == FLOAT_BITS:
            return 0.0
        widest = max(self.damage)
        return self.damage[min(bits, widest)] * 4.0 ** min(widest - bits, 0)


def sensitivity_curves(
    layers: CodedLayers, ranges: Mapping[str, StepRange], rounding: Rounding
) -> dict[str, SensitivityCurve]:
    """The curve of every layer, by name.

    Args:
        layers: of the float model, as its weights are rounded to widths.
        ranges: of `mqtool.planning.probing.measure_ranges`.
        rounding: as the packed model will be rounded.
    """
    curves = {}
    for layer in layers.layers:
        step = probe_step(layers.weight(layer), is_head=layers.is_head(layer))
        probed, errors = _rounding_errors(layers, layer, step, rounding)
        found = ranges[layer.name].damage * step**2
        scale = found / probed if probed > 0 else 0.0
        curves[layer.name] = SensitivityCurve({bits: scale * e for bits, e in errors.items()})
    return curves


def _rounding_errors(
    layers: CodedLayers, layer: Layer, step: float, rounding: Rounding
) -> tuple[float, dict[int, float]]:
    """Squared error of a sample of rows at a step, and at each width up to 8."""
    weight, inputs, highest = layers.weight(layer), layers.inputs(layer), layers.highest(layer)
    is_grouped_conv = inputs is not None and inputs.moments.groups > 1
    sample = weight if is_grouped_conv else weight[:: max(1, layer.rows // ERROR_ROWS)]
    sampled = replace(layer, shape=(len(sample), *layer.shape[1:]))

    def error(rounded: QuantizedWeight | CodedWeight) -> float:
        difference = rounded.dequantize() - sample
        if inputs is not None:
            return inputs.moments.error(difference)
        return float(np.square(difference).sum())

    scale = row_steps(sample, step, highest)
    compensators = None if inputs is None else inputs.compensators
    probed = error(round_to_steps(sample, scale, compensators, highest=highest))
    return probed, {
        bits: error(quantize_weight(sampled, sample, bits, 0, rounding, inputs))
        for bits in WIDTHS[:8]
    }
