"""`mqtool validate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mqtool
from mqtool.cli.common import (
    json_option,
    print_table,
    rows_options,
    task_option,
    threads_option,
    write_json,
)
from mqtool.cli.progress import progress_bars
from mqtool.errors import PackError

if TYPE_CHECKING:
    from mqtool.evaluation.validation import Validation

__all__ = ["validate"]


@click.command()
@click.argument("packed", type=click.Path(path_type=Path))
@click.option(
    "--reference",
    required=True,
    metavar="MODEL",
    type=click.Path(path_type=Path),
    help="The float model PACKED was made from.",
)
@click.option(
    "--clips",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Recordings, best ones the plan has not seen: folder, files or CSV. Repeatable.",
)
@rows_options
@task_option
@click.option("--plan", type=click.Path(path_type=Path), help="The plan it was packed with.")
@click.option(
    "--max-word-difference",
    "--max-wer",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Percent of words that may differ from the float model's.",
)
@threads_option
@json_option
def validate(packed: Path, clips: tuple[Path, ...], json_path: Path | None, **options: Any) -> None:
    """Check that PACKED keeps its size and its plan, and says what the float model says.

    Compares the size with the budget, the widths in the files with the plan, and the packed model's
    transcripts with the float model's, with onnxruntime's optimizer on and off, clip by clip and
    with a minute of them joined and quiet after it. Exit code 1 if any check fails.

    \b
    Example:
      mqtool validate packed/ --reference model/ --clips recordings/ --plan plan.json
    """
    with progress_bars() as progress:
        result = mqtool.validate(packed, recordings=clips, progress=progress, **options)
    _print(packed, result)
    write_json(json_path, result.to_json())
    if not result.passed:
        reasons = "; ".join(
            f"{check.name}: {check.found}, {check.wanted}" for check in result.failed
        )
        raise PackError(f"{packed}: failed: {reasons}")


def _print(packed: Path, result: "Validation", shown: int = 10) -> None:
    from rich.table import Table

    table = Table(title=f"{packed}, {len(result.clips)} clips", title_justify="left")
    for heading in ("check", "found", "wanted", ""):
        table.add_column(heading)
    for check in result.checks:
        table.add_row(check.name, check.found, check.wanted, "ok" if check.passed else "FAILED")
    print_table(table)
    pairs = [(clip.path.name, clip.float_text, clip.packed_text) for clip in result.clips]
    different = [pair for pair in pairs if pair[1] != pair[2]]
    if (joined := result.joined) and joined.float_text != joined.packed_text:
        name = f"{joined.clips} clips joined"
        different = [(name, joined.float_text, joined.packed_text), *different]
    if not different:
        return
    texts = Table(title=f"{len(different)} transcripts differ", title_justify="left")
    for heading in ("clip", "float", "packed"):
        texts.add_column(heading)
    for pair in different[:shown]:
        texts.add_row(*pair)
    print_table(texts)
