"""A sample of what goes into layers, and of the gradients by what comes out of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.context import QUIET, RunContext
from mqtool.model.folder import ModelFolder
from mqtool.observe.differentiation import Values, differentiate
from mqtool.observe.samples import InputSample, InputSampler, Reservoir
from mqtool.recordings.clips import Clip

__all__ = ["capture_gradients"]

Float = NDArray[np.float32]


def capture_gradients(
    folder: ModelFolder,
    clips: Sequence[Clip],
    context: RunContext = QUIET,
) -> dict[str, tuple[InputSample, Float]]:
    """A sample of every Linear's and Conv's input, and gradients by its output there.

    Args:
        folder: the float model.
        clips: recordings, as of `differentiate`.
        context: threads and progress.

    Returns:
        Layer name -> sample, and float32 [positions, layer rows].

    Raises:
        ModelError: the graph has an operator whose gradient is not known.
    """
    sampled = _Sampled(folder)
    differentiate(folder, clips, sampled, context)
    samples = sampled.inputs.samples()
    return {
        layer: (samples[layer], reservoir.rows[:, 0])
        for layer, reservoir in sampled.reservoirs.items()
    }


class _Sampled:
    """Inputs and gradients at the same positions."""

    def __init__(self, folder: ModelFolder) -> None:
        self.inputs = InputSampler(folder)
        self.reservoirs: dict[str, Reservoir] = {}
        self._found: list[tuple[str, Mapping[str, list[Float]]]] = []

    def edit(self, model: ir.Model, role: str) -> None:
        self.inputs.edit(model, role)

    def run(self, role: str, values: Values) -> None:
        self.inputs.take(role, values)

    def gradients(
        self, role: str, values: Values, by_layer: Mapping[str, list[Float]], *, first: bool
    ) -> None:
        self._found.append((role, by_layer))

    def end(self) -> None:
        """Sample run by run as their inputs were sampled."""
        for role, by_layer in reversed(self._found):
            for layer, gradients in by_layer.items():
                for gradient in gradients:
                    self._add(role, layer, gradient)
        self._found = []

    def _add(self, role: str, layer: str, gradient: Float) -> None:
        if layer not in self.reservoirs:
            self.reservoirs[layer] = Reservoir(self.inputs.capacity(role, layer))
        if self.inputs.observed[role][layer].window is not None:
            gradient = np.moveaxis(gradient, 1, -1)  # channels last, as positions are counted
        rows = gradient.reshape(-1, 1, gradient.shape[-1])
        self.reservoirs[layer].add(len(rows), lambda chosen: rows[chosen])
