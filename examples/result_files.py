"""Results that stay in the repository: a CSV with all figures, and the same for people beside it.

The Markdown file begins with the command that made the result, and the day. Scripts keep what they
need to go on after an interruption elsewhere, below work/.
"""

import argparse
import csv
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from mqtool.evaluation.bench import BenchComparison

__all__ = ["csv_path", "markdown_table", "part_rows", "read_result", "write_result"]


def csv_path(text: str) -> Path:
    """The type of an option that names a result."""
    path = Path(text)
    if path.suffix != ".csv":
        raise argparse.ArgumentTypeError(f"{text}: must end in .csv; a .md is written beside it")
    return path


def write_result(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    table: Sequence[str] | None = None,
    **facts: object,
) -> None:
    """Write rows as CSV and, with the command and the date, as Markdown.

    Args:
        path: of the CSV.
        rows: flat; not all need to have every column.
        table: lines of Markdown; the rows as a table if None.
        facts: what else to say of the run.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _csv_value(value) for name, value in row.items()})
    if table is None:
        cells = [[_text(row.get(name)) for name in columns] for row in rows]
        table = markdown_table([name.replace("_", " ") for name in columns], cells)
    command = f"`{shlex.join(['python', *sys.argv])}`"
    said = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items())
    head = f"{command}, {date.today().isoformat()}" + (f"; {said}" if said else "")
    path.with_suffix(".md").write_text("\n".join([head, "", *table]) + "\n", encoding="utf-8")


def read_result(path: Path) -> list[dict[str, Any]]:
    """The rows of a result; numbers as floats, None where there is nothing."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (headings, *rows)]
    lines.insert(1, "|---" * len(headings) + "|")
    return lines


def part_rows(facts: Mapping[str, Any], found: BenchComparison) -> Iterator[dict[str, Any]]:
    """What a comparison found, one row a part of the model."""
    whole = {name: value for name, value in asdict(found).items() if name != "parts"}
    for part, timing in found.parts.items():
        yield {**facts, **whole, "part": part, **asdict(timing)}


def _csv_value(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float) else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _value(text: str) -> Any:
    try:
        return float(text) if text else None
    except ValueError:
        return text
