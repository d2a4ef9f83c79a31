"""Figures of outcomes and differences between them, with 95 % bootstrap intervals over clips."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mqruntime.tasks.task import Task
from mqtool.errors import ClipsError
from mqtool.evaluation.bootstrap import mean_interval
from mqtool.evaluation.score import Scored, summary
from mqtool.experiments.trials import Outcome
from mqtool.planning.recipe import Recipe

__all__ = [
    "ACCURACY",
    "WER",
    "Comparison",
    "Mean",
    "Metric",
    "compare",
    "mean_of",
    "metric_of",
    "outcome_row",
    "recipe_title",
]


@dataclass(frozen=True)
class Metric:
    """What models are judged by.

    Attributes:
        name: as in `mqtool.evaluation.score.summary`.
        title: in words.
        lower_is_better: whether it counts errors.
        counts: of one clip: errors (or hits), and what they are a share of.
    """

    name: str
    title: str
    lower_is_better: bool
    counts: Callable[[Scored], tuple[float, float]]


WER = Metric(
    "wer",
    "word error rate",
    lower_is_better=True,
    counts=lambda item: (item.errors.word_errors, item.errors.words),
)
ACCURACY = Metric(
    "accuracy",
    "accuracy",
    lower_is_better=False,
    counts=lambda item: (float(bool(item.correct)), 1.0),
)


def metric_of(task: Task) -> Metric:
    """The metric of a model's task."""
    return ACCURACY if task.classifies else WER


@dataclass(frozen=True)
class Mean:
    """A mean over test sets, in percent, with its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, strata: Sequence[tuple[Sequence[float], Sequence[float]]]) -> "Mean":
        """From errors (or hits) and totals of each clip, test set by test set."""
        low, high = mean_interval(strata)
        rates = [_rate(errors, totals) for errors, totals in strata]
        return cls(float(np.mean(rates)), 100 * low, 100 * high)


@dataclass(frozen=True)
class Comparison:
    """One thing against another on the same clips.

    Attributes:
        this: what is compared.
        other: with what.
        budget_bytes: at which size; None if it is no matter of size.
        difference: this minus other, points of percent, mean over test sets.
        low: lower end of the paired interval.
        high: upper end.
        verdict: better, worse, or no clear difference (the interval holds zero).
    """

    this: str
    other: str
    budget_bytes: int | None
    difference: float
    low: float
    high: float
    verdict: str


def mean_of(outcomes: Sequence[Outcome], metric: Metric) -> Mean:
    """Mean over outcomes of their rates; each test set counts alike, as in the paper's averages."""
    return Mean.of([_counts(outcome, metric) for outcome in outcomes])


def compare(
    this: str,
    other: str,
    pairs: Sequence[tuple[Outcome, Sequence[Outcome]]],
    metric: Metric,
    budget_bytes: int | None = None,
) -> Comparison:
    """The mean difference over test sets and its paired interval.

    Args:
        this: a name for the first of each pair.
        other: a name for the rest.
        pairs: an outcome and those to compare it with, whose errors are averaged clip by clip; all
            of one test set.
        metric: what to compare.
        budget_bytes: only passed through.

    Raises:
        ClipsError: transcripts hold no words.
    """
    strata = []
    for outcome, others in pairs:
        errors, totals = _counts(outcome, metric)
        against = np.mean([_counts(one, metric)[0] for one in others], axis=0)
        strata.append(((np.asarray(errors) - against).tolist(), totals))
    difference = float(np.mean([_rate(errors, totals) for errors, totals in strata]))
    low, high = (100 * end for end in mean_interval(strata))
    if low <= 0 <= high:
        verdict = "no clear difference"
    else:
        verdict = "better" if (high < 0) == metric.lower_is_better else "worse"
    return Comparison(this, other, budget_bytes, difference, low, high, verdict)


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """An outcome as one flat row of the CSV and JSON of a report; rates in percent."""
    trial, figures = outcome.trial, summary(outcome.scored)
    calibrated = trial.calibrated_on
    recipe = _recipe_fields(trial.recipe)
    row: dict[str, Any] = {
        **recipe,
        "calibrated_on": None if calibrated is None else calibrated.name,
        "calibration_clips": 0 if calibrated is None else len(calibrated.clips),
        "tested_on": trial.tested_on.name,
        "clips": figures["clips"],
        "budget_bytes": trial.budget_bytes,
        "bytes": outcome.bytes,
        "average_bits": outcome.average_bits,
        "weight_bits_as_bytes": outcome.weight_bits_as_bytes,
        "calibration_seconds": outcome.calibration_seconds,
    }
    for rate in ("wer", "cer", "accuracy"):
        low, high = figures[f"{rate}_interval"] or (None, None)
        row |= {rate: figures[rate], f"{rate}_low": low, f"{rate}_high": high}
    return row


def recipe_title(recipe: Recipe | None) -> str:
    """A short name of a way to quantize."""
    if recipe is None:
        return "float"
    if recipe.method == "minmax":
        title = f"min-max {recipe.minmax[0]}-{recipe.minmax[1]}"
    elif recipe.sharing.ranks and recipe.sensitivity != "median":
        title = f"{recipe.method} ({recipe.sensitivity})"
    else:
        title = str(recipe.method)
    return f"{title}-{recipe.calibration}" if recipe.options.has_ranges else title


def _recipe_fields(recipe: Recipe | None) -> Mapping[str, Any]:
    if recipe is None:
        return dict.fromkeys(_RECIPE_FIELDS)
    low, high = recipe.minmax
    is_minmax = recipe.method == "minmax"
    values = (
        recipe.method,
        recipe.sensitivity if recipe.sharing.ranks else None,
        low if is_minmax else None,
        high if is_minmax else None,
        recipe.seed if recipe.method == "shuffled" else None,
        recipe.effective_rounding,
        recipe.activations,
        recipe.options.input_bits,
        recipe.calibration if recipe.options.has_ranges else None,
    )
    return dict(zip(_RECIPE_FIELDS, values, strict=True))


_RECIPE_FIELDS = (
    *("method", "sensitivity", "min_bits", "max_bits", "seed", "rounding"),
    *("activations", "act_bits", "calibration"),
)


def _counts(outcome: Outcome, metric: Metric) -> tuple[list[float], list[float]]:
    counts = [metric.counts(item) for item in outcome.scored]
    if not sum(total for _, total in counts):
        raise ClipsError(f"group {outcome.trial.tested_on.name!r}: its transcripts hold no words")
    return [errors for errors, _ in counts], [totals for _, totals in counts]


def _rate(errors: Sequence[float], totals: Sequence[float]) -> float:
    return 100 * sum(errors) / sum(totals)
