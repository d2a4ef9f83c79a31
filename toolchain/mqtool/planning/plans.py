"""From an allocation and a budget to a plan."""

from typing import Any

from mqtool import __version__
from mqtool.errors import BudgetError
from mqtool.packing.plan_file import Plan, PlannedLayer, average_bits, weight_bits_as_bytes
from mqtool.packing.size import SizeModel, Widths
from mqtool.planning.fit import check_budget, fit_budget
from mqtool.planning.methods.method import Allocation
from mqtool.planning.recipe import Recipe

__all__ = ["fit_plan", "plan_of"]


def fit_plan(
    sizes: SizeModel,
    recipe: Recipe,
    allocation: Allocation,
    budget_bytes: int | None,
    calib_sha256: str | None = None,
    calib_clips: int = 0,
) -> Plan:
    """The plan of an allocation at one budget, or at the size of its `mapped` widths for None.

    Args:
        sizes: of the float model's packed forms.
        recipe: what the allocation was made by.
        allocation: the order in which layers lose bits.
        budget_bytes: size of the packed folder, all files.
        calib_sha256: of the recordings; None when none were used.
        calib_clips: how many these are.

    Raises:
        BudgetError: the budget is not feasible, or there is none and nothing is mapped.
    """
    calib: dict[str, Any] = {"calib_sha256": calib_sha256, "calib_clips": calib_clips}
    if budget_bytes is not None:
        check_budget(sizes, budget_bytes)
        widths = fit_budget(sizes, allocation.steps, budget_bytes)
        return plan_of(sizes, recipe, allocation, widths, budget_bytes, **calib)
    if allocation.mapped is None:
        raise BudgetError(f"method {recipe.method} needs a budget; give --budget-kb")
    mapped = {name: (width, 0) for name, width in allocation.mapped.items()}
    # The budget is written into the folder: this many digits at most.
    size = sizes.exact(mapped, sizes.folder.bytes)
    return plan_of(sizes, recipe, allocation, mapped, size, **calib)


def plan_of(
    sizes: SizeModel,
    recipe: Recipe,
    allocation: Allocation,
    widths: Widths,
    budget_bytes: int,
    calib_sha256: str | None = None,
    calib_clips: int = 0,
) -> Plan:
    """A plan with given widths; other arguments as of `fit_plan`."""
    layers = [
        PlannedLayer(
            name=layer.name,
            op=layer.op,
            shape=list(layer.shape),
            params=layer.params,
            bits=widths[layer.name][0],
            rows_at_lower_bits=widths[layer.name][1],
            bytes=sizes.layer_bytes(layer, *widths[layer.name]),
            sensitivity=allocation.sensitivity.get(layer.name),
        )
        for layer in sizes.folder.layers
    ]
    return Plan(
        method=recipe.method,
        sensitivity=allocation.ranked_by,
        budget_bytes=budget_bytes,
        planned_bytes=sizes.exact(widths, budget_bytes),
        activations=sizes.options.activations,
        act_bits=sizes.options.input_bits,
        twin_ranges=sizes.options.twin_ranges,
        opset=sizes.options.opset,
        rounding=recipe.effective_rounding,
        model_sha256=sizes.folder.sha256,
        calib_sha256=calib_sha256,
        calib_clips=calib_clips,
        tool_version=__version__,
        average_bits=average_bits(layers),
        weight_bits_as_bytes=weight_bits_as_bytes(layers),
        layers=layers,
    )
