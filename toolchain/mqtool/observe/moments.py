"""Second moments of what goes into every layer, summed up while the float model runs on recordings.

The squared error that a changed weight row makes in a layer's output is (w - w') M (w - w')^T with
M the mean of x x^T over the inputs x that the layer meets: all that rounding needs to know of the
recordings, in memory that does not grow with them.

A decoder meets few inputs, one a token, and a matrix estimated from fewer inputs than it has
columns leaves directions in which any error looks free. What lies off the diagonal is therefore
shrunk, the more the fewer inputs there were (after Ledoit and Wolf, "A well-conditioned estimator
for large-dimensional covariance matrices", 2004).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.context import QUIET, RunContext
from mqtool.errors import ModelError
from mqtool.model.folder import ModelFolder
from mqtool.observe.frequencies import RowFrequencies
from mqtool.observe.runs import PROBE_SECONDS, Values, watch
from mqtool.observe.samples import conv_windows
from mqtool.observe.taps import ConvWindow, ObservedInputs, observe_inputs
from mqtool.observe.triangle import diagonal_places, symmetric, upper_triangle
from mqtool.recordings.clips import Clip

__all__ = ["MATRIX_VALUES", "InputMoments", "capture_moments"]

Float = NDArray[np.float32]

MATRIX_VALUES = 2**25
"""A layer whose matrices would hold more values than this keeps their diagonals only."""

POSITIONS = 512
"""Most input rows taken from one run of a graph, evenly spaced: neighbours are much alike."""

SHRINKAGE = 1.0
"""Inputs for every column with which half of a matrix's off-diagonal is believed."""


@dataclass(frozen=True)
class InputMoments:
    """Of one layer's input.

    Attributes:
        stored: float32, the upper triangles of `gram` (`mqtool.observe.triangle`), or only its
            diagonals, [groups, columns], where triangles would be too large.
        abs_max: largest magnitude of each column, float32 [groups, columns].
    """

    stored: Float
    abs_max: Float

    @classmethod
    def of(cls, gram: Float, abs_max: Float) -> "InputMoments":
        """Of whole matrices, or diagonals."""
        return cls(upper_triangle(gram) if gram.ndim == 3 else gram, abs_max)

    @property
    def groups(self) -> int:
        """1 but for grouped convolutions."""
        return len(self.abs_max)

    @property
    def is_matrix(self) -> bool:
        """Whether `gram` holds whole matrices."""
        return self.stored.shape != self.abs_max.shape or self.abs_max.shape[-1] == 1

    @property
    def gram(self) -> Float:
        """Mean of x x^T, shrunk, float32 [groups, columns, columns]; or diagonals alone."""
        return symmetric(self.stored, self.abs_max.shape[-1]) if self.is_matrix else self.stored

    @property
    def diagonal(self) -> Float:
        """Mean square of each column, float32 [groups, columns]."""
        if not self.is_matrix:
            return self.stored
        return self.stored[:, diagonal_places(self.abs_max.shape[-1])]

    def divided(self, factors: Float) -> "InputMoments":
        """Moments of x / factors; `factors` is float32 [columns]."""
        by = np.outer(factors, factors) if self.is_matrix else np.square(factors)
        gram: Float = (self.gram / by).astype(np.float32)
        return InputMoments.of(gram, self.abs_max / factors)

    def damped(self, weight: float) -> "InputMoments":
        """With `weight` times the mean square of all columns added to each column's own."""
        added = np.float32(weight * self.diagonal.mean())
        gram = self.gram
        gram = gram + added * (np.eye(gram.shape[-1]) if self.is_matrix else 1)
        return InputMoments.of(gram.astype(np.float32), self.abs_max)

    def times(self, weight: Float) -> Float:
        """The product of a weight and `gram`, float32 [rows, columns].

        Args:
            weight: float32 [rows, columns]; rows lie group by group.
        """
        gram = self.gram
        by_group = weight.reshape(self.groups, -1, weight.shape[-1])
        product = by_group @ gram if self.is_matrix else by_group * gram[:, None]
        return product.reshape(weight.shape)

    def error(self, difference: Float) -> float:
        """Mean squared error of the output, summed over rows; `difference` is of the weights."""
        return float(np.einsum("rc,rc->", self.times(difference), difference))


def capture_moments(
    folder: ModelFolder,
    clips: Sequence[Clip],
    context: RunContext = QUIET,
    *,
    frequencies: RowFrequencies | None = None,
) -> dict[str, InputMoments]:
    """Moments of every layer's input by layer name; a table that is only looked up has none.

    Layers with one input (queries, keys and values) share one `InputMoments`. Arguments as of
    `mqtool.observe.runs.watch`; `frequencies` are summed up on the way.

    Raises:
        ModelError: the model computes infinite values.
    """
    observed: dict[str, dict[str, ObservedInputs]] = {}

    def edit(model: ir.Model, role: str) -> None:
        inputs = observe_inputs(model.graph, folder.layers_of(role))
        observed[role] = {name: seen for name, seen in inputs.items() if not seen.is_lookup}
        if frequencies is not None:
            frequencies.edit(model, role)

    sums: dict[tuple[object, ...], _Sum] = {}

    def take(number: int, role: str, values: Values) -> None:
        for key, inputs in {seen.key(role): seen for seen in observed[role].values()}.items():
            for name in inputs.values:
                rows = _rows(np.asarray(values[name], np.float32), inputs.window)
                sums.setdefault(key, _Sum()).add(rows)
        if frequencies is not None:
            frequencies.take(number, role, values)

    longest = int(PROBE_SECONDS * folder.manifest.sample_rate)
    watch(folder, clips, edit, take, context, longest=longest)
    moments = {key: total.moments() for key, total in sums.items()}
    by_layer = {
        layer: moments[inputs.key(role)]
        for role, seen in observed.items()
        for layer, inputs in seen.items()
    }
    for layer, found in by_layer.items():
        if not np.isfinite(found.stored).all():
            raise ModelError(
                f"{folder.path}: what goes into layer {layer!r} grows beyond all bounds on these "
                "recordings; export the model again"
            )
    return by_layer


def _rows(values: Float, window: ConvWindow | None) -> Float:
    """Rows that a layer multiplies, float32 [groups, positions, columns]."""
    if window is None:
        rows = values.reshape(-1, 1, values.shape[-1])
        rows = rows[:: -(-len(rows) // POSITIONS)]
    else:
        windows = conv_windows(values, window)
        axes = windows.ndim - 2 - len(window.kernel)
        places = np.indices(windows.shape[:axes]).reshape(axes, -1)
        places = places[:, :: -(-places.shape[1] // POSITIONS)]
        rows = windows[tuple(places)].reshape(places.shape[1], window.groups, -1)
    return np.ascontiguousarray(rows.transpose(1, 0, 2))


class _Sum:
    def __init__(self) -> None:
        self._count = 0
        self._stored: Float | float = 0.0
        self._abs_max: Float | float = 0.0

    def add(self, rows: Float) -> None:
        groups, positions, columns = rows.shape
        self._count += positions
        self._abs_max = np.maximum(self._abs_max, np.abs(rows).max(axis=1))
        if groups * columns * columns > MATRIX_VALUES:
            self._stored = self._stored + np.einsum("gpc,gpc->gc", rows, rows)
        else:
            self._stored = self._stored + upper_triangle(rows.transpose(0, 2, 1) @ rows)

    def moments(self) -> InputMoments:
        stored = np.asarray(self._stored / self._count, np.float32)
        moments = InputMoments(stored, np.asarray(self._abs_max, np.float32))
        if moments.is_matrix:
            columns, kept = moments.abs_max.shape[-1], moments.diagonal
            stored *= np.float32(self._count / (self._count + SHRINKAGE * columns))
            stored[:, diagonal_places(columns)] = kept
        return moments
