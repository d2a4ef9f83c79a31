"""Words and cells that several reports share."""

from collections.abc import Mapping, Sequence

from mqtool.experiments.comparison import Comparison, Mean, Metric
from mqtool.experiments.report.page import Cell, Finding, Section, Table
from mqtool.experiments.trials import Outcome

__all__ = [
    "bits_text",
    "change_text",
    "comparison_table",
    "mean_text",
    "megabytes",
    "rate_cell",
    "size_headings",
    "size_texts",
    "tally",
    "transcripts",
]

size_headings = ("size", "bits", "weights alone")
"""Real bytes of all files, average bit depth, and the paper's count of parameters only."""


def megabytes(size: int) -> str:
    """Millions of bytes; thousands for less than one million."""
    if size < 1e6:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.2f} MB" if size < 10e6 else f"{size / 1e6:.1f} MB"


def bits_text(bits: float) -> str:
    """An average bit depth."""
    return f"{bits:.2f} bits"


def mean_text(mean: Mean) -> str:
    """A rate in percent with its interval."""
    return f"{mean.value:.1f} ({mean.low:.1f} to {mean.high:.1f})"


def change_text(comparison: Comparison) -> str:
    """A difference in points with its interval."""
    return f"{comparison.difference:+.1f} ({comparison.low:+.1f} to {comparison.high:+.1f})"


def size_texts(outcome: Outcome) -> list[Cell]:
    """Cells under `size_headings`."""
    bits = f"{outcome.average_bits:.2f}"
    return [
        Cell(megabytes(outcome.bytes)),
        Cell(bits),
        Cell(megabytes(outcome.weight_bits_as_bytes)),
    ]


def rate_cell(mean: Mean, best: float | None = None, *, own: bool = False) -> Cell:
    """A rate; bold where it is the best of its kind, coloured where it is on its own group."""
    is_best = best is not None and abs(mean.value - best) < 1e-9
    return Cell(mean_text(mean), f"{'best ' * is_best}{'own' * own}".strip())


def comparison_table(
    comparisons: Sequence[Comparison],
    sizes: Mapping[int | None, str],
    metric: Metric,
    title: str,
    *,
    folded: bool = False,
) -> Table:
    """Differences with their intervals and verdicts."""
    rows = [
        [
            Cell(sizes[item.budget_bytes]),
            Cell(item.this),
            Cell(item.other),
            Cell(change_text(item)),
            Cell(item.verdict, item.verdict if item.verdict in ("better", "worse") else "muted"),
        ]
        for item in comparisons
    ]
    headings = ["size", "this", "against", "difference", "verdict"]
    note = (
        f"Points of {metric.title}, mean over the groups tested on, with 95 % intervals from a "
        f"paired bootstrap over clips: both models are drawn on the same clips. A verdict is given "
        f"where the interval leaves out zero; by chance alone one in twenty would."
    )
    texts = ("size", "this", "against", "verdict")
    return Table(headings, rows, title, note, texts, folded)


def tally(comparisons: Sequence[Comparison], sizes: Mapping[int | None, str]) -> list[Finding]:
    """One sentence a pair of things compared, over all sizes."""
    findings = []
    pairs = dict.fromkeys((item.this, item.other) for item in comparisons)
    for this, other in pairs:
        items = [item for item in comparisons if (item.this, item.other) == (this, other)]
        better = [item for item in items if item.verdict == "better"]
        worse = [item for item in items if item.verdict == "worse"]
        kind = "open" if bool(better) == bool(worse) else "better" if better else "worse"
        if len(items) == 1:
            (item,) = items
            what = f"{item.verdict}, {change_text(item)} points at {sizes[item.budget_bytes]}"
            findings.append(Finding(f"{this} against {other}: {what}.", kind))
            continue
        parts = []
        for name, some in (("better", better), ("worse", worse)):
            if some:
                most = max(some, key=lambda item: abs(item.difference))
                where = f"{change_text(most)} points at {sizes[most.budget_bytes]}"
                parts.append(f"{name} at {len(some)} (most {where})")
        if unclear := len(items) - len(better) - len(worse):
            parts.append(f"no clear difference at {unclear}")
        what = f"of {len(items)} sizes {', '.join(parts)}"
        findings.append(Finding(f"{this} against {other}: {what}.", kind))
    return findings


LONGEST_TEXT = 180


def transcripts(
    outcomes_by_title: Mapping[str, Outcome], metric: Metric, count: int = 6
) -> Section:
    """What some models made of the same clips: those on which they differ most.

    Args:
        outcomes_by_title: column title -> outcome, all of one test set.
        metric: tells how far two models are apart on a clip.
        count: clips to show.
    """
    outcomes = list(outcomes_by_title.values())

    def spread(index: int) -> float:
        errors = [metric.counts(outcome.scored[index])[0] for outcome in outcomes]
        return max(errors) - min(errors)

    clips = range(len(outcomes[0].scored))
    chosen = [i for i in sorted(clips, key=spread, reverse=True) if spread(i) > 0][:count]
    headings = ["what was said", *outcomes_by_title]
    rows = [
        [
            Cell(_cut(outcomes[0].scored[index].clip.transcript or ""), "wide muted"),
            *(Cell(_cut(outcome.scored[index].text), "wide") for outcome in outcomes),
        ]
        for index in chosen
    ]
    tested = outcomes[0].trial.tested_on.name
    text = f"The clips of {tested} on which these models differ most, so not a fair sample."
    if not rows:
        return Section("What the models say", f"On the clips of {tested} they all say the same.")
    return Section("What the models say", text, tables=[Table(headings, rows, texts=headings)])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT].rstrip() + " ..."
