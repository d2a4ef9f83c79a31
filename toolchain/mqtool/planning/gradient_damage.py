"""What rounding layers does to the model's own output, from gradients: all layers in one pass.

To second order the divergence is half of delta^T H delta, for a change delta of a layer's weight
and H the Hessian, which random signs give as E[g g^T] (`mqtool.observe.differentiation`). Rounding
with compensation errs in column after column by e, uniform within a step, and the columns after it
make up for it: delta is e times the triangular factor of `mqtool.quantization.compensate`, each row
divided by its diagonal. So for a step s

    divergence = s^2 / 24 * the mean over positions of the sum over rows of |D^-1 U g_row|^2

and without compensation of |g_row|^2. Multiplying by U takes as long as rounding does: it is done
for some rows of every recording, others each time, and the rest are taken to shrink alike.

Tables are left to `mqtool.planning.probing`: the errors of ten thousands of improbable tokens add
to their probability exponentially, which a second derivative does not show.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mqruntime.tasks.task import Utterance
from mqtool.context import QUIET, RunContext
from mqtool.observe.weight_gradients import each_weight_gradient
from mqtool.quantization.coded_layers import CodedLayers
from mqtool.quantization.compensate import Compensators
from mqtool.recordings.clips import Clip

__all__ = ["estimate_damage"]

Float = NDArray[np.float32]

DRAWS = 2
"""Of signs, for each recording."""

ROWS = 32
"""Of each layer, recording and draw, that are multiplied by its factor."""


def estimate_damage(
    layers: CodedLayers,
    clips: Sequence[Clip],
    context: RunContext = QUIET,
    *,
    said: Sequence[Sequence[Utterance]] | None = None,
) -> dict[str, float]:
    """Nats an output position for a step of 1, by name of every Linear and Conv.

    Args:
        layers: of the float model.
        clips: a handful of recordings.
        context: threads and progress.
        said: what the model says of them, as of `differentiate`.

    Raises:
        ModelError: the graph has an operator whose gradient is not known.
    """
    found: dict[str, _Squares] = {}

    def take(layer: str, gradient: Float) -> None:
        found.setdefault(layer, _Squares()).add(gradient)

    folder = layers.folder
    positions = each_weight_gradient(folder, clips, take, context, draws=DRAWS, said=said)
    return {
        layer.name: found[layer.name].total(layers.compensators(layer), layer.rows)
        / (24 * positions)
        for layer in layers.layers
        if layer.name in found
    }


class _Squares:
    """Squared gradients of one layer."""

    def __init__(self) -> None:
        self._sum, self._times = 0.0, 0
        self._places: list[NDArray[np.intp]] = []
        self._rows: list[Float] = []

    def add(self, gradient: Float) -> None:
        self._sum += float(np.einsum("rc,rc->", gradient, gradient))
        step = max(1, len(gradient) // ROWS)
        places = np.arange(self._times % step, len(gradient), step)
        self._places.append(places)
        self._rows.append(gradient[places])
        self._times += 1

    def total(self, compensators: Compensators | None, count: int) -> float:
        """Summed over all `count` rows and every gradient, as rounding errs."""
        if compensators is None or not compensators.are_known:
            return self._sum
        rows, places = np.concatenate(self._rows), np.concatenate(self._places)
        plain = float(np.einsum("rc,rc->", rows, rows))
        if plain == 0:
            return self._sum
        return self._sum * compensators.squares(rows, places * compensators.groups // count) / plain
