"""What a plan makes of the layers of a model whose weights are coded."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mqtool.errors import PackError
from mqtool.model.layers import Layer
from mqtool.packing.coded_folder import CodedFolder
from mqtool.packing.fill import Filled, fill
from mqtool.packing.plan_file import Plan, planned_weight
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.quantization.coded import CodedWeight
from mqtool.quantization.coded_layers import CodedLayers

__all__ = ["coded_files", "fill_layers"]


def coded_files(
    stats: CalibrationStats,
    plan: Plan,
    folder: CodedFolder,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, bytes]:
    """The files of a packed folder, by name.

    With steps they fill the plan's budget whatever the codes came out as; with bits they have the
    codes that planes would hold.

    Args:
        stats: as of recordings, where the plan's rounding is compensated.
        plan: of coded weights.
        folder: that is to have them.
        advance: called after every layer.

    Raises:
        BudgetError: codes are far longer than the plan says.
    """
    layers, weights = CodedLayers(stats), {}
    for layer in layers.layers:
        step = plan.by_name[layer.name].step
        codes = _of_bits(layers, plan, layer) if step is None else layers.round(layer, step)
        weights[layer.name] = codes
        advance()
    if not plan.has_steps:
        return folder.files(weights)
    filled = fill_layers(layers, weights, folder, plan.budget_bytes)
    return folder.files(filled.weights, filled.kept)


def fill_layers(
    layers: CodedLayers, weights: Mapping[str, CodedWeight], folder: CodedFolder, budget: int
) -> Filled:
    """Weights that meet the budget, made of those that nearly do.

    Raises:
        BudgetError: they are too large by far.
    """
    known = {layer.name: layer for layer in layers.layers}

    def exact(name: str) -> NDArray[np.float32]:
        return layers.weight(known[name])

    return fill(weights, exact, folder.size, budget, folder.weight_bytes(weights))


def _of_bits(layers: CodedLayers, plan: Plan, layer: Layer) -> CodedWeight:
    found = planned_weight(plan, layer, layers.weight(layer))
    if found.bits > (most := layers.most_bits(layer)):
        raise PackError(
            f"layer {layer.name!r} has {found.bits} bits, and coded it holds {most} at most; "
            "run mqtool plan again"
        )
    return CodedWeight(found.codes.astype(np.int16), found.scale)
