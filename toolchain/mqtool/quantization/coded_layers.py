"""The layers of a model as steps round them (`mqtool.quantization.coded`)."""

from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.errors import PlanError
from mqtool.model.folder import layer_weight
from mqtool.model.layers import Layer, product_nodes
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.quantization.coded import (
    HIGHEST_CODE,
    CodedWeight,
    highest_code,
    round_to_steps,
    row_steps,
    storable_step,
)
from mqtool.quantization.compensate import Compensators
from mqtool.quantization.rounding import LayerInput

__all__ = ["CodedLayers"]

MOST_REPEATED = 8
"""How often a column is multiplied on average at most: no plan comes near, memory is bounded."""

Float = NDArray[np.float32]


class CodedLayers:
    """Rounds the layers of one model, as recordings have them.

    Args:
        stats: of the recordings; with a folder alone each weight takes the nearest code.
    """

    def __init__(self, stats: CalibrationStats) -> None:
        self.folder = stats.folder
        self._stats = stats

    @property
    def layers(self) -> list[Layer]:
        """Of all graphs."""
        return self.folder.layers

    def weight(self, layer: Layer) -> Float:
        """What is rounded, float32 [rows, columns]."""
        return layer_weight(self._models[layer.graph], layer)

    def inputs(self, layer: Layer) -> LayerInput | None:
        """What it multiplies, as far as the recordings tell."""
        return self._stats.inputs.get(layer.name)

    def compensators(self, layer: Layer) -> Compensators | None:
        """What makes up for its errors, as far as the recordings tell."""
        return self._stats.compensators_of(layer)

    def is_head(self, layer: Layer) -> bool:
        """Whether a layer is a table that is multiplied, too."""
        graph = self._models[layer.graph].graph
        return layer.op == "embedding" and bool(product_nodes(graph, layer))

    def highest(self, layer: Layer) -> int | None:
        """Largest magnitude of its codes, as `highest_code`."""
        return highest_code(layer, is_head=self.is_head(layer))

    def most_bits(self, layer: Layer) -> int:
        """The greatest width whose codes its form holds, where layers have bits and no steps."""
        return ((self.highest(layer) or HIGHEST_CODE) + 1).bit_length()

    def round(self, layer: Layer, step: float, *, compensated: bool = True) -> CodedWeight:
        """A layer at a step.

        Args:
            layer: one of the model's.
            step: of it; rows of a table may have finer ones.
            compensated: whether codes make up for each other's errors, which takes longer.

        Raises:
            PlanError: the step is so fine that hardly any code is within int8.
        """
        weight, highest = self.weight(layer), self.highest(layer)
        scale = row_steps(weight, step, highest, self._stats.row_factors.get(layer.name))
        if highest is None:
            _check_repeats(layer, step, np.abs(weight).max(axis=0) / scale.min())
        compensators = self.compensators(layer) if compensated else None
        return round_to_steps(weight, scale, compensators, highest=highest)

    def blank(self, layer: Layer) -> CodedWeight:
        """The same shape with every code at zero."""
        codes = np.zeros((layer.rows, layer.columns), np.int8)
        return CodedWeight(codes, storable_step(np.ones(layer.rows)))

    @cached_property
    def _models(self) -> dict[str, ir.Model]:
        return {role: self.folder.load(role) for role in self.folder.manifest.graphs}


def _check_repeats(layer: Layer, step: float, largest: Float) -> None:
    """Refuse codes, given by the largest of each column, of which int8 holds hardly any."""
    if largest.sum() > MOST_REPEATED * HIGHEST_CODE * layer.columns:
        raise PlanError(
            f"layer {layer.name!r} has step {step:g}, with codes to {largest.max():,.0f}; "
            "run mqtool plan again"
        )
