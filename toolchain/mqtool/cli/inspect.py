"""`mqtool inspect`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mqtool
from mqruntime.printing import printable
from mqtool.cli.common import json_option, print_table, write_json

if TYPE_CHECKING:
    from mqtool.evaluation.describe import PartsTable

__all__ = ["inspect"]


@click.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="ANYTHING")
@click.option(
    "--verify",
    "public_key",
    metavar="PUB",
    type=click.Path(path_type=Path),
    help="Refuse a bundle that is not signed with this key.",
)
@click.option("--all", "everything", is_flag=True, help="Show every row of every table.")
@json_option
def inspect(path: Path, public_key: Path | None, everything: bool, json_path: Path | None) -> None:
    """Show what is in a bundle, a model folder, a plan or an ONNX graph.

    Tables show the heaviest 15 rows first, plans all layers in their order.

    \b
    Example:
      mqtool inspect packed/
      mqtool inspect app.mqz --verify key.pem.pub
      mqtool inspect packed/encoder.onnx --all --json tensors.json
    """
    description = mqtool.inspect(path, public_key=public_key)
    click.echo(f"{path}: {description.kind}")
    width = max(map(len, description.fields), default=0)
    for name, value in description.fields.items():
        click.echo(f"  {name:<{width}}  {_plain(value)}")
    for table in description.tables:
        _print(table, everything)
    write_json(json_path, description.to_json())


def _print(table: "PartsTable", everything: bool, shown: int = 15) -> None:
    from rich import box
    from rich.table import Table as RichTable

    rows = table.rows
    if table.heaviest is not None:
        column = table.columns.index(table.heaviest)
        rows = sorted(rows, key=lambda row: -row[column])
        if not everything:
            rows = rows[:shown]
    numeric = [
        all(isinstance(cell, int | float) for cell in column) for column in zip(*rows, strict=True)
    ]
    drawn = RichTable(title=table.title, title_justify="left", box=box.SIMPLE)
    for name, is_number in zip(table.columns, numeric, strict=True):
        drawn.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*map(_plain, row))
    if len(rows) < len(table.rows):
        drawn.caption = f"and {len(table.rows) - len(rows)} smaller ones (--all shows them)"
    print_table(drawn)


def _plain(value: Any) -> str:
    if isinstance(value, bool | str) or value is None:
        return "-" if value is None else printable(str(value))
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(json.dumps(value, ensure_ascii=False))
