"""What compensated rounding takes from the recordings: equalized channels and input moments."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from mqtool.capture.moments import capture_moments
from mqtool.clips import Clip
from mqtool.graph.equalize import Factors, shared_inputs, smoothing_factors
from mqtool.graph.folder import ModelFolder
from mqtool.quantize.rounding import LayerInput, layer_inputs

__all__ = ["Prepared", "prepare", "unit_factors"]


@dataclass(frozen=True)
class Prepared:
    """A model made ready for compensated rounding; serves any number of plans and budgets.

    Attributes:
        folder: the float model with its channels equalized for the recordings.
        inputs: layer name -> what the layer multiplies; none for tables that are no heads.
    """

    folder: ModelFolder
    inputs: dict[str, LayerInput]


def prepare(
    folder: ModelFolder,
    clips: Iterable[Clip],
    *,
    language: str | None = None,
    threads: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> Prepared:
    """Hear the recordings once; arguments as of `mqtool.capture.run.watch`."""
    moments = capture_moments(folder, clips, language=language, threads=threads, advance=advance)
    factors: dict[str, np.ndarray] = {}
    for role in folder.manifest.graphs:
        layers = [layer for layer in folder.layers if layer.graph == role]
        for shared in shared_inputs(folder.load(role).graph, layers):
            found = moments[shared.name]
            factors[shared.name] = smoothing_factors(found.largest[0])
            divided = found.divided(factors[shared.name])
            moments |= dict.fromkeys((layer.name for layer in shared.layers), divided)
    return Prepared(folder.equalized(factors), layer_inputs(folder.layers, moments))


def unit_factors(folder: ModelFolder) -> Factors:
    """Factors that change no value, for the size of an equalized model."""
    return {
        shared.name: np.ones(shared.columns, np.float32)
        for role in folder.manifest.graphs
        for shared in shared_inputs(
            folder.load(role).graph, [layer for layer in folder.layers if layer.graph == role]
        )
    }
