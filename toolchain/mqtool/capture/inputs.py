"""A bounded random sample of what goes into every layer while the float model hears recordings.

Every layer is a product of rows: a Linear multiplies input rows by its weight, a Conv the windows
of its input. A few hundred of them, drawn evenly from all positions of all clips, show what
another weight would change in the layer's output, in memory that does not grow with the clips.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqtool.capture.observe import ConvWindow, ObservedInputs, observe_inputs
from mqtool.capture.run import watch
from mqtool.clips import Clip
from mqtool.graph.folder import ModelFolder

__all__ = ["SAMPLE_ROWS", "InputSample", "capture_inputs", "conv_windows"]

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
        places: int64 [positions, 2]: in which run of the graph each position was, and where in it,
            counted as the output's positions are.
    """

    rows: Float
    bias: Float | None
    is_lookup: bool
    low: float = 0.0
    high: float = 0.0
    places: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))

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
    clips: Iterable[Clip],
    *,
    language: str | None = None,
    threads: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, InputSample]:
    """Sample every layer's input over all clips, by layer name; arguments as of `watch`.

    The same clips give the same sample. Layers with one input (queries, keys and values) share
    one sample.
    """
    observed: dict[str, dict[str, ObservedInputs]] = {}

    def edit(model: ir.Model, role: str) -> None:
        layers = [layer for layer in folder.layers if layer.graph == role]
        observed[role] = observe_inputs(model.graph, layers)

    reservoirs: dict[tuple[object, ...], _Reservoir] = {}

    def take(role: str, values: Mapping[str, NDArray[np.generic]]) -> None:
        distinct = {_key(role, inputs): inputs for inputs in observed[role].values()}
        for key, inputs in distinct.items():
            for name in inputs.values:
                count, width, pick = _positions(values[name], inputs.window)
                if key not in reservoirs:
                    most = max(1, SAMPLE_VALUES // width)
                    reservoirs[key] = _Reservoir(min(SAMPLE_ROWS, most))
                reservoirs[key].add(count, pick)
                reservoirs[key].widen(values[name])

    watch(folder, clips, edit, take, language=language, threads=threads, advance=advance)
    return {
        layer: reservoirs[_key(role, inputs)].sample(inputs)
        for role, by_layer in observed.items()
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


def _key(role: str, inputs: ObservedInputs) -> tuple[object, ...]:
    return role, inputs.values, inputs.window


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

    def pick(chosen: NDArray[np.int64]) -> Float:
        picked: Float = windows[np.unravel_index(chosen, places)]
        return picked.reshape(len(chosen), window.groups, -1)

    return prod(places), prod(windows.shape[len(places) :]), pick


class _Reservoir:
    """A uniform random sample, without replacement, of a stream of rows, and the range of all.

    Every row draws a number when it comes by; those with the smallest numbers stay.
    """

    def __init__(self, capacity: int) -> None:
        self.rows: Float = np.zeros((0, 1, 1), np.float32)
        self._places: NDArray[np.int64] = np.zeros((0, 2), np.int64)
        self._capacity = capacity
        self._draws: NDArray[np.float64] = np.zeros(0)
        self._random = np.random.default_rng(0)
        self._runs = 0
        self._low, self._high = np.inf, -np.inf

    def add(self, count: int, pick: Callable[[NDArray[np.int64]], Float]) -> None:
        draws = np.concatenate([self._draws, self._random.random(count)])
        kept = np.sort(np.argsort(draws, kind="stable")[: self._capacity])
        old, new = kept[kept < len(self._draws)], kept[kept >= len(self._draws)]
        new -= len(self._draws)
        fresh = pick(new)
        self.rows = np.concatenate([self.rows[old], fresh]) if len(old) else fresh
        places = np.stack([np.full_like(new, self._runs), new], axis=1)
        self._places = np.concatenate([self._places[old], places])
        self._draws = draws[kept]
        self._runs += 1

    def widen(self, values: NDArray[np.generic]) -> None:
        self._low = min(self._low, float(np.min(values)))
        self._high = max(self._high, float(np.max(values)))

    def sample(self, inputs: ObservedInputs) -> InputSample:
        return InputSample(
            self.rows, inputs.bias, inputs.is_lookup, self._low, self._high, self._places
        )
