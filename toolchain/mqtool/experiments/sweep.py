"""Error over size for methods and calibration groups: the paper's Figures 3 and S3 to S5."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mqtool.experiments.comparison import (
    Comparison,
    Metric,
    compare,
    mean_of,
    outcome_row,
    recipe_title,
)
from mqtool.experiments.experiment import Experiment
from mqtool.experiments.groups import ClipSet
from mqtool.experiments.report.cells import (
    comparison_table,
    mean_text,
    megabytes,
    rate_cell,
    size_headings,
    size_texts,
    tally,
    transcripts,
)
from mqtool.experiments.report.page import Cell, Page, Plot, Report, Section, Table
from mqtool.experiments.report.palette import Palette
from mqtool.experiments.report.plots import Line, Panel, differences_figure, lines_figure
from mqtool.experiments.trials import Outcome, Trial
from mqtool.planning.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["sweep_report"]

Calibrated = tuple[Recipe, str | None]
"""A way to quantize and the group it was calibrated on."""


def sweep_report(
    experiment: Experiment,
    recipes: Sequence[Recipe],
    budgets: Sequence[int],
    calib: Mapping[str, ClipSet],
    test: Mapping[str, ClipSet],
    metric: Metric,
    facts: Mapping[str, str],
) -> Report:
    """Score every recipe at every budget, calibrated on each group and tested on each.

    Args:
        experiment: runs the trials.
        recipes: ways to quantize.
        budgets: bytes of the packed folder.
        calib: recordings to calibrate on, by group.
        test: recordings with transcripts, by group.
        metric: what to judge by.
        facts: for the foot of the page.

    Raises:
        BudgetError: a budget is not feasible.
        MqError: see `Experiment.run`.
    """
    kinds: list[Calibrated] = [
        (recipe, name)
        for recipe in recipes
        for name in (calib if recipe.needs_recordings else [None])
    ]
    keys = [(kind, budget, name) for kind in kinds for budget in budgets for name in test]
    trials = [
        Trial(recipe, None if on is None else calib[on], budget, test[name])
        for (recipe, on), budget, name in keys
    ]
    floats = [Trial(None, None, None, clips) for clips in test.values()]
    outcomes = experiment.run([*floats, *trials])
    reference = dict(zip(test, outcomes, strict=False))
    found = dict(zip(keys, outcomes[len(floats) :], strict=True))
    results = _Results(kinds, sorted(budgets), list(test), reference, found, metric)
    comparisons = results.comparisons()
    page = Page(
        title=f"{metric.title.capitalize()} by size",
        lede=f"One model at {len(budgets)} sizes, quantized in {len(recipes)} ways, "
        f"{_calibrated_text(list(calib))}, tested on {' and '.join(test)}.",
        findings=tally(comparisons, results.sizes()),
        sections=results.sections(comparisons),
        facts=facts,
    )
    result: dict[str, Any] = {
        "kind": "sweep",
        "facts": dict(facts),
        "comparisons": [asdict(item) for item in comparisons],
    }
    return Report(page, [outcome_row(outcome) for outcome in outcomes], result)


def _calibrated_text(groups: Sequence[str]) -> str:
    return f"calibrated on {' and on '.join(groups)} in turn"


_SERIES = {
    **{"myqasr": 0, "reversed": 1, "shuffled": 2, "measured": 3, "uniform": 4, "minmax": 5},
    **{"myqasr-minmax": 6, "myqasr-hess": 5, "myqasr-cosine": 3},
}
"""Colour of each method."""


def _is_favourite(recipe: Recipe) -> bool:
    """Whether others are baselines for it."""
    return recipe.method in ("myqasr", "measured")


class _Results:
    def __init__(
        self,
        kinds: Sequence[Calibrated],
        budgets: Sequence[int],
        tested: Sequence[str],
        reference: Mapping[str, Outcome],
        found: Mapping[tuple[Calibrated, int, str], Outcome],
        metric: Metric,
    ) -> None:
        self.kinds, self.budgets, self.tested = kinds, budgets, tested
        self.reference, self.found, self.metric = reference, found, metric
        self.means = {key: mean_of([outcome], metric) for key, outcome in found.items()}
        self.float_means = {key: mean_of([one], metric) for key, one in reference.items()}

    def any_at(self, budget: int) -> Outcome:
        return self.found[self.kinds[0], budget, self.tested[0]]

    def sizes(self) -> dict[int | None, str]:
        """Budget -> its name in sentences."""
        return {
            budget: f"{megabytes(budget)}, {self.any_at(budget).average_bits:.1f} bits"
            for budget in self.budgets
        }

    def comparisons(self) -> list[Comparison]:
        """Own group against others, then each method against the baselines, at every size."""
        recipes = list(dict.fromkeys(recipe for recipe, _ in self.kinds))
        made = []
        for recipe in recipes:
            made += self._own_against_others(recipe)
        for number, recipe in enumerate(recipes):
            for other in recipes:
                is_later = number > recipes.index(other)
                if _is_favourite(recipe) and (is_later or not _is_favourite(other)):
                    made += [
                        compare(
                            recipe_title(recipe),
                            recipe_title(other),
                            [
                                (self._own(recipe, b, t), [self._own(other, b, t)])
                                for t in self.tested
                            ],
                            self.metric,
                            b,
                        )
                        for b in self.budgets
                    ]
        return made

    def _own(self, recipe: Recipe, budget: int, tested: str) -> Outcome:
        """Calibrated on the group it is tested on, as far as it is calibrated."""
        calibrated = tested if (recipe, tested) in self.kinds else None
        if (recipe, calibrated) not in self.kinds:
            calibrated = next(on for one, on in self.kinds if one == recipe)
        return self.found[(recipe, calibrated), budget, tested]

    def _own_against_others(self, recipe: Recipe) -> list[Comparison]:
        groups = [on for one, on in self.kinds if one == recipe and on is not None]
        both = [name for name in self.tested if name in groups]
        if len(groups) < 2 or not both:
            return []
        title = recipe_title(recipe)
        return [
            compare(
                f"{title}, own group",
                f"{title}, another group",
                [
                    (
                        self.found[(recipe, name), budget, name],
                        [self.found[(recipe, on), budget, name] for on in groups if on != name],
                    )
                    for name in both
                ],
                self.metric,
                budget,
            )
            for budget in self.budgets
        ]

    def sections(self, comparisons: Sequence[Comparison]) -> list[Section]:
        plot = Plot(
            "sweep",
            f"{self.metric.title} over size for each method and calibration group",
            "Shaded: 95 % intervals over clips. Dashed grey: the float model. Dotted lines and "
            "open markers: calibrated on another group than the one tested on. Triangles: beyond "
            "the axis, with the rate.",
            lambda palette: lines_figure(
                self._panels(),
                self._ticks(),
                "size of all files (MB), average bits of a weight",
                f"{self.metric.title} (%)",
                palette,
            ),
        )
        differences = Plot(
            "differences",
            "differences between methods at each size with their intervals",
            "Points of " + self.metric.title + ", mean over the groups tested on, with paired "
            "95 % intervals. Green: a clear gain of the first named; orange: a clear loss. "
            "Triangles: beyond the axis, with the difference.",
            lambda palette: self._differences(comparisons, palette),
        )
        compared = comparison_table(
            comparisons, self.sizes(), self.metric, "The same as a table", folded=True
        )
        section = Section("Is it a difference?", plots=[differences], tables=[compared])
        return [
            Section("The curves", plots=[plot]),
            *([section] if comparisons else []),
            Section("All figures", tables=[self._table()]),
            self._transcripts(),
        ]

    def _differences(self, comparisons: Sequence[Comparison], palette: Palette) -> "Figure":
        panels: dict[str, list[tuple[float, float, float]]] = {}
        for item in comparisons:
            title = f"{item.this}\nagainst {item.other}"
            panels.setdefault(title, []).append((item.difference, item.low, item.high))
        return differences_figure(
            list(panels.items()),
            [f"{self.any_at(budget).average_bits:.1f}" for budget in self.budgets],
            "average bits of a weight",
            "points",
            palette,
            lower_is_better=self.metric.lower_is_better,
        )

    def _ticks(self) -> list[tuple[float, str]]:
        return [
            (budget / 1e6, f"{budget / 1e6:.3g}\n{self.any_at(budget).average_bits:.1f}")
            for budget in self.budgets
        ]

    def _panels(self) -> list[Panel]:
        panels = []
        for name in self.tested:
            lines = []
            for recipe, on in self.kinds:
                points = []
                for budget in self.budgets:
                    mean = self.means[(recipe, on), budget, name]
                    points.append((budget / 1e6, mean.value, mean.low, mean.high))
                title = recipe_title(recipe)
                label = title if on is None else f"{title}, own group"
                is_other = on is not None and on != name
                if is_other:
                    others = {one for _, one in self.kinds if one is not None and one != name}
                    label = f"{title}, {on if len(others) > 1 else 'another group'}"
                lines.append(Line(label, _SERIES.get(title, 5), is_other, points))
            title = f"tested on {name}"
            panels.append(Panel(title, lines, self.float_means[name].value))
        return panels

    def _table(self) -> Table:
        rows = []
        pick = min if self.metric.lower_is_better else max
        for budget in self.budgets:
            best = {
                name: pick(self.means[kind, budget, name].value for kind in self.kinds)
                for name in self.tested
            }
            for number, (recipe, on) in enumerate(self.kinds):
                outcome = self.found[(recipe, on), budget, self.tested[0]]
                cells = [
                    rate_cell(self.means[(recipe, on), budget, name], best[name], own=on == name)
                    for name in self.tested
                ]
                size = size_texts(outcome) if number == 0 else [Cell("")] * len(size_headings)
                rows.append([*size, Cell(recipe_title(recipe)), Cell(on or "-"), *cells])
        outcome = next(iter(self.reference.values()))
        cells = [Cell(mean_text(self.float_means[name]), "muted") for name in self.tested]
        rows.append([*size_texts(outcome), Cell("float"), Cell("-"), *cells])
        headings = [*size_headings, "method", "calibrated on", *self.tested]
        note = (
            f"{self.metric.title.capitalize()} in percent with 95 % intervals. Size: all files. "
            f"Weights alone: weights x bits / 8, the paper's count. Bold: best of its size and "
            f"group. Blue: calibrated on the group tested on."
        )
        return Table(headings, rows, note=note, texts=("method", "calibrated on"))

    def _transcripts(self) -> Section:
        """At the smallest size that still works, on the first group."""
        name = self.tested[0]
        recipes = list(dict.fromkeys(recipe for recipe, _ in self.kinds))
        favourite = next((one for one in recipes if one.method == "myqasr"), recipes[0])
        budget = self.budgets[-1]
        for candidate in self.budgets:
            value = mean_of([self._own(favourite, candidate, name)], self.metric).value
            if (value < 50) == self.metric.lower_is_better:
                budget = candidate
                break
        texts = {"float": self.reference[name]}
        others = [one for one in recipes if one != favourite]
        shown = [kind for kind in self.kinds if kind[0] in (favourite, *others[:1])]
        for recipe, on in sorted(shown, key=lambda kind: (kind[0] != favourite, kind[1] != name)):
            label = recipe_title(recipe) + ("" if on is None else f", calibrated on {on}")
            if len(texts) < 4:
                texts[f"{label}, {megabytes(budget)}"] = self.found[(recipe, on), budget, name]
        return transcripts(texts, self.metric)
