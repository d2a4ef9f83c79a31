"""`mqtool transcribe`."""

from pathlib import Path
from typing import Any

import click

import mqtool
from mqruntime.errors import AudioError
from mqruntime.formats import FORMATS, in_format, needs_times
from mqruntime.options import DecodingOptions
from mqruntime.printing import printable
from mqtool.cli.common import (
    clips_argument,
    end_with,
    json_option,
    model_argument,
    rows_options,
    task_option,
    threads_option,
    write_json,
)
from mqtool.cli.progress import progress_bars

__all__ = ["transcribe"]


@click.command()
@model_argument
@clips_argument
@rows_options
@task_option
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="txt",
    show_default=True,
    help="Of what is printed; srt, vtt and tsv are of one recording.",
)
@click.option("--prompt", metavar="TEXT", help="Names and words as they are spelled (Whisper).")
@click.option(
    "--previous-text",
    is_flag=True,
    help="Give each window of a long recording the text before it (Whisper).",
)
@threads_option
@json_option
def transcribe(
    model: Path,
    clips: tuple[Path, ...],
    form: str,
    prompt: str | None,
    previous_text: bool,
    json_path: Path | None,
    **options: Any,
) -> None:
    """Print what is said in recordings.

    CLIPS are audio files, folders, zip files or manifests. One recording: its text alone;
    several: file, tab, text. Those that cannot be used are listed at the end, and the exit code is
    1. The language of recordings that name none is detected where --language does not tell it.

    \b
    Example:
      mqtool transcribe packed/ hello.wav
      mqtool transcribe packed/ recordings/ --language fr --json texts.json
      mqtool transcribe packed/ film.mp4 --format srt > film.srt
    """
    rows = []
    refused: list[AudioError] = []
    options["on_refused"] = refused.append
    with_times = needs_times(form)
    options["options"] = DecodingOptions(
        timestamps=with_times or None, prompt=prompt, previous_text=previous_text
    )
    with progress_bars() as progress:
        for found in mqtool.transcribe(model, clips, progress=progress, **options):
            if found.total > 1 and with_times:
                raise click.UsageError(f"{form} is of one recording, not of {found.total}.")
            if found.total > 1 and form == "txt":
                click.echo(printable(f"{found.path}\t{found.text}"))
            else:
                click.echo(in_format(found.result, form, str(found.path)), nl=False)
            rows.append(found.to_json())
    if rows:
        write_json(json_path, {"clips": rows, "refused": [str(error) for error in refused]})
    end_with(refused)
