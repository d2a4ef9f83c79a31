"""Plans by keywords, as tests want them."""

from collections.abc import Sequence
from typing import Any

from mqtool.context import QUIET, RunContext
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan
from mqtool.packing.size import PackOptions, SizeModel, Widths
from mqtool.planning.methods.method import Allocation
from mqtool.planning.plans import plan_of
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe
from mqtool.recordings.clips import Clip


def recipe(*, options: PackOptions | None = None, **fields: Any) -> Recipe:
    """A recipe, its form given by `options`."""
    form: dict[str, Any] = {}
    if options is not None:
        form = {
            "activations": options.activations,
            "opset": options.opset,
            "act_bits": options.act_bits,
            "twin_ranges": options.twin_ranges,
        }
    return Recipe(**form, **fields)


def make_plan(
    folder: ModelFolder,
    clips: Sequence[Clip],
    budget_bytes: int | None,
    *,
    context: RunContext = QUIET,
    **fields: Any,
) -> Plan:
    """A plan by a recipe of `fields`."""
    return Quantizer(folder, clips, context).plan(recipe(**fields), budget_bytes)


def plan_of_widths(sizes: SizeModel, widths: Widths, budget_bytes: int, **fields: Any) -> Plan:
    """A plan with given widths, as if method uniform had made it."""
    made = recipe(method="uniform", options=sizes.options, **fields)
    return plan_of(sizes, made, Allocation([]), widths, budget_bytes)
