"""Quantizing one float model for one person: observe, allocate, fit, calibrate, pack.

The order of these steps is written here and nowhere else.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mqtool.choices import REDUCTIONS
from mqtool.context import QUIET, RunContext
from mqtool.errors import BudgetError, ClipsError, OptionError
from mqtool.model.folder import ModelFolder
from mqtool.model.own_words import OwnWords
from mqtool.observe.runs import PROBE_SECONDS, what_is_said
from mqtool.packing.coded_folder import CodedFolder
from mqtool.packing.plan_file import Plan
from mqtool.packing.size import KB, SizeModel, packed_manifest, size_model
from mqtool.packing.write import PackReport, pack
from mqtool.planning.calibrations.calibration import calibrate
from mqtool.planning.divergence import ReferenceOutputs
from mqtool.planning.fit import check_bounds, check_budget
from mqtool.planning.fit_steps import fit_steps
from mqtool.planning.gradient_damage import estimate_damage
from mqtool.planning.methods.method import Allocation, Evidence
from mqtool.planning.plans import fit_plan, plan_of, plan_of_steps
from mqtool.planning.probing import measure_ranges, probe_graphs
from mqtool.planning.recipe import Recipe
from mqtool.planning.sensitivity import measure_distances, measure_reductions
from mqtool.planning.sensitivity_curves import SensitivityCurve, sensitivity_curves
from mqtool.planning.steps import StepRange
from mqtool.quantization.activations import ActivationRange
from mqtool.quantization.bits import FLOAT_BITS
from mqtool.quantization.calibration_stats import (
    CalibrationStats,
    collect_stats,
    with_packing_layout,
)
from mqtool.quantization.coded_layers import CodedLayers
from mqtool.quantization.rounding import Rounding, is_compensating
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
        own_words: tokens of the same person's texts, for weights with steps.
    """

    def __init__(
        self,
        folder: ModelFolder,
        clips: Sequence[Clip] = (),
        context: RunContext = QUIET,
        *,
        memory: Memory | None = None,
        own_words: OwnWords | None = None,
    ) -> None:
        self.folder, self.clips, self.context = folder, clips, context
        self._own_words = own_words
        self._memory = memory or in_process()
        self._sizes: dict[object, SizeModel] = {}
        self._bounds: dict[object, tuple[int, int]] = {}
        self._known_stats: dict[object, CalibrationStats] = {}

    @cached_property
    def calib_sha256(self) -> str:
        """Of the recordings' samples."""
        return str(self._memory("pcm_sha256", {}, lambda: pcm_sha256(self.clips)))

    def settled(self, recipe: Recipe, budget_bytes: int | None) -> Recipe:
        """A recipe with a storage instead of auto.

        Coded for a method that gives layers steps, at sizes that int8 codes do not exceed; for
        others, which count bits, planes.
        """
        if recipe.storage != "auto":
            return recipe
        if recipe.can_be_coded and recipe.sharing.step_ranges is not None:
            coded = replace(recipe, storage="coded")
            if budget_bytes is None or budget_bytes - KB < self.coded_bounds(coded)[1]:
                return coded
        return replace(recipe, storage="planes")

    def coded_bounds(self, recipe: Recipe) -> tuple[int, int]:
        """The least and the greatest size that coded weights can have, bytes of all files.

        The greatest is that of int8 codes as they are; what is written into the manifest is taken
        to be as long as for that.
        """
        key = (recipe.options, recipe.effective_rounding, recipe.has_steps)
        if key not in self._bounds:
            rounding, steps = recipe.effective_rounding, recipe.has_steps
            folder = with_packing_layout(self.folder, rounding, steps=steps)
            layers = CodedLayers(CalibrationStats(folder))
            blank = {layer.name: layers.blank(layer) for layer in layers.layers}
            self._bounds[key] = self._coded_folder(folder, recipe, folder.bytes).bounds(blank)
        return self._bounds[key]

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
        settled = self.settled(recipe, budget_bytes)
        if settled.has_steps:
            check_bounds(self.coded_bounds(settled), budget_bytes)
        else:
            check_budget(self.size_model(settled), budget_bytes, self.most_bits(settled))

    def most_bits(self, recipe: Recipe) -> int:
        """The greatest width that every layer can have: that of float, or what codes hold."""
        if recipe.storage != "coded":
            return FLOAT_BITS
        layers = CodedLayers(CalibrationStats(self.size_model(recipe).folder))
        return min(layers.most_bits(layer) for layer in layers.layers)

    def allocate(self, recipe: Recipe) -> Allocation:
        """The order in which layers lose bits.

        Raises:
            ClipsError: the method needs recordings and there are none.
        """
        if not recipe.sharing.needs_recordings:
            return self._allocate(recipe)
        self._check_clips(recipe)
        depends_on = _but(recipe, *_OF_GRAPHS)
        found = self._memory("allocation", depends_on, lambda: asdict(self._allocate(recipe)))
        steps = [(name, bits) for name, bits in found["steps"]]
        return Allocation(**{**found, "steps": steps})

    def plan(self, recipe: Recipe, budget_bytes: int | None) -> Plan:
        """A width for every layer so that the packed folder fills the budget.

        Args:
            recipe: how to quantize.
            budget_bytes: size of the packed folder, all files; None, for `minmax` only, for the
                size that its mapping gives.

        Raises:
            BudgetError: the budget is not feasible; raised before any recording is read.
            ClipsError: the method needs recordings and there are none.
            OptionError: there are own words, and weights get no steps.
        """
        if budget_bytes is not None:
            self.check_budget(recipe, budget_bytes)
        settled = self.settled(recipe, budget_bytes)
        if self._own_words is not None and not settled.has_steps:
            raise OptionError(
                "texts and hot words count only for coded weights of method measured, which there "
                "are up to the size of int8; leave --texts and --hotwords out"
            )
        make = self._plan_steps if settled.has_steps else self._plan
        depends_on = {**_but(settled, "calibration"), "budget_bytes": budget_bytes}
        found = self._memory("plan", depends_on, lambda: make(settled, budget_bytes).to_json())
        return replace(Plan.from_json(found), own_words=self._own_words)

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
        return calibrate(self._stats_of(plan), plan, self.clips, calibration, self.context)

    def write(self, plan: Plan, output: Path, ranges: Mapping[str, ActivationRange]) -> PackReport:
        """Write a packed folder with ranges from `calibrate`. As `pack`."""
        stats = self._stats_of(plan)
        advance = self.context.progress("Quantizing layers", len(stats.folder.layers))
        return pack(stats, plan, output, ranges=ranges, advance=advance)

    def _stats_of(self, plan: Plan) -> CalibrationStats:
        if is_compensating(plan.rounding):
            self._check_same_recordings(plan)
        return self._stats(plan.rounding, steps=plan.has_steps)

    def _check_clips(self, recipe: Recipe) -> None:
        if not self.clips:
            raise ClipsError(f"method {recipe.method} needs recordings; give --calib CLIPS")

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
        most = self.most_bits(recipe)
        return fit_plan(sizes, recipe, allocation, budget_bytes, most, **calib)

    def _plan_steps(self, recipe: Recipe, budget_bytes: int | None) -> Plan:
        """Steps that fill a budget with codes."""
        if budget_bytes is None:
            raise BudgetError(f"method {recipe.method} needs a budget; give --budget-kb")
        self._check_clips(recipe)
        step_ranges = recipe.sharing.step_ranges
        assert step_ranges is not None

        def measure() -> dict[str, Any]:
            found = step_ranges(self._evidence(recipe))
            return {name: asdict(known) for name, known in found.items()}

        measured = self._memory("step ranges", _but(recipe, *_OF_GRAPHS), measure)
        ranges = {name: StepRange(**known) for name, known in measured.items()}
        stats = self._stats(recipe.effective_rounding, steps=True)
        made = self._coded_folder(stats.folder, recipe, budget_bytes)
        advance = self.context.progress("Rounding layers", 0)
        fitted = fit_steps(CodedLayers(stats), ranges, budget_bytes, made, advance)
        return plan_of_steps(
            stats.folder,
            recipe,
            fitted.steps,
            {name: known.damage for name, known in ranges.items()},
            made.files(fitted.filled.weights, fitted.filled.kept),
            budget_bytes,
            self.calib_sha256,
            len(self.clips),
        )

    def _coded_folder(self, folder: ModelFolder, recipe: Recipe, budget_bytes: int) -> CodedFolder:
        manifest = packed_manifest(folder, recipe.options, budget_bytes)
        return CodedFolder(folder, manifest, recipe.options)

    def _allocate(self, recipe: Recipe) -> Allocation:
        return recipe.sharing.allocate(self._evidence(recipe))

    def _evidence(self, recipe: Recipe) -> Evidence:
        rounding, steps = recipe.effective_rounding, recipe.has_steps
        layout = with_packing_layout(self.folder, rounding, steps=steps)
        return Evidence(
            layout.layers,
            recipe,
            lambda: self._sensitivities(layout, recipe),
            lambda: self._curves(recipe),
            lambda: self._step_ranges(recipe),
        )

    def _stats(self, rounding: Rounding, *, steps: bool) -> CalibrationStats:
        """The float model as it is packed, and what its layers multiply."""
        key = (is_compensating(rounding), steps)
        if key not in self._known_stats:
            if is_compensating(rounding):
                found = collect_stats(
                    self.folder,
                    self.clips,
                    self.context,
                    steps=steps,
                    own_words=self._own_words,
                )
            else:
                found = CalibrationStats(self.folder.with_formulas() if steps else self.folder)
            self._known_stats[key] = found
        return self._known_stats[key]

    def _curves(self, recipe: Recipe) -> dict[str, SensitivityCurve]:
        rounding = recipe.effective_rounding
        layers = CodedLayers(self._stats(rounding, steps=False))
        return sensitivity_curves(layers, self._step_ranges(recipe), rounding)

    def _step_ranges(self, recipe: Recipe) -> dict[str, StepRange]:
        stats = self._stats(recipe.effective_rounding, steps=recipe.has_steps)
        layers, clips = CodedLayers(stats), probe_clips(self.clips)
        longest = int(PROBE_SECONDS * self.folder.manifest.sample_rate)
        said = what_is_said(stats.folder, clips, self.context, longest=longest)
        is_quick = recipe.effort == "quick"
        known = estimate_damage(layers, clips, self.context, said=said) if is_quick else {}
        graphs = probe_graphs(stats.folder)
        reference = ReferenceOutputs(stats.folder, clips, graphs, self.context, said=said)
        return measure_ranges(layers, graphs, reference, self.context, known=known)

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


_OF_GRAPHS = ("calibration", "activations", "act_bits", "twin_ranges", "opset")
"""Fields of a recipe by which packed graphs differ, and not what layers are found to stand."""


def _but(recipe: Recipe, *names: str) -> dict[str, Any]:
    """A recipe's fields without some."""
    return {name: value for name, value in asdict(recipe).items() if name not in names}
