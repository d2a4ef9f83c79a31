"""A bounded random sample of what goes into every layer while the float model runs on recordings.

Every layer is a product of rows: a Linear multiplies input rows by its weight, a Conv the windows
of its input. A few hundred of them, drawn evenly from all positions of all clips, show what
another weight would change in the layer's output, in memory that does not grow with the clips.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.context import QUIET, RunContext
from mqtool.model.folder import ModelFolder
from mqtool.observe.runs import Values, watch
from mqtool.observe.taps import ConvWindow, ObservedInputs, observe_inputs
from mqtool.recordings.clips import Clip

__all__ = [
    "SAMPLE_ROWS",
    "InputSample",
    "InputSampler",
    "Reservoir",
    "capture_inputs",
    "conv_windows",
]

Float = NDArray[np.float32]

SAMPLE_ROWS = 256
"""Most rows kept for a layer."""

SAMPLE_VALUES = 2**21
"""Most values kept for a layer: wide convolutions keep fewer rows."""


@dataclass(frozen=True)
class InputSample:
    """Positions of one layer's input.

    Attributes:
        rows: float32 [positions, groups, columns]; groups is 1 but for grouped convolutions. Of
            a lookup the rows that were read from the table.
        bias: float32 [layer rows], or None.
        is_lookup: whether `rows` are rows of the layer itself.
        low: the least value of the whole input, in the sample or not.
        high: the largest.
    """

    rows: Float
    bias: Float | None
    is_lookup: bool
    low: float = 0.0
    high: float = 0.0

    def outputs(self, weight: Float) -> Float:
        """The layer's output with another weight, float32 [positions, layer rows]; no lookups.

        Args:
            weight: float32 [layer rows, columns].
        """
        groups = self.rows.shape[1]
        by_group = weight.reshape(groups, len(weight) // groups, -1)
        products = np.matmul(self.rows.transpose(1, 0, 2), by_group.transpose(0, 2, 1))
        outputs: Float = products.transpose(1, 0, 2).reshape(len(self.rows), len(weight))
        return outputs if self.bias is None else outputs + self.bias


def capture_inputs(
    folder: ModelFolder,
    clips: Sequence[Clip],
    context: RunContext = QUIET,
) -> dict[str, InputSample]:
    """Sample every layer's input over all clips, by layer name; arguments as of `watch`.

    The same clips give the same sample. Layers with one input (queries, keys and values) share
    one sample.
    """
    sampler = InputSampler(folder)
    watch(folder, clips, sampler.edit, lambda number, *run: sampler.take(*run), context)
    return sampler.samples()


class InputSampler:
    """Samples the inputs of all layers from runs of the graphs that hold them."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self._reservoirs: dict[tuple[object, ...], Reservoir] = {}
        self.observed: dict[str, dict[str, ObservedInputs]] = {}
        """What there is to read of each graph, by role and layer name."""

    def edit(self, model: ir.Model, role: str) -> None:
        """Add the inputs of layers to a graph's outputs."""
        self.observed[role] = observe_inputs(model.graph, self._folder.layers_of(role))

    def take(self, role: str, values: Values) -> None:
        """Take in one run of a graph: its inputs and outputs by name."""
        distinct = {inputs.key(role): inputs for inputs in self.observed[role].values()}
        for key, inputs in distinct.items():
            for name in inputs.values:
                count, width, pick = _positions(values[name], inputs.window)
                if key not in self._reservoirs:
                    most = max(1, SAMPLE_VALUES // width)
                    self._reservoirs[key] = Reservoir(min(SAMPLE_ROWS, most))
                self._reservoirs[key].add(count, pick)
                self._reservoirs[key].widen(values[name])

    def capacity(self, role: str, layer: str) -> int:
        """Positions kept of a layer's input; known once a run was taken in."""
        return self._reservoirs[self.observed[role][layer].key(role)].capacity

    def samples(self) -> dict[str, InputSample]:
        """By layer name."""
        return {
            layer: self._reservoirs[inputs.key(role)].sample(inputs)
            for role, by_layer in self.observed.items()
            for layer, inputs in by_layer.items()
        }


def conv_windows(values: Float, window: ConvWindow) -> Float:
    """What a Conv multiplies at each output position, as a view.

    Args:
        values: float32 [batch, channels, ...].
        window: of the Conv.

    Returns:
        float32 [batch, *output positions, groups, channels / groups, *kernel].
    """
    axes = tuple(range(2, values.ndim))
    padded = np.pad(values, ((0, 0), (0, 0), *window.pads))
    reach = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axes)
    step = [slice(None, None, stride) for stride in window.strides]
    spread = [slice(None, None, dilation) for dilation in window.dilations]
    windows = windows[(slice(None), slice(None), *step, *spread)]
    windows = np.moveaxis(windows, 1, 1 + len(axes))
    shape = windows.shape
    channels = 1 + len(axes)
    grouped = (window.groups, shape[channels] // window.groups)
    return windows.reshape(*shape[:channels], *grouped, *shape[channels + 1 :])


def _positions(
    values: NDArray[np.generic], window: ConvWindow | None
) -> tuple[int, int, Callable[[NDArray[np.int64]], Float]]:
    """Positions in an array, values of each, and a function that copies some of them out."""
    floats = np.asarray(values, np.float32)
    if window is None:
        rows = floats.reshape(-1, 1, floats.shape[-1])
        return len(rows), rows.shape[-1], lambda chosen: rows[chosen]
    windows = conv_windows(floats, window)
    places = windows.shape[: windows.ndim - 2 - len(window.kernel)]
    width = prod(windows.shape[len(places) :])

    def pick(chosen: NDArray[np.int64]) -> Float:
        picked: Float = windows[np.unravel_index(chosen, places)]
        return picked.reshape(len(chosen), window.groups, width // window.groups)

    return prod(places), width, pick


class Reservoir:
    """A uniform random sample, without replacement, of a stream of rows, and the range of all.

    Every row draws a number when it comes by; those with the smallest numbers stay. Two
    reservoirs of one capacity that see streams of one length keep the same positions.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.rows: Float = np.zeros((0, 1, 1), np.float32)
        self._draws: NDArray[np.float64] = np.zeros(0)
        self._random = np.random.default_rng(0)
        self._low, self._high = np.inf, -np.inf

    def add(self, count: int, pick: Callable[[NDArray[np.int64]], Float]) -> None:
        """Take in `count` rows, of which `pick` copies some out."""
        draws = np.concatenate([self._draws, self._random.random(count)])
        kept = np.sort(np.argsort(draws, kind="stable")[: self.capacity])
        old, new = kept[kept < len(self._draws)], kept[kept >= len(self._draws)]
        fresh = pick(new - len(self._draws))
        self.rows = np.concatenate([self.rows[old], fresh]) if len(old) else fresh
        self._draws = draws[kept]

    def widen(self, values: NDArray[np.generic]) -> None:
        """Take values into the range."""
        self._low = min(self._low, float(np.min(values)))
        self._high = max(self._high, float(np.max(values)))

    def sample(self, inputs: ObservedInputs) -> InputSample:
        """What was kept."""
        return InputSample(self.rows, inputs.bias, inputs.is_lookup, self._low, self._high)
