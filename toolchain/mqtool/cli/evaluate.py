"""`mqtool evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mqtool
from mqruntime.errors import AudioError
from mqtool.cli.common import (
    end_with,
    json_option,
    model_argument,
    print_table,
    rows_options,
    task_option,
    threads_option,
    write_json,
)
from mqtool.cli.progress import progress_bars

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["evaluate"]


@click.command()
@model_argument
@click.option(
    "--manifest",
    required=True,
    type=click.Path(path_type=Path),
    help="CSV with the columns path and transcript.",
)
@rows_options
@task_option
@click.option("--by", default="group", show_default=True, help="Column to make groups of.")
@click.option("--detect-language", is_flag=True, help="Do not tell the model the language.")
@click.option("--remove-diacritics", is_flag=True, help="Compare letters without accents.")
@threads_option
@json_option
def evaluate(model: Path, manifest: Path, json_path: Path | None, **options: Any) -> None:
    """Score a model on recordings with transcripts.

    Prints word and character error rates (keyword models: accuracy) in percent with 95 % bootstrap
    intervals, real-time factor and size. Texts are compared after Whisper's normalization.

    \b
    Example:
      mqtool evaluate packed/ --manifest recordings.csv --split dev --json scores.json
    """
    refused: list[AudioError] = []
    options["on_refused"] = refused.append
    with progress_bars() as progress:
        scores = mqtool.evaluate(model, manifest=manifest, progress=progress, **options)
    result = {**scores.to_json(), "refused": [str(error) for error in refused]}
    _print(model, result)
    write_json(json_path, result)
    end_with(refused)


def _print(model: Path, result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(title=f"{model}: {result['bytes']:,} bytes", title_justify="left")
    table.add_column("clips")
    rates = ["wer", "cer"] if result["accuracy"] is None else ["accuracy"]
    for heading in (
        "count",
        "seconds",
        *(f"{name} % (95 %)" for name in rates),
        "real-time factor",
    ):
        table.add_column(heading, justify="right")
    for name, figures in result["groups"].items():
        _add_row(table, name, figures, rates)
    _add_row(table, "all", result, rates)
    print_table(table)


def _add_row(table: "Table", name: str, figures: dict[str, Any], rates: list[str]) -> None:
    cells = []
    for rate in rates:
        if figures[rate] is None:
            cells.append("-")
            continue
        low, high = figures[f"{rate}_interval"]
        cells.append(f"{figures[rate]:.1f} ({low:.1f} to {high:.1f})")
    table.add_row(
        name,
        str(figures["clips"]),
        f"{figures['seconds_audio']:.0f}",
        *cells,
        f"{figures['rtf']:.3f}",
    )
