"""Plans judged as a whole: what all their layers do together to the model's own output.

`mqtool.planning.probing` looks at what layers do one at a time. Where nearly all of them
are narrow they do more together: whisper-base at 3.5 bits on average, Russian, 0.066 nats expected
and 0.10 found; a plan with more level widths, of which 0.086 were expected, had 0.085. So plans
are made in more than one way, and the one that is found to be nearest to the float model is taken.
"""

from collections.abc import Sequence
from functools import partial

import onnx_ir as ir

from mqtool.context import QUIET, RunContext
from mqtool.model.folder import layer_weight, set_layer_weight
from mqtool.observe.runs import open_graphs
from mqtool.packing.plan_file import Plan
from mqtool.planning.divergence import ReferenceOutputs
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.quantization.rounding import quantize_weight

__all__ = ["plan_divergences"]


def plan_divergences(
    stats: CalibrationStats,
    plans: Sequence[Plan],
    reference: ReferenceOutputs,
    context: RunContext = QUIET,
) -> list[float]:
    """Mean KL divergence from the float model of each plan's weights, nats an output position.

    Only weights are rounded: how inputs are quantized is the same for all plans.

    Args:
        stats: the float model, as its weights are rounded.
        plans: for it.
        reference: what the float model answers; a handful of recordings is enough.
        context: threads and progress.
    """
    advance = context.progress("Comparing plans", len(plans))
    divergences = []
    for plan in plans:
        edit = partial(_round, stats, plan)
        rounded = open_graphs(stats.folder, edit)
        divergences.append(reference.divergence(rounded))
        advance()
    return divergences


def _round(stats: CalibrationStats, plan: Plan, model: ir.Model, role: str) -> None:
    """Replace a graph's weights by what a plan makes of them, in place."""
    entries = {entry.name: entry for entry in plan.layers}
    for layer in stats.folder.layers_of(role):
        entry, weight = entries[layer.name], layer_weight(model, layer)
        rounded = quantize_weight(
            layer,
            weight,
            entry.width,
            entry.rows_at_lower_bits,
            plan.rounding,
            stats.inputs.get(layer.name),
        )
        set_layer_weight(model, layer, rounded.dequantize())
