"""`mqtool export`."""

from dataclasses import asdict
from pathlib import Path

import click

from mqtool.cli.common import json_option, write_json
from mqtool.extras import require_extra

__all__ = ["export"]


@click.command(short_help="Turn a speech model into ONNX graphs that take PCM.")
@click.argument("source")
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
    Whisper, and Wav2Vec2, Wav2Vec2-Conformer, HuBERT and WavLM with a CTC or a classification head
    can be exported. The export fails if the graphs and PyTorch disagree.

    \b
    Example:
      mqtool export openai/whisper-tiny.en -o whisper-tiny.en/
    """
    from rich.console import Console

    require_extra("export", "export")
    from mqtool.exporters import export_model

    with Console(stderr=True).status("starting") as status:
        result = export_model(source, output, lambda step: status.update(f"{step} ..."))
    click.echo(
        f"{output}: {result.family}, {result.parameters:,} parameters, {result.bytes:,} bytes; "
        f"logits within {result.parity.difference:.1e} of PyTorch's range in "
        f"{result.parity.cases} cases, {result.parity.choices} greedy choices equal"
    )
    write_json(json_path, asdict(result))
