"""What an experiment is made of: models to make and test, and what came of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mqtool.evaluation.score import Scored
from mqtool.experiments.cache import fingerprint
from mqtool.experiments.groups import ClipSet
from mqtool.model.folder import ModelFolder
from mqtool.packing.plan_file import Plan
from mqtool.packing.size import PackOptions, SizeModel, size_table
from mqtool.planning.recipe import Recipe
from mqtool.quantization.rounding import is_compensating

__all__ = ["Outcome", "Trial", "TrialModel", "budgets_of_bits"]


@dataclass(frozen=True)
class Trial:
    """A model to make and test.

    Attributes:
        recipe: how to quantize; None for the float model.
        calibrated_on: recordings; None where `recipe` needs none.
        budget_bytes: size of the packed folder; None for the float model, and for `minmax` at the
            size of its own mapping.
        tested_on: recordings with transcripts.
    """

    recipe: Recipe | None
    calibrated_on: ClipSet | None
    budget_bytes: int | None
    tested_on: ClipSet

    @property
    def plan_key(self) -> tuple[object, ...]:
        """Equal for trials of one plan."""
        clips = None if self.calibrated_on is None else self.calibrated_on.sha256
        return self.recipe, clips, self.budget_bytes


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        trial: it.
        bytes: size of all files.
        average_bits: of a weight.
        weight_bits_as_bytes: weights x bits / 8, the paper's count.
        scored: each test clip.
        calibration_seconds: that choosing the ranges of inputs took; None where there are none.
    """

    trial: Trial
    bytes: int
    average_bits: float
    weight_bits_as_bytes: int
    scored: list[Scored]
    calibration_seconds: float | None = None


@dataclass(frozen=True)
class TrialModel:
    """A trial's model: what is in its packed graphs, without how it came about.

    Attributes:
        trial: where it is from.
        plan: None for the float model.
    """

    trial: Trial
    plan: Plan | None

    @cached_property
    def content(self) -> str:
        """Hash of all that the packed graphs depend on: two trials may have one model."""
        plan, recipe = self.plan, self.trial.recipe
        if plan is None or recipe is None:
            return fingerprint(None)
        widths = [
            [entry.name, entry.step or entry.bits, entry.rows_at_lower_bits]
            for entry in plan.layers
        ]
        depends_on: list[Any] = [plan.rounding, plan.storage, asdict(recipe.options)]
        if plan.has_steps:  # packing fills the budget with codes
            depends_on.append(plan.budget_bytes)
        clips = self.trial.calibrated_on
        calibrated_on = None if clips is None else clips.sha256
        if recipe.options.has_ranges:
            needs_recordings = recipe.range_choice.needs_recordings
            depends_on += [recipe.calibration, calibrated_on if needs_recordings else None]
        if is_compensating(recipe.effective_rounding):
            depends_on += [calibrated_on]
        return fingerprint([widths, depends_on])


def budgets_of_bits(folder: ModelFolder, bits: Sequence[float]) -> list[int]:
    """Bytes of the folder with all weights at an average width, interpolated between whole ones."""
    table = size_table(SizeModel(folder, PackOptions()))
    whole = sorted(table)
    return [int(size) for size in np.interp(bits, whole, [table[width] for width in whole])]
