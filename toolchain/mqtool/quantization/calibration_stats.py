"""What compensated rounding takes from the recordings.

Equalized channels, the moments of what layers multiply, and which rows of tables are frequent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mqtool.context import QUIET, RunContext
from mqtool.model.equalize import Factors, shared_inputs, smoothing_factors
from mqtool.model.folder import ModelFolder
from mqtool.model.frequent import FREQUENT_SUFFIX
from mqtool.observe.frequencies import RowFrequencies, unit_orders
from mqtool.observe.moments import capture_moments
from mqtool.quantization.rounding import LayerInput, Rounding, is_compensating, layer_inputs
from mqtool.recordings.clips import PROBE_CLIPS, Clip

__all__ = ["CalibrationStats", "collect_stats", "with_packing_layout"]


@dataclass(frozen=True)
class CalibrationStats:
    """A model made ready for compensated rounding; serves any number of plans and budgets.

    Attributes:
        folder: the float model with its channels equalized and the frequent rows of its tables
            split off, as the recordings have them.
        inputs: layer name -> what the layer multiplies; none for tables that are no heads.
    """

    folder: ModelFolder
    inputs: dict[str, LayerInput]


def collect_stats(
    folder: ModelFolder, clips: Sequence[Clip], context: RunContext = QUIET
) -> CalibrationStats:
    """Run the float model over the recordings once.

    Args:
        folder: the float model.
        clips: recordings.
        context: threads and progress.
    """
    # Plans are judged on every `step`th clip. If these counted too, every row that they need would
    # be frequent, and the others would look as if they did not matter.
    step = max(2, len(clips) // PROBE_CLIPS)
    frequencies = RowFrequencies(folder, lambda number: number % step != 0 or len(clips) == 1)
    moments = capture_moments(folder, clips, context, frequencies=frequencies)
    factors: dict[str, np.ndarray] = {}
    for role in folder.manifest.graphs:
        for shared in shared_inputs(folder.load(role).graph, folder.layers_of(role)):
            found = moments[shared.name]
            factors[shared.name] = smoothing_factors(found.abs_max[0])
            divided = found.divided(factors[shared.name])
            moments |= dict.fromkeys((layer.name for layer in shared.layers), divided)
    orders = frequencies.orders()
    moments |= {table + FREQUENT_SUFFIX: moments[table] for table in orders}
    adapted = folder.adapted(factors, orders)
    return CalibrationStats(adapted, layer_inputs(adapted.layers, moments))


def with_packing_layout(folder: ModelFolder, rounding: Rounding) -> ModelFolder:
    """The float model with the layers, and of the size, that it has as weights are rounded.

    For compensated rounding that is as `collect_stats` gives it, but with factors of 1 and all rows
    in their own order, which needs no recordings.
    """
    if not is_compensating(rounding) or folder.orders is not None:
        return folder
    return folder.adapted(_unit_factors(folder), unit_orders(folder))


def _unit_factors(folder: ModelFolder) -> Factors:
    return {
        shared.name: np.ones(shared.columns, np.float32)
        for role in folder.manifest.graphs
        for shared in shared_inputs(folder.load(role).graph, folder.layers_of(role))
    }
