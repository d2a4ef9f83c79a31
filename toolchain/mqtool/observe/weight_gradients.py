"""Gradients by the weights of Linears and Convs, of one recording after the other."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqruntime.tasks.task import Utterance
from mqtool.context import QUIET, RunContext
from mqtool.model.folder import ModelFolder
from mqtool.observe.differentiation import Values, differentiate
from mqtool.observe.samples import conv_windows
from mqtool.observe.taps import ConvWindow, ObservedInputs, observe_inputs
from mqtool.recordings.clips import Clip

__all__ = ["each_weight_gradient"]

Float = NDArray[np.float32]


def each_weight_gradient(
    folder: ModelFolder,
    clips: Sequence[Clip],
    take: Callable[[str, Float], None],
    context: RunContext = QUIET,
    *,
    draws: int = 1,
    said: Sequence[Sequence[Utterance]] | None = None,
) -> int:
    """Gradients of the model's output by weights, in the random directions of `differentiate`.

    Args:
        folder: the float model.
        clips: recordings.
        take: given a layer's name and, for each recording and draw, the gradient by its weight,
            float32 [rows, columns]. Of tables there is none.
        context: threads and progress.
        draws: as of `differentiate`.
        said: likewise.

    Returns:
        Output positions of all recordings and draws.

    Raises:
        ModelError: the graph has an operator whose gradient is not known.
    """
    summed = _Summed(folder, take)
    return differentiate(folder, clips, summed, context, draws=draws, said=said)


class _Summed:
    """One gradient a layer, over all runs of its graph."""

    def __init__(self, folder: ModelFolder, take: Callable[[str, Float], None]) -> None:
        self._folder, self._take = folder, take
        self._observed: dict[str, dict[str, ObservedInputs]] = {}
        self._sums: dict[str, Float] = {}

    def edit(self, model: ir.Model, role: str) -> None:
        layers = [layer for layer in self._folder.layers_of(role) if layer.op != "embedding"]
        self._observed[role] = observe_inputs(model.graph, layers)

    def run(self, role: str, values: Values) -> None:
        """Inputs are read when their gradients are there."""

    def gradients(
        self, role: str, values: Values, by_layer: Mapping[str, list[Float]], *, first: bool
    ) -> None:
        for layer, observed in self._observed[role].items():
            found = self._sums.pop(layer, None)
            for name, gradient in zip(observed.values, by_layer[layer], strict=True):
                product = _by_weight(
                    np.asarray(values[name], np.float32), gradient, observed.window
                )
                found = product if found is None else found + product
            assert found is not None
            if first:
                self._take(layer, found)
            else:
                self._sums[layer] = found

    def end(self) -> None:
        """Nothing is left."""


def _by_weight(inputs: Float, gradient: Float, window: ConvWindow | None) -> Float:
    """Of what goes in and the gradient by what comes out, float32 [rows, columns]."""
    if window is None:
        product: Float = gradient.reshape(-1, gradient.shape[-1]).T @ inputs.reshape(
            -1, inputs.shape[-1]
        )
        return product
    windows = conv_windows(inputs, window)
    rows = gradient.shape[1]
    outputs = np.moveaxis(gradient, 1, -1).reshape(-1, window.groups, rows // window.groups)
    columns = windows.reshape(len(outputs), window.groups, -1)
    by_group: Float = outputs.transpose(1, 2, 0) @ columns.transpose(1, 0, 2)
    return by_group.reshape(rows, -1)
