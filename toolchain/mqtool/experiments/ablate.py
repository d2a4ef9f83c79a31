"""One choice at a time, all else fixed: the paper's Tables 1 to 5.

    1  min-max interpolation against Algorithm 1, at the sizes that min-max gives
    2  what layers are ranked by
    3  how the ranges of inputs are calibrated, with the time it takes
    4  how many recordings to calibrate on, over several random draws of them
    5  widths of inputs

As in the paper, every model is calibrated on the group it is tested on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mqtool.choices import DISTANCES, REDUCTIONS
from mqtool.errors import ClipsError
from mqtool.experiments.ablation_table import Part, Row, ShownTable
from mqtool.experiments.comparison import Metric, outcome_row, recipe_title
from mqtool.experiments.experiment import Experiment
from mqtool.experiments.groups import ClipSet
from mqtool.experiments.report.cells import megabytes
from mqtool.experiments.report.page import Page, Report
from mqtool.experiments.trials import Trial
from mqtool.planning.recipe import MinMax, Recipe
from mqtool.quantization.bits import FLOAT_BITS

__all__ = [
    "ACT_BITS",
    "CLIP_COUNTS",
    "MINMAX_RANGES",
    "TABLES",
    "TWIN_RANGES",
    "Settings",
    "ablation_report",
]

TABLES = (1, 2, 3, 4, 5)

MINMAX_RANGES: tuple[MinMax, ...] = ((5, 7), (6, 7), (4, 8), (5, 8), (6, 8), (7, 8))
"""Of the paper's Table 1."""

CLIP_COUNTS = (4, 8, 16, 32, 64)
"""Of the paper's Table 4, without 128."""

ACT_BITS = (4, 6, 8, 10, 12, 16, 32)
"""Of the paper's Table 5."""

CALIBRATION_ORDER = (
    *("none", "l1", "l2", "linw-l2", "sqw-l2"),
    *("minmax", "hess", "cosine"),
)
"""As in the paper's Table 3."""

TWIN_RANGES = ("hess", "cosine")
"""Calibrations for which the paper describes two ranges (equations 4 and 5)."""


@dataclass(frozen=True)
class Settings:
    """What is fixed while one thing varies.

    Attributes:
        budget_bytes: of Tables 2 to 5.
        minmax_ranges: of Table 1.
        clip_counts: of Table 4.
        seeds: random draws of clips for each count of Table 4.
        act_bits: of Table 5.
        calibration: of Table 5.
    """

    budget_bytes: int
    minmax_ranges: Sequence[MinMax] = MINMAX_RANGES
    clip_counts: Sequence[int] = CLIP_COUNTS
    seeds: int = 5
    act_bits: Sequence[int] = ACT_BITS
    calibration: str = "cosine"


Groups = Mapping[str, ClipSet]


def ablation_report(
    experiment: Experiment,
    tables: Sequence[int],
    settings: Settings,
    calib: Groups,
    test: Groups,
    metric: Metric,
    facts: Mapping[str, str],
) -> Report:
    """Make the tables asked for.

    Args:
        experiment: runs the trials.
        tables: some of `TABLES`.
        settings: what is fixed, and the ranges of what is not.
        calib: recordings to calibrate on, by group.
        test: recordings with transcripts, by the same groups.
        metric: what to judge by.
        facts: for the foot of the page.

    Raises:
        BudgetError: a budget is not feasible.
        ClipsError: a group has fewer clips than the smallest of `clip_counts`.
        MqError: see `Experiment.run`.
    """
    if set(tables) != {1}:
        experiment.check_budget(Recipe("myqasr"), settings.budget_bytes)
    parts = [_MAKERS[number](experiment, settings, calib, test) for number in tables]
    floats = [Trial(None, None, None, clips) for clips in test.values()]
    flat = [
        trial for part in parts for row in part.rows for one in row.trials.values() for trial in one
    ]
    outcomes = iter(experiment.run([*floats, *flat]))
    reference = {name: next(outcomes) for name in test}
    for part in parts:
        for row in part.rows:
            for name, trials in row.trials.items():
                row.outcomes[name] = [next(outcomes) for _ in trials]
    shown = [ShownTable(part, list(test), reference, metric) for part in parts]
    comparisons = [item for one in shown for item in one.comparisons]
    page = Page(
        title=f"{metric.title.capitalize()}, one choice at a time",
        lede=f"The tables of the paper on {' and '.join(test)}: one thing varies, all else is "
        "fixed, and every model is calibrated on the group it is tested on.",
        findings=[finding for one in shown if (finding := one.finding()) is not None],
        sections=[one.section() for one in shown],
        facts=facts,
    )
    rows = [{"table": None, "row": "float", **outcome_row(one)} for one in reference.values()]
    rows += [row for one in shown for row in one.csv_rows()]
    result: dict[str, Any] = {
        "kind": "ablate",
        "facts": dict(facts),
        "comparisons": [asdict(item) for item in comparisons],
    }
    return Report(page, rows, result)


def _minmax(experiment: Experiment, settings: Settings, calib: Groups, test: Groups) -> Part:
    rows = []
    for minmax in settings.minmax_ranges:
        mapped, ours = Recipe("minmax", minmax=minmax), Recipe("myqasr")
        sizes = {g: experiment.plan(mapped, calib[g], None).budget_bytes for g in test}
        for recipe in (mapped, ours):
            trials = {g: [Trial(recipe, calib[g], sizes[g], test[g])] for g in test}
            label = f"{minmax[0]}-{minmax[1]}: {recipe_title(recipe).split()[0]}"
            against = f"{minmax[0]}-{minmax[1]}: min-max" if recipe is ours else None
            rows.append(Row(label, trials, against))
    text = (
        "Widths by linear interpolation between two given ones, the layer with the highest value "
        "getting the fewest bits, as the paper words it; and Algorithm 1 at the same size."
    )
    return Part(1, "Min-max or Algorithm 1", "against min-max of the same size", text, rows)


def _sensitivities(experiment: Experiment, settings: Settings, calib: Groups, test: Groups) -> Part:
    del experiment
    budget = settings.budget_bytes
    rows = []
    for sensitivity in (*REDUCTIONS, *DISTANCES):
        recipe = Recipe("myqasr", sensitivity=sensitivity)
        trials = _own_group(recipe, budget, calib, test)
        against = None if sensitivity == "median" else "median"
        rows.append(Row(sensitivity, trials, against))
    plain = {g: [Trial(Recipe("uniform"), None, budget, test[g])] for g in test}
    rows.append(Row("none (uniform)", plain, "median"))
    text = (
        f"Algorithm 1 at {megabytes(budget)}, layers ranked by a reduction of their outputs "
        f"(median to std) or by the distance of their outputs from those with the layer's weight "
        f"at 4 bits (l1 to kl)."
    )
    return Part(2, "Sensitivity", "against the median", text, rows)


def _clip_counts(experiment: Experiment, settings: Settings, calib: Groups, test: Groups) -> Part:
    del experiment
    most = min(len(group.clips) for group in calib.values())
    counts = [count for count in settings.clip_counts if count <= most]
    if not counts:
        raise ClipsError(
            f"a group has {most} calibration clips, the table of clip counts starts at "
            f"{min(settings.clip_counts)}; give more recordings or smaller counts"
        )
    rows = []
    for count in counts:
        trials: dict[str, Sequence[Trial]] = {}
        # All the clips there are can be drawn in one way only.
        draws = 1 if count == most else settings.seeds
        for name, group in calib.items():
            drawn = [group.drawn(count, seed) for seed in range(draws)]
            trials[name] = [
                Trial(Recipe("myqasr"), clips, settings.budget_bytes, test[name]) for clips in drawn
            ]
        against = None if count == counts[-1] else f"{counts[-1]} clips"
        rows.append(Row(f"{count} clips", trials, against))
    skipped = [str(count) for count in settings.clip_counts if count > most]
    text = (
        f"Algorithm 1 at {megabytes(settings.budget_bytes)}, calibrated on clips drawn at random, "
        f"{settings.seeds} draws a count; the interval of a mean is its standard deviation over "
        f"draws. Draws of all {most} clips of a group are all the same."
    )
    if skipped:
        text += f" For {', '.join(skipped)} clips there are not enough."
    return Part(4, "Number of recordings", f"against {counts[-1]} clips", text, rows)


def _calibrations(experiment: Experiment, settings: Settings, calib: Groups, test: Groups) -> Part:
    del experiment
    rows = []
    for calibration in CALIBRATION_ORDER:
        recipe = _static(calibration, 8)
        trials = _own_group(recipe, settings.budget_bytes, calib, test)
        rows.append(Row(calibration, trials, None if calibration == "cosine" else "cosine"))
    text = (
        f"Algorithm 1 at {megabytes(settings.budget_bytes)} with inputs of 8 bits in stored "
        "ranges. Seconds are those of calibration, capture included. Two ranges after a GELU for "
        "hess and cosine, one for the others."
    )
    return Part(3, "Calibration of inputs", "against cosine", text, rows)


def _input_widths(experiment: Experiment, settings: Settings, calib: Groups, test: Groups) -> Part:
    del experiment
    rows = []
    for bits in settings.act_bits:
        recipe = _static(settings.calibration, bits)
        trials = _own_group(recipe, settings.budget_bytes, calib, test)
        rows.append(Row(f"{bits} bits", trials, None if bits == 8 else "8 bits"))
    if 8 not in settings.act_bits:
        rows = [replace(row, against=None) for row in rows]
    text = (
        f"Algorithm 1 at {megabytes(settings.budget_bytes)} with inputs of so many bits, ranges "
        f"calibrated by {settings.calibration}; 32: inputs stay float."
    )
    return Part(5, "Width of inputs", "against 8 bits", text, rows)


def _own_group(
    recipe: Recipe, budget_bytes: int, calib: Groups, test: Groups
) -> dict[str, Sequence[Trial]]:
    """A trial for each group, calibrated on it."""
    return {name: [Trial(recipe, calib[name], budget_bytes, test[name])] for name in test}


def _static(calibration: str, bits: int) -> Recipe:
    is_twin = calibration in TWIN_RANGES and bits < FLOAT_BITS
    return Recipe(
        "myqasr",
        activations="static",
        act_bits=bits,
        calibration=calibration,
        twin_ranges=is_twin,
    )


_MAKERS: dict[int, Callable[[Experiment, Settings, Groups, Groups], Part]] = {
    1: _minmax,
    2: _sensitivities,
    3: _calibrations,
    4: _clip_counts,
    5: _input_widths,
}
