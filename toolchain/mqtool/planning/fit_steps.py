"""From what is known of layers to steps whose codes take a budget.

Estimated bytes give a lambda (`mqtool.planning.steps`), and codes for its steps their true size. A
second round, with the estimate mended by what the first was off, ends a little above the budget,
where `mqtool.packing.fill` can take the rest away: a code of one that becomes zero costs less than
bytes that are left over gain.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mqtool.errors import BudgetError
from mqtool.packing.coded_folder import CodedFolder
from mqtool.packing.fill import Filled
from mqtool.packing.write_coded import fill_layers
from mqtool.planning.coded_bytes import CodedBytes
from mqtool.planning.steps import StepRange, lambda_for, steps_at
from mqtool.quantization.coded import CodedWeight
from mqtool.quantization.coded_layers import CodedLayers

__all__ = ["FittedSteps", "fit_steps"]

_AIM = 1.0015
"""Of the budget: what codes should take before they are filled in."""

_MOST = 1.004
"""Of the budget: with more, a coarser lambda is better than so many codes at zero."""

_ROUNDS = 6

_COARSER = 1.02
"""By what all steps grow first where nothing else makes codes short enough."""


@dataclass(frozen=True)
class FittedSteps:
    """Steps by layer name, and the codes that meet the budget with them."""

    steps: dict[str, float]
    filled: Filled


def fit_steps(
    layers: CodedLayers,
    ranges: Mapping[str, StepRange],
    budget: int,
    folder: CodedFolder,
    advance: Callable[[], None] = lambda: None,
) -> FittedSteps:
    """Steps of one lambda whose folder has `budget - 1 KB < bytes <= budget`.

    Args:
        layers: of the model.
        ranges: what is known of each, by name.
        budget: bytes of all files; feasible (`mqtool.planning.fit`).
        folder: that is to have them.
        advance: called after every layer that is rounded.
    """
    estimate = CodedBytes(layers)
    blank = {layer.name: layers.blank(layer) for layer in layers.layers}
    other = folder.size(blank) - math.fsum(layer.params for layer in layers.layers) / 8
    ratio, steps, weights = 1.0, dict[str, float](), dict[str, CodedWeight]()
    for _ in range(_ROUNDS):
        wanted = (budget * _AIM - other) / ratio
        before, steps = steps, _steps_for(estimate, ranges, wanted)
        weights.clear()  # large models leave no room for two of them
        weights = _rounded(layers, steps, advance)
        total = folder.size(weights)
        if budget <= total <= budget * _MOST or steps == before:
            break
        ratio = (total - other) / estimate(steps)
    coarser = _COARSER
    while True:
        try:
            return FittedSteps(steps, fill_layers(layers, weights, folder, budget))
        except BudgetError:
            steps = {name: step * coarser for name, step in steps.items()}
            coarser *= coarser
            weights.clear()
            weights = _rounded(layers, steps, advance)


def _steps_for(
    estimate: CodedBytes, ranges: Mapping[str, StepRange], wanted: float
) -> dict[str, float]:
    """Steps of the least lambda with so few bytes; coarser than `ranges` say where they must be."""

    def size(lagrange: float) -> float:
        return estimate(steps_at(ranges, lagrange))

    steps = steps_at(ranges, lambda_for(size, wanted))
    if estimate(steps) <= wanted or min(steps.values()) > _ALL_ZERO:
        return steps
    coarser = {
        name: replace(known, coarsest=2 * max(known.coarsest, known.finest))
        for name, known in ranges.items()
    }
    return _steps_for(estimate, coarser, wanted)


_ALL_ZERO = 1e6
"""Steps beyond which there is nothing left to gain."""


def _rounded(
    layers: CodedLayers, steps: Mapping[str, float], advance: Callable[[], None]
) -> dict[str, CodedWeight]:
    weights = {}
    for layer in layers.layers:
        weights[layer.name] = layers.round(layer, steps[layer.name])
        advance()
    return weights
