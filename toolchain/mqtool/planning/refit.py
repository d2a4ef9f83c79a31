"""A plan for other pack options or another task, at the same budget.

Inputs quantized in stored ranges take a few bytes for every layer. When a plan is packed in
other options than it was made for, the way down that its method takes is followed from its own
widths, so that a few rows change and the budget is met to the kilobyte again.
"""

from collections.abc import Iterator
from dataclasses import replace

from mqtool.model.folder import ModelFolder
from mqtool.model.layers import Layer
from mqtool.packing.plan_file import Plan, average_bits, weight_bits_as_bytes
from mqtool.packing.size import PackOptions, size_model
from mqtool.planning.fit import check_budget, fit_budget
from mqtool.planning.methods.myqasr import algorithm_1
from mqtool.planning.schedules import Step, marginal_steps
from mqtool.planning.sensitivity_curves import LEAST_BITS, STATED_BITS
from mqtool.quantization.bits import lower_width

__all__ = ["refit_plan"]


def refit_plan(folder: ModelFolder, plan: Plan, options: PackOptions) -> Plan:
    """The plan whose widths are nearest among those that fill the budget with other pack options.

    Steps stay: packing fills the budget with their codes (`mqtool.packing.fill`).

    Args:
        folder: the float model that `plan` was made for, asked to do what it is packed to do.
        plan: any plan.
        options: of the packed graphs.

    Raises:
        BudgetError: the budget is not feasible with these options.
    """
    if options == PackOptions.of_plan(plan) and folder.speech_task == plan.task:
        return plan
    plan = replace(
        plan,
        task=folder.speech_task,
        activations=options.activations,
        act_bits=options.input_bits,
        twin_ranges=options.twin_ranges,
        opset=options.packed_opset,
    )
    if plan.has_steps:
        return plan
    sizes = size_model(folder, options, plan.rounding)
    check_budget(sizes, plan.budget_bytes)
    widths = fit_budget(sizes, _steps_through(sizes.folder.layers, plan), plan.budget_bytes)
    shapes = {layer.name: layer for layer in sizes.folder.layers}
    layers = [
        replace(
            entry,
            bits=widths[entry.name][0],
            rows_at_lower_bits=widths[entry.name][1],
            bytes=sizes.layer_bytes(shapes[entry.name], *widths[entry.name]),
        )
        for entry in plan.layers
    ]
    return replace(
        plan,
        planned_bytes=sizes.exact(widths, plan.budget_bytes),
        average_bits=average_bits(layers),
        weight_bits_as_bytes=weight_bits_as_bytes(layers),
        layers=layers,
    )


def _steps_through(layers: list[Layer], plan: Plan) -> list[Step]:
    """A way from 32 bits to 1 that passes through the plan's widths.

    The layers that the plan splits reach their lower width last of all before that point.
    """
    lowest, last = {}, []
    for entry in sorted(plan.layers, key=lambda entry: entry.params):
        lowest[entry.name] = entry.width
        if entry.rows_at_lower_bits:
            lowest[entry.name] = lower_width(entry.width)
            last.append((entry.name, lowest[entry.name]))
    steps = list(_way_down(layers, plan))
    above = [step for step in steps if step[1] >= lowest[step[0]] and step not in last]
    below = [step for step in steps if step[1] < lowest[step[0]]]
    return above + last + below


def _way_down(layers: list[Layer], plan: Plan) -> Iterator[Step]:
    sensitivity = {entry.name: entry.sensitivity or 0.0 for entry in plan.layers}
    if plan.method == "measured":
        return marginal_steps(
            layers,
            lambda name, bits: sensitivity[name] * 4.0 ** (STATED_BITS - min(bits, 17)),
            LEAST_BITS,
        )
    return algorithm_1(sensitivity)
