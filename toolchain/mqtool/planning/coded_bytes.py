"""About how many bytes a layer's codes take at a step.

Coded bytes fall with the logarithm of the step, smoothly: each layer is coded at a grid of steps,
without compensation, and between them the line is straight. What is off is nearly the same share
everywhere, and found once everything is rounded.

All weights are coded, in their order: codes adapt to each column as it comes.
"""

import math
from collections.abc import Mapping
from functools import cache

from mqtool.model.layers import Layer
from mqtool.packing.coded_data import coded_file
from mqtool.quantization.coded_layers import CodedLayers

__all__ = ["CodedBytes"]

_STEPS_AN_OCTAVE = 4


class CodedBytes:
    """Estimates for one model.

    Args:
        layers: of it.
    """

    def __init__(self, layers: CodedLayers) -> None:
        self._layers = layers
        self._known = {layer.name: layer for layer in layers.layers}
        self._at = cache(self._looked_at)

    def __call__(self, steps: Mapping[str, float]) -> float:
        """Bytes of all codes with these steps, by layer name."""
        return math.fsum(self._between(name, step) for name, step in steps.items())

    def _between(self, name: str, step: float) -> float:
        place = _STEPS_AN_OCTAVE * math.log2(step)
        below = math.floor(place)
        share = place - below
        return (1 - share) * self._at(name, below) + share * self._at(name, below + 1)

    def _looked_at(self, name: str, place: int) -> float:
        layer: Layer = self._known[name]
        step = 2.0 ** (place / _STEPS_AN_OCTAVE)
        parts, _ = self._layers.round(layer, step, compensated=False).int8_parts()
        return float(len(coded_file([parts.tobytes()])[0]))
