"""How sensitive a layer is to quantization: the measures of the paper's Tables 2, S2 and S3.

Reductions summarize the values a layer puts out in the float model: mean, median, max, max-abs and
standard deviation. Distances compare the layer's output with that of its quantized form: the
layer's weight alone is rounded, at `DISTANCE_BITS`, and multiplies inputs captured from the float
model, so that every layer is met once and the time is linear in their number. The paper does not
say at which width it takes the distance.

With E the difference of the two outputs of a sample of positions, float32 [positions, rows]:

    l1         mean of |E|
    l2         mean of E^2
    spectral   largest singular value of E / sqrt(positions)
    frobenius  Frobenius norm of E / sqrt(positions)
    kl         mean over positions of KL(softmax(float output) || softmax(quantized output)), nats

The root of the number of positions makes layers comparable that are seen at different numbers of
them (decoder and encoder). Layers are ranked by magnitude, in ascending order (Algorithm 1).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mqruntime.probabilities import log_softmax
from mqtool.choices import DISTANCES, REDUCTIONS
from mqtool.context import QUIET, RunContext
from mqtool.model.folder import ModelFolder, layer_weight
from mqtool.model.layers import Layer
from mqtool.observe.runs import capture_outputs
from mqtool.observe.samples import InputSample, capture_inputs
from mqtool.quantization.rounding import Rounding, quantize_weight
from mqtool.recordings.clips import Clip

__all__ = [
    "DISTANCE_BITS",
    "measure_distances",
    "measure_reductions",
    "output_distances",
]

DISTANCE_BITS = 4
"""Width at which a layer is rounded for a distance: low enough that the error is plain."""

Float = NDArray[np.float32]


def measure_reductions(
    folder: ModelFolder,
    clips: Sequence[Clip],
    context: RunContext = QUIET,
) -> dict[str, dict[str, float]]:
    """All reductions from one pass over the clips: measure -> layer name -> magnitude."""
    statistics = capture_outputs(folder, clips, context)
    return {
        name: {layer: abs(getattr(values, name)) for layer, values in statistics.items()}
        for name in REDUCTIONS
    }


def measure_distances(
    folder: ModelFolder,
    clips: Sequence[Clip],
    rounding: Rounding,
    context: RunContext = QUIET,
) -> dict[str, dict[str, float]]:
    """All distances from one pass over the clips: measure -> layer name -> value."""
    samples = capture_inputs(folder, clips, context)
    advance = context.progress("Rounding layers", len(folder.layers))
    models = {role: folder.load(role) for role in folder.manifest.graphs}
    distances: dict[str, dict[str, float]] = {name: {} for name in DISTANCES}
    for layer in folder.layers:
        weight = layer_weight(models[layer.graph], layer)
        exact, rounded = _outputs(layer, weight, samples[layer.name], rounding)
        for name, value in output_distances(exact, rounded).items():
            distances[name][layer.name] = value
        advance()
    return distances


def output_distances(exact: Float, rounded: Float) -> dict[str, float]:
    """Every distance (see the top of this file) between two outputs [positions, rows]."""
    error = rounded - exact
    positions, rows = error.shape
    # Singular values of E are the roots of the eigenvalues of the smaller of E E' and E' E.
    gram = (error @ error.T if positions <= rows else error.T @ error).astype(np.float64)
    squares = float(np.trace(gram))
    divergence = 0.0
    for start in range(0, positions, _BLOCK):  # float64, of 51,864 tokens at a time
        block = slice(start, start + _BLOCK)
        log_p, log_q = log_softmax(exact[block]), log_softmax(rounded[block])
        divergence += float((np.exp(log_p) * (log_p - log_q)).sum())
    return {
        "l1": float(np.abs(error).mean(dtype=np.float64)),
        "l2": squares / error.size,
        "spectral": float(np.sqrt(max(np.linalg.eigvalsh(gram)[-1], 0.0) / positions)),
        "frobenius": float(np.sqrt(squares / positions)),
        "kl": max(divergence / positions, 0.0),
    }


_BLOCK = 16


def _outputs(
    layer: Layer, weight: Float, sample: InputSample, rounding: Rounding
) -> tuple[Float, Float]:
    """The layer's output on a sample, with its float weight and with it rounded."""
    if sample.is_lookup:
        # A row is rounded by itself, so the rows that were read are all that matters.
        exact = sample.rows[:, 0]
        read = replace(layer, shape=exact.shape)
        return exact, quantize_weight(read, exact, DISTANCE_BITS, 0, rounding).dequantize()
    rounded = quantize_weight(layer, weight, DISTANCE_BITS, 0, rounding).dequantize()
    return sample.outputs(weight), sample.outputs(rounded)
