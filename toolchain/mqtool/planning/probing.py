"""What rounding one layer does to the model's own output, and which steps it may have.

Each layer alone is rounded once, at a step that gives about 2.5 bits of entropy, near where small
models have it, and the model runs again on the clips. Damage is the mean KL divergence from the
float model's output distribution, per output position, and is taken to grow with the square of the
step. No labels are used: Whisper is fed the tokens that the float model generated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqruntime.engine.session import Graph, Session
from mqtool.context import QUIET, RunContext
from mqtool.model.folder import ModelFolder, set_layer_weight
from mqtool.model.layers import Layer
from mqtool.observe.runs import open_graphs
from mqtool.observe.taps import override_weights
from mqtool.planning.divergence import ReferenceOutputs
from mqtool.planning.steps import StepRange
from mqtool.quantization.coded import HIGHEST_CODE
from mqtool.quantization.coded_layers import CodedLayers

__all__ = ["measure_ranges", "probe_graphs", "probe_step"]

Float = NDArray[np.float32]

PROBE_STEP = 0.73
"""Standard deviations of a layer's weights."""

HEAD_PROBE_STEP = 0.65
"""Of a table that is an output head: not so far beyond what it will have."""

COARSEST = 2.0
"""Standard deviations: a layer that a few short clips hardly use looks free, and then long clips
fail for want of it."""

COARSEST_HEAD = 0.95
"""Errors of ten thousands of improbable tokens add to their probability exponentially, which one
probe at a finer step does not show."""

FINEST = 1 / 1000
"""Standard deviations, of layers whose rows have a step of their own where int8 asks for it."""

DIGITS = 3

REPEATED_SHARE = 32
"""Of so many columns one may be multiplied again because its weights leave int8."""


def probe_graphs(folder: ModelFolder) -> dict[str, Session]:
    """The float graphs, by role, with weights that may be replaced in every run.

    Tables stay constant: a head tied to one would be transposed again in every run.
    """

    def edit(model: ir.Model, role: str) -> None:
        layers = [layer for layer in folder.layers_of(role) if layer.op != "embedding"]
        override_weights(model.graph, layers)

    return open_graphs(folder, edit)


def measure_ranges(
    layers: CodedLayers,
    graphs: Mapping[str, Session],
    reference: ReferenceOutputs,
    context: RunContext = QUIET,
    *,
    known: Mapping[str, float] | None = None,
) -> dict[str, StepRange]:
    """Probe layers on every clip: one forward pass a layer and clip.

    Args:
        layers: of the float model.
        graphs: of `probe_graphs`.
        reference: what they answer with their own weights: other graphs of the same function
            differ in the last bits, which look like divergence where a layer has next to none. A
            handful of recordings is enough.
        context: threads and progress.
        known: damage of layers that need no probe, by name.

    Returns:
        By layer name, of every layer.
    """
    damage = dict(known or {})
    left = [layer for layer in layers.layers if layer.name not in damage]
    advance = context.progress("Probing layers", len(left))
    for layer in left:
        step = probe_step(layers.weight(layer), is_head=layers.is_head(layer))
        probe = layers.round(layer, step).dequantize()
        found = _divergence(layers.folder, graphs, reference, layer, probe)
        damage[layer.name] = found / step**2
        advance()
    return {layer.name: _range(layers, layer, damage[layer.name]) for layer in layers.layers}


def _range(layers: CodedLayers, layer: Layer, damage: float) -> StepRange:
    weight, is_head = layers.weight(layer), layers.is_head(layer)
    spread = _spread(weight)
    finest = FINEST * spread
    if layers.highest(layer) is None:
        finest = max(_finest(layer, weight), finest)
    coarsest = spread * (COARSEST_HEAD if is_head else COARSEST)
    return StepRange(layer.params, _rounded(damage), finest, coarsest)


def probe_step(weight: Float, *, is_head: bool) -> float:
    """The step at which a layer is probed."""
    return _spread(weight) * (HEAD_PROBE_STEP if is_head else PROBE_STEP)


def _spread(weight: Float) -> float:
    """Standard deviation, above 0."""
    return max(float(weight.std()), float(np.finfo(np.float32).tiny))


def _rounded(damage: float) -> float:
    """With the digits that mean something: the last bits differ between numbers of threads."""
    return float(f"{damage:.{DIGITS}g}")


def _finest(layer: Layer, weight: NDArray[np.float32]) -> float:
    """The step below which too many columns would leave int8."""
    largest = np.sort(np.abs(weight).max(axis=0))
    return float(largest[-1 - layer.columns // REPEATED_SHARE] / HIGHEST_CODE)


def _divergence(
    folder: ModelFolder,
    graphs: Mapping[str, Session],
    reference: ReferenceOutputs,
    layer: Layer,
    weight: Float,
) -> float:
    """Mean KL divergence with another weight in one layer, nats an output position, at least 0.

    Arguments as of `measure_ranges`; `weight` is float32 [rows, columns].
    """
    changed = _with_weight(folder, graphs, layer, weight)
    return max(reference.divergence(changed, rerun_encoder=layer.graph == "encoder"), 0.0)


def _with_weight(
    folder: ModelFolder,
    graphs: Mapping[str, Session],
    layer: Layer,
    weight: Float,
) -> dict[str, Graph]:
    changed: dict[str, Graph] = dict(graphs)
    if layer.op != "embedding":
        stored = {layer.initializer: layer.to_stored(weight)}
        changed[layer.graph] = _Overridden(graphs[layer.graph], stored)
        return changed

    def edit(model: ir.Model, role: str) -> None:
        set_layer_weight(model, layer, weight)

    return changed | open_graphs(folder, edit, roles=[layer.graph])


@dataclass(frozen=True)
class _Overridden:
    """A graph with some of its weights replaced in every run."""

    session: Session
    weights: Mapping[str, Float]

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        return self.session.run({**feeds, **self.weights})
