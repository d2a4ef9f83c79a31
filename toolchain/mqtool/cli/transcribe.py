"""`mqtool transcribe`."""

from pathlib import Path
from typing import Any

import click

from mqtool.cli.common import (
    clips_argument,
    json_option,
    model_argument,
    threads_option,
    track,
    write_json,
)

__all__ = ["transcribe"]


@click.command()
@model_argument
@clips_argument
@click.option(
    "--language",
    help="Spoken language (ISO code): rows that name another are left out, recordings that name "
    "none are taken as it. Default: the manifest's, else detected.",
)
@threads_option
@json_option
def transcribe(
    model: Path, clips: tuple[Path, ...], language: str | None, threads: int, json_path: Path | None
) -> None:
    """Print what is said in recordings.

    CLIPS are audio files, folders or manifest CSVs. One recording: its text alone; several: file,
    tab, text.

    \b
    Example:
      mqtool transcribe packed/ hello.wav
      mqtool transcribe packed/ recordings/ --language fr --json texts.json
    """
    from mqruntime.recognition import Recognizer
    from mqtool.recordings.clips import find_clips

    rows: list[dict[str, Any]] = []
    with Recognizer.open(model, threads=threads) as recognizer:
        found = find_clips(clips, language=language)
        for clip in track(found, "transcribing"):
            result = recognizer.transcribe(clip.pcm(), clip.language)
            click.echo(result.text if len(found) == 1 else f"{clip.path}\t{result.text}")
            row: dict[str, Any] = {
                "path": str(clip.path),
                "text": result.text,
                "tokens": result.tokens,
                "language": result.language,
                "seconds": result.seconds,
            }
            rows.append(row if result.score is None else {**row, "score": result.score})
    write_json(json_path, {"clips": rows})
