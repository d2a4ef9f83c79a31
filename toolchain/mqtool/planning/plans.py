"""From an allocation and a budget to a plan."""

import zlib
from collections.abc import Mapping
from typing import Any

from mqruntime.bundle.manifest import MANIFEST_NAME, Manifest
from mqtool import __version__
from mqtool.errors import BudgetError, PlanError
from mqtool.model.folder import ModelFolder
from mqtool.model.layers import Layer
from mqtool.packing.coded_folder import stored_layer_bytes
from mqtool.packing.plan_file import Plan, PlannedLayer, average_bits, weight_bits_as_bytes
from mqtool.packing.size import SizeModel, Widths
from mqtool.planning.fit import check_budget, fit_budget
from mqtool.planning.methods.method import Allocation
from mqtool.planning.recipe import Recipe
from mqtool.quantization.calibration_stats import CalibrationStats
from mqtool.quantization.coded_layers import CodedLayers

__all__ = ["fit_plan", "plan_of", "plan_of_steps"]


def fit_plan(
    sizes: SizeModel,
    recipe: Recipe,
    allocation: Allocation,
    budget_bytes: int | None,
    most_bits: int,
    calib_sha256: str | None = None,
    calib_clips: int = 0,
) -> Plan:
    """The plan of an allocation at one budget, or at the size of its `mapped` widths for None.

    Args:
        sizes: of the float model's packed forms.
        recipe: what the allocation was made by.
        allocation: the order in which layers lose bits.
        budget_bytes: size of the packed folder, all files.
        most_bits: the greatest width of any layer.
        calib_sha256: of the recordings; None when none were used.
        calib_clips: how many these are.

    Raises:
        BudgetError: the budget is not feasible, or there is none and nothing is mapped.
    """
    calib: dict[str, Any] = {"calib_sha256": calib_sha256, "calib_clips": calib_clips}
    if budget_bytes is not None:
        check_budget(sizes, budget_bytes, most_bits)
        widths = fit_budget(sizes, allocation.steps, budget_bytes, most_bits)
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
            **_identity(layer),
            bits=widths[layer.name][0],
            rows_at_lower_bits=widths[layer.name][1],
            bytes=sizes.layer_bytes(layer, *widths[layer.name]),
            sensitivity=allocation.sensitivity.get(layer.name),
        )
        for layer in sizes.folder.layers
    ]
    if recipe.storage == "coded":
        _check_int8(sizes.folder, layers)
    return _plan(
        sizes.folder,
        recipe,
        layers,
        sensitivity=allocation.ranked_by,
        budget_bytes=budget_bytes,
        planned_bytes=sizes.exact(widths, budget_bytes),
        calib_sha256=calib_sha256,
        calib_clips=calib_clips,
    )


def plan_of_steps(
    folder: ModelFolder,
    recipe: Recipe,
    steps: Mapping[str, float],
    sensitivity: Mapping[str, float],
    files: Mapping[str, bytes],
    budget_bytes: int,
    calib_sha256: str,
    calib_clips: int,
) -> Plan:
    """A plan whose layers have steps.

    Args:
        folder: the float model.
        recipe: whose method and options these are.
        steps: by layer name.
        sensitivity: what steps of 1 do, by layer name.
        files: of the packed folder that the steps give.
        budget_bytes: that these fill.
        calib_sha256: of the recordings.
        calib_clips: how many these are.
    """
    stored = stored_layer_bytes(files, Manifest.parse(files[MANIFEST_NAME], MANIFEST_NAME))
    layers = [
        PlannedLayer(
            **_identity(layer),
            bits=8 * stored[layer.name] / layer.params,
            rows_at_lower_bits=0,
            bytes=stored[layer.name],
            sensitivity=sensitivity[layer.name],
            step=steps[layer.name],
        )
        for layer in folder.layers
    ]
    return _plan(
        folder,
        recipe,
        layers,
        sensitivity="kl",
        budget_bytes=budget_bytes,
        planned_bytes=sum(map(len, files.values())),
        calib_sha256=calib_sha256,
        calib_clips=calib_clips,
    )


def _identity(layer: Layer) -> dict[str, Any]:
    shape = list(layer.shape)
    return {"name": layer.name, "op": layer.op, "shape": shape, "params": layer.params}


def _check_int8(folder: ModelFolder, planned: list[PlannedLayer]) -> None:
    layers = CodedLayers(CalibrationStats(folder))
    for layer, entry in zip(folder.layers, planned, strict=True):
        if entry.bits > (most := layers.most_bits(layer)):
            raise PlanError(
                f"layer {layer.name!r} gets {entry.bits} bits, and coded it holds {most} at most; "
                "give a smaller --budget-kb or --storage planes"
            )


def _plan(folder: ModelFolder, recipe: Recipe, layers: list[PlannedLayer], **fields: Any) -> Plan:
    options, is_coded = recipe.options, recipe.storage == "coded"
    return Plan(
        **fields,
        model_sha256=folder.sha256,
        task=folder.speech_task,
        keep_languages=list(folder.kept.languages) if folder.kept else [],
        method=recipe.method,
        effort=recipe.effort,
        activations=options.activations,
        act_bits=options.input_bits,
        twin_ranges=options.twin_ranges,
        opset=options.packed_opset,
        rounding=recipe.effective_rounding,
        storage="coded" if is_coded else "planes",
        zlib=zlib.ZLIB_RUNTIME_VERSION if is_coded else None,
        tool_version=__version__,
        average_bits=average_bits(layers),
        weight_bits_as_bytes=weight_bits_as_bytes(layers),
        layers=layers,
    )
