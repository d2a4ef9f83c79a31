"""What quantizing one layer does to the model's own output.

For each layer alone, the weight is replaced by its rounded form at `PROBE_BITS` and the model runs
again on the clips; it is the mean KL divergence from the float model's output
distribution, per output position. No labels are used: Whisper is fed the tokens that the float
model generated. At other widths it is taken to grow with the squared rounding error of the
layer's output (of its weight, where the inputs are not known), to which the divergence is
proportional for small errors (second-order expansion).

An output head is also probed at `LEAST_BITS`: errors of ten thousands of improbable tokens add to
their probability exponentially. whisper-tiny.en, all but the frequent rows: 0.009 nats at 4 bits,
0.046 at 3, where squared errors grow by 2.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mqruntime.engine.session import Graph, Session
from mqtool.context import QUIET, RunContext
from mqtool.model.folder import ModelFolder, layer_weight, set_layer_weight
from mqtool.model.layers import Layer
from mqtool.observe.runs import open_graphs
from mqtool.observe.taps import override_weights
from mqtool.planning.divergence import ReferenceOutputs
from mqtool.quantization.bits import FLOAT_BITS, WIDTHS
from mqtool.quantization.rounding import LayerInput, Rounding, quantize_weight

__all__ = [
    "LEAST_BITS",
    "PROBE_BITS",
    "SensitivityCurve",
    "layer_divergence",
    "measure_curves",
    "probe_graphs",
]

Float = NDArray[np.float32]

PROBE_BITS = 4
"""Low enough that one layer's damage stands out of float32 noise, high enough to stay small."""

LEAST_BITS = 3
"""Below this no layer loses a bit while another has more: one that a few short clips hardly use
looks free, and then long clips fail for want of it."""

ERROR_ROWS = 96
"""Rows of a layer, evenly spaced, whose rounding error stands for all."""


@dataclass(frozen=True)
class SensitivityCurve:
    """What holding one layer at a width does to the model's own output.

    Attributes:
        probed: mean KL divergence (nats per output position) with the layer at a width, for
            `PROBE_BITS` at least.
        error: squared rounding error of the weight at each width up to 8.
    """

    probed: Mapping[int, float]
    error: Mapping[int, float]

    def at(self, bits: int) -> float:
        """Expected mean KL divergence at `bits`."""
        if bits == FLOAT_BITS:
            return 0.0
        if bits > max(self.error):
            return self.at(max(self.error)) * 4.0 ** (max(self.error) - bits)
        nearest = max(width for width in self.probed if width <= max(bits, min(self.probed)))
        if self.error[nearest] == 0:
            return 0.0
        return self.probed[nearest] * self.error[bits] / self.error[nearest]


def measure_curves(
    folder: ModelFolder,
    graphs: Mapping[str, Session],
    reference: ReferenceOutputs,
    rounding: Rounding,
    inputs: Mapping[str, LayerInput] | None = None,
    context: RunContext = QUIET,
) -> dict[str, SensitivityCurve]:
    """Probe every layer on every clip: one forward pass a layer and clip.

    Args:
        folder: the float model.
        graphs: of `probe_graphs`.
        reference: what they answer with their own weights: other graphs of the same function
            differ in the last bits, which look like divergence where a layer has next to none. A
            handful of recordings is enough.
        rounding: as the packed model will be rounded.
        inputs: layer name -> what it multiplies, for "compensated".
        context: threads and progress.
    """
    advance = context.progress("Probing layers", len(folder.layers))
    curves = {}
    models = {role: folder.load(role) for role in folder.manifest.graphs}
    for layer in folder.layers:
        weight = layer_weight(models[layer.graph], layer)
        known = (inputs or {}).get(layer.name)
        error = _rounding_errors(layer, weight, rounding, known)
        is_head = layer.op == "embedding" and known is not None
        probed = {}
        for bits in (PROBE_BITS, LEAST_BITS) if is_head else (PROBE_BITS,):
            probe = quantize_weight(layer, weight, bits, 0, rounding, known).dequantize()
            probed[bits] = layer_divergence(folder, graphs, reference, layer, probe)
        curves[layer.name] = SensitivityCurve(probed, error)
        advance()
    return curves


def _rounding_errors(
    layer: Layer, weight: Float, rounding: Rounding, inputs: LayerInput | None
) -> dict[int, float]:
    """Squared error of a sample of rows at each width up to 8."""
    is_grouped_conv = inputs is not None and len(inputs.moments.gram) > 1
    sample = weight if is_grouped_conv else weight[:: max(1, layer.rows // ERROR_ROWS)]
    sampled = replace(layer, shape=(len(sample), *layer.shape[1:]))
    errors = {}
    for bits in WIDTHS[:8]:
        rounded = quantize_weight(sampled, sample, bits, 0, rounding, inputs).dequantize()
        difference = rounded - sample
        plain = float(np.square(difference).sum())
        errors[bits] = plain if inputs is None else inputs.moments.error(difference)
    return errors


def probe_graphs(folder: ModelFolder) -> dict[str, Session]:
    """The float graphs, by role, with weights that may be replaced in every run.

    Tables stay constant: a head tied to one would be transposed again in every run.
    """

    def edit(model: ir.Model, role: str) -> None:
        layers = [layer for layer in folder.layers_of(role) if layer.op != "embedding"]
        override_weights(model.graph, layers)

    return open_graphs(folder, edit)


def layer_divergence(
    folder: ModelFolder,
    graphs: Mapping[str, Session],
    reference: ReferenceOutputs,
    layer: Layer,
    weight: Float,
) -> float:
    """Mean KL divergence with another weight in one layer, nats an output position, at least 0.

    Arguments as of `measure_curves`; `weight` is float32 [rows, columns].
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
