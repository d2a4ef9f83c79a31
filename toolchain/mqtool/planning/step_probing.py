"""What a step of a layer does to the model's own output, and which steps it may have.

Each layer alone is rounded once, compensated, at a step that gives about 2.5 bits of entropy, near
where small models have it; damage is taken to grow with the square of the step.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mqruntime.engine.session import Session
from mqtool.context import QUIET, RunContext
from mqtool.model.layers import Layer
from mqtool.planning.divergence import ReferenceOutputs
from mqtool.planning.probing import layer_divergence
from mqtool.planning.steps import StepRange
from mqtool.quantization.coded import HIGHEST_CODE
from mqtool.quantization.coded_layers import CodedLayers

__all__ = ["measure_ranges"]

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


def measure_ranges(
    layers: CodedLayers,
    graphs: Mapping[str, Session],
    reference: ReferenceOutputs,
    context: RunContext = QUIET,
) -> dict[str, StepRange]:
    """Probe every layer on every clip: one forward pass a layer and clip.

    Args:
        layers: of the float model.
        graphs: of `mqtool.planning.probing.probe_graphs`.
        reference: what they answer with their own weights; a handful of recordings is enough.
        context: threads and progress.

    Returns:
        By layer name.
    """
    advance = context.progress("Probing layers", len(layers.layers))
    ranges = {}
    for layer in layers.layers:
        weight, is_head = layers.weight(layer), layers.is_head(layer)
        spread = max(float(weight.std()), float(np.finfo(np.float32).tiny))
        step = spread * (HEAD_PROBE_STEP if is_head else PROBE_STEP)
        probe = layers.round(layer, step).dequantize()
        found = layer_divergence(layers.folder, graphs, reference, layer, probe)
        finest = FINEST * spread
        if layers.highest(layer) is None:
            finest = max(_finest(layer, weight), finest)
        coarsest = spread * (COARSEST_HEAD if is_head else COARSEST)
        damage = _rounded(found / step**2)
        ranges[layer.name] = StepRange(layer.params, damage, finest, coarsest)
        advance()
    return ranges


def _rounded(damage: float) -> float:
    """With the digits that mean something: the last bits differ between numbers of threads."""
    return float(f"{damage:.{DIGITS}g}")


def _finest(layer: Layer, weight: NDArray[np.float32]) -> float:
    """The step below which too many columns would leave int8."""
    largest = np.sort(np.abs(weight).max(axis=0))
    return float(largest[-1 - layer.columns // REPEATED_SHARE] / HIGHEST_CODE)
