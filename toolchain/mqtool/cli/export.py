"""`mqtool export`."""

from collections.abc import Callable
from pathlib import Path

import click

import mqtool
from mqtool.cli.common import json_option, write_json

__all__ = ["export"]


@click.command(short_help="Turn a speech model into ONNX graphs that take PCM.")
@click.argument("source", type=click.Path(), metavar="SOURCE")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Model folder to make.",
)
@json_option
def export(source: str, output: Path, json_path: Path | None) -> None:
    """Turn SOURCE into a folder of float ONNX graphs and check them against PyTorch.

    SOURCE is a hub id, a Hugging Face folder, or a CTranslate2 (faster-whisper) Whisper folder.
    Whisper, Moonshine, and Wav2Vec2, Wav2Vec2-Conformer, HuBERT and WavLM with a CTC or a
    classification head can be exported. The export fails if the graphs and PyTorch disagree.

    \b
    Example:
      mqtool export openai/whisper-tiny.en -o whisper-tiny.en/
    """
    from rich.console import Console

    with Console(stderr=True).status("Starting") as status:

        def progress(description: str, total: int) -> Callable[[], None]:
            status.update(f"{description} ...")
            return lambda: None

        model = mqtool.export(source, output=output, progress=progress)
    click.echo(
        f"{output}: {model.family}, {model.parameters:,} parameters, {model.bytes:,} bytes; "
        f"logits within {model.parity.difference:.1e} of PyTorch's range in "
        f"{model.parity.cases} cases, {model.parity.choices} greedy choices equal"
    )
    write_json(json_path, model.to_json())
