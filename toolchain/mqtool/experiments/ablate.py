"""One choice at a time, all else fixed: the paper's Tables 1 to 5.

    1  min-max interpolation against Algorithm 1, at the sizes that min-max gives
    2  what layers are ranked by
    3  how the ranges of inputs are calibrated, with the time it takes
    4  how many recordings to calibrate on, over several random draws of them
    5  widths of inputs

As in the paper, every model is calibrated on the group it is tested on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mqtool.errors import ClipsError
from mqtool.experiments.comparison import (
    Comparison,
    Mean,
    Metric,
    compare,
    mean_of,
    outcome_row,
    system_title,
)
from mqtool.experiments.groups import ClipSet
from mqtool.experiments.report.cells import (
    change_text,
    comparison_table,
    megabytes,
    rate_cell,
    size_headings,
    size_texts,
)
from mqtool.experiments.report.page import Cell, Finding, Page, Plot, Report, Section, Table
from mqtool.experiments.report.palette import Palette
from mqtool.experiments.report.plots import Dots, dots_figure
from mqtool.experiments.trials import Experiment, Outcome, System, Trial
from mqtool.planning.calibration import Calibration
from mqtool.planning.make import MinMax
from mqtool.planning.methods.sensitivity import DISTANCES, REDUCTIONS
from mqtool.quantization.bits import FLOAT_BITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ACT_BITS", "CLIP_COUNTS", "MINMAX_RANGES", "TABLES", "Settings", "ablate"]

TABLES = (1, 2, 3, 4, 5)

MINMAX_RANGES: tuple[MinMax, ...] = ((5, 7), (6, 7), (4, 8), (5, 8), (6, 8), (7, 8))
"""Of the paper's Table 1."""

CLIP_COUNTS = (4, 8, 16, 32, 64)
"""Of the paper's Table 4, without 128."""


ACT_BITS = (4, 6, 8, 10, 12, 16, 32)
"""Of the paper's Table 5."""

CALIBRATION_ORDER: tuple[Calibration, ...] = (
    *("none", "l1", "l2", "linw-l2", "sqw-l2"),
    *("minmax", "hess", "cosine"),
)
"""As in the paper's Table 3."""

TWIN_RANGES: tuple[Calibration, ...] = ("hess", "cosine")
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
    calibration: Calibration = "cosine"


Groups = Mapping[str, ClipSet]


@dataclass(frozen=True)
class _Row:
    """A row of a table.

    Attributes:
        label: of the row.
        trials: test group -> trials; several are repetitions with other clips.
        against: label of the row to compare this one with.
        outcomes: of the trials.
    """

    label: str
    trials: Mapping[str, Sequence[Trial]]
    against: str | None = None
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Part:
    """One of the paper's tables."""

    number: int
    title: str
    compared: str
    text: str
    rows: Sequence[_Row]


def ablate(
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
        experiment.check_budget(System("myqasr"), settings.budget_bytes)
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
    shown = [_Shown(part, list(test), reference, metric) for part in parts]
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


def _minmax(experiment: Experiment, settings: Settings, calib: Groups, test: Groups) -> _Part:
    rows = []
    for minmax in settings.minmax_ranges:
        mapped, ours = System("minmax", minmax=minmax), System("myqasr")
        sizes = {g: experiment.plan(mapped, calib[g], None).budget_bytes for g in test}
        for system in (mapped, ours):
            trials = {g: [Trial(system, calib[g], sizes[g], test[g])] for g in test}
            label = f"{minmax[0]}-{minmax[1]}: {system_title(system).split()[0]}"
            against = f"{minmax[0]}-{minmax[1]}: min-max" if system is ours else None
            rows.append(_Row(label, trials, against))
    text = (
        "Widths by linear interpolation between two given ones, the layer with the highest value "
        "getting the fewest bits, as the paper words it; and Algorithm 1 at the same size."
    )
    return _Part(1, "Min-max or Algorithm 1", "against min-max of the same size", text, rows)


def _sensitivities(
    experiment: Experiment, settings: Settings, calib: Groups, test: Groups
) -> _Part:
    del experiment
    budget = settings.budget_bytes
    rows = []
    for sensitivity in (*REDUCTIONS, *DISTANCES):
        system = System("myqasr", sensitivity=sensitivity)
        trials = {g: [Trial(system, calib[g], budget, test[g])] for g in test}
        against = None if sensitivity == "median" else "median"
        rows.append(_Row(sensitivity, trials, against))
    plain = {g: [Trial(System("uniform"), None, budget, test[g])] for g in test}
    rows.append(_Row("none (uniform)", plain, "median"))
    text = (
        f"Algorithm 1 at {megabytes(budget)}, layers ranked by a reduction of their outputs "
        f"(median to std) or by the distance of their outputs from those with the layer's weight "
        f"at 4 bits (l1 to kl)."
    )
    return _Part(2, "Sensitivity", "against the median", text, rows)


def _clip_counts(experiment: Experiment, settings: Settings, calib: Groups, test: Groups) -> _Part:
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
                Trial(System("myqasr"), clips, settings.budget_bytes, test[name]) for clips in drawn
            ]
        against = None if count == counts[-1] else f"{counts[-1]} clips"
        rows.append(_Row(f"{count} clips", trials, against))
    skipped = [str(count) for count in settings.clip_counts if count > most]
    text = (
        f"Algorithm 1 at {megabytes(settings.budget_bytes)}, calibrated on clips drawn at random, "
        f"{settings.seeds} draws a count; the interval of a mean is its standard deviation over "
        f"draws. Draws of all {most} clips of a group are all the same."
    )
    if skipped:
        text += f" For {', '.join(skipped)} clips there are not enough."
    return _Part(4, "Number of recordings", f"against {counts[-1]} clips", text, rows)


def _calibrations(experiment: Experiment, settings: Settings, calib: Groups, test: Groups) -> _Part:
    del experiment
    rows = []
    for calibration in CALIBRATION_ORDER:
        system = _static(calibration, 8)
        trials = {
            name: [Trial(system, calib[name], settings.budget_bytes, test[name])] for name in test
        }
        rows.append(_Row(calibration, trials, None if calibration == "cosine" else "cosine"))
    text = (
        f"Algorithm 1 at {megabytes(settings.budget_bytes)} with inputs of 8 bits in stored "
        "ranges. Seconds are those of calibration, capture included. Two ranges after a GELU for "
        "hess and cosine, one for the others."
    )
    return _Part(3, "Calibration of inputs", "against cosine", text, rows)


def _input_widths(experiment: Experiment, settings: Settings, calib: Groups, test: Groups) -> _Part:
    del experiment
    rows = []
    for bits in settings.act_bits:
        system = _static(settings.calibration, bits)
        trials = {
            name: [Trial(system, calib[name], settings.budget_bytes, test[name])] for name in test
        }
        rows.append(_Row(f"{bits} bits", trials, None if bits == 8 else "8 bits"))
    if 8 not in settings.act_bits:
        rows = [replace(row, against=None) for row in rows]
    text = (
        f"Algorithm 1 at {megabytes(settings.budget_bytes)} with inputs of so many bits, ranges "
        f"calibrated by {settings.calibration}; 32: inputs stay float."
    )
    return _Part(5, "Width of inputs", "against 8 bits", text, rows)


def _static(calibration: Calibration, bits: int) -> System:
    is_twin = calibration in TWIN_RANGES and bits < FLOAT_BITS
    return System(
        "myqasr",
        activations="static",
        act_bits=bits,
        calibration=calibration,
        twin_ranges=is_twin,
    )


_MAKERS: dict[int, Callable[[Experiment, Settings, Groups, Groups], _Part]] = {
    1: _minmax,
    2: _sensitivities,
    3: _calibrations,
    4: _clip_counts,
    5: _input_widths,
}


class _Shown:
    """A table with its figures."""

    def __init__(
        self,
        part: _Part,
        groups: Sequence[str],
        reference: Mapping[str, Outcome],
        metric: Metric,
    ) -> None:
        self.part, self.groups, self.reference, self.metric = part, groups, reference, metric
        self.by_label = {row.label: row for row in part.rows}
        self.comparisons: list[Comparison] = [
            self._compare(row, self.by_label[row.against]) for row in part.rows if row.against
        ]

    def section(self) -> Section:
        plot = Plot(
            f"table-{self.part.number}",
            f"{self.metric.title} of each row of the table, by test group",
            "Dashed: the float model on the same recordings. Triangles: beyond the axis.",
            self._draw,
        )
        tables = [self._table()]
        if self.comparisons:
            sizes = {item.budget_bytes: self._size(item) for item in self.comparisons}
            title = "Is it a difference?"
            tables.append(
                comparison_table(self.comparisons, sizes, self.metric, title, folded=True)
            )
        title = f"Table {self.part.number}. {self.part.title}"
        return Section(title, self.part.text, [plot], tables)

    def finding(self) -> Finding | None:
        """Which rows clearly differ from the one they are compared with."""
        if not self.comparisons:
            return None
        parts = []
        for verdict in ("better", "worse"):
            clear = [item for item in self.comparisons if item.verdict == verdict]
            named = [f"{item.this} ({change_text(item)})" for item in clear]
            if named:
                parts.append(f"clearly {verdict} {', '.join(named)}")
        unclear = sum(item.verdict == "no clear difference" for item in self.comparisons)
        if unclear:
            parts.append(f"no clear difference for {unclear} of {len(self.comparisons)} rows")
        verdicts = {item.verdict for item in self.comparisons} - {"no clear difference"}
        kind = verdicts.pop() if len(verdicts) == 1 else "open"
        compared = self.part.compared
        return Finding(
            f"{self.part.title} (Table {self.part.number}), {compared}: {'; '.join(parts)}.", kind
        )

    def csv_rows(self) -> list[dict[str, Any]]:
        return [
            {"table": self.part.number, "row": row.label, **outcome_row(outcome)}
            for row in self.part.rows
            for outcomes in row.outcomes.values()
            for outcome in outcomes
        ]

    def _size(self, item: Comparison) -> str:
        row = self.by_label[item.this]
        outcome = row.outcomes[self.groups[0]][0]
        return f"{megabytes(outcome.bytes)}, {outcome.average_bits:.1f} bits"

    def _compare(self, row: _Row, other: _Row) -> Comparison:
        pairs = [
            (outcome, other.outcomes[name])
            for name in self.groups
            for outcome in row.outcomes[name]
        ]
        budget = pairs[0][0].trial.budget_bytes
        return compare(row.label, other.label, pairs, self.metric, budget)

    def _mean(self, row: _Row, group: str) -> Mean:
        """With its bootstrap interval; in a table of draws, with their standard deviation."""
        means = [mean_of([outcome], self.metric) for outcome in row.outcomes[group]]
        if all(len(other.outcomes[group]) == 1 for other in self.part.rows):
            return means[0]
        values = [mean.value for mean in means]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        value = float(np.mean(values))
        return Mean(value, value - spread, value + spread)

    def _draw(self, palette: Palette) -> "Figure":
        sets = []
        for name in self.groups:
            means = [self._mean(row, name) for row in self.part.rows]
            points = [(mean.value, mean.low, mean.high) for mean in means]
            plain = mean_of([self.reference[name]], self.metric).value
            sets.append(Dots(f"tested on {name}", points, plain))
        labels = [row.label for row in self.part.rows]
        return dots_figure(labels, sets, f"{self.metric.title} (%)", palette)

    def _table(self) -> Table:
        pick = min if self.metric.lower_is_better else max
        means = {(row.label, g): self._mean(row, g) for row in self.part.rows for g in self.groups}
        best = {g: pick(means[row.label, g].value for row in self.part.rows) for g in self.groups}
        rows = []
        for row in self.part.rows:
            cells = []
            for name in self.groups:
                cells.append(rate_cell(means[row.label, name], best[name]))
                if self.metric.name == "wer":
                    cells.append(Cell(f"{self._character_rate(row.outcomes[name]):.1f}", "muted"))
                seconds = row.outcomes[name][0].calibration_seconds
                if self.part.number == 3 and seconds is not None:
                    cells.append(Cell(f"{seconds:.0f}"))
            sizes = size_texts(row.outcomes[self.groups[0]][0])
            rows.append([Cell(row.label), *sizes, *cells])
        columns = []
        for name in self.groups:
            columns += [f"{name} WER", f"{name} CER"] if self.metric.name == "wer" else [name]
            columns += ["seconds"] * (self.part.number == 3)
        note = (
            f"{self.metric.title.capitalize()} in percent with intervals. Weights alone: weights x "
            "bits / 8, the paper's count. Sizes of the first group. Bold: the best."
        )
        return Table(["", *size_headings, *columns], rows, note=note, texts=("",))

    def _character_rate(self, outcomes: Sequence[Outcome]) -> float:
        rates = [outcome_row(outcome)["cer"] for outcome in outcomes]
        return float(np.mean([rate for rate in rates if rate is not None]))
