"""`mqtool choose`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mqtool
from mqtool.cli.common import (
    effort_option,
    json_option,
    method_option,
    print_table,
    task_option,
    threads_option,
    write_json,
)
from mqtool.cli.progress import progress_bars

if TYPE_CHECKING:
    from mqtool.experiments.choose import Choice

__all__ = ["choose"]


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--budget-kb", type=float, required=True, help="Size of each, KB of 1024 bytes.")
@click.option(
    "--manifest",
    required=True,
    type=click.Path(path_type=Path),
    help="CSV with the columns path and split, best with transcripts.",
)
@click.option("--calib-split", default="calib", show_default=True, help="To calibrate on.")
@click.option("--test-split", default="dev", show_default=True, help="To score.")
@click.option("--language", help="Spoken language (ISO code); rows of others are left out.")
@task_option
@method_option
@effort_option
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for the best packed model."
)
@threads_option
@json_option
def choose(models: tuple[Path, ...], json_path: Path | None, **options: Any) -> None:
    """Pack MODELS to one size each and rank them on one person's recordings.

    By word errors (keyword models: accuracy) where every recording to score has a transcript; else
    by words unlike those of the largest float model. Intervals are 95 %, over clips; a model whose
    difference from the best holds 0 is as good as these clips can tell.

    \b
    Example:
      mqtool choose tiny/ base/ --budget-kb 16000 --manifest recordings.csv -o packed/
    """
    with progress_bars() as progress:
        choice = mqtool.choose(models, progress=progress, **options)
    _print(choice)
    write_json(json_path, choice.to_json())


def _print(choice: "Choice") -> None:
    from rich.table import Table

    heading = "accuracy %" if choice.metric == "accuracy" else "word errors %"
    table = Table(title=f"{choice.clips} clips", title_justify="left")
    table.add_column("model")
    for column in ("bytes", "bits", f"{heading} (95 %)", "above the best, paired"):
        table.add_column(column, justify="right")
    for one in choice.candidates:
        above = f"{one.above:+.1f} ({one.above_low:+.1f} to {one.above_high:+.1f})"
        table.add_row(
            str(one.model),
            f"{one.bytes:,}",
            f"{one.average_bits:.2f}",
            f"{one.value:.1f} ({one.low:.1f} to {one.high:.1f})",
            "" if one is choice.best else above,
        )
    print_table(table)
    for model, reason in choice.infeasible.items():
        click.echo(f"{model}: {reason}")
    if choice.reference is not None:
        click.echo(f"errors: words unlike those of {choice.reference}, without transcripts")
    ties = ", ".join(str(one.model) for one in choice.as_good)
    click.echo(f"best: {choice.best.model}" + (f"; as good on these clips: {ties}" if ties else ""))
