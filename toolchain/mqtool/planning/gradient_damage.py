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
    found = {
        layer.name: _Squares(layers.compensators(layer), layer.rows) for layer in layers.layers
    }

    def take(layer: str, gradient: Float) -> None:
        found[layer].add(gradient)

    folder = layers.folder
    positions = each_weight_gradient(folder, clips, take, context, draws=DRAWS, said=said)
    return {
        name: squares.total / (24 * positions) for name, squares in found.items() if squares.times
    }


class _Squares:
    """Squared gradients of one layer, summed up.

    Args:
        compensators: of the layer, as far as they are known.
        count: of its rows.
    """

    def __init__(self, compensators: Compensators | None, count: int) -> None:
        self._compensators, self._count = compensators, count
        self.times = 0
        self._all = self._plain = self._moved = 0.0

    def add(self, gradient: Float) -> None:
        """Take in one, [rows, columns]."""
        self._all += _squared(gradient)
        if self._compensators is not None and self._compensators.are_known:
            step = max(1, len(gradient) // ROWS)
            places = np.arange(self.times % step, len(gradient), step)
            groups = places * self._compensators.groups // self._count
            self._plain += _squared(gradient[places])
            self._moved += self._compensators.squares(gradient[places], groups)
        self.times += 1

    @property
    def total(self) -> float:
        """Over all rows and gradients, as rounding errs."""
        return self._all * self._moved / self._plain if self._plain else self._all


def _squared(values: Float) -> float:
    return float(np.einsum("rc,rc->", values, values))
