"""What compensated rounding takes from the recordings.

Equalized channels, the moments of what layers multiply, and how frequent the rows of tables are.

Weights with steps (`mqtool.quantization.coded`) have one for each input column too: with codes that
make up for each other's errors, columns do alike damage where a step is in proportion to the
diagonal of the triangular factor ("WaterSIC", arXiv 2603.04956, 2026); on other recordings its
square root does better at every size. A step for a column is a factor of the column,
and so goes where the factors of equalization go: into a layer norm, or into the multiplication
before a Linear.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mqtool.context import QUIET, RunContext
from mqtool.errors import ModelError
from mqtool.model.equalize import Factors, shared_inputs, smoothing_factors
from mqtool.model.folder import ModelFolder
from mqtool.model.layers import Layer
from mqtool.model.own_words import OwnWords
from mqtool.observe.frequencies import RowFrequencies
from mqtool.observe.moments import InputMoments, capture_moments
from mqtool.quantization.coded import row_factors
from mqtool.quantization.compensate import Compensators, inverse_diagonal
from mqtool.quantization.rounding import (
    LayerInput,
    Rounding,
    is_compensating,
    layer_inputs,
    sharing_moments,
    weighed,
)
from mqtool.recordings.clips import PROBE_CLIPS, Clip

__all__ = ["CalibrationStats", "collect_stats", "with_packing_layout"]

COLUMN_EXPONENT = 0.5
"""Of the diagonal: held-out divergence of whisper-tiny.en at 10.4 MB without steps for columns
0.074, with its square root 0.054, with all of it 0.057."""


@dataclass(frozen=True)
class CalibrationStats:
    """A model made ready for compensated rounding; serves any number of plans and budgets.

    Attributes:
        folder: the float model with its channels equalized, as the recordings have them.
        inputs: for weights with bits: layer name -> what the layer multiplies; none for tables that
            are no heads.
        compensators: for weights with steps: likewise, what makes up for errors in it.
        row_factors: for weights with steps: table name -> by what the steps of its rows are
            multiplied, [rows].
    """

    folder: ModelFolder
    inputs: Mapping[str, LayerInput] = field(default_factory=dict)
    compensators: Mapping[str, Compensators] = field(default_factory=dict)
    row_factors: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def compensators_of(self, layer: Layer) -> Compensators | None:
        """What makes up for errors in a layer, as far as the recordings tell."""
        if (found := self.inputs.get(layer.name)) is not None:
            return found.compensators
        return self.compensators.get(layer.name)


def collect_stats(
    folder: ModelFolder,
    clips: Sequence[Clip],
    context: RunContext = QUIET,
    *,
    steps: bool = False,
    own_words: OwnWords | None = None,
) -> CalibrationStats:
    """Run the float model over the recordings once.

    Args:
        folder: the float model.
        clips: recordings.
        context: threads and progress.
        steps: for weights with steps, not bits.
        own_words: tokens of the same person's texts; for weights with steps.

    Raises:
        ModelError: there are own words, and no large table of tokens.
    """
    # Layers are probed on every `step`th clip. If these counted too, every row that they need would
    # be frequent, and the others would look as if they did not matter.
    step = max(2, len(clips) // PROBE_CLIPS)
    frequencies = RowFrequencies(folder, lambda number: number % step != 0 or len(clips) == 1)
    counted = frequencies if steps else None
    moments = capture_moments(folder, clips, context, frequencies=counted)
    factors: dict[str, np.ndarray] = {}
    for role in folder.manifest.graphs:
        for shared in shared_inputs(folder.load(role).graph, folder.layers_of(role)):
            found = moments[shared.name]
            factors[shared.name] = smoothing_factors(found.abs_max[0])
            if steps:
                smoothed = found.divided(factors[shared.name])
                factors[shared.name] /= _column_steps(smoothed)
            divided = found.divided(factors[shared.name])
            moments |= dict.fromkeys((layer.name for layer in shared.layers), divided)
    equalized = folder.equalized(factors)
    if steps:
        equalized = equalized.with_formulas()
    if not steps:
        return CalibrationStats(equalized, layer_inputs(equalized.layers, moments))
    languages = len({clip.language for clip in clips})
    meant = frequencies.probabilities()
    if own_words is not None:
        if not meant:
            raise ModelError(
                f"{folder.path}: no table of tokens is large enough for the words of texts to "
                "count; leave --texts and --hotwords out"
            )
        meant = {table: own_words.mixed_with(heard) for table, heard in meant.items()}
    rows = {table: row_factors(p, languages) for table, p in meant.items()}
    return CalibrationStats(equalized, {}, _compensators(equalized.layers, moments), rows)


def _compensators(
    layers: Sequence[Layer], moments: dict[str, InputMoments]
) -> dict[str, Compensators]:
    """By layer name. Moments are used up: large models leave no room for both."""
    found = {}
    for alike in sharing_moments(layers, moments):
        made = Compensators(weighed(alike[0], moments[alike[0].name]))
        for layer in alike:
            found[layer.name] = made
            del moments[layer.name]
    return found


def _column_steps(moments: InputMoments) -> NDArray[np.float32]:
    """Steps of the columns of what multiplies such inputs, [columns]; their mean logarithm is 0."""
    if not moments.is_matrix:
        return np.ones(moments.gram.shape[-1], np.float32)
    diagonal = inverse_diagonal(moments.gram[0])
    steps: NDArray[np.float32] = (diagonal / np.exp(np.log(diagonal).mean())) ** COLUMN_EXPONENT
    return steps


def with_packing_layout(
    folder: ModelFolder, rounding: Rounding, *, steps: bool = False
) -> ModelFolder:
    """The float model with the layers, and of the size, that it has as weights are rounded.

    For compensated rounding that is as `collect_stats` gives it, but with factors of 1, which needs
    no recordings.
    """
    if steps:
        folder = folder.with_formulas()
    if not is_compensating(rounding) or folder.factors is not None:
        return folder
    return folder.equalized(_unit_factors(folder))


def _unit_factors(folder: ModelFolder) -> Factors:
    return {
        shared.name: np.ones(shared.columns, np.float32)
        for role in folder.manifest.graphs
        for shared in shared_inputs(folder.load(role).graph, folder.layers_of(role))
    }
