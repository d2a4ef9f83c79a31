"""Manifest CSVs: one recording a row.

UTF-8 with a header. `path` is required and relative to the CSV; `split`, `group`, `transcript`,
`speaker` and `language` (ISO code) are optional; any other column is kept.
"""

import csv
from collections.abc import Collection, Sequence
from pathlib import Path

from mqtool.errors import ClipsError

__all__ = ["read_rows", "select_rows"]

Row = dict[str, str]


def read_rows(manifest: Path) -> list[Row]:
    """All rows, column name to value.

    Raises:
        ClipsError: not UTF-8 CSV, a quote that is not closed, a column twice, no column `path`, no
            rows, a row of another length than the header or without a path, or a recording twice
            in one split, group and language.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as lines:
            # Not strict, a quote left open would take all rows after it for one field.
            reader = csv.DictReader(lines, strict=True)
            columns = list(reader.fieldnames or [])
            rows = [(row, reader.line_num) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClipsError(f"{manifest}: not a readable UTF-8 CSV ({error})") from None
    if "path" not in columns:
        raise ClipsError(f"{manifest}: no column 'path'; there is {_some(columns)}")
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise ClipsError(f"{manifest}: has column {twice[0]!r} twice; rename one")
    if not rows:
        raise ClipsError(f"{manifest}: has a header but no rows")
    _check_rows(manifest, columns, rows)
    return [row for row, _ in rows]


def _check_rows(manifest: Path, columns: Sequence[str], rows: Sequence[tuple[Row, int]]) -> None:
    lines: dict[tuple[str | None, ...], int] = {}
    for row, line in rows:
        if not row["path"] or None in row or None in row.values():
            raise ClipsError(f"{manifest}: line {line} has no path or not {len(columns)} fields")
        key = (row["path"], row.get("split"), row.get("group"), row.get("language"))
        if key in lines:
            first = lines[key]
            raise ClipsError(f"{manifest}: line {line} has {row['path']!r} again, as line {first}")
        lines[key] = line


def select_rows(
    manifest: Path,
    rows: Sequence[Row],
    *,
    split: str | None = None,
    group: str | None = None,
    language: str | None = None,
) -> list[Row]:
    """The rows of a split, a group and a language; None selects all.

    Args:
        manifest: what to call it in errors.
        rows: of `read_rows`.
        split: exact value of the column; so are `group` and `language`.
        group: see `split`.
        language: rows that name none are taken as this one, and returned so.

    Raises:
        ClipsError: no row is left; it names the values there are.
    """
    selected = list(rows)
    if split is not None:
        selected = _matching(manifest, selected, "split", [split])
    if group is not None:
        selected = _matching(manifest, selected, "group", [group])
    if language is not None:
        matching = _matching(manifest, selected, "language", [language, ""])
        selected = [{**row, "language": language} for row in matching]
    return selected


def _matching(
    manifest: Path, rows: Sequence[Row], column: str, values: Collection[str]
) -> list[Row]:
    matching = [row for row in rows if row.get(column, "") in values]
    if not matching:
        there = _some(sorted({row.get(column, "") for row in rows}))
        wanted = next(iter(values))
        raise ClipsError(f"{manifest}: no row with {column} {wanted!r}; there is {there}")
    return matching


def _some(values: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(repr(value) for value in values[:limit])
    return f"{shown}, ..." if len(values) > limit else shown or "none"
