"""Quantizing one float model for one person: observe, allocate, fit, calibrate, pack.

The order of these steps is written here and nowhere else.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mqruntime.engine.session import Session
from mqtool.choices import REDUCTIONS
from mqtool.context import QUIET, RunContext
from mqtool.errors import ClipsError
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan
from mqtool.packing.size import SizeModel, size_model
from mqtool.packing.write import PackReport, pack
from mqtool.planning.calibrations.calibration import calibrate
from mqtool.planning.choose import plan_divergences
from mqtool.planning.divergence import ReferenceOutputs
from mqtool.planning.fit import check_budget
from mqtool.planning.methods.method import Allocation, Evidence
from mqtool.planning.plans import fit_plan, plan_of
from mqtool.planning.probing import SensitivityCurve, measure_curves, probe_graphs
from mqtool.planning.recipe import Recipe
from mqtool.planning.sensitivity import measure_distances, measure_reductions
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.calibration_stats import (
    CalibrationStats,
    collect_stats,
    with_packing_layout,
)
from mqtool.quantization.rounding import LayerInput, Rounding, is_compensating
from mqtool.recordings.clips import Clip, pcm_sha256, probe_clips

__all__ = ["Memory", "Quantizer", "in_process"]

Memory = Callable[[str, Mapping[str, Any], Callable[[], Any]], Any]
"""Given what is computed, what it depends on, and how, gives JSON values back, old or new."""


def in_process() -> Memory:
    """A `Memory` that lasts as long as it is referred to."""
    known: dict[str, Any] = {}

    def remember(what: str, depends_on: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        key = json.dumps([what, dict(depends_on)], sort_keys=True)
        if key not in known:
            known[key] = compute()
        return known[key]

    return remember


class Quantizer:
    """One float model and one person's recordings.

    What the recordings tell is computed when it is first asked for, and once.

    Args:
        folder: the float model.
        clips: recordings; none for recipes that need none.
        context: threads and progress.
        memory: keeps what takes time; None for as long as this object lives.
    """

    def __init__(
        self,
        folder: ModelFolder,
        clips: Sequence[Clip] = (),
        context: RunContext = QUIET,
        *,
        memory: Memory | None = None,
    ) -> None:
        self.folder, self.clips, self.context = folder, clips, context
        self._memory = memory or in_process()
        self._sizes: dict[object, SizeModel] = {}
        self._references: dict[bool, ReferenceOutputs] = {}

    @cached_property
    def calib_sha256(self) -> str:
        """Of the recordings' samples."""
        return str(self._memory("pcm_sha256", {}, lambda: pcm_sha256(self.clips)))

    @cached_property
    def stats(self) -> CalibrationStats:
        """What compensated rounding takes from the recordings."""
        return collect_stats(self.folder, self.clips, self.context)

    def size_model(self, recipe: Recipe) -> SizeModel:
        """Sizes of the model's packed forms."""
        key = (recipe.options, recipe.effective_rounding)
        if key not in self._sizes:
            self._sizes[key] = size_model(self.folder, *key)
        return self._sizes[key]

    def check_budget(self, recipe: Recipe, budget_bytes: int) -> None:
        """Refuse a size that cannot be had.

        Raises:
            BudgetError: with the nearest one that can.
        """
        check_budget(self.size_model(recipe), budget_bytes)

    def allocate(self, recipe: Recipe) -> Allocation:
        """The order in which layers lose bits.

        Raises:
            ClipsError: the method needs recordings and there are none.
        """
        if not recipe.sharing.needs_recordings:
            return self._allocate(recipe)
        if not self.clips:
            raise ClipsError(f"method {recipe.method} needs recordings; give --calib CLIPS")
        depends_on = _but(recipe, "calibration", "activations", "act_bits", "twin_ranges", "opset")
        found = self._memory("allocation", depends_on, lambda: asdict(self._allocate(recipe)))
        steps, *alternatives = (
            [(name, bits) for name, bits in order]
            for order in (found["steps"], *found["alternatives"])
        )
        return Allocation(**{**found, "steps": steps, "alternatives": alternatives})

    def plan(self, recipe: Recipe, budget_bytes: int | None) -> Plan:
        """A width for every layer so that the packed folder fills the budget.

        Of the plans that an allocation's orders give, the nearest to the float model is taken.

        Args:
            recipe: how to quantize.
            budget_bytes: size of the packed folder, all files; None, for `minmax` only, for the
                size that its mapping gives.

        Raises:
            BudgetError: the budget is not feasible; raised before any recording is read.
            ClipsError: the method needs recordings and there are none.
        """
        if budget_bytes is not None:
            self.check_budget(recipe, budget_bytes)
        depends_on = {**_but(recipe, "calibration"), "budget_bytes": budget_bytes}
        found = self._memory("plan", depends_on, lambda: self._plan(recipe, budget_bytes).to_json())
        return Plan.from_json(found)

    def plan_of_width(self, recipe: Recipe, bits: int) -> Plan:
        """The plan with every layer at `bits`, whatever its size."""
        sizes = self.size_model(recipe)
        widths = {layer.name: (bits, 0) for layer in sizes.folder.layers}
        return plan_of(sizes, recipe, Allocation([]), widths, 2 * self.folder.bytes)

    def pack(self, plan: Plan, output: Path, *, calibration: str = "cosine") -> PackReport:
        """Quantize as planned and write a packed folder.

        Args:
            plan: for this model, with any pack options (`mqtool.planning.refit`).
            output: folder to write.
            calibration: how ranges of static activations are chosen.

        Raises:
            ClipsError: recordings are needed and there are none, or they are others than the
                plan was made from.
            PackError: see `mqtool.packing.write.pack`.
        """
        return self.write(plan, output, self.calibrate(plan, calibration))

    def calibrate(self, plan: Plan, calibration: str) -> dict[str, ActivationRange]:
        """Ranges of the inputs of layers; none where the plan stores none. As `pack`."""
        folder, inputs = self._layout_of(plan)
        return calibrate(folder, plan, self.clips, calibration, inputs, self.context)

    def write(self, plan: Plan, output: Path, ranges: Mapping[str, ActivationRange]) -> PackReport:
        """Write a packed folder with ranges from `calibrate`. As `pack`."""
        folder, inputs = self._layout_of(plan)
        advance = self.context.progress("Quantizing layers", len(folder.layers))
        return pack(folder, plan, output, inputs=inputs, ranges=ranges, advance=advance)

    def _layout_of(self, plan: Plan) -> tuple[ModelFolder, Mapping[str, LayerInput] | None]:
        if is_compensating(plan.rounding):
            self._check_same_recordings(plan)
        return self._layout(plan.rounding)

    def _check_same_recordings(self, plan: Plan) -> None:
        if not self.clips:
            raise ClipsError(
                "the plan's weights are rounded for the recordings it was made from; "
                "give them again with --calib CLIPS, or plan with --rounding grouped"
            )
        if plan.calib_sha256 is not None and self.calib_sha256 != plan.calib_sha256:
            raise ClipsError(
                "the plan was made from other recordings than --calib gives; "
                "give the same ones, or run mqtool plan for these"
            )

    def _plan(self, recipe: Recipe, budget_bytes: int | None) -> Plan:
        sizes, allocation = self.size_model(recipe), self.allocate(recipe)
        calib: dict[str, Any] = {}
        if recipe.sharing.needs_recordings:
            calib = {"calib_sha256": self.calib_sha256, "calib_clips": len(self.clips)}
        plans: list[Plan] = []
        for steps in (allocation.steps, *allocation.alternatives):
            order = replace(allocation, steps=steps)
            plan = fit_plan(sizes, recipe, order, budget_bytes, **calib)
            if plan not in plans:
                plans.append(plan)
        if len(plans) == 1:
            return plans[0]
        folder, inputs = self._layout(recipe.effective_rounding)
        reference = self._reference(recipe.effective_rounding)
        divergences = plan_divergences(folder, plans, reference, inputs, self.context)
        return plans[divergences.index(min(divergences))]

    def _allocate(self, recipe: Recipe) -> Allocation:
        layout = with_packing_layout(self.folder, recipe.effective_rounding)
        evidence = Evidence(
            layout.layers,
            recipe,
            len(self.clips),
            lambda: self._sensitivities(layout, recipe),
            lambda: self._curves(recipe),
        )
        return recipe.sharing.allocate(evidence)

    def _layout(self, rounding: Rounding) -> tuple[ModelFolder, Mapping[str, LayerInput] | None]:
        """The float model as it is packed, and what its layers multiply."""
        if is_compensating(rounding):
            return self.stats.folder, self.stats.inputs
        return self.folder, None

    def _curves(self, recipe: Recipe) -> dict[str, SensitivityCurve]:
        rounding = recipe.effective_rounding
        folder, inputs = self._layout(rounding)
        graphs = probe_graphs(folder, self.context.threads)
        reference = self._reference(rounding, graphs)
        return measure_curves(folder, graphs, reference, rounding, inputs, self.context)

    def _reference(
        self, rounding: Rounding, graphs: Mapping[str, Session] | None = None
    ) -> ReferenceOutputs:
        """What the float model answers to a few of the recordings, in the layout of a rounding.

        `graphs` are its probe graphs, where they are open already.
        """
        key = is_compensating(rounding)
        if key not in self._references:
            folder, _ = self._layout(rounding)
            graphs = graphs or probe_graphs(folder, self.context.threads)
            self._references[key] = ReferenceOutputs(folder, probe_clips(self.clips), graphs)
        return self._references[key]

    def _sensitivities(self, layout: ModelFolder, recipe: Recipe) -> dict[str, float]:
        """The wanted measure of those that one pass over the recordings gives."""
        clips, rounding = self.clips, recipe.effective_rounding
        if recipe.sensitivity in REDUCTIONS:
            kind, depends_on = "reductions", {"layers": len(layout.layers)}
            found = self._memory(
                kind, depends_on, lambda: measure_reductions(layout, clips, self.context)
            )
        else:
            found = self._memory(
                "distances",
                {"rounding": rounding},
                lambda: measure_distances(layout, clips, rounding, self.context),
            )
        return dict(found[recipe.sensitivity])


def _but(recipe: Recipe, *names: str) -> dict[str, Any]:
    """A recipe's fields without some."""
    return {name: value for name, value in asdict(recipe).items() if name not in names}
