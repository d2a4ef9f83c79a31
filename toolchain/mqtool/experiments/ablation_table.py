"""One table of an ablation: its rows, its figure, its comparisons, its findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mqtool.experiments.comparison import (
    Comparison,
    Mean,
    Metric,
    compare,
    mean_of,
    outcome_row,
)
from mqtool.experiments.report.cells import (
    change_text,
    comparison_table,
    megabytes,
    rate_cell,
    size_headings,
    size_texts,
)
from mqtool.experiments.report.page import Cell, Finding, Plot, Section, Table
from mqtool.experiments.report.palette import Palette
from mqtool.experiments.report.plots import Dots, dots_figure
from mqtool.experiments.trials import Outcome, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Part", "Row", "ShownTable"]


@dataclass(frozen=True)
class Row:
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
class Part:
    """One of the paper's tables."""

    number: int
    title: str
    compared: str
    text: str
    rows: Sequence[Row]


class ShownTable:
    """A table with its figures."""

    def __init__(
        self,
        part: Part,
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
        """The table with its figure and comparisons."""
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
        """One a model and test set."""
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

    def _compare(self, row: Row, other: Row) -> Comparison:
        pairs = [
            (outcome, other.outcomes[name])
            for name in self.groups
            for outcome in row.outcomes[name]
        ]
        budget = pairs[0][0].trial.budget_bytes
        return compare(row.label, other.label, pairs, self.metric, budget)

    def _mean(self, row: Row, group: str) -> Mean:
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
