"""Manifests of recordings, one a row or line; their header tells whose they are.

UTF-8 CSV, separated by commas, semicolons or tabs, with a header; or JSON lines. Columns:

    ours                       path, transcript, split, group, speaker, language
    Hugging Face's audiofolder file_name, transcription (metadata.csv and metadata.jsonl)
    NeMo                       audio_filepath, text, lang
    Common Voice               path (in clips/ beside it), sentence, client_id, locale; no quotes

Paths are relative to the manifest. All but the first column of a line are optional, and any other
column is kept.
"""

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from mqtool.errors import ClipsError

__all__ = ["ENDINGS", "read_rows", "select_rows"]

ENDINGS = frozenset({".csv", ".tsv", ".json", ".jsonl"})

_NAMES = {
    "path": ("path", "file_name", "audio_filepath"),
    "transcript": ("transcript", "transcription", "text", "sentence"),
    "speaker": ("speaker", "client_id"),
    "language": ("language", "locale", "lang"),
}
"""Our name of a column, and what it may be called, the first of them first."""

_COMMON_VOICE = "client_id"

Row = dict[str, str]


def read_rows(manifest: Path) -> list[Row]:
    """All rows, column name to value; what `_NAMES` lists is there under our name.

    Raises:
        ClipsError: not UTF-8, neither CSV nor JSON lines, a quote that is not closed, a column
            twice, no column `path`, no rows, a row of another length than the header, without a
            path or of a part of a file, or a recording twice in one split, group and language.
    """
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            is_json = file.read(1) == "{"
            file.seek(0)
            found = list((_json_rows if is_json else _csv_rows)(manifest, file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClipsError(f"{manifest}: not a readable UTF-8 CSV ({error})") from None
    if not found:
        raise ClipsError(f"{manifest}: has a header but no rows")
    rows = [(_renamed(manifest, row, line), line) for row, line in found]
    _check_rows(manifest, rows)
    return [row for row, _ in rows]


def _csv_rows(manifest: Path, file: TextIO) -> Iterator[tuple[Row, int]]:
    header = file.readline()
    file.seek(0)
    delimiter = max(",;\t", key=header.count)
    # Not strict, a quote left open would take all rows after it for one field.
    reader = csv.reader(
        file,
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if _COMMON_VOICE in header else csv.QUOTE_MINIMAL,
        strict=True,
    )
    columns = next(reader, [])
    if twice := [name for name in columns if name and columns.count(name) > 1]:
        raise ClipsError(f"{manifest}: has column {twice[0]!r} twice; rename one")
    if not {*_NAMES["path"]} & {*columns}:
        raise ClipsError(f"{manifest}: no column 'path'; there is {_some(columns)}")
    for values in reader:
        if not any(values):  # spreadsheets write rows of nothing but separators
            continue
        if len(values) != len(columns):
            raise ClipsError(
                f"{manifest}: line {reader.line_num} has {len(values)} fields, not {len(columns)}"
            )
        yield dict(zip(columns, values, strict=True)), reader.line_num


def _json_rows(manifest: Path, file: TextIO) -> Iterator[tuple[Row, int]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line, object_pairs_hook=_distinct)
        except (ValueError, RecursionError) as error:
            raise ClipsError(f"{manifest}: line {number}: {error}") from None
        if not isinstance(fields, dict):
            raise ClipsError(f"{manifest}: line {number} is no JSON object")
        yield {name: "" if v is None else str(v) for name, v in fields.items()}, number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _renamed(manifest: Path, row: Row, line: int) -> Row:
    """A row with our names, and its path from the manifest's folder."""
    renamed = dict(row)
    for ours, names in _NAMES.items():
        if given := [name for name in names if name in row]:
            renamed[ours] = row[given[0]]
    if not renamed.get("path"):
        raise ClipsError(f"{manifest}: line {line} has no path")
    if _COMMON_VOICE in row and (manifest.parent / "clips").is_dir():
        renamed["path"] = f"clips/{renamed['path']}"
    if "language" not in row and "language" in renamed:  # as en-US
        renamed["language"] = renamed["language"].partition("-")[0].lower()
    if row.get("offset", "0").strip("0.") and "audio_filepath" in row:
        raise ClipsError(
            f"{manifest}: line {line} is a part of {renamed['path']!r}, from {row['offset']} s on; "
            "cut the parts into files of their own"
        )
    return renamed


def _check_rows(manifest: Path, rows: Sequence[tuple[Row, int]]) -> None:
    lines: dict[tuple[str | None, ...], int] = {}
    for row, line in rows:
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
