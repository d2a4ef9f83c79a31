"""Calibrated on one group, tested on every other: the paper's Figures 4 and 5."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from mqtool.experiments.comparison import (
    Comparison,
    Mean,
    Metric,
    compare,
    mean_of,
    outcome_row,
    recipe_title,
)
from mqtool.experiments.experiment import Experiment
from mqtool.experiments.groups import ClipSet
from mqtool.experiments.report.cells import (
    bits_text,
    comparison_table,
    mean_text,
    megabytes,
    rate_cell,
    transcripts,
)
from mqtool.experiments.report.page import Cell, Finding, Page, Plot, Report, Section, Table
from mqtool.experiments.report.plots import matrix_figure
from mqtool.experiments.trials import Outcome, Trial
from mqtool.planning.recipe import Recipe

__all__ = ["matrix_report"]


def matrix_report(
    experiment: Experiment,
    recipes: Sequence[Recipe],
    budgets: Sequence[int],
    calib: Mapping[str, ClipSet],
    test: Mapping[str, ClipSet],
    metric: Metric,
    facts: Mapping[str, str],
) -> Report:
    """Score each recipe, calibrated on each group, on every group; beside uniform and float.

    Args:
        experiment: runs the trials.
        recipes: ways to quantize that need clips.
        budgets: bytes of the packed folder.
        calib: recordings to calibrate on, by group.
        test: recordings with transcripts, by the same groups.
        metric: what to judge by.
        facts: for the foot of the page.

    Raises:
        BudgetError: a budget is not feasible.
        MqError: see `Experiment.run`.
    """
    keys = [(s, b, on, t) for s in recipes for b in budgets for on in calib for t in test]
    trials = [Trial(s, calib[on], b, test[t]) for s, b, on, t in keys]
    plain_keys = [(s, b, t) for s in recipes for b in budgets for t in test]
    plain = [Trial(_uncalibrated(s), None, b, test[t]) for s, b, t in plain_keys]
    floats = [Trial(None, None, None, clips) for clips in test.values()]
    outcomes = experiment.run([*floats, *plain, *trials])
    uniform = dict(zip(plain_keys, outcomes[len(floats) :], strict=False))
    found = dict(zip(keys, outcomes[len(floats) + len(plain) :], strict=True))
    reference = dict(zip(test, outcomes, strict=False))
    parts = [
        _Matrix(
            recipe,
            list(test),
            {(on, t): found[recipe, budget, on, t] for on in calib for t in test},
            {t: uniform[recipe, budget, t] for t in test},
            reference,
            metric,
        )
        for recipe in recipes
        for budget in budgets
    ]
    page = Page(
        title=f"{metric.title.capitalize()}, calibrated on one group and tested on another",
        lede=f"{len(calib)} groups ({', '.join(calib)}), each calibrated for and tested on. "
        "Framed: calibrated on the group that is tested.",
        findings=[part.finding() for part in parts],
        sections=[*(part.section() for part in parts), parts[-1].transcripts()],
        facts=facts,
    )
    result: dict[str, Any] = {
        "kind": "matrix",
        "facts": dict(facts),
        "means": [part.summary() for part in parts],
        "comparisons": [asdict(item) for part in parts for item in part.comparisons],
    }
    return Report(page, [outcome_row(outcome) for outcome in outcomes], result)


def _uncalibrated(recipe: Recipe) -> Recipe:
    """One width for all layers and no calibration, all else as `recipe` has it."""
    return replace(recipe, method="uniform", calibration="none", twin_ranges=False)


class _Matrix:
    """One recipe at one budget."""

    def __init__(
        self,
        recipe: Recipe,
        groups: Sequence[str],
        cells: Mapping[tuple[str, str], Outcome],
        uniform: Mapping[str, Outcome],
        reference: Mapping[str, Outcome],
        metric: Metric,
    ) -> None:
        self.recipe, self.groups, self.cells = recipe, groups, cells
        self.uniform, self.reference, self.metric = uniform, reference, metric
        others = {t: [cells[on, t] for on in groups if on != t] for t in groups}
        own = [cells[t, t] for t in groups]
        title = recipe_title(recipe)
        self.outcome = own[0]
        budget = self.outcome.trial.budget_bytes
        self.means: dict[str, Mean] = {
            "own group": mean_of(own, metric),
            "another group": _mean_of_others(others, metric),
            "uniform": mean_of(list(uniform.values()), metric),
            "float": mean_of(list(reference.values()), metric),
        }
        pairs: dict[str, Sequence[tuple[Outcome, Sequence[Outcome]]]] = {
            f"{title}, another group": [(cells[t, t], others[t]) for t in groups],
            "uniform": [(cells[t, t], [uniform[t]]) for t in groups],
            "float": [(cells[t, t], [reference[t]]) for t in groups],
        }
        self.comparisons: list[Comparison] = [
            compare(f"{title}, own group", other, pairs[other], metric, budget) for other in pairs
        ]
        self.comparisons.append(
            compare(
                f"{title}, another group",
                "uniform",
                [(one, [uniform[t]]) for t in groups for one in others[t]],
                metric,
                budget,
            )
        )

    @property
    def size(self) -> str:
        return f"{megabytes(self.outcome.bytes)}, {bits_text(self.outcome.average_bits)}"

    def summary(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "method": self.recipe.method,
            "sensitivity": self.recipe.sensitivity,
            "budget_bytes": self.outcome.trial.budget_bytes,
            "average_bits": self.outcome.average_bits,
            "means": {name: asdict(mean) for name, mean in self.means.items()},
        }

    def finding(self) -> Finding:
        own, other, uniform, plain = self.means.values()
        against = self.comparisons[0]
        text = (
            f"{recipe_title(self.recipe)} at {self.size}: {mean_text(own)} on the group calibrated "
            f"for, {mean_text(other)} calibrated on others; uniform {mean_text(uniform)}, float "
            f"{mean_text(plain)}. Own against other: {against.verdict} "
            f"({against.difference:+.2f}, {against.low:+.2f} to {against.high:+.2f})."
        )
        kind = against.verdict if against.verdict in ("better", "worse") else "open"
        return Finding(text, kind)

    def section(self) -> Section:
        names = [*self.groups, "uniform", "float"]
        values = [
            *([self.cells[on, tested] for tested in self.groups] for on in self.groups),
            [self.uniform[tested] for tested in self.groups],
            [self.reference[tested] for tested in self.groups],
        ]
        rates = [[mean_of([one], self.metric).value for one in row] for row in values]
        plot = Plot(
            f"matrix-{self.recipe.method}-{self.outcome.average_bits:.2f}-bits",
            f"{self.metric.title} by calibration group (rows) and test group (columns)",
            f"{self.metric.title.capitalize()} in percent. Colour: blue is better and orange worse "
            f"than the mean of the column.",
            lambda palette: matrix_figure(
                names,
                self.groups,
                rates,
                [(index, index) for index in range(len(self.groups))],
                "calibrated on",
                palette,
                lower_is_better=self.metric.lower_is_better,
            ),
        )
        rows = []
        for number, row in enumerate(values):
            means = [mean_of([one], self.metric) for one in row]
            cells = [rate_cell(mean, own=number == place) for place, mean in enumerate(means)]
            rows.append([Cell(names[number]), *cells])
        every = Table(
            ["calibrated on", *self.groups],
            rows,
            "Every figure with its interval",
            f"{self.metric.title.capitalize()} in percent with 95 % intervals over clips.",
            ("calibrated on",),
            folded=True,
        )
        means_rows = [[Cell(name), Cell(mean_text(mean))] for name, mean in self.means.items()]
        averages = Table(
            ["calibrated on", "mean over groups"],
            means_rows,
            note="Each group counts alike, as in the paper's averages.",
            texts=("calibrated on",),
        )
        sizes = {self.outcome.trial.budget_bytes: self.size}
        compared = comparison_table(self.comparisons, sizes, self.metric, "Is it a difference?")
        text = (
            f"{self.outcome.bytes:,} bytes in all files, {self.outcome.average_bits:.2f} bits a "
            "weight on average; weights alone, the paper's count: "
            f"{self.outcome.weight_bits_as_bytes:,}."
        )
        return Section(
            f"{recipe_title(self.recipe)} at {self.size}", text, [plot], [averages, compared, every]
        )

    def transcripts(self) -> Section:
        """Of the group on which calibration makes the largest difference."""

        def gain(name: str) -> float:
            others = [self.cells[on, name] for on in self.groups if on != name]
            pair = [(self.cells[name, name], others)]
            return abs(compare("", "", pair, self.metric).difference)

        tested = max(self.groups, key=gain)
        other = next(name for name in self.groups if name != tested)
        shown = {
            "float": self.reference[tested],
            f"calibrated on {tested}": self.cells[tested, tested],
            f"calibrated on {other}": self.cells[other, tested],
            "uniform": self.uniform[tested],
        }
        return transcripts(shown, self.metric)


def _mean_of_others(others: Mapping[str, Sequence[Outcome]], metric: Metric) -> Mean:
    """Mean over test groups of the mean rate of models calibrated on other groups."""
    strata = []
    for outcomes in others.values():
        counts = [[metric.counts(item) for item in outcome.scored] for outcome in outcomes]
        errors = [sum(e for e, _ in clip) / len(clip) for clip in zip(*counts, strict=True)]
        strata.append((errors, [total for _, total in counts[0]]))
    return Mean.of(strata)
